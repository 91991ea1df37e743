"""Servers on loopback that refuse, lie, die or fall silent: each is a SourceError that says what to do."""

import asyncio
import socket

import pytest

from tests.support.source_server import Page, SourceServer
from tests.worker_peer.host.source_reading import CONTENT, SECRETS, fail, read
from wire.errors import ErrorCode
from worker_peer.host.clock import SystemClock
from worker_peer.host.source import SourceError, SourceReader, SourceRequest, SourceTimeouts


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (401, ErrorCode.SOURCE_NEEDS_AUTH),
        (403, ErrorCode.SOURCE_FORBIDDEN),
        (404, ErrorCode.SOURCE_NOT_FOUND),
        (500, ErrorCode.SOURCE_ERROR),
    ],
)
async def test_an_error_page_is_no_content(server: SourceServer, reader: SourceReader, status: int, code: ErrorCode) -> None:
    server.pages["/file"] = Page(body=b"<html>sorry</html>", status=status)
    error = await fail(reader, server.url("/file?Signature=s3cret"), headers=SECRETS)
    assert (error.code, error.status, error.retryable) == (code, status, status == 500)
    assert f"http://127.0.0.1:{server.port}/file" in str(error)


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_source_that_dies_half_way_and_is_resumed(server: SourceServer, reader: SourceReader, chunked: bool) -> None:
    server.pages["/file"] = Page(body=CONTENT, dies_after=1_000_000, deaths=1, chunked=chunked)
    request = SourceRequest(url=server.url("/file?Signature=s3cret"))
    body = await reader.open(request)
    got = b""
    with pytest.raises(SourceError, match=r"died after \d+ of (2500000|an unknown number of) bytes; try again") as caught:
        async for chunk in body.chunks():
            got += chunk
    await body.close()
    assert (caught.value.code, caught.value.retryable) == (ErrorCode.SOURCE_ERROR, True)
    assert "s3cret" not in str(caught.value)
    assert 0 < len(got) <= 1_000_000
    assert got == CONTENT[: len(got)]
    again = await reader.open(request, offset=len(got))
    assert again.offset == len(got)
    assert got + await read(again) == CONTENT


@pytest.mark.parametrize("declared", [len(CONTENT) + 1, len(CONTENT) * 2])
async def test_a_source_that_promises_more_than_it_has(server: SourceServer, reader: SourceReader, declared: int) -> None:
    server.pages["/file"] = Page(body=CONTENT, declared_length=declared)
    error = await fail(reader, server.url("/file"))
    assert error.code is ErrorCode.SOURCE_ERROR
    assert f"of {declared} bytes" in str(error)


async def test_a_source_that_sends_more_than_it_promises(server: SourceServer, reader: SourceReader) -> None:
    server.pages["/file"] = Page(body=CONTENT, declared_length=1000)
    # By how the bytes arrive, the library notices the rest (an error) or leaves it; never is any of it given out.
    got: bytes | ErrorCode
    try:
        got = await read(await reader.open(SourceRequest(url=server.url("/file"))))
    except SourceError as error:
        got = error.code
    assert got in (CONTENT[:1000], ErrorCode.SOURCE_ERROR)


async def test_a_source_that_falls_silent(server: SourceServer) -> None:
    reader = SourceReader(clock=SystemClock(), user_agent="x", timeouts=SourceTimeouts(connect_s=5, idle_s=0.2))
    server.pages["/file"] = Page(body=CONTENT, holds_after=1000)
    error = await fail(reader, server.url("/file"))
    assert (error.code, error.retryable) == (ErrorCode.SOURCE_ERROR, True)
    assert "fell silent after 1000 of 2500000 bytes" in str(error)
    await reader.close()


async def test_a_source_that_never_answers() -> None:
    reader = SourceReader(clock=SystemClock(), user_agent="x", timeouts=SourceTimeouts(connect_s=5, idle_s=0.2))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        error = await fail(reader, f"http://127.0.0.1:{silent.getsockname()[1]}/p?sig=s3cret")
    assert (error.code, error.retryable) == (ErrorCode.SOURCE_UNREACHABLE, True)
    await reader.close()


async def test_a_port_where_nobody_listens(reader: SourceReader) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    error = await fail(reader, f"http://127.0.0.1:{port}/p?sig=s3cret")
    assert (error.code, error.retryable) == (ErrorCode.SOURCE_UNREACHABLE, True)
    assert "cannot be reached" in str(error)


async def test_a_name_that_does_not_exist(reader: SourceReader) -> None:
    error = await fail(reader, "http://no-such-host.invalid/p?sig=s3cret")
    assert error.code is ErrorCode.SOURCE_UNREACHABLE


@pytest.mark.parametrize("answer", [b"SSH-2.0-x\r\n", b"", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"])
async def test_a_server_of_something_else(reader: SourceReader, answer: bytes) -> None:
    async def say(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(say, "127.0.0.1", 0) as nonsense:
        error = await fail(reader, f"http://127.0.0.1:{nonsense.sockets[0].getsockname()[1]}/p?sig=s3cret")
    assert error.code in (ErrorCode.SOURCE_ERROR, ErrorCode.SOURCE_UNREACHABLE)


async def test_broken_chunks(reader: SourceReader) -> None:
    async def say(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nxyz\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(say, "127.0.0.1", 0) as nonsense:
        error = await fail(reader, f"http://127.0.0.1:{nonsense.sockets[0].getsockname()[1]}/p?sig=s3cret")
    assert error.code is ErrorCode.SOURCE_ERROR
