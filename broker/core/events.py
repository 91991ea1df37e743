"""What happens to the supernode. The wire's messages are the vocabulary: a driver frames them, this core reads them."""

from dataclasses import dataclass

from wire.messages import Hello, Message


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


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


Event = PeerGreeted | PeerSaid | PeerGone | TaskDropped | Tick
