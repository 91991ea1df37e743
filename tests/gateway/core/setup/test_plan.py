"""The shapes of a plan: addresses, registries' names, what counts as a change."""

from dataclasses import replace

import pytest

from gateway.core.images import HUB
from gateway.core.setup.plan import MAX_FILE_BYTES, Gateway, Refused, Write, changing, registry_name, text_of
from tests.support.memory_files import MemoryFiles


def test_where_a_gateway_is() -> None:
    gateway = Gateway(host="::1", port=65001, scheme="https")
    assert gateway.url == "https://[::1]:65001"
    assert [replace(gateway, host=host).is_local for host in ("::1", "127.0.0.1", "localhost", "10.0.0.1")] == [True] * 3 + [
        False
    ]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("docker.io", HUB),
        ("Registry-1.docker.io", HUB),
        ("registry.hub.docker.com", HUB),
        (" r.example ", "r.example"),
        ("R:5000", "r:5000"),
        ("[::1]:5000", "[::1]:5000"),
    ],
)
def test_registries_are_named_as_images_name_them(text: str, name: str) -> None:
    assert registry_name(text) == name


@pytest.mark.parametrize("text", ["", "https://r.example", "r.example/team", "a b", "r:port", "r:99999", "../../etc"])
def test_what_is_no_registry(text: str) -> None:
    with pytest.raises(Refused, match="is no registry"):
        registry_name(text)


def test_a_write_of_what_is_there_is_none() -> None:
    files = MemoryFiles({"/a": b"1", "/b": b"2"})
    writes = [Write(path="/a", content=b"1"), Write(path="/b", content=b"3"), Write(path="/c", content=b"")]
    assert [write.path for write in changing(writes, files)] == ["/b", "/c"]


def test_a_text_is_utf_8_and_bounded() -> None:
    assert text_of("f", "ü".encode()) == "ü"
    with pytest.raises(Refused, match="line 2: is not UTF-8"):
        text_of("f", b"a\n\xff")
    with pytest.raises(Refused, match="no settings file is so long"):
        text_of("f", b" " * (MAX_FILE_BYTES + 1))
