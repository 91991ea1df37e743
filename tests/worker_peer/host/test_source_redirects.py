"""Redirects between real servers on loopback; no credential reaches a second origin."""

import pytest

from tests.support.source_server import Page, SourceServer
from tests.worker_peer.host.source_reading import CONTENT, SECRETS, fail, read
from wire.errors import ErrorCode
from worker_peer.host.source import SourceReader, SourceRequest


async def test_a_redirect_on_one_origin_keeps_everything(server: SourceServer, reader: SourceReader) -> None:
    server.pages["/a"] = Page(status=302, headers=(("Location", "b/c?x=%2B"),))
    server.pages["/b/c"] = Page(body=CONTENT)
    body = await reader.open(SourceRequest(url=server.url("/a"), headers=SECRETS), offset=5)
    assert await read(body) == CONTENT[5:]
    assert server.requests[1].target == "/b/c?x=%2B"
    assert all(server.requests[1].header(name) == value for name, value in SECRETS)
    assert server.requests[1].header("Range") == "bytes=5-"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_credentials_do_not_cross_to_another_port(
    server: SourceServer, other: SourceServer, reader: SourceReader, status: int
) -> None:
    server.pages["/a"] = Page(status=status, headers=(("Location", other.url("/b?Signature=x")),), body=b"moved")
    other.pages["/b"] = Page(body=CONTENT)
    headers = (*SECRETS, ("X-Trace", "1"))
    assert await read(await reader.open(SourceRequest(url=server.url("/a"), headers=headers))) == CONTENT
    [asked] = other.requests
    assert asked.header("X-Trace") == "1"
    assert asked.header("User-Agent") == "damselfly/test"
    assert "s3cret" not in str(asked.headers)
    assert server.requests[0].header("Authorization") == "Bearer s3cret"


async def test_another_name_of_the_same_host_is_another_origin(server: SourceServer, reader: SourceReader) -> None:
    server.pages["/a"] = Page(status=302, headers=(("Location", server.url("/b", host="localhost")),))
    server.pages["/b"] = Page(body=b"x")
    assert await read(await reader.open(SourceRequest(url=server.url("/a"), headers=SECRETS))) == b"x"
    assert "s3cret" not in str(server.requests[1].headers)


async def test_credentials_do_not_come_back(server: SourceServer, other: SourceServer, reader: SourceReader) -> None:
    server.pages["/a"] = Page(status=302, headers=(("Location", other.url("/b")),))
    other.pages["/b"] = Page(status=302, headers=(("Location", server.url("/c")),))
    server.pages["/c"] = Page(body=b"x")
    assert await read(await reader.open(SourceRequest(url=server.url("/a"), headers=SECRETS))) == b"x"
    assert "s3cret" not in str(server.requests[1].headers)


async def test_credentials_in_the_url_are_bound_to_it(server: SourceServer, other: SourceServer, reader: SourceReader) -> None:
    server.pages["/a"] = Page(status=302, headers=(("Location", other.url("/b")),))
    other.pages["/b"] = Page(body=b"x")
    url = server.url("/a").replace("http://", "http://user:s3cret@")
    assert await read(await reader.open(SourceRequest(url=url))) == b"x"
    assert (server.requests[0].header("Authorization") or "").startswith("Basic ")
    assert other.requests[0].header("Authorization") is None


async def test_an_endless_redirect_ends(server: SourceServer, reader: SourceReader) -> None:
    server.pages["/a"] = Page(status=302, headers=(("Location", "/a?s3cret"),))
    error = await fail(reader, server.url("/a"))
    assert error.code is ErrorCode.SOURCE_ERROR
    assert len(server.requests) == 11


@pytest.mark.parametrize("location", ["", "ftp://h/p", "file:///etc/passwd", "http://"])
async def test_a_redirect_to_nowhere(server: SourceServer, reader: SourceReader, location: str) -> None:
    server.pages["/a"] = Page(status=302, headers=(("Location", location),) if location else ())
    error = await fail(reader, server.url("/a"))
    assert error.code is ErrorCode.SOURCE_ERROR


async def test_a_location_of_many_kilobytes(server: SourceServer, reader: SourceReader) -> None:
    server.pages["/a"] = Page(status=307, headers=(("Location", "/b?sig=" + "x" * 20_000),))
    server.pages["/b"] = Page(body=b"x")
    assert await read(await reader.open(SourceRequest(url=server.url("/a")))) == b"x"
