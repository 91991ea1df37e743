"""Whole contents from real servers on loopback that do what servers do."""

import asyncio
import hashlib
import sys
from pathlib import Path

import pytest

from tests.support.source_server import Page, SourceServer
from tests.worker_peer.host.source_reading import CONTENT, SECRETS, fail, read
from wire.errors import ErrorCode
from worker_peer.host.clock import SystemClock
from worker_peer.host.limits import TokenBucket
from worker_peer.host.source import SourceReader, SourceRequest


@pytest.mark.parametrize("length", [0, 1, 65_536, len(CONTENT)])
@pytest.mark.parametrize("how", ["length", "chunked", "until close"])
async def test_a_whole_content(server: SourceServer, reader: SourceReader, length: int, how: str) -> None:
    content = CONTENT[:length]
    server.pages["/file"] = Page(
        body=content, chunked=how == "chunked", with_length=how == "length", etag='"e"', content_type="a/b"
    )
    body = await reader.open(SourceRequest(url=server.url("/file?Signature=a%2Bb")))
    assert (body.status, body.length, body.offset) == (200, length if how == "length" else None, 0)
    assert (body.content_type, body.validator, body.content_encoding) == ("a/b", '"e"', "")
    assert hashlib.sha256(await read(body)).digest() == hashlib.sha256(content).digest()
    assert body.bytes_read == length
    [asked] = server.requests
    assert (asked.method, asked.target) == ("GET", "/file?Signature=a%2Bb")
    assert asked.header("User-Agent") == "damselfly/test"
    assert asked.header("Accept-Encoding") == "identity"
    assert asked.header("Host") == f"127.0.0.1:{server.port}"
    assert asked.header("Range") is None


async def test_the_callers_headers_arrive_without_those_of_a_connection(server: SourceServer, reader: SourceReader) -> None:
    server.pages["/file"] = Page(body=b"x")
    headers = (("Connection", "close"), ("User-Agent", "mine/1"), ("X-Many", "1"), ("X-Many", "2"), ("Host", "evil"), *SECRETS)
    await read(await reader.open(SourceRequest(url=server.url("/file"), headers=headers)))
    [asked] = server.requests
    assert [value for name, value in asked.headers if name == "X-Many"] == ["1", "2"]
    assert asked.header("User-Agent") == "mine/1"
    assert asked.header("Connection") is None
    assert asked.header("Host") == f"127.0.0.1:{server.port}"
    assert all(asked.header(name) == value for name, value in SECRETS)


async def test_secrets_are_in_no_repr() -> None:
    assert "s3cret" not in repr(SourceRequest(url="http://h/", headers=SECRETS))


async def test_connections_are_kept(server: SourceServer, reader: SourceReader) -> None:
    server.pages["/file"] = Page(body=CONTENT[:1000])
    for _ in range(3):
        assert await read(await reader.open(SourceRequest(url=server.url("/file")))) == CONTENT[:1000]
    assert len(server.requests) == 3
    assert len(server._serving) == 1


async def test_bytes_come_before_the_rest_is_there(server: SourceServer, reader: SourceReader) -> None:
    page = server.pages["/file"] = Page(body=CONTENT, holds_after=100_000)
    body = await reader.open(SourceRequest(url=server.url("/file")))
    chunks = body.chunks()
    first = b""
    while len(first) < 100_000:
        first += await anext(chunks)
    assert first == CONTENT[:100_000]
    page.go_on.set()
    assert first + b"".join([chunk async for chunk in chunks]) == CONTENT
    await body.close()


async def test_a_slow_reader_slows_the_source(server: SourceServer, reader: SourceReader) -> None:
    content = CONTENT * 24
    server.pages["/file"] = Page(body=content)
    body = await reader.open(SourceRequest(url=server.url("/file")))
    chunks = body.chunks()
    got = await anext(chunks)
    stream = body._response.content
    while not stream._protocol._reading_paused:  # noqa: ASYNC110  the library has no event for it
        await asyncio.sleep(0.01)
    assert stream.total_bytes - len(got) < 4 << 20
    assert got + b"".join([chunk async for chunk in chunks]) == content
    await body.close()


async def test_content_encoding_is_never_undone(server: SourceServer, reader: SourceReader) -> None:
    server.pages["/file"] = Page(body=b"not really gzip", headers=(("Content-Encoding", "gzip"),))
    asks = (("Accept-Encoding", "gzip"),)
    body = await reader.open(SourceRequest(url=server.url("/file"), headers=asks))
    assert body.content_encoding == "gzip"
    assert await read(body) == b"not really gzip"
    for headers in ((), (("Accept-Encoding", "identity"),)):
        error = await fail(reader, server.url("/file"), headers=headers)
        assert error.code is ErrorCode.SOURCE_ERROR


async def test_the_limit_holds(server: SourceServer) -> None:
    clock = SystemClock()
    reader = SourceReader(limits=(TokenBucket(1_000_000, 0),), clock=clock, user_agent="x")
    server.pages["/file"] = Page(body=CONTENT[:300_000])
    before = clock.now()
    body = await reader.open(SourceRequest(url=server.url("/file")))
    sizes = [len(chunk) async for chunk in body.chunks()]
    assert clock.now() - before >= 0.3
    # A tenth of a second at a time, not all of it in one lump.
    assert max(sizes) <= 100_000
    await body.close()
    await reader.close()


async def test_nothing_is_loaded_before_the_first_use(repository: Path) -> None:
    code = "import sys, worker_peer.host.source; sys.exit('aiohttp' in sys.modules)"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, cwd=repository)
    assert await process.wait() == 0
