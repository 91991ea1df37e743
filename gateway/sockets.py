"""Plain sockets on the event loop: dial one, look at its first byte, join two. No HTTP here.

Bytes are moved through one reused buffer per direction; each direction waits for its receiver.
"""

import asyncio
import ipaddress
import socket
import weakref
from collections.abc import Awaitable
from typing import Final

from tornado.iostream import IOStream, StreamClosedError

from gateway.core.rules import Authority

DIAL_S: Final = 10.0
#: Per direction of a tunnel; larger buys little, and an idle tunnel holds it.
_BUFFER_BYTES: Final = 64 << 10
#: What was dialled for somebody else and is still there: a tunnel may lead back to this gateway's own port.
_DIALLED: Final[weakref.WeakSet[socket.socket]] = weakref.WeakSet()


async def dial(target: Authority) -> socket.socket:
    """A connected, non-blocking socket. Raises OSError (TimeoutError after DIAL_S) with the last address's reason."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(DIAL_S):
        found = await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
        failure: OSError = OSError(f"{target.host} has no address")
        for family, kind, protocol, _, address in found:
            made = socket.socket(family, kind, protocol)
            try:
                made.setblocking(False)
                await loop.sock_connect(made, address)
            except OSError as error:
                made.close()
                failure = error
            except BaseException:
                made.close()
                raise
            else:
                keep_alive(made)
                _DIALLED.add(made)
                return made
        raise failure


def is_from_here(own: socket.socket | None) -> bool:
    """Whether an accepted socket's other end is a process of this host, by loopback, that asks for itself: not a tunnel of
    this gateway, behind which may be anybody."""
    if own is None or own.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    try:
        peer = own.getpeername()
        address = ipaddress.ip_address(peer[0].partition("%")[0])
    except (OSError, ValueError):
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    if not (mapped or address).is_loopback:
        return False
    return not any(each.fileno() >= 0 and each.getsockname()[:2] == peer[:2] for each in _DIALLED)


def keep_alive(own: socket.socket) -> None:
    """Have the kernel find out about a dead other end, and send small writes at once."""
    own.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if own.family in (socket.AF_INET, socket.AF_INET6):
        own.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


async def first_byte(own: socket.socket) -> bytes:
    """The next byte, left where it is; empty at the other end's close. For a socket that nobody else reads meanwhile."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            return own.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            readable: asyncio.Future[None] = loop.create_future()
            descriptor = own.fileno()
            loop.add_reader(descriptor, _wake, readable)
            try:
                await readable
            finally:
                loop.remove_reader(descriptor)


def _wake(readable: "asyncio.Future[None]") -> None:
    if not readable.done():
        readable.set_result(None)


async def join(left: socket.socket, right: socket.socket) -> None:
    """Pass bytes both ways until both ends have closed, or one breaks. Closes neither."""
    try:
        async with asyncio.TaskGroup() as directions:
            directions.create_task(_pass(left, right), name="tunnel up")
            directions.create_task(_pass(right, left), name="tunnel down")
    except* OSError:
        # A reset of one end is the tunnel's end, not a fault of ours.
        pass


async def bridge(stream: IOStream, begun: Awaitable[bytes], inner: socket.socket) -> None:
    """Pass bytes both ways between a stream (which may be TLS) and a socket, until either ends. Closes neither.

    `begun`: a read of the stream that is under way, its first bytes.
    """
    try:
        async with asyncio.TaskGroup() as directions:
            directions.create_task(_to_socket(stream, begun, inner), name="bridge in")
            directions.create_task(_to_stream(inner, stream), name="bridge out")
    except* OSError:
        pass


async def _to_socket(stream: IOStream, begun: Awaitable[bytes], inner: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    buffer = bytearray(_BUFFER_BYTES)
    try:
        await loop.sock_sendall(inner, await begun)
        while True:
            size = await stream.read_into(buffer, partial=True)
            await loop.sock_sendall(inner, memoryview(buffer)[:size])
    except StreamClosedError:
        inner.shutdown(socket.SHUT_WR)


async def _to_stream(inner: socket.socket, stream: IOStream) -> None:
    loop = asyncio.get_running_loop()
    while data := await loop.sock_recv(inner, _BUFFER_BYTES):
        await stream.write(data)
    # TLS as Tornado has it knows no half-close: the end of one direction is the end of both.
    stream.close()


async def _pass(source: socket.socket, sink: socket.socket) -> None:
    """One direction. The source's end becomes the sink's; the other direction goes on. Raises OSError."""
    loop = asyncio.get_running_loop()
    buffer = memoryview(bytearray(_BUFFER_BYTES))
    while size := await loop.sock_recv_into(source, buffer):
        await loop.sock_sendall(sink, buffer[:size])
    sink.shutdown(socket.SHUT_WR)
