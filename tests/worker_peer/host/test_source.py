"""The source reader against real servers on loopback that do what servers do."""

import asyncio
import datetime
import hashlib
import os
import socket
import ssl
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.source_server import Page, SourceServer
from wire.errors import ErrorCode
from wire.ids import ByteRange
from worker_peer.host.clock import SystemClock
from worker_peer.host.limits import TokenBucket
from worker_peer.host.source import SourceBody, SourceError, SourceReader, SourceRequest, SourceTimeouts

CONTENT = os.urandom(2_500_000)
SECRETS = (
    ("Authorization", "Bearer s3cret"),
    ("Cookie", "id=s3cret"),
    ("X-Auth-Token", "s3cret"),
    ("PRIVATE-TOKEN", "s3cret"),
)


@pytest.fixture
async def server() -> AsyncIterator[SourceServer]:
    async with SourceServer() as made:
        yield made


@pytest.fixture
async def other() -> AsyncIterator[SourceServer]:
    async with SourceServer() as made:
        yield made


@pytest.fixture
async def reader() -> AsyncIterator[SourceReader]:
    made = SourceReader(clock=SystemClock(), user_agent="damselfly/test", timeouts=SourceTimeouts(connect_s=5, idle_s=5))
    yield made
    await made.close()
    await made.close()


async def read(body: SourceBody) -> bytes:
    parts = [chunk async for chunk in body.chunks()]
    assert all(0 < len(part) <= 1 << 20 for part in parts)
    await body.close()
    await body.close()
    return b"".join(parts)


async def fail(reader: SourceReader, url: str, **changes: object) -> SourceError:
    """The error of opening and reading a URL whose secrets must not be in it."""
    with pytest.raises(SourceError) as caught:
        body = await reader.open(SourceRequest(url=url, **changes))  # type: ignore[arg-type]
        try:
            [_ async for _ in body.chunks()]
        finally:
            await body.close()
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None
    return caught.value


# Whole contents


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
    reader = SourceReader(limiter=TokenBucket(1_000_000, 0), clock=clock, user_agent="x")
    server.pages["/file"] = Page(body=CONTENT[:300_000])
    before = clock.now()
    body = await reader.open(SourceRequest(url=server.url("/file")))
    sizes = [len(chunk) async for chunk in body.chunks()]
    assert clock.now() - before >= 0.3
    # A tenth of a second at a time, not all of it in one lump.
    assert max(sizes) <= 100_000
    await body.close()
    await reader.close()


# Parts and resumption


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


# Failures


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


# Redirects


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


# TLS and proxies


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for localhost, with its key, in one PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(pem + made.public_bytes(serialization.Encoding.PEM))
    return path


def public_part(certificate: Path) -> bytes:
    text = certificate.read_bytes()
    return text[text.index(b"-----BEGIN CERTIFICATE") :]


@pytest.fixture
async def secure(certificate: Path) -> AsyncIterator[SourceServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    async with SourceServer(tls=context) as made:
        made.pages["/file"] = Page(body=CONTENT)
        yield made


async def test_tls_by_the_given_certificate_only(secure: SourceServer, reader: SourceReader, certificate: Path) -> None:
    url = secure.url("/file", host="localhost")
    error = await fail(reader, url + "?sig=s3cret")
    assert (error.code, error.retryable) == (ErrorCode.SOURCE_UNREACHABLE, False)
    assert "self-signed certificate; give its CA with --cacerts" in str(error)
    assert await read(await reader.open(SourceRequest(url=url, certificates=(public_part(certificate),)))) == CONTENT
    assert await read(await reader.open(SourceRequest(url=url, insecure=True))) == CONTENT
    # A connection that was made without verifying is not used by who wants it verified.
    assert (await fail(reader, url)).code is ErrorCode.SOURCE_UNREACHABLE
    assert len(secure.requests) == 2


async def test_the_certificates_name_is_checked(secure: SourceServer, reader: SourceReader, certificate: Path) -> None:
    error = await fail(reader, secure.url("/file"), certificates=(public_part(certificate),))
    assert error.code is ErrorCode.SOURCE_UNREACHABLE


async def test_contexts_are_kept_and_bounded(secure: SourceServer, reader: SourceReader, certificate: Path) -> None:
    pem = public_part(certificate)
    for count in range(40):
        request = SourceRequest(url=secure.url("/file", host="localhost"), certificates=(pem, b"\n" * count))
        await (await reader.open(request)).close()
    assert len(reader._tls) == 32


@pytest.mark.parametrize("pem", [b"nonsense", b"\xff"])
async def test_certificates_that_are_none(secure: SourceServer, reader: SourceReader, pem: bytes) -> None:
    error = await fail(reader, secure.url("/file"), certificates=(pem,))
    assert "must be PEM" in str(error)


async def test_credentials_do_not_go_from_https_to_http(secure: SourceServer, server: SourceServer, reader: SourceReader) -> None:
    secure.pages["/a"] = Page(status=302, headers=(("Location", server.url("/b", host="localhost")),))
    server.pages["/b"] = Page(body=b"x")
    request = SourceRequest(url=secure.url("/a", host="localhost"), headers=SECRETS, insecure=True)
    assert await read(await reader.open(request)) == b"x"
    assert "s3cret" not in str(server.requests[0].headers)


async def test_proxies_from_the_environment_only_where_allowed(
    server: SourceServer, reader: SourceReader, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".netrc").write_text("default login user password s3cret\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("NO_PROXY", "no_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", f"http://user:pass@127.0.0.1:{server.port}")
    server.pages["/file"] = Page(body=b"by the proxy")
    assert (await fail(reader, "http://no-such-host.invalid/file")).code is ErrorCode.SOURCE_UNREACHABLE
    through = SourceReader(clock=SystemClock(), user_agent="x", trust_env=True)
    assert await read(await through.open(SourceRequest(url="http://no-such-host.invalid/file"))) == b"by the proxy"
    [asked] = server.requests
    assert asked.target == "http://no-such-host.invalid/file"
    assert asked.header("Proxy-Authorization") == "Basic dXNlcjpwYXNz"
    assert asked.header("Authorization") is None
    monkeypatch.setenv("no_proxy", "no-such-host.invalid")
    assert (await fail(through, "http://no-such-host.invalid/file")).code is ErrorCode.SOURCE_UNREACHABLE
    await through.close()


async def test_the_proxys_refusal_of_a_tunnel_is_told(server: SourceServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{server.port}")
    server.pages["no-such-host.invalid:443"] = Page(status=407)
    through = SourceReader(clock=SystemClock(), user_agent="x", trust_env=True)
    error = await fail(through, "https://no-such-host.invalid/file?sig=s3cret")
    assert (error.code, error.status) == (ErrorCode.SOURCE_NEEDS_AUTH, 407)
    assert "the proxy on the way" in str(error)
    await through.close()


async def test_nothing_is_loaded_before_the_first_use(repository: Path) -> None:
    code = "import sys, worker_peer.host.source; sys.exit('aiohttp' in sys.modules)"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, cwd=repository)
    assert await process.wait() == 0
