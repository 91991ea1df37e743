"""TLS and proxies, with real servers on loopback."""

import datetime
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.source_server import Page, SourceServer
from tests.worker_peer.host.source_reading import CONTENT, SECRETS, fail, read
from wire.errors import ErrorCode
from worker_peer.host.clock import SystemClock
from worker_peer.host.source import SourceReader, SourceRequest


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
