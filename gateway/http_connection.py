"""Tornado's HTTP/1.x connection with what a proxy needs beyond it: chunk extensions and trailers, Connection as a list.

Tornado has no public place for these; the methods that are replaced here are private, and tests hold each of them.
"""

import asyncio
from typing import Final

from tornado.http1connection import HTTP1Connection, HTTP1ServerConnection
from tornado.httputil import (
    HTTPHeaders,
    HTTPInputError,
    HTTPMessageDelegate,
    HTTPServerConnectionDelegate,
    RequestStartLine,
    ResponseStartLine,
)
from tornado.iostream import StreamClosedError, UnsatisfiableReadError

#: A chunk's size with its extensions, which are read and dropped (RFC 9112 §7.1.1).
_MAX_SIZE_LINE_BYTES: Final = 4096
_MAX_TRAILER_BYTES: Final = 64 << 10
_HEX: Final = frozenset("0123456789abcdefABCDEF")


class Connection(HTTP1Connection):
    """One request and its response."""

    async def _read_chunked_body(self, delegate: HTTPMessageDelegate) -> None:
        """The body's chunks to the delegate. Trailers end here: a hop may drop them (RFC 9110 §6.5.1), and so does this one."""
        while size := await self._chunk_size():
            while size:
                chunk = await self.stream.read_bytes(min(size, self.params.chunk_size), partial=True)
                size -= len(chunk)
                if not self._write_finished and (taken := delegate.data_received(chunk)) is not None:
                    await taken
            if await self.stream.read_bytes(2) != b"\r\n":
                raise HTTPInputError("a chunk is longer than it says")
        read = 0
        while (line := await self.stream.read_until(b"\r\n", max_bytes=_MAX_TRAILER_BYTES)) != b"\r\n":
            read += len(line)
            if read > _MAX_TRAILER_BYTES or b":" not in line or line[:1] in b" \t":
                raise HTTPInputError("what follows the last chunk are no trailer fields")

    async def _chunk_size(self) -> int:
        line = (await self.stream.read_until(b"\r\n", max_bytes=_MAX_SIZE_LINE_BYTES))[:-2].decode("latin-1")
        digits = line.partition(";")[0].rstrip(" \t")
        if not 0 < len(digits) <= 15 or not _HEX.issuperset(digits) or "\n" in line or "\r" in line:
            raise HTTPInputError("a chunk's size is no hexadecimal number")
        return int(digits, 16)

    def _can_keep_alive(self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders) -> bool:
        """By all members of Connection (RFC 9112 §9.3)."""
        options = {option.strip().lower() for option in headers.get("Connection", "").split(",")}
        if "close" in options:
            return False
        return start_line.version != "HTTP/1.0" or "keep-alive" in options


class ServerConnection(HTTP1ServerConnection):
    """A client's connection, request after request."""

    async def _server_request_loop(self, delegate: HTTPServerConnectionDelegate) -> None:
        try:
            while True:
                connection = Connection(self.stream, False, self.params, self.context)
                if not await connection.read_response(delegate.start_request(self, connection)):
                    return
                # Pipelined requests must not keep everybody else waiting.
                await asyncio.sleep(0)
        except (StreamClosedError, UnsatisfiableReadError, asyncio.CancelledError):
            return
        finally:
            delegate.on_close(self)
