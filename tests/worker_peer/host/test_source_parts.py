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


@pytest.mark.parametrize(
    ("byte_range", "offset", "stop", "span", "asked"),
    [
        (None, 100, 200, (100, 200), "bytes=100-199"),
        (None, 0, 200, (0, 200), "bytes=0-199"),
        (ByteRange(1000, 1999), 10, 20, (1010, 1020), "bytes=1010-1019"),
        (ByteRange(1000, 1999), 10, 5000, (1010, 2000), "bytes=1010-1999"),
        (ByteRange(1000, None), 0, 1, (1000, 1001), "bytes=1000-1000"),
    ],
)
async def test_a_part_of_the_content_up_to_where_it_is_wanted(
    server: SourceServer,
    reader: SourceReader,
    byte_range: ByteRange | None,
    offset: int,
    stop: int,
    span: tuple[int, int],
    asked: str,
) -> None:
    server.pages["/file"] = Page(body=CONTENT)
    body = await reader.open(SourceRequest(url=server.url("/file"), byte_range=byte_range), offset=offset, stop=stop)
    assert body.offset == offset
    assert await read(body) == CONTENT[slice(*span)]
    [request] = server.requests
    assert request.header("Range") == asked
    assert server.body_bytes == span[1] - span[0]


@pytest.mark.parametrize(
    ("validator", "header"),
    [
        ('"one"', "If-None-Match"),
        ('W/"one"', "If-None-Match"),
        ("Sun, 06 Nov 1994 08:49:37 GMT", "If-Modified-Since"),
    ],
)
async def test_whether_the_content_is_the_same_costs_no_body(
    server: SourceServer, reader: SourceReader, validator: str, header: str
) -> None:
    server.pages["/file"] = Page(status=304)
    request = SourceRequest(url=server.url("/file"))
    assert await reader.is_current(request, validator)
    assert server.requests[0].header(header) == validator
    assert server.requests[0].header("If-Range") is None
    assert server.body_bytes == 0
    server.pages["/file"] = Page(body=CONTENT)
    assert not await reader.is_current(request, validator)


async def test_whether_a_part_is_the_same(server: SourceServer, reader: SourceReader) -> None:
    server.pages["/file"] = Page(body=CONTENT)
    request = SourceRequest(url=server.url("/file"), byte_range=ByteRange(10, 19))
    assert not await reader.is_current(request, '"one"')
    assert server.requests[0].header("Range") == "bytes=10-19"
    server.pages["/file"] = Page(status=304)
    assert await reader.is_current(request, '"one"')


async def test_a_content_that_is_gone_is_neither_the_same_nor_another(server: SourceServer, reader: SourceReader) -> None:
    server.pages["/file"] = Page(status=404)
    with pytest.raises(SourceError) as caught:
        await reader.is_current(SourceRequest(url=server.url("/file?Signature=s3cret")), '"one"')
    assert (caught.value.code, caught.value.status) == (ErrorCode.SOURCE_NOT_FOUND, 404)
    assert "s3cret" not in str(caught.value)
