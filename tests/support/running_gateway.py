"""A real gateway on loopback in this process, with a peer of the test's own, and certificates made for the occasion."""

import asyncio
import datetime
import ipaddress
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gateway.app import Reread, Running, run
from gateway.config import GatewayConfig
from gateway.stream import Patience
from tests.support.memory_peer import MemoryPeer
from worker_peer.api import Peer
from worker_peer.config import PeerConfig
from worker_peer.host.background import Background


@asynccontextmanager
async def running_gateway(
    config: GatewayConfig, peer: MemoryPeer, *, patience: Patience | None = None, reread: Reread | None = None
) -> AsyncIterator[Running]:
    """Serve until the block ends. The configuration's port should be 0."""
    started: asyncio.Future[Running] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()

    async def open_peer(_: PeerConfig) -> Peer:
        return peer

    background = Background()
    runs = run(config, ready=started.set_result, stop=stop, open_peer=open_peer, patience=patience, reread=reread)
    task = background.spawn(runs, "gateway")

    def ended(done: "asyncio.Task[None]") -> None:
        if not started.done():
            started.set_exception(done.exception() or EOFError("the gateway ended before it was ready"))

    task.add_done_callback(ended)
    await started
    try:
        yield started.result()
    finally:
        stop.set()
        await task
        await background.close()
    assert peer.closed
    assert peer.readers == 0, "a content was not closed"


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A certificate's and its key's files."""

    cert: Path
    key: Path

    def server(self) -> ssl.SSLContext:
        """To serve with it."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.cert, self.key)
        return context

    def client(self) -> ssl.SSLContext:
        """To trust nothing but it."""
        return ssl.create_default_context(cafile=str(self.cert))


def self_signed(folder: Path, name: str) -> Pair:
    """A certificate for `name` (a host name or an address), signed by itself, without the CA bit."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    alternative: x509.GeneralName
    try:
        alternative = x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        alternative = x509.DNSName(name)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pair = Pair(cert=folder / f"{name}.crt", key=folder / f"{name}.key")
    pair.cert.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    pair.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return pair
