"""A peer's end of the control connection, without a peer: says any message or any frames, and hears what is answered."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import zmq

from wire.framing import from_frames, to_frames
from wire.messages import Alive, Message
from worker_peer.host.loop_socket import LoopSocket, Sent

_PATIENCE_S = 10.0
Heard = TypeVar("Heard", bound=Message)


class Dealer:
    """One DEALER, connected."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], port: int, host: str = "127.0.0.1") -> None:
        self._heard: asyncio.Queue[Message] = asyncio.Queue()
        socket = context.socket(zmq.DEALER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.IPV6, 1)
        socket.connect(f"tcp://{host}:{port}")
        self._socket = LoopSocket(socket, lambda frames: self._heard.put_nowait(from_frames(frames).message))

    def say(self, *messages: Message) -> None:
        """Say messages."""
        for message in messages:
            self.say_frames([bytes(frame) for frame in to_frames(message)])

    def say_frames(self, frames: Sequence[bytes]) -> None:
        """Say anything."""
        assert self._socket.send(frames) is Sent.YES

    async def hears(self, kind: type[Heard]) -> Heard:
        """The next message, which must be of this kind. Fails when none comes."""
        message = await asyncio.wait_for(self._heard.get(), _PATIENCE_S)
        assert isinstance(message, kind), message
        return message

    async def is_answered(self) -> None:
        """Everything said so far has been handled, and nothing but this ALIVE was answered since the last word heard."""
        self.say(Alive())
        await self.hears(Alive)

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


@contextmanager
def zmq_context() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    """A context of one test; whatever socket is left in it ends with it."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        yield context
    finally:
        context.destroy(linger=0)
