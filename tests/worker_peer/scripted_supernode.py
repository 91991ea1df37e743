"""A supernode that says what a test tells it to: the cluster document over HTTP, and a bare ROUTER."""

import asyncio
import json
from collections import deque

import zmq

from tests.worker_peer.parts import LOOPBACK
from wire.framing import from_frames, to_frames
from wire.messages import Alive, Hello, Message, Welcome
from wire.version import PROTOCOL
from worker_peer.host.loop_socket import LoopSocket

_WAIT_S = 20.0


class ScriptedSupernode:
    """Welcomes whoever says HELLO, unless `welcomes` is False; everything else it keeps for the test."""

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], *, alive_every_s: float = 0.05, lost_after_s: float = 5.0
    ) -> None:
        self.welcomes = True
        self.run_id = "run-1"
        #: What GET /cluster answers; empty: the document.
        self.document = b""
        self.status = 200
        self.http_requests = 0
        #: Messages that came, ALIVE left out, with who said them.
        self.said: asyncio.Queue[tuple[bytes, Message]] = asyncio.Queue()
        self.alive: deque[Message] = deque(maxlen=100)
        self.peer = b""
        self._context = context
        self._settings = (alive_every_s, lost_after_s)
        self._http: asyncio.Server | None = None
        self._socket: LoopSocket | None = None
        self.node = ""
        self.broker = ""

    async def start(self, port: int = 0) -> None:
        """Listen; on another broker port each time."""
        self._http = await asyncio.start_server(self._answer, LOOPBACK, port)
        self.node = f"{LOOPBACK}:{self._http.sockets[0].getsockname()[1]}"
        router = self._context.socket(zmq.ROUTER)
        router.setsockopt(zmq.LINGER, 0)
        router.bind(f"tcp://{LOOPBACK}:*")
        self.broker = router.getsockopt_string(zmq.LAST_ENDPOINT)
        self._socket = LoopSocket(router, self._received)

    async def close(self) -> None:
        """Vanish."""
        if self._socket is not None:
            self._socket.close()
        if self._http is not None:
            self._http.close()
            await self._http.wait_closed()

    async def __aenter__(self) -> "ScriptedSupernode":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            self.http_requests += 1
            body = self.document or json.dumps({"broker": self.broker}).encode()
            writer.write(
                b"HTTP/1.1 %d Because\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % (self.status, len(body)) + body
            )
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def _received(self, frames: list[bytes]) -> None:
        identity, *rest = frames
        message = from_frames(rest).message
        self.peer = identity
        if isinstance(message, Alive):
            self.alive.append(message)
            if self.welcomes:
                self.say(Alive())
            return
        self.said.put_nowait((identity, message))
        if isinstance(message, Hello) and self.welcomes:
            every, lost = self._settings
            self.say(Welcome(protocol=PROTOCOL, supernode=self.run_id, alive_every_s=every, lost_after_s=lost))

    async def hears(self, kind: type[Message]) -> Message:
        """The next message, which must be of this kind."""
        _, message = await asyncio.wait_for(self.said.get(), _WAIT_S)
        assert isinstance(message, kind), message
        return message

    def say(self, message: Message) -> None:
        """Say something to whoever spoke last."""
        self.say_raw(to_frames(message))

    def say_raw(self, frames: list[bytes | memoryview]) -> None:
        """Say what is no message, perhaps."""
        assert self._socket is not None
        self._socket.send([self.peer, *frames])
