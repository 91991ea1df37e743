"""HTTP/1.x by hand, on both sides: an upstream that does what a test says, and a client that shows every byte."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field


@dataclass(kw_only=True)
class Seen:
    """A request as it came over the wire."""

    head: bytes
    body: bytes = b""

    @property
    def line(self) -> str:
        """The request line."""
        return self.head.split(b"\r\n", 1)[0].decode("latin-1")

    @property
    def fields(self) -> list[tuple[str, str]]:
        """Header fields in order, names as they came."""
        lines = self.head.decode("latin-1").split("\r\n")[1:]
        return [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines if line)]

    def get(self, name: str) -> list[str]:
        """All values of a field."""
        return [value for key, value in self.fields if key.lower() == name.lower()]


_TLS_HANDSHAKE = b"\x16"
Script = Callable[[Seen, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[bool | None]]


@dataclass(kw_only=True)
class RawUpstream:
    """A server whose answers are a script's bytes. A script that returns False ends the connection."""

    script: Script
    port: int = 0
    seen: list[Seen] = field(default_factory=list)
    connections: int = 0
    #: Set whenever a connection has ended on the other side.
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def asked(self) -> list[Seen]:
        """All but the questions whether a client may have a blob."""
        return [seen for seen in self.seen if not seen.line.startswith("HEAD ")]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.connections += 1
        try:
            while True:
                first = await reader.readexactly(1)
                if first == _TLS_HANDSHAKE:
                    return  # as servers do who speak none: whoever probes need not wait
                head = first + await reader.readuntil(b"\r\n\r\n")
                seen = Seen(head=head[:-4])
                self.seen.append(seen)
                if await self.script(seen, reader, writer) is False:
                    return
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            self.hung_up.set()
        finally:
            writer.close()
            with suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()


@asynccontextmanager
async def upstream(script: Script, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[RawUpstream]:
    """A running one, on loopback."""
    made = RawUpstream(script=script)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0, ssl=tls)
    made.port = server.sockets[0].getsockname()[1]
    async with server:
        yield made


def answers(raw: bytes) -> Script:
    """A script that always answers with these bytes."""

    async def script(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(raw)

    return script


def permits(length: int, raw: bytes, *fields: str) -> Script:
    """A script that lets everybody have a blob of that length, and answers with these bytes whoever asks for it."""

    async def script(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = "\r\n".join(["HTTP/1.1 200 OK", f"Content-Length: {length}", *fields, "", ""]).encode()
        writer.write(head if seen.line.startswith("HEAD ") else raw)

    return script


def ok(body: bytes, *fields: str) -> bytes:
    """A plain 200."""
    return "\r\n".join(["HTTP/1.1 200 OK", f"Content-Length: {len(body)}", *fields, "", ""]).encode("latin-1") + body


async def read_body(seen: Seen, reader: asyncio.StreamReader) -> bytes:
    """A request's body, by its framing."""
    if seen.get("Transfer-Encoding"):
        return await _chunks(reader)
    return await reader.readexactly(int((seen.get("Content-Length") or ["0"])[0]))


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int(await reader.readline(), 16):
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readexactly(2)
    return body


@dataclass(kw_only=True)
class Got:
    """A response as it came over the wire."""

    head: Seen
    body: bytes = b""
    #: The connection ended before the body did.
    broken: bool = False

    @property
    def status(self) -> int:
        """The status code."""
        return int(self.head.line.split(" ")[1])

    def get(self, name: str) -> str | None:
        """The only value of a field, or None. Fails for several."""
        values = self.head.get(name)
        assert len(values) <= 1, f"{name}: {values}"
        return values[0] if values else None


class Client:
    """One client's connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, text: str | bytes) -> None:
        """Write and wait until the socket has it."""
        self.writer.write(text.encode("latin-1") if isinstance(text, str) else text)
        await self.writer.drain()

    async def response(self, *, method: str = "GET") -> Got:
        """The next response, its body by its framing, or till the end."""
        got = Got(head=Seen(head=(await self.reader.readuntil(b"\r\n\r\n"))[:-4]))
        if method == "HEAD" or got.status in (204, 304):
            return got
        try:
            if got.head.get("Transfer-Encoding"):
                got.body = await _chunks(self.reader)
            elif length := got.get("Content-Length"):
                got.body = await self.reader.readexactly(int(length))
            else:
                got.body = await self.reader.read()
        except asyncio.IncompleteReadError as error:
            got.body, got.broken = error.partial, True
        except (ConnectionError, ValueError):
            got.broken = True
        return got

    async def ask(self, text: str | bytes, *, method: str = "GET") -> Got:
        """Send a request and take its response."""
        await self.send(text)
        return await self.response(method=method)

    async def start_tls(self, context: ssl.SSLContext, name: str) -> None:
        """Say hello."""
        await self.writer.start_tls(context, server_hostname=name)


@asynccontextmanager
async def client(port: int, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Client]:
    """A connection to a port on loopback."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()
        with suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()
