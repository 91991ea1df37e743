"""What clients are shown."""

import asyncio
import datetime
import ipaddress
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from gateway.certs import CertificateStore, generate_ca, mint_leaf, read_pem
from gateway.config import ConfigError
from tests.support.running_gateway import self_signed


@pytest.fixture(scope="module")
def authority() -> tuple[bytes, bytes]:
    return generate_ca("our CA", datetime.timedelta(days=1))


def _shown(server: ssl.SSLContext, name: str, authority: bytes) -> bytes:
    """Shake hands in memory as a client that trusts `authority` and wants `name`; the certificate that it saw."""
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.load_verify_locations(cadata=authority.decode())
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    here = trusting.wrap_bio(to_client, to_server, server_hostname=name)
    there = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for end in (here, there):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    seen = here.getpeercert(binary_form=True)
    assert seen is not None
    return seen


@pytest.mark.parametrize("name", ["registry.test", "10.1.2.3", "::1", "a" * 60 + "." + "b" * 60 + ".test"])
async def test_a_ca_mints_a_leaf_that_its_clients_believe(authority: tuple[bytes, bytes], name: str) -> None:
    store = CertificateStore(*authority, now=lambda: 0.0)
    try:
        assert store.mints
        leaf = x509.load_der_x509_certificate(_shown(await store.context_for(name), name, authority[0]))
        now = datetime.datetime.now(datetime.UTC)
        assert leaf.not_valid_before_utc <= now - datetime.timedelta(minutes=59)
        assert leaf.not_valid_after_utc - leaf.not_valid_before_utc <= datetime.timedelta(hours=24)
        ca_key = serialization.load_pem_private_key(authority[1], password=None).public_key()
        assert leaf.public_key() != ca_key
        other = _shown(await store.context_for("other.test"), "other.test", authority[0])
        assert other != leaf.public_bytes(serialization.Encoding.DER)
    finally:
        store.close()


async def test_a_leaf_is_made_once_for_all_who_ask_together_and_again_when_it_is_old(authority: tuple[bytes, bytes]) -> None:
    now = 0.0
    store = CertificateStore(*authority, now=lambda: now)
    try:
        first, second = await asyncio.gather(store.context_for("r.test"), store.context_for("r.test"))
        assert first is second
        assert await store.context_for("r.test") is first
        now = 12 * 3600.0
        assert await store.context_for("r.test") is not first
    finally:
        store.close()


async def test_no_more_than_a_hundred_hosts_are_kept(authority: tuple[bytes, bytes]) -> None:
    store = CertificateStore(*authority, now=lambda: 0.0)
    try:
        kept = await store.context_for("0.test")
        for number in range(1, 100):
            await store.context_for(f"{number}.test")
        # Used again, so that the next newcomer takes another's place.
        assert await store.context_for("0.test") is kept
        one = await store.context_for("1.test")
        for number in range(100, 150):
            await store.context_for(f"{number}.test")
        assert len(store._shown) == 100
        assert await store.context_for("2.test") is not None
        assert one is not None
    finally:
        store.close()


async def test_a_plain_certificate_is_shown_to_everybody(tmp_path: Path) -> None:
    pair = self_signed(tmp_path, "df.test")
    store = CertificateStore.open(pair.cert, pair.key, now=lambda: 0.0)
    try:
        assert not store.mints
        assert await store.context_for("a.test") is await store.context_for("b.test")
        seen = _shown(await store.context_for("a.test"), "df.test", pair.cert.read_bytes())
        assert seen == ssl.PEM_cert_to_DER_cert(pair.cert.read_text())
    finally:
        store.close()


def test_a_key_that_1_xs_gen_ca_wrote_is_read(authority: tuple[bytes, bytes]) -> None:
    key = serialization.load_pem_private_key(authority[1], password=None)
    assert isinstance(key, rsa.RSAPrivateKey)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    ).replace(b" RSA PRIVATE KEY", b" PRIVATE KEY")
    CertificateStore(authority[0], pem, now=lambda: 0.0).close()


def test_a_key_of_somebody_else_is_refused(authority: tuple[bytes, bytes]) -> None:
    other = generate_ca("other", datetime.timedelta(days=1))
    with pytest.raises(ConfigError, match="not the key"):
        CertificateStore(authority[0], other[1], now=lambda: 0.0)


def test_files_that_are_no_pem_are_named(tmp_path: Path, authority: tuple[bytes, bytes]) -> None:
    with pytest.raises(ConfigError, match=r"hijack_https\.cert: cannot read .*none"):
        read_pem(tmp_path / "none", "hijack_https.cert")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(ConfigError, match="text is no PEM"):
        read_pem(tmp_path / "text", "hijack_https.cert")
    with pytest.raises(ConfigError, match="no PEM certificate and key"):
        CertificateStore(authority[0], b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", now=lambda: 0.0)
    encrypted = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x")
    )
    with pytest.raises(ConfigError, match="encrypted"):
        CertificateStore(authority[0], encrypted, now=lambda: 0.0)


def test_a_leaf_never_outlives_its_ca() -> None:
    certificate, secret = generate_ca("short", datetime.timedelta(minutes=5))
    ca, key = x509.load_pem_x509_certificate(certificate), serialization.load_pem_private_key(secret, password=None)
    assert isinstance(key, rsa.RSAPrivateKey)
    leaf = mint_leaf("r.test", ca, key, ec.generate_private_key(ec.SECP256R1()).public_key())
    assert leaf.not_valid_after_utc == ca.not_valid_after_utc
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["r.test"]
    assert names.get_values_for_type(x509.IPAddress) == []
    address = mint_leaf("::1", ca, key, ec.generate_private_key(ec.SECP256R1()).public_key())
    names = address.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.IPAddress) == [ipaddress.ip_address("::1")]
