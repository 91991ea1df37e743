"""What the supernode is to do. Drivers carry effects out in their order."""

from dataclasses import dataclass
from enum import Enum, auto

from wire.messages import Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Tell:
    """Send a message to a peer. It may be lost: leases and re-registration put that right."""

    peer: str
    message: Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Forget:
    """The peer is held for dead: what it says next is answered by NOT_KNOWN."""

    peer: str


class Notice(Enum):
    """What an operator may want to see in the log."""

    PEER_JOINED = auto()
    PEER_LOST = auto()
    TASK_NEW = auto()
    TASK_CACHING = auto()
    TASK_CACHED = auto()
    TASK_DEAD = auto()
    TASK_FORGOTTEN = auto()
    STRIKE = auto()
    LEASE_EXPIRED = auto()
    UNEXPECTED = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """Log it. `text` holds no secret."""

    notice: Notice
    task: str = ""
    peer: str = ""
    text: str = ""


Effect = Tell | Forget | Note
