"""Protocols that a client and its upstream agree on by Upgrade (WebSocket, RFC 9110 §7.8): after 101 bytes pass unread.

Only where the upstream really switches is the connection given away; else the request goes the usual way, without Upgrade.
"""

import asyncio
import contextlib
import logging
from typing import Final

from tornado.iostream import IOStream, StreamClosedError

from gateway.client import Answer, ClientRequest
from gateway.core.headers import end_to_end, first, listed, without
from gateway.core.rules import Decision
from gateway.core.traceparent import HEADER as TRACE_HEADER
from gateway.upstream import Upstream, UpstreamFailed, host_of
from worker_peer.host.background import Background

_BUFFER_BYTES: Final = 64 << 10
_ANSWER_S: Final = 30.0

_LOG = logging.getLogger("dfdaemon")


def wants_upgrade(request: ClientRequest) -> bool:
    """Whether the client asks for another protocol."""
    return (
        request.method == "GET"
        and request.body is None
        and request.version != "HTTP/1.0"
        and "upgrade" in listed(request.headers, "Connection")
        and first(request.headers, "Upgrade") is not None
    )


class Upgrades:
    """Asks upstreams to switch, and passes bytes once they have."""

    def __init__(self, upstream: Upstream, background: Background) -> None:
        self._upstream = upstream
        self._background = background

    async def serve(self, request: ClientRequest, decision: Decision, answer: Answer) -> bool:
        """True: the upstream has switched, and the connection is no longer HTTP's. False: nothing has been sent."""
        try:
            reader, writer = await self._upstream.raw(decision.url, decision.trust)
        except UpstreamFailed:
            # The usual way will find the same, and say it.
            return False
        try:
            writer.write(_head(request, decision.url))
            async with asyncio.timeout(_ANSWER_S):
                said = await reader.readuntil(b"\r\n\r\n")
            if said.split(b" ", 2)[1:2] != [b"101"]:
                writer.close()
                return False
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            writer.close()
            return False
        except BaseException:
            writer.close()
            raise
        said = said[:-2] + f"{TRACE_HEADER}: {answer.watch.id}\r\n\r\n".encode()
        stream = answer.hand_over(101)
        self._background.spawn(_pass(stream, said, reader, writer), "upgraded")
        return True


def _head(request: ClientRequest, url: str) -> bytes:
    rest = url.partition("://")[2]
    path = rest[len(rest.split("/", 1)[0].split("?", 1)[0]) :]
    lines = [f"GET {path if path.startswith('/') else '/' + path} HTTP/1.1", f"Host: {host_of(url)}"]
    lines += [f"{name}: {value}" for name, value in without(end_to_end(request.headers), "Host")]
    lines += ["Connection: Upgrade", f"Upgrade: {first(request.headers, 'Upgrade')}", "", ""]
    return "\r\n".join(lines).encode("latin-1")


async def _pass(stream: IOStream, said: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Both ways until either end closes."""

    async def up() -> None:
        while True:
            writer.write(await stream.read_bytes(_BUFFER_BYTES, partial=True))
            await writer.drain()

    async def down() -> None:
        await stream.write(said)
        while data := await reader.read(_BUFFER_BYTES):
            await stream.write(data)
        raise StreamClosedError

    try:
        async with asyncio.TaskGroup() as directions:
            directions.create_task(up(), name="upgraded up")
            directions.create_task(down(), name="upgraded down")
    except* (StreamClosedError, OSError):
        pass
    finally:
        stream.close()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
