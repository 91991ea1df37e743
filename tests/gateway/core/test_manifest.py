"""What a manifest names."""

import gzip
import json
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.manifest import MAX_BYTES, members_of


def _digest(mark: str) -> str:
    return "sha256:" + mark * 64


_ONE: Final = {
    "config": {"digest": _digest("1")},
    "layers": [{"digest": _digest("2")}, {"digest": _digest("3")}, {"digest": _digest("2")}],
}
_INDEX: Final = {"manifests": [{"digest": _digest("4"), "platform": {}}, {"digest": _digest("5")}]}
_OLD: Final = {"fsLayers": [{"blobSum": _digest("6")}]}


@pytest.mark.parametrize(("told", "named"), [(_ONE, "123"), (_INDEX, "45"), (_OLD, "6"), ({}, "")])
@pytest.mark.parametrize("encoding", ["", "identity", "gzip", " GZIP"])
def test_a_manifest_names_its_parts(told: dict[str, Any], named: str, encoding: str) -> None:
    body = json.dumps(told).encode()
    if "gzip" in encoding.lower():
        body = gzip.compress(body)
    assert members_of(body, encoding) == tuple(_digest(each) for each in named)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"1", b'{"layers": 1}', b'{"layers": [1, {"digest": 2}, {"digest": "sha256:x"}], "config": []}',
        b"[" * 100_000, b"\xff\xfe", gzip.compress(b"0" * (MAX_BYTES * 4)),
    ],
)  # fmt: skip
def test_what_cannot_be_read_names_nothing(body: bytes) -> None:
    assert members_of(body) == ()
    assert members_of(body, "gzip") == ()
    assert members_of(body, "br") == ()


@given(st.binary(max_size=200), st.sampled_from(["", "gzip", "zstd"]))
def test_a_guests_bytes_harm_nobody(body: bytes, encoding: str) -> None:
    assert isinstance(members_of(body, encoding), tuple)
