"""What happens to one content's download: the events of core/session.py."""

from dataclasses import dataclass, field
from enum import IntEnum

from wire.bitmap import PieceSet
from wire.errors import ErrorCode
from wire.messages import Lease, Origin, PieceFailure, Task
from wire.pieces import PieceLayout


class Purpose(IntEnum):
    """What a download is for; of several, the highest counts."""

    #: Nobody wants it: what is here whole is offered to others, anything else is left.
    OFFER = 0
    #: It is to be here some time: through the swarm, never from the source, and out of everybody's way.
    WARM = 1
    #: Somebody waits for it.
    READ = 2


@dataclass(frozen=True, slots=True)
class PurposeChanged:
    """Others want the content now, or no longer."""

    purpose: Purpose


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreOpened:
    """The store has been asked for the task: what it holds, re-verified. `layout` None: nothing."""

    layout: PieceLayout | None = None
    have: PieceSet | None = None
    #: Block digests of each piece in `have`.
    piece_digests: dict[int, bytes] = field(default_factory=dict)
    #: sha256 of the content, when it was complete and right once.
    digest: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StorePrepared:
    """The file for the content is there, with the pieces of a content that was told with the task."""

    have: PieceSet


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreRefused:
    """The file for the content cannot be had."""

    code: ErrorCode
    message: str


@dataclass(frozen=True, slots=True)
class SupernodeUp:
    """A supernode has welcomed this peer (again). Another `run` of one knows nothing of what was before."""

    run: str = ""


@dataclass(frozen=True, slots=True)
class SupernodeDown:
    """The supernode does not answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskTold:
    """The supernode told the task's state."""

    told: Task


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseGiven:
    """The supernode granted pieces."""

    lease: Lease


@dataclass(frozen=True, slots=True, kw_only=True)
class PieceCame:
    """A piece is verified and stored. `lease` 0: from the source or the disk."""

    piece: int
    lease: int = 0
    rate: float = 0.0
    origin: Origin = Origin.PEER


@dataclass(frozen=True, slots=True, kw_only=True)
class PieceLost:
    """A leased piece did not come."""

    piece: int
    lease: int
    failure: PieceFailure


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceEnded:
    """Reading from the source has ended. `code` None: every piece asked for is here, and `digest` is the content's."""

    digest: str | None = None
    code: ErrorCode | None = None
    status: int = 0
    message: str = ""


@dataclass(frozen=True, slots=True)
class Tick:
    """A deadline has passed."""


Event = (
    PurposeChanged
    | StoreOpened
    | StorePrepared
    | StoreRefused
    | SupernodeUp
    | SupernodeDown
    | TaskTold
    | LeaseGiven
    | PieceCame
    | PieceLost
    | SourceEnded
    | Tick
)
