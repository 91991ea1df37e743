"""A ZeroMQ socket on the asyncio loop, read by its file descriptor in batches.

Four times cheaper per message than awaiting each one. ZeroMQ's descriptor is edge-triggered: it may stay silent although
messages wait, after any send or receive; so the socket's own state is asked after each of them (zmq_getsockopt(3),
ZMQ_FD).
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from enum import Enum, auto

import zmq

from wire.framing import Frame

#: Messages handled before the loop's other work has its turn.
_BATCH = 256

_log = logging.getLogger("socket")


class Sent(Enum):
    """What became of a message."""

    #: ZeroMQ has it; it may still be lost.
    YES = auto()
    #: The other end reads too slowly.
    FULL = auto()
    #: There is no other end.
    UNREACHABLE = auto()


class LoopSocket:
    """Calls `on_frames` with each message's frames. The socket is the caller's to configure, and closed by `close`."""

    def __init__(self, socket: zmq.Socket[bytes], on_frames: Callable[[list[bytes]], None]) -> None:
        self._socket = socket
        self._on_frames = on_frames
        self._loop = asyncio.get_running_loop()
        self._descriptor = int(socket.getsockopt(zmq.FD))
        self._scheduled = False
        self._draining = False
        self._loop.add_reader(self._descriptor, self._drain)
        self._look_again()

    def send(self, frames: Sequence[Frame]) -> Sent:
        """Send without waiting."""
        if self._socket.closed:
            return Sent.UNREACHABLE
        try:
            self._socket.send_multipart(frames, zmq.NOBLOCK)
        except zmq.Again:
            return Sent.FULL
        except zmq.ZMQError:
            return Sent.UNREACHABLE
        finally:
            self._look_again()
        return Sent.YES

    def close(self) -> None:
        """Stop reading and close the socket; what has not been sent is dropped."""
        if not self._socket.closed:
            self._loop.remove_reader(self._descriptor)
            self._socket.close(0)

    def _look_again(self) -> None:
        if self._draining or self._scheduled or self._socket.closed:
            return  # it is looked at again anyway
        if int(self._socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            self._scheduled = True
            self._loop.call_soon(self._drain)

    def _drain(self) -> None:
        self._scheduled = False
        self._draining = True
        try:
            self._handle_batch()
        finally:
            self._draining = False
        self._look_again()

    def _handle_batch(self) -> None:
        for _ in range(_BATCH):
            if self._socket.closed:
                return
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                self._on_frames(frames)
            except Exception:
                # One message that we handle wrongly must not silence the socket for all that follow.
                _log.exception("a message could not be handled")
