"""When the swarm is not worth waiting for: a circuit breaker. Pure; `now` in seconds of a clock that only goes forward.

CLOSED: everybody waits for the swarm as long as patience allows. A failure that cost time opens it: OPEN: only what this
host has itself is waited for. After a while one request at a time tries the swarm again, behind its client's back
(half-open); its success closes the breaker, its failure doubles the while.
"""

from enum import Enum, auto
from typing import Final

_FIRST_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 15.0


class Trial(Enum):
    """What a request may do."""

    WAIT = auto()
    """Wait for the swarm."""
    PROBE = auto()
    """Wait only for what is here; the attempt itself goes on in the background, and its outcome is told."""
    LOCAL = auto()
    """Wait only for what is here."""


class Breaker:
    """One swarm, as this gateway has found it."""

    def __init__(self) -> None:
        self._open_until: float | None = None
        self._pause_s = _FIRST_PAUSE_S
        self._probing = False

    @property
    def is_open(self) -> bool:
        """Whether the swarm is held for not worth waiting for."""
        return self._open_until is not None

    def begin(self, now: float) -> Trial:
        """A request begins. After PROBE one of `succeeded` and `failed` must follow."""
        if self._open_until is None:
            return Trial.WAIT
        if now < self._open_until or self._probing:
            return Trial.LOCAL
        self._probing = True
        return Trial.PROBE

    def succeeded(self) -> None:
        """The swarm has answered in time."""
        self._open_until, self._pause_s, self._probing = None, _FIRST_PAUSE_S, False

    def failed(self, now: float, *, probe: bool = False) -> None:
        """The swarm has cost a client its patience, or a probe has found it no better."""
        if probe:
            self._probing = False
            self._pause_s = min(_LONGEST_PAUSE_S, self._pause_s * 2)
        if probe or self._open_until is None:
            self._open_until = now + self._pause_s
