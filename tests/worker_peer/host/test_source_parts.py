"""Parts of contents, the rest of one, and whether it is still the same: real servers on loopback."""

import pytest

from tests.support.source_server import Page, SourceServer
from tests.worker_peer.host.source_reading import CONTENT, fail, read
from wire.errors import ErrorCode
from wire.ids import ByteRange
from worker_peer.host.source import SourceError, SourceReader, SourceRequest


@pytest.mark.parametrize(
    ("byte_range", "offset", "span"),
    [
        (ByteRange(10, 19), 0, (10, 20)),
        (ByteRange(10, 19), 4, (14, 20)),
        (ByteRange(2000000, None), 0, (2000000, 2500000)),
        (ByteRange(2499990, 9999999), 0, (2499990, 2500000)),
        (None, 1000001, (1000001, 2500000)),
    ],
)
async def test_a_part(
    server: SourceServer, reader: SourceReader, byte_range: ByteRange | None, offset: int, span: tuple[int, int]
) -> None:
    server.pages["/file"] = Page(body=CONTENT)
    body = await reader.open(SourceRequest(url=server.url("/file"), byte_range=byte_range), offset=offset)
    begin = byte_range.first if byte_range else 0
    assert (body.status, body.length, body.offset) == (206, span[1] - begin, offset)
    assert await read(body) == CONTENT[span[0] : span[1]]


async def test_resuming_the_same_content(server: SourceServer, reader: SourceReader) -> None:
    server.pages["/file"] = Page(body=CONTENT, etag='"one"')
    body = await reader.open(SourceRequest(url=server.url("/file")), offset=2_000_000, validator='"one"')
    assert body.offset == 2_000_000
    assert await read(body) == CONTENT[2_000_000:]
    [asked] = server.requests
    assert asked.header("Range") == "bytes=2000000-"
    assert asked.header("If-Range") == '"one"'
    assert server.body_bytes == 500_000


async def test_resuming_where_the_content_has_changed(server: SourceServer, reader: SourceReader) -> None:
    server.pages["/file"] = Page(body=CONTENT, etag='"two"')
    with pytest.raises(SourceError) as caught:
        await reader.open(SourceRequest(url=server.url("/file")), offset=2_000_000, validator='"one"')
    assert caught.value.code is ErrorCode.SOURCE_CHANGED


async def test_resuming_where_the_content_is_shorter(server: SourceServer, reader: SourceReader) -> None:
    server.pages["/file"] = Page(body=CONTENT[:10])
    with pytest.raises(SourceError) as caught:
        await reader.open(SourceRequest(url=server.url("/file")), offset=11)
    assert caught.value.code is ErrorCode.SOURCE_CHANGED


async def test_a_weak_validator_is_compared_not_sent(server: SourceServer, reader: SourceReader) -> None:
    server.pages["/file"] = Page(body=CONTENT, etag='W/"one"')
    body = await reader.open(SourceRequest(url=server.url("/file")), offset=5, validator='W/"one"')
    assert await read(body) == CONTENT[5:]
    assert server.requests[0].header("If-Range") is None


async def test_a_source_without_ranges(server: SourceServer, reader: SourceReader) -> None:
    server.pages["/file"] = Page(body=CONTENT, ranges=False)
    body = await reader.open(SourceRequest(url=server.url("/file")), offset=5)
    assert (body.status, body.offset, body.length) == (200, 0, len(CONTENT))
    assert await read(body) == CONTENT
    error = await fail(reader, server.url("/file"), byte_range=ByteRange(5, 9))
    assert error.code is ErrorCode.SOURCE_ERROR
    assert "does not answer ranges" in str(error)
    whole = await reader.open(SourceRequest(url=server.url("/file"), byte_range=ByteRange(0, None)))
    assert await read(whole) == CONTENT


@pytest.mark.parametrize("lie", ["bytes 0-9/100", "bytes 10-19", "nonsense"])
async def test_a_lie_about_the_range(server: SourceServer, reader: SourceReader, lie: str) -> None:
    server.pages["/file"] = Page(body=CONTENT, declared_range=lie)
    error = await fail(reader, server.url("/file"), byte_range=ByteRange(10, 19))
    assert error.code is ErrorCode.SOURCE_ERROR


async def test_a_range_outside_of_the_content(server: SourceServer, reader: SourceReader) -> None:
    server.pages["/file"] = Page(body=b"short")
    error = await fail(reader, server.url("/file"), byte_range=ByteRange(10, 19))
    assert (error.code, error.status) == (ErrorCode.SOURCE_ERROR, 416)
