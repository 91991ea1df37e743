"""What happens to a host's warming, and what it wants done: the events and effects of core/warming.py."""

from dataclasses import dataclass

from wire.errors import ErrorCode
from wire.messages import Origin, Warm, Warmed


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How much of a content is here."""

    verified: int = 0
    length: int | None = None
    received: tuple[int, ...] = (0,) * len(Origin)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """A content was here, every block of it verified, its digest confirmed."""

    length: int
    digest: str
    received: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a content cannot be had."""

    code: ErrorCode
    message: str
    status: int = 0


# -- events -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Asked:
    """WARM came from a supernode (`host:port`)."""

    node: str
    warm: Warm


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of a Begin. `run` is the effect's."""

    task: str
    run: int
    outcome: Proof | Failure


@dataclass(frozen=True, slots=True)
class Checked:
    """What became of a Check: None: it is not as it was proven."""

    task: str
    run: int
    outcome: Proof | Failure | None


@dataclass(frozen=True, slots=True)
class NodeUp:
    """A supernode has welcomed this peer."""

    node: str


@dataclass(frozen=True, slots=True)
class NodeDown:
    """A supernode has fallen silent."""

    node: str


@dataclass(frozen=True, slots=True)
class Tick:
    """A deadline has come."""


Event = Asked | Ended | Checked | NodeUp | NodeDown | Tick


# -- effects ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Begin:
    """Have the content here, verified, and kept for `Warming.keep_s`, by way of the supernode at `node`.

    Ends in one Ended, unless it is stopped.
    """

    task: str
    run: int
    node: str
    warm: Warm


@dataclass(frozen=True, slots=True)
class Check:
    """Look whether the content is still as it was proven, and keep it for `Warming.keep_s`. Ends in one Checked."""

    task: str
    run: int
    proof: Proof


@dataclass(frozen=True, slots=True)
class Stop:
    """Nobody wants it warm any more."""

    task: str


@dataclass(frozen=True, slots=True)
class SetRate:
    """Bytes per second of all warming together; 0: any."""

    rate: int


@dataclass(frozen=True, slots=True)
class Tell:
    """Say this to the supernode at `node`."""

    node: str
    message: Warmed


Effect = Begin | Check | Stop | SetRate | Tell
