"""What the supernode is to do. Drivers carry effects out in their order."""

from dataclasses import dataclass
from enum import Enum, auto

from wire.errors import ErrorCode
from wire.messages import Message, TaskState, Warmed


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


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskMoved:
    """What has become of a task that somebody wants who is no peer (events.TaskWanted)."""

    task: str
    #: CACHING is said again while pieces come; CACHED whenever a seed says that it has all of it.
    state: TaskState
    #: The seed that has it, or is to read it; empty: none is there.
    seed: str = ""
    #: Bytes; None: not known.
    length: int | None = None
    pieces_cached: int = 0
    piece_count: int = 0
    digest: str | None = None
    #: Why it is dead: the code, the source's HTTP status (0: none), words.
    code: ErrorCode | None = None
    status: int = 0
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerWarmed:
    """How far a peer is with what WARM told it; or why it could not be told, as if it had said so itself."""

    peer: str
    message: Warmed


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerMoved:
    """A peer or a seed is here, or has gone."""

    peer: str
    here: bool
    why: str = ""


Effect = Tell | Forget | Note | TaskMoved | PeerWarmed | PeerMoved
