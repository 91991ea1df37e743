"""The listening side: sockets in, one call of a handler per request out. What a request means is proxy.py's business.

Tornado parses and frames HTTP/1.x; here every running handler is tied to its connection, so that a client that goes
away ends its own work and nothing else.
"""

import asyncio
import contextlib
import logging
import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

from tornado.http1connection import HTTP1Connection, HTTP1ConnectionParameters
from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPInputError,
    HTTPMessageDelegate,
    HTTPServerConnectionDelegate,
    RequestStartLine,
    ResponseStartLine,
)
from tornado.iostream import IOStream, SSLIOStream, StreamClosedError
from tornado.tcpserver import TCPServer

from gateway.client import Answer, ClientGone, ClientRequest, RequestBody
from gateway.core.framing import fault_of
from gateway.core.rules import Authority
from gateway.http_connection import ServerConnection
from gateway.sockets import bridge, first_byte, is_from_here
from gateway.traces import Watch
from worker_peer.host.background import Background

#: First byte of a TLS record with a handshake message (RFC 8446 §5.1).
TLS_HANDSHAKE: Final = b"\x16"
#: A kept-alive connection without a request ends after so long; Go's clients end theirs after 90 s.
_IDLE_S: Final = 300.0
_CHUNK_BYTES: Final = 256 << 10
#: Several tokens of some kilobytes each are usual.
_MAX_HEADER_BYTES: Final = 256 << 10
#: The body is streamed, so its size is the upstream's to judge.
_MAX_BODY_BYTES: Final = 1 << 62
#: Of one connection's read buffer in Tornado.
_BUFFER_BYTES: Final = 1 << 20
_MAX_CONNECTIONS: Final = 8192

Handler = Callable[[ClientRequest, Answer], Awaitable[None]]
#: Client's socket (non-blocking, closed when the call ends), CONNECT target, bytes that came after the CONNECT's head.
ConnectHandler = Callable[[socket.socket, str, bytes], Coroutine[Any, Any, None]]

_LOG = logging.getLogger("dfdaemon")
_PARAMETERS: Final = HTTP1ConnectionParameters(
    chunk_size=_CHUNK_BYTES,
    max_header_size=_MAX_HEADER_BYTES,
    header_timeout=_IDLE_S,
    max_body_size=_MAX_BODY_BYTES,
)


class HttpDoor(HTTPServerConnectionDelegate):
    """Serves HTTP/1.x on any stream: the listener's, or one whose TLS was opened."""

    def __init__(
        self,
        handler: Handler,
        background: Background,
        *,
        on_connect: ConnectHandler | None = None,
        admits: Callable[[ClientRequest], bool] = lambda _: True,
    ) -> None:
        """`admits`: whether a CONNECT goes to `on_connect`; one that does not is the handler's to answer."""
        self._handler = handler
        self._admits = admits
        self._background = background
        self._on_connect = on_connect
        self._connections: dict[object, set[asyncio.Task[None]]] = {}

    @property
    def is_full(self) -> bool:
        """Whether there are as many connections as there may be."""
        return len(self._connections) >= _MAX_CONNECTIONS

    def serve(self, stream: IOStream, *, opened: Authority | None = None) -> None:
        """Read requests from `stream` until it ends. `opened`: the CONNECT target that it was."""
        connection = ServerConnection(stream, _PARAMETERS, opened)
        self._connections[connection] = set()
        connection.start_serving(self)

    def start_request(self, server_conn: object, request_conn: HTTPConnection) -> HTTPMessageDelegate:
        """Tornado: a request begins."""
        assert isinstance(server_conn, ServerConnection)
        assert isinstance(request_conn, HTTP1Connection)
        return _Exchange(self, server_conn, request_conn)

    def on_close(self, server_conn: object) -> None:
        """Tornado: a connection has ended. A handler that still works for it has nobody to work for."""
        for task in self._connections.pop(server_conn, ()):
            task.cancel()

    def begin(self, server_conn: object, request: ClientRequest, answer: Answer) -> asyncio.Task[None]:
        """Start the handler of a request."""
        task = self._background.spawn(self._handle(request, answer), "request")
        tasks = self._connections.setdefault(server_conn, set())
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        return task

    def tunnel(self, connection: HTTP1Connection, target: str) -> None:
        """Take a CONNECT's socket from Tornado and give it away."""
        assert self._on_connect is not None
        stream = connection.detach()
        try:
            # What the client sent without waiting for our 200 is in the stream's buffer and at hand at once.
            early = stream.read_bytes(_CHUNK_BYTES, partial=True)
        except StreamClosedError:
            return
        assert isinstance(early, asyncio.Future)
        if isinstance(stream, SSLIOStream):
            own, inner = socket.socketpair()
            inner.setblocking(False)
            task = self._background.spawn(bridge(stream, early, inner), "bridge")
            task.add_done_callback(lambda _: inner.close())
            task.add_done_callback(lambda _: stream.close())
            data = b""
        else:
            # Nobody waits for the read any more, when it fails by the stream's end.
            early.add_done_callback(lambda future: future.exception())
            if stream.closed():
                return
            # A duplicate outlives the stream, whose event handler would go on reading from the socket.
            own = socket.socket(fileno=os.dup(stream.socket.fileno()))
            data = early.result() if early.done() else b""
            stream.close()
        own.setblocking(False)
        task = self._background.spawn(self._on_connect(own, target, data), "tunnel")
        # A task that is cancelled before its first step runs no `finally`.
        task.add_done_callback(lambda _: own.close())

    def tunnels(self, request: ClientRequest) -> bool:
        """Whether a CONNECT is served here: not inside an opened tunnel, and not what the handler will refuse."""
        return self._on_connect is not None and self._admits(request)

    async def _handle(self, request: ClientRequest, answer: Answer) -> None:
        try:
            await self._handler(request, answer)
        except ClientGone:
            answer.cut()
        except asyncio.CancelledError:
            answer.cut()
            raise
        except Exception:
            _LOG.exception("a request could not be handled")
            answer.cut()
        finally:
            if request.body is not None:
                request.body.abandon()

    async def close(self) -> None:
        """End every connection."""
        while self._connections:
            connection = next(iter(self._connections))
            assert isinstance(connection, ServerConnection)
            await connection.close()
            self._connections.pop(connection, None)


class _Exchange(HTTPMessageDelegate):
    """One request as Tornado tells it: head, body, end, or the connection's end."""

    def __init__(self, door: HttpDoor, server_conn: ServerConnection, connection: HTTP1Connection) -> None:
        self._door = door
        self._server_conn = server_conn
        self._connection = connection
        self._body: RequestBody | None = None
        self._answer: Answer | None = None
        self._task: asyncio.Task[None] | None = None

    def headers_received(self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders) -> None:
        assert isinstance(start_line, RequestStartLine)
        opened = self._server_conn.context
        assert opened is None or isinstance(opened, Authority)
        fields = tuple(headers.get_all())
        if fault := fault_of(start_line.version, start_line.path, fields, opened=opened):
            raise HTTPInputError(fault)
        # Tornado would say 100 at once; here the upstream is asked first.
        expects = headers.pop("Expect", "").strip().lower() == "100-continue" and start_line.version != "HTTP/1.0"
        if headers.get("Content-Length", "0").strip() != "0" or "Transfer-Encoding" in headers:
            self._body = RequestBody(on_wanted=self._go_on if expects else None)
        request = ClientRequest(
            method=start_line.method,
            target=start_line.path,
            version=start_line.version,
            headers=fields,
            body=self._body,
            opened=opened,
            is_local=lambda: self._connection.stream is not None and is_from_here(self._connection.stream.socket),
        )
        if start_line.method == "CONNECT" and self._door.tunnels(request):
            self._door.tunnel(self._connection, start_line.path)
            return
        answer = self._answer = Answer(
            self._connection,
            method=start_line.method,
            version=start_line.version,
            request_headers=headers,
            watch=Watch(fields, method=start_line.method),
        )
        self._connection.set_close_callback(self._gone)
        self._task = self._door.begin(self._server_conn, request, answer)

    def _go_on(self) -> None:
        """The upstream wants the body: so may the client send it (RFC 9110 §10.1.1)."""
        stream = self._connection.stream
        if not self._answer_began() and stream is not None and not stream.closed():
            stream.write(b"HTTP/1.1 100 Continue\r\n\r\n").add_done_callback(lambda done: done.exception())

    def _answer_began(self) -> bool:
        return self._answer is not None and self._answer.started

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        return self._body.put(chunk) if self._body is not None else None

    def finish(self) -> None:
        if self._body is not None:
            self._body.end()

    def on_connection_close(self) -> None:
        self._gone()

    def _gone(self) -> None:
        if self._task is not None:
            self._task.cancel()


class GatewayServer(TCPServer):
    """The gateway's port."""

    def __init__(self, door: HttpDoor, background: Background, *, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(ssl_options=tls, max_buffer_size=_BUFFER_BYTES, read_chunk_size=_CHUNK_BYTES)
        self._door = door
        self._background = background

    def handle_stream(self, stream: IOStream, address: tuple[Any, ...]) -> None:
        """Tornado: a client has connected."""
        if self._door.is_full:
            _LOG.warning("%d connections are open: another one is refused", _MAX_CONNECTIONS)
            stream.close()
        elif self.ssl_options is not None:
            self._door.serve(stream)
        else:
            task = self._background.spawn(self._greet(stream), "first byte")
            task.add_done_callback(lambda ended: stream.close() if ended.cancelled() else None)

    async def _greet(self, stream: IOStream) -> None:
        """Serve a client once it has said its first byte, unless that byte is TLS's.

        podman, buildah and skopeo try https on an insecure mirror first. A parser would wait for a line end that never
        comes, and cost every pull ten seconds; plain text is what tells all of them to go on without TLS.
        """
        try:
            async with asyncio.timeout(_IDLE_S):
                said = await first_byte(stream.socket)
        except (OSError, TimeoutError):
            said = b""
        if said not in (b"", TLS_HANDSHAKE):
            self._door.serve(stream)
            return
        with contextlib.suppress(OSError):
            if said:
                # What is left unread would turn the close into a reset, and the answer be lost.
                stream.socket.recv(_CHUNK_BYTES)
                stream.socket.send(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
        stream.close()
