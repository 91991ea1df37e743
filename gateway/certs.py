"""Certificates that the gateway shows to clients: minted for each host by a CA, or one plain certificate for all.

Blocking work (reading, signing, loading) runs in a thread; private keys pass through anonymous memory, never through a
file. Data flows from two PEM files to ssl.SSLContext objects for server sides.
"""

import asyncio
import datetime
import ipaddress
import os
import ssl
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gateway.config import ConfigError, GatewayConfig
from worker_peer.host.clock import Clock

_HOUR: Final = datetime.timedelta(hours=1)
#: As 1.x: valid from an hour ago (clocks differ) for a day in all.
_BACKDATED: Final = _HOUR
_LIFETIME: Final = 23 * _HOUR
#: A leaf is made anew when it has been shown for so long, well before it ends.
_SHOWN_S: Final = 12 * 3600.0
_MAX_HOSTS: Final = 100
_MAX_PEM_BYTES: Final = 1 << 20
_MAX_COMMON_NAME: Final = 64  # X.520, ub-common-name


@dataclass(frozen=True, slots=True, kw_only=True)
class _Leaf:
    context: ssl.SSLContext
    until: float


class CertificateStore:
    """TLS contexts for opened hosts. `open` reads the files; `close` ends its thread."""

    def __init__(self, chain: bytes, key: bytes, *, now: Callable[[], float]) -> None:
        """`chain` and `key`: PEM. `now`: monotonic seconds. Raises ConfigError where they do not belong together."""
        self._now = now
        try:
            self._certificate = x509.load_pem_x509_certificate(chain)
            self._key = _load_key(key)
        except ValueError as error:
            raise ConfigError(f"hijack_https.cert or key is no PEM certificate and key: {error}") from None
        self._chain = chain
        self.mints = is_ca(self._certificate)
        try:
            # Also proves that the key is the certificate's.
            self._plain = _server_context(chain, _key_pem(self._key))
        except ssl.SSLError as error:
            raise ConfigError(f"hijack_https.key is not the key of hijack_https.cert: {error.reason}") from None
        # A key of this process: what a client's log or a core dump shows of a leaf says nothing about the CA.
        self._leaf_key = ec.generate_private_key(ec.SECP256R1()) if self.mints else None
        self._shown: OrderedDict[str, _Leaf] = OrderedDict()
        self._minting: dict[str, asyncio.Future[ssl.SSLContext]] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="mint")

    @classmethod
    def open(cls, cert: Path, key: Path, *, now: Callable[[], float]) -> "CertificateStore":
        """Read both files. Blocks. Raises ConfigError naming the file that cannot be read."""
        return cls(read_pem(cert, "hijack_https.cert"), read_pem(key, "hijack_https.key"), now=now)

    async def context_for(self, host: str) -> ssl.SSLContext:
        """The context to meet a client with that asked for `host` (a name or an address, without a port)."""
        if not self.mints:
            return self._plain
        shown = self._shown.get(host)
        if shown is not None and self._now() < shown.until:
            self._shown.move_to_end(host)
            return shown.context
        running = self._minting.get(host)
        if running is None:
            running = asyncio.get_running_loop().run_in_executor(self._thread, self._mint, host)
            self._minting[host] = running
            running.add_done_callback(lambda future: self._minted(host, future))
        # One client that goes away must not stop what others wait for.
        return await asyncio.shield(running)

    def _minted(self, host: str, future: "asyncio.Future[ssl.SSLContext]") -> None:
        self._minting.pop(host, None)
        if future.cancelled() or future.exception() is not None:
            return
        self._shown[host] = _Leaf(context=future.result(), until=self._now() + _SHOWN_S)
        self._shown.move_to_end(host)
        while len(self._shown) > _MAX_HOSTS:
            self._shown.popitem(last=False)

    def _mint(self, host: str) -> ssl.SSLContext:
        assert self._leaf_key is not None
        leaf = mint_leaf(host, self._certificate, self._key, self._leaf_key.public_key())
        return _server_context(leaf.public_bytes(serialization.Encoding.PEM) + self._chain, _key_pem(self._leaf_key))

    def retire(self) -> None:
        """No leaf is minted any more but those that somebody waits for. Returns at once."""
        self._thread.shutdown(wait=False)

    def close(self) -> None:
        """End the thread, after what it is at."""
        self._thread.shutdown(wait=True, cancel_futures=True)


class Shown:
    """The certificates in force: read with the configuration, another pair as soon as the files hold one."""

    def __init__(self, clock: Clock) -> None:
        self.store: CertificateStore | None = None
        self._clock = clock
        self._pems = (b"", b"")
        self._read = (b"", b"")

    def read(self, config: GatewayConfig) -> CertificateStore | None:
        """What the configuration's files hold: the store in force where that is the same. Blocks. Raises ConfigError."""
        hijack = config.hijack_https
        if not hijack.cert:
            self._read = (b"", b"")
            return None
        self._read = (read_pem(Path(hijack.cert), "hijack_https.cert"), read_pem(Path(hijack.key), "hijack_https.key"))
        return self.store if self._read == self._pems else CertificateStore(*self._read, now=self._clock.now)

    def take_over(self, store: CertificateStore | None) -> None:
        """Show these from now on. Tunnels that are open already keep what they were met with."""
        if store is not self.store and self.store is not None:
            self.store.retire()
        self.store, self._pems = store, self._read

    def close(self) -> None:
        """End the store in force."""
        if self.store is not None:
            self.store.close()


def mint_leaf(
    host: str, ca: x509.Certificate, ca_key: CertificateIssuerPrivateKeyTypes, public_key: ec.EllipticCurvePublicKey
) -> x509.Certificate:
    """A server certificate for `host`, signed by `ca` (RFC 5280 §4.2; the name is in SAN, where clients look)."""
    now = datetime.datetime.now(datetime.UTC)
    name: x509.GeneralName
    try:
        name = x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        name = x509.DNSName(host)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host[:_MAX_COMMON_NAME])]))
        .issuer_name(ca.subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(max(now - _BACKDATED, ca.not_valid_before_utc))
        .not_valid_after(min(now + _LIFETIME, ca.not_valid_after_utc))
        .add_extension(x509.SubjectAlternativeName([name]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
    )
    return builder.sign(ca_key, _digest_for(ca_key))


def generate_ca(common_name: str, lifetime: datetime.timedelta) -> tuple[bytes, bytes]:
    """(certificate, private key) of a new CA, PEM, as 1.x's `gen-ca`: RSA 2048, O=dragonfly. Blocks for a second."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    now = datetime.datetime.now(datetime.UTC)
    name = x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "dragonfly"), x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + lifetime)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM), _key_pem(key)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_encipherment=signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _digest_for(key: CertificateIssuerPrivateKeyTypes) -> hashes.SHA256 | None:
    """Ed25519 and Ed448 have their digest built in."""
    return hashes.SHA256() if isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) else None


def is_ca(certificate: x509.Certificate) -> bool:
    """Whether it may sign others (RFC 5280 §4.2.1.9)."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _load_key(pem: bytes) -> CertificateIssuerPrivateKeyTypes:
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except TypeError:
        raise ValueError("the key is encrypted; write it without a passphrase (openssl rsa -in … -out …)") from None
    except ValueError:
        # 1.x's gen-ca writes PKCS#1 under PKCS#8's name.
        pem = pem.replace(b" PRIVATE KEY-----", b" RSA PRIVATE KEY-----")
        key = serialization.load_pem_private_key(pem, password=None)
    return cast("CertificateIssuerPrivateKeyTypes", key)


def _key_pem(key: CertificateIssuerPrivateKeyTypes) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def _server_context(chain: bytes, key: bytes) -> ssl.SSLContext:
    """A server's context. OpenSSL reads certificates from files only: anonymous memory stands in for one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    descriptor = os.memfd_create("certificate", os.MFD_CLOEXEC)
    with os.fdopen(descriptor, "wb") as file:
        file.write(chain + b"\n" + key)
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    return context


def listener_context(cert: Path, key: Path) -> ssl.SSLContext:
    """The context of the gateway's own listener (`certpem`, `keypem`). Blocks. Raises ConfigError."""
    chain, secret = read_pem(cert, "certpem"), read_pem(key, "keypem")
    try:
        return _server_context(chain, _key_pem(_load_key(secret)))
    except (ValueError, ssl.SSLError) as error:
        raise ConfigError(f"certpem and keypem are no PEM certificate and its key: {error}") from None


def read_pem(path: Path, key: str) -> bytes:
    """A PEM file's bytes. Raises ConfigError that names the configuration's `key` and the file."""
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_PEM_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{key}: cannot read {path}: {error.strerror}") from None
    if len(text) > _MAX_PEM_BYTES or b"-----BEGIN " not in text:
        raise ConfigError(f"{key}: {path} is no PEM file")
    return text
