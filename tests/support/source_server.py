"""A web server that misbehaves on demand, and counts: what a source may do to a download. Plain asyncio, so that it can lie.

In a test: `async with SourceServer() as server: server.pages["/file"] = Page(body=...)`, then `server.url("/file")`; what
was asked is in `server.requests`. As a process: `python -m tests.support.source_server --port 0 --root DIR` prints
`port N`, serves the folder's files with ranges, and answers GET /__count with {"requests": n, "body_bytes": n}.
"""

import argparse
import asyncio
import json
import re
import signal
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

_TURN_BYTES = 256 << 10


@dataclass(slots=True, kw_only=True)
class Asked:
    """A request as it came, and how many bytes of body it got."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body_bytes: int = 0

    def header(self, name: str) -> str | None:
        """The header's value; None: it was not sent. Two of one name are a test's mistake."""
        found = [value for each, value in self.headers if each.lower() == name.lower()]
        assert len(found) < 2, found
        return found[0] if found else None


@dataclass(slots=True, kw_only=True)
class Page:
    """One path's answer. A `Path` body is read from disk as it is sent."""

    body: bytes | Path = b""
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    content_type: str = "application/octet-stream"
    etag: str = ""
    #: Answers Range (and If-Range) with 206.
    ranges: bool = True
    #: Content-Length: told; False: the body ends with the connection.
    with_length: bool = True
    #: Sent with Transfer-Encoding: chunked, without a length.
    chunked: bool = False
    #: What Content-Length says instead of the truth.
    declared_length: int | None = None
    #: What Content-Range says instead of the truth.
    declared_range: str = ""
    #: The connection is cut after so many bytes of body ...
    dies_after: int | None = None
    #: ... of so many requests; then it behaves.
    deaths: int = 1 << 30
    #: After so many bytes of body it waits until `go_on` is set.
    holds_after: int | None = None
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    #: Bytes per second; 0: as fast as it goes.
    rate: int = 0

    @property
    def length(self) -> int:
        """Bytes of the whole body."""
        return self.body.stat().st_size if isinstance(self.body, Path) else len(self.body)

    def read(self, start: int, size: int) -> bytes:
        """A part of the body."""
        if isinstance(self.body, bytes):
            return self.body[start : start + size]
        with self.body.open("rb") as opened:
            opened.seek(start)
            return opened.read(size)


class SourceServer:
    """Serves `pages` by path on a loopback port of its own."""

    def __init__(self, *, tls: ssl.SSLContext | None = None, fallback: Callable[[str], Page | None] | None = None) -> None:
        self.pages: dict[str, Page] = {}
        self.requests: list[Asked] = []
        self.port = 0
        self._tls = tls
        self._fallback = fallback
        self._server: asyncio.Server | None = None
        self._serving: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._body_bytes = 0
        self._request_count = 0

    @property
    def body_bytes(self) -> int:
        """Bytes of body that were sent, all requests together."""
        return self._body_bytes

    def url(self, target: str, *, host: str = "127.0.0.1") -> str:
        """The absolute URL of a path (with its query)."""
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}{target}"

    async def start(self, port: int = 0, host: str = "127.0.0.1") -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, host, port, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening, and cut every connection."""
        assert self._server is not None
        self._server.close()
        for page in self.pages.values():
            page.go_on.set()
        for writer in self._serving.values():
            writer.transport.abort()
        if self._serving:
            await asyncio.wait(self._serving)
        await self._server.wait_closed()

    async def __aenter__(self) -> "SourceServer":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving[task] = writer
        try:
            while await self._answer_next(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ssl.SSLError):
            pass  # The client went away, which is its right.
        finally:
            writer.transport.abort()
            del self._serving[task]

    async def _answer_next(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; whether the connection goes on."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.rstrip("\r\n").split("\r\n")
        method, target, _ = first.split(" ")
        pairs = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        asked = Asked(method=method, target=target, headers=pairs)
        path = re.sub(r"^http://[^/]*", "", target).partition("?")[0]
        if path == "/__count":
            page = Page(body=json.dumps({"requests": self._request_count, "body_bytes": self._body_bytes}).encode())
            return await self._send(page, asked, writer, counted=False)
        self.requests.append(asked)
        del self.requests[:-1000]
        self._request_count += 1
        page = (
            self.pages.get(path) or (self._fallback(path) if self._fallback else None) or Page(status=404, body=b"no such page\n")
        )
        return await self._send(page, asked, writer, counted=True)

    async def _send(self, page: Page, asked: Asked, writer: asyncio.StreamWriter, *, counted: bool) -> bool:
        length = page.length
        status, start, stop = _part(page, asked, length)
        writer.write(_head(page, status, start, stop, length))
        if asked.method == "HEAD":
            await writer.drain()
            return True
        cut = None
        if page.dies_after is not None and page.deaths > 0:
            page.deaths -= 1
            cut = start + page.dies_after
        at = start
        while at < stop and (cut is None or at < cut):
            if page.holds_after is not None and at - start >= page.holds_after:
                await writer.drain()
                await page.go_on.wait()
            turn = min(edge for edge in (at + _turn(page), stop, cut, _hold(page, at, start)) if edge is not None) - at
            data = await asyncio.to_thread(page.read, at, turn) if isinstance(page.body, Path) else page.read(at, turn)
            writer.write(b"%x\r\n%b\r\n" % (len(data), data) if page.chunked else data)
            await writer.drain()
            at += len(data)
            if counted:
                asked.body_bytes += len(data)
                self._body_bytes += len(data)
            if page.rate:
                await asyncio.sleep(len(data) / page.rate)
        if cut is not None:
            writer.close()
            return False
        if page.chunked:
            writer.write(b"0\r\n\r\n")
        await writer.drain()
        goes_on = page.chunked or (page.with_length and page.declared_length is None)
        if not goes_on:
            writer.close()
            await writer.wait_closed()
        return goes_on


def _turn(page: Page) -> int:
    return max(1, min(_TURN_BYTES, page.rate // 20)) if page.rate else _TURN_BYTES


def _hold(page: Page, at: int, start: int) -> int | None:
    edge = None if page.holds_after is None else start + page.holds_after
    return edge if edge is not None and edge > at else None


def _part(page: Page, asked: Asked, length: int) -> tuple[int, int, int]:
    """(status, first byte, byte after the last) of the answer."""
    found = re.fullmatch(r"bytes=(\d+)-(\d*)", asked.header("Range") or "")
    if page.status == 200 and page.etag and asked.header("If-None-Match") == page.etag:
        return 304, 0, 0
    fresh = asked.header("If-Range") in (None, page.etag)
    if page.status != 200 or not page.ranges or found is None or not fresh:
        return page.status, 0, length
    start, stop = int(found[1]), min(length, int(found[2]) + 1 if found[2] else length)
    return (206, start, stop) if start < stop else (416, 0, 0)


def _head(page: Page, status: int, start: int, stop: int, length: int) -> bytes:
    lines = [f"HTTP/1.1 {status} Because", f"Content-Type: {page.content_type}"]
    lines += [f"{name}: {value}" for name, value in page.headers]
    if page.etag:
        lines.append(f"ETag: {page.etag}")
    if page.ranges:
        lines.append("Accept-Ranges: bytes")
    if status == 206:
        lines.append(f"Content-Range: {page.declared_range or f'bytes {start}-{stop - 1}/{length}'}")
    elif status == 416:
        lines.append(f"Content-Range: bytes */{length}")
    if page.chunked:
        lines.append("Transfer-Encoding: chunked")
    elif page.with_length:
        lines.append(f"Content-Length: {stop - start if page.declared_length is None else page.declared_length}")
    else:
        lines.append("Connection: close")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def _file_page(root: Path, options: argparse.Namespace, path: str) -> Page | None:
    wanted = (root / unquote(path).lstrip("/")).resolve()
    if not wanted.is_relative_to(root) or not wanted.is_file():
        return None
    found = wanted.stat()
    return Page(
        body=wanted,
        etag=f'"{found.st_mtime_ns:x}-{found.st_size:x}"',
        ranges=not options.no_ranges,
        with_length=not options.no_length,
        rate=options.rate,
    )


async def _run(options: argparse.Namespace, root: Path) -> None:
    server = SourceServer(fallback=lambda path: _file_page(root, options, path))
    await server.start(options.port, options.host)
    print(f"port {server.port}", flush=True)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()
    await server.close()


def main() -> None:
    """Serve a folder until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--root", required=True)
    parser.add_argument("--rate", type=int, default=0, help="bytes per second of each answer; 0: not limited")
    parser.add_argument("--no-ranges", action="store_true", help="ignore Range")
    parser.add_argument("--no-length", action="store_true", help="send no Content-Length")
    options = parser.parse_args()
    asyncio.run(_run(options, Path(options.root).resolve()))


if __name__ == "__main__":
    main()
