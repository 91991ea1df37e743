"""What two ends agree on."""

import pytest

from wire.errors import ErrorCode
from wire.handshake import agree
from wire.messages import Hello, Refused, Role
from wire.version import PROTOCOL

MAJOR, MINOR = PROTOCOL


def hello(major: int, minor: int) -> Hello:
    return Hello(protocol=(major, minor), peer="p", role=Role.PEER)


@pytest.mark.parametrize("more", [0, 1, 60_000])
def test_the_lower_minor_holds(more: int) -> None:
    assert agree(hello(MAJOR, MINOR + more)) == (MAJOR, MINOR)


def test_an_older_minor_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wire.handshake.PROTOCOL", (MAJOR, 9))
    assert agree(hello(MAJOR, 4)) == (MAJOR, 4)


@pytest.mark.parametrize("major", [0, MAJOR + 1, 255])
def test_another_major_is_refused_with_both_named(major: int) -> None:
    refused = agree(hello(major, 3))
    assert isinstance(refused, Refused)
    assert refused.code is ErrorCode.MAJOR_MISMATCH
    assert refused.majors == (MAJOR, MAJOR)
    assert f"you speak protocol {major}.3" in refused.message
    assert f"this end {MAJOR}.{MINOR}" in refused.message
