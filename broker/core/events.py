"""What happens to the supernode. The wire's messages are the vocabulary: a driver frames them, this core reads them."""

from dataclasses import dataclass

from wire.messages import Hello, Message, Register, Warm


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerGreeted:
    """A peer said a HELLO that was accepted. Again from a known one: it has restarted, or reconnected."""

    hello: Hello


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerSaid:
    """A greeted peer said something else."""

    peer: str
    message: Message


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerGone:
    """A peer's process is known to have ended."""

    peer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskDropped:
    """An operator wants a task forgotten."""

    task: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskWanted:
    """Somebody who is no peer wants a task: the seed is to have it, and effects.TaskMoved say what becomes of it.

    Again for a wanted task: its state is said again; a dead one is tried again, with this request for the source.
    """

    spec: Register
    #: Hosts that may be asked for it, as in FETCH; None: the same as for what peers want.
    allow: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskReleased:
    """Nobody but peers wants the task any more: it lives as any other."""

    task: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmWanted:
    """A peer, or a seed, is to be told WARM. Where that cannot be, effects.PeerWarmed says why, with a code."""

    peer: str
    message: Warm


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


Event = PeerGreeted | PeerSaid | PeerGone | TaskDropped | TaskWanted | TaskReleased | WarmWanted | Tick
