"""CONNECT: pass the bytes through unread, or open the TLS of a host that the rules name and serve what is inside.

Before anything is opened the upstream is probed: where a registry speaks plain HTTP, its client must see that by
itself. Data flows from a plain socket either to another one (sockets.join), or through TLS into the HTTP door.
"""

import asyncio
import logging
import socket
import ssl
from collections import OrderedDict
from collections.abc import Callable
from enum import Enum
from typing import Final

from tornado.iostream import IOStream, StreamClosedError

from gateway.certs import CertificateStore
from gateway.core.rules import Authority, RuleTable, parse_authority
from gateway.metrics import Metrics, Tunnel
from gateway.sockets import dial, first_byte, join, keep_alive
from worker_peer.host.clock import Clock

#: Said by 1.x to every CONNECT that it accepts.
_ESTABLISHED: Final = b"HTTP/1.1 200 Connection established\r\n\r\n"
_TLS_HANDSHAKE: Final = b"\x16"
_HANDSHAKE_S: Final = 10.0
#: How long a client may think about its first byte after our 200.
_SILENCE_S: Final = 300.0
_PROBE_HOLDS_S: Final = 60.0
_MAX_PROBED: Final = 256
_BUFFER_BYTES: Final = 1 << 20
_CHUNK_BYTES: Final = 256 << 10

_LOG = logging.getLogger("dfdaemon")
#: Serves HTTP on an opened stream: HttpDoor.serve.
Serve = Callable[[IOStream, Authority], None]


class Speaks(Enum):
    """What an upstream answers to a TLS hello."""

    TLS = "tls"
    SOMETHING_ELSE = "something else"


class Probe:
    """Whether an upstream speaks TLS. What is found holds for a minute."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._found: OrderedDict[Authority, tuple[Speaks, float]] = OrderedDict()
        # The handshake is dropped as soon as it is done: nothing is sent or believed over it.
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.check_hostname = False
        self._context.verify_mode = ssl.CERT_NONE

    async def ask(self, target: Authority) -> Speaks:
        """Raises OSError when the upstream cannot be connected to."""
        known = self._found.get(target)
        if known is not None and self._clock.now() < known[1]:
            return known[0]
        found = await self._handshake(target)
        self._found[target] = (found, self._clock.now() + _PROBE_HOLDS_S)
        self._found.move_to_end(target)
        while len(self._found) > _MAX_PROBED:
            self._found.popitem(last=False)
        return found

    async def _handshake(self, target: Authority) -> Speaks:
        connected = await dial(target)
        loop = asyncio.get_running_loop()
        try:
            transport, _ = await loop.create_connection(
                asyncio.Protocol,
                sock=connected,
                ssl=self._context,
                server_hostname=target.host,
                ssl_handshake_timeout=_HANDSHAKE_S,
            )
        except OSError:
            # An alert, plain text, a closed or a silent connection: none of them is a TLS that could be opened here.
            connected.close()
            return Speaks.SOMETHING_ELSE
        transport.abort()
        return Speaks.TLS


class Tunnels:
    """Serves CONNECT requests."""

    def __init__(
        self,
        *,
        rules: Callable[[], RuleTable],
        certificates: Callable[[], CertificateStore | None],
        serve: Serve,
        metrics: Metrics,
        probe: Probe,
    ) -> None:
        """`rules`: the table in force. `certificates`: those in force, None: nothing is opened."""
        self._rules = rules
        self._certificates = certificates
        self._serve = serve
        self._metrics = metrics
        self._probe = probe

    async def connect(self, client: socket.socket, target_text: str, early: bytes) -> None:
        """Serve one CONNECT. `early`: what the client sent behind its head without waiting. The caller closes `client`."""
        keep_alive(client)
        target = parse_authority(target_text)
        try:
            if target is None:
                self._metrics.tunnel(Tunnel.BAD)
                await _say(client, "400 Bad Request", "dfdaemon: CONNECT needs host:port\n")
            elif early or not await self._opens(target) or (certificates := self._certificates()) is None:
                await self._pass(client, target, early)
            else:
                await self._open(client, target, certificates)
        except OSError as error:
            # A client that has gone; an upstream's refusal has been answered where it was seen.
            _LOG.debug("tunnel to %s ended: %s", target, error)

    async def _opens(self, target: Authority) -> bool:
        """Whether the rules want this tunnel opened, and it can be."""
        if self._certificates() is None or self._rules().hijacked(target) is None:
            return False
        try:
            spoken = await self._probe.ask(target)
        except OSError:
            # The tunnel will find the same, and answer it.
            return False
        if spoken is not Speaks.TLS:
            self._metrics.tunnel(Tunnel.NOT_TLS)
            _LOG.info("%s does not speak TLS: its tunnel is passed through unread", target)
        return spoken is Speaks.TLS

    async def _pass(self, client: socket.socket, target: Authority, early: bytes) -> None:
        loop = asyncio.get_running_loop()
        try:
            upstream = await dial(target)
        except OSError as error:
            self._metrics.tunnel(Tunnel.UNREACHABLE)
            why = "it did not answer in time" if isinstance(error, TimeoutError) else error.strerror or str(error)
            await _say(client, "503 Service Unavailable", f"dfdaemon: cannot connect to {target}: {why}\n")
            return
        self._metrics.tunnel(Tunnel.PASSED)
        try:
            await loop.sock_sendall(client, _ESTABLISHED)
            if early:
                await loop.sock_sendall(upstream, early)
            await join(client, upstream)
        finally:
            upstream.close()

    async def _open(self, client: socket.socket, target: Authority, certificates: CertificateStore) -> None:
        loop = asyncio.get_running_loop()
        context = await certificates.context_for(target.host)
        await loop.sock_sendall(client, _ESTABLISHED)
        async with asyncio.timeout(_SILENCE_S):
            said = await first_byte(client)
        if said != _TLS_HANDSHAKE:
            await self._pass_on(client, target)
            return
        # The stream gets a socket of its own: the caller closes `client`.
        stream = IOStream(client.dup(), max_buffer_size=_BUFFER_BYTES, read_chunk_size=_CHUNK_BYTES)
        try:
            opened = await asyncio.wait_for(stream.start_tls(True, context), _HANDSHAKE_S)
        except (ssl.SSLError, StreamClosedError, TimeoutError) as error:
            _LOG.warning("a client broke off the TLS handshake for %s: does it trust the certificate? (%s)", target, error)
            return
        self._metrics.tunnel(Tunnel.OPENED)
        self._serve(opened, target)

    async def _pass_on(self, client: socket.socket, target: Authority) -> None:
        """The client says something else than TLS after our 200: the tunnel it thinks that it has."""
        self._metrics.tunnel(Tunnel.NOT_TLS)
        upstream = await dial(target)
        try:
            await join(client, upstream)
        finally:
            upstream.close()


async def _say(client: socket.socket, status: str, text: str) -> None:
    body = text.encode()
    fields = f"Content-Type: text/plain; charset=utf-8\r\nContent-Length: {len(body)}\r\nConnection: close"
    await asyncio.get_running_loop().sock_sendall(client, f"HTTP/1.1 {status}\r\n{fields}\r\n\r\n".encode() + body)
