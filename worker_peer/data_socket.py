"""Options and ports that every data socket of a peer has."""

from collections.abc import Sequence
from typing import Final

import zmq

from wire.errors import RemoteError
from wire.framing import MAX_FRAME_BYTES, Received, from_frames
from worker_peer.host.values import bracketed

# As plain numbers: an enum's operators cost more than what they are used for here.
_EVENTS: Final = int(zmq.EVENTS)
_POLLIN: Final = int(zmq.POLLIN)
#: Frames that may wait for one child in ZeroMQ; a child within its credit never has more.
_SEND_HWM: Final = 1024
#: Messages taken from one socket before the others have their turn.
TURN: Final = 32


def prepare(socket: zmq.Socket[bytes]) -> None:
    """Set what every data socket has."""
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.SNDHWM, _SEND_HWM)
    socket.setsockopt(zmq.RCVHWM, 0)  # bounded by credit, in bytes
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
    socket.setsockopt(zmq.IPV6, 1)
    # A host that vanished without a word is noticed by ZeroMQ's own heartbeat (ZMTP 3.1 PING).
    socket.setsockopt(zmq.HEARTBEAT_IVL, 2000)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 8000)
    socket.setsockopt(zmq.CONNECT_TIMEOUT, 3000)


def bind(socket: zmq.Socket[bytes], ip: str, port: int) -> int:
    """Bind to a port, 0: any free one. Returns the port. Raises ZMQError."""
    socket.bind(f"tcp://{bracketed(ip)}:{port or '*'}")
    return int(socket.getsockopt_string(zmq.LAST_ENDPOINT).rpartition(":")[2])


def waits(socket: zmq.Socket[bytes]) -> bool:
    """Whether a message waits. Ten times cheaper than to try, and to catch that there is none."""
    return bool(int(socket.getsockopt(_EVENTS)) & _POLLIN)


def understood(frames: Sequence[bytes | memoryview], refused: dict[str, int]) -> Received | None:
    """The message in these frames; None where they are none, which is counted by its reason."""
    try:
        return from_frames(frames)
    except RemoteError as error:
        count(refused, error.code.name.lower())
        return None


def count(refused: dict[str, int], reason: str) -> None:
    """One more of what was refused."""
    refused[reason] = refused.get(reason, 0) + 1
