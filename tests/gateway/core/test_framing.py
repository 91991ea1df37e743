"""Heads that two servers could read differently (RFC 9112 §11.2)."""

import pytest

from gateway.core.framing import fault_of
from gateway.core.rules import Authority

_HOST = ("Host", "x:80")


@pytest.mark.parametrize(
    ("version", "fields"),
    [
        ("HTTP/1.1", (_HOST,)),
        ("HTTP/1.1", (_HOST, ("Content-Length", "4"))),
        ("HTTP/1.1", (_HOST, ("Transfer-Encoding", "Chunked"))),
        ("HTTP/1.1", (("host", "[::1]:5000"),)),
        ("HTTP/1.1", (("Host", ""),)),
        ("HTTP/1.0", ()),
    ],
)
def test_what_passes(version: str, fields: tuple[tuple[str, str], ...]) -> None:
    assert fault_of(version, "/x", fields, opened=None) is None


@pytest.mark.parametrize(
    ("version", "fields"),
    [
        ("HTTP/1.1", (_HOST, ("Content-Length", "4, 4"))),
        ("HTTP/1.1", (_HOST, ("Content-Length", "4"), ("content-length", "4"))),
        ("HTTP/1.1", (_HOST, ("Content-Length", "0x4"))),
        ("HTTP/1.1", (_HOST, ("Content-Length", ""))),
        ("HTTP/1.1", (_HOST, ("Content-Length", "4"), ("Transfer-Encoding", "chunked"))),
        ("HTTP/1.1", (_HOST, ("Transfer-Encoding", "gzip, chunked"))),
        ("HTTP/1.1", (_HOST, ("Transfer-Encoding", "chunked"), ("Transfer-Encoding", "chunked"))),
        ("HTTP/1.0", (_HOST, ("Transfer-Encoding", "chunked"))),
        ("HTTP/1.1", ()),
        ("HTTP/1.1", (_HOST, _HOST)),
        ("HTTP/1.1", (("Host", "a/b"),)),
        ("HTTP/1.1", (("Host", "a, b"),)),
        ("HTTP/1.0", (_HOST, ("Host", "y"))),
    ],
)
def test_what_does_not(version: str, fields: tuple[tuple[str, str], ...]) -> None:
    assert fault_of(version, "/x", fields, opened=None)


def test_out_of_a_tunnel_nobody_is_asked_but_its_target() -> None:
    opened = Authority("registry.test", 443)
    for host in ("registry.test", "Registry.test:443"):
        assert fault_of("HTTP/1.1", "/x", (("Host", host),), opened=opened) is None
    for host in ("registry.test:444", "other.test"):
        assert fault_of("HTTP/1.1", "/x", (("Host", host),), opened=opened)
    assert fault_of("HTTP/1.0", "/x", (), opened=opened) is None
