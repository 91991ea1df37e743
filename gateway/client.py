"""The client's side of one HTTP exchange: its request as a value, its body as a bounded stream, and the answer to it.

Sits on Tornado's HTTP1Connection and knows nothing of rules, upstreams or swarms. Bytes go up through RequestBody and
come down through Answer; both wait for the slower side.
"""

import asyncio
import logging
import socket
import struct
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Final, cast

from tornado.http1connection import HTTP1Connection
from tornado.httputil import HTTPHeaders, ResponseStartLine
from tornado.iostream import IOStream, StreamClosedError

from gateway.core.headers import Headers, first, without
from gateway.core.rules import Authority
from gateway.core.trace import Wait
from gateway.core.traceparent import HEADER as TRACE_HEADER
from gateway.traces import Watch

#: A client that takes nothing of one write for so long is cut: dockerd leaves connections unread that it has given up.
STALLED_AFTER_S: Final = 120.0
#: Bytes of one write: small enough that a slow client takes one within STALLED_AFTER_S, large enough to be cheap.
_WRITE_BYTES: Final = 512 << 10

_LOG = logging.getLogger("dfdaemon")


class ClientGone(Exception):
    """The client has closed its connection, or has not read for STALLED_AFTER_S. Nobody is left to answer."""


class RequestBody:
    """A request's body on its way up: one chunk is held, the next is read when it has been taken."""

    def __init__(self, *, on_wanted: Callable[[], None] | None = None) -> None:
        """`on_wanted` is called once, when somebody is about to take the first chunk: the client waits for that word."""
        self._on_wanted = on_wanted
        self._chunks: deque[bytes] = deque()
        self._ended = False
        self._abandoned = False
        self._arrived = asyncio.Event()
        self._taken = asyncio.Event()

    @property
    def is_expected(self) -> bool:
        """Whether the client sends nothing before it is told to (Expect: 100-continue)."""
        return self._on_wanted is not None

    async def put(self, chunk: bytes) -> None:
        """The client's next bytes. Returns when somebody has taken them, or nobody will."""
        if self._abandoned:
            return
        self._chunks.append(chunk)
        self._taken.clear()
        self._arrived.set()
        await self._taken.wait()

    def end(self) -> None:
        """The client has sent all of it."""
        self._ended = True
        self._arrived.set()

    def abandon(self) -> None:
        """Nobody will take the rest."""
        self._abandoned = True
        self._chunks.clear()
        self._taken.set()

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes. Never ends for a body that breaks off: whoever reads it is cancelled then."""
        if self._on_wanted is not None and not self._chunks and not self._ended:
            self._on_wanted()
        while True:
            while not self._chunks:
                if self._ended:
                    return
                self._arrived.clear()
                await self._arrived.wait()
            chunk = self._chunks.popleft()
            self._taken.set()
            yield chunk


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientRequest:
    """One request as the client sent it."""

    method: str
    target: str = field(repr=False)
    """The request target, byte for byte (as Latin-1)."""
    version: str
    headers: Headers = field(repr=False)
    body: RequestBody | None
    """None: the request has no body."""
    opened: Authority | None
    """The CONNECT target whose TLS was opened, or None on the plain port."""
    is_local: Callable[[], bool] = field(default=lambda: False, repr=False)
    """Whether a process of this host asks for itself (`sockets.is_from_here`)."""


class Answer:
    """What goes back to the client: head, body, end. Exactly one of `finish` and `cut` ends it."""

    def __init__(
        self, connection: HTTP1Connection, *, method: str, version: str, request_headers: HTTPHeaders, watch: Watch
    ) -> None:
        self.watch = watch
        self._connection = connection
        self._method = method
        self._version = version
        self._request_headers = request_headers
        self._ends_by_close = False
        self._finished = False
        self.status = 0
        self.bytes_sent = 0

    @property
    def started(self) -> bool:
        """Whether a head has gone out: from then on the answer can only be finished or cut."""
        return self.status != 0

    @property
    def is_finished(self) -> bool:
        """Whether all of it has gone out."""
        return self._finished

    async def start(self, status: int, reason: str, headers: Headers) -> None:
        """Send the head. Raises ClientGone, and tornado.httputil.HTTPInputError for a field that is none."""
        fields = HTTPHeaders()
        # Of another gateway behind this one there may be a trace, too: this one's is what the client can ask about.
        for name, value in (*without(headers, TRACE_HEADER), (TRACE_HEADER, self.watch.id)):
            fields.add(name, value)
        self.watch.answered(status, headers)
        if "Date" not in fields:
            fields.add("Date", formatdate(usegmt=True))
        has_body = self._method != "HEAD" and status not in (204, 304)
        self._ends_by_close = has_body and self._version == "HTTP/1.0" and "Content-Length" not in fields
        if self._ends_by_close:
            # HTTP/1.0 knows no chunks: the connection's end is the body's, so keep-alive must not be promised.
            self._request_headers.pop("Connection", None)
        self.status = status
        # Nagle's algorithm would hold the first small block of a streaming blob back.
        if self._connection.stream is not None:
            self._connection.stream.set_nodelay(True)
        await self._sent(self._connection.write_headers(ResponseStartLine("HTTP/1.1", status, reason), fields))

    async def write(self, chunk: bytes | memoryview) -> None:
        """Send bytes of the body; returns when the socket has them. Raises ClientGone."""
        view = memoryview(chunk)
        for offset in range(0, len(view), _WRITE_BYTES):
            part = view[offset : offset + _WRITE_BYTES]
            # Tornado passes a view on as it is, whatever its signature says (IOStream.write takes both).
            await self._sent(self._connection.write(cast("bytes", part)))
            self.bytes_sent += len(part)
            self.watch.wrote(part)

    async def _sent(self, future: "asyncio.Future[None]") -> None:
        try:
            if future.done():
                future.result()
            else:
                with self.watch.on(Wait.CLIENT):
                    await asyncio.wait_for(future, STALLED_AFTER_S)
        except StreamClosedError:
            raise ClientGone from None
        except TimeoutError:
            _LOG.warning("a client has not read for %.0f s: cut", STALLED_AFTER_S)
            raise ClientGone from None
        # Tornado resolves a pending write as done when the stream closes under it.
        if self._connection.stream is None or self._connection.stream.closed():
            raise ClientGone

    def hand_over(self, status: int) -> IOStream:
        """Give the client's connection away, whose protocol is no longer HTTP. Nothing may have been sent."""
        assert not self.started
        self.status, self._finished = status, True
        return self._connection.detach()

    def finish(self) -> None:
        """The body is complete."""
        self._finished = True
        if self._ends_by_close:
            self._connection.close()
        else:
            self._connection.finish()

    def cut(self) -> None:
        """Break the connection, so that nobody takes what was sent for the whole. After `finish`: nothing."""
        if self._finished:
            # The connection may serve its next request already.
            return
        stream = self._connection.stream
        if self._ends_by_close and stream is not None and stream.socket is not None:
            # An orderly close would read as a complete body: reset it (SO_LINGER on, zero seconds).
            stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._connection.close()

    async def say(self, status: int, reason: str, text: str, headers: Headers = ()) -> None:
        """A whole answer in plain words, the body left out for HEAD. Raises ClientGone."""
        body = text.encode()
        fields = headers if first(headers, "Content-Type") else (("Content-Type", "text/plain; charset=utf-8"), *headers)
        await self.start(status, reason, (*fields, ("Content-Length", str(len(body)))))
        if self._method != "HEAD":
            self.watch.own_bytes += len(body)
            await self.write(body)
        self.finish()
