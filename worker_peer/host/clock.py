"""Clock: the time, handed to whoever needs it. Nothing else of ours reads the machine's clocks, so tests can own time."""

import time
from typing import Protocol


class Clock(Protocol):
    """What time it is."""

    def now(self) -> float:
        """Monotonic seconds: for deadlines, rates and durations. The zero has no meaning."""
        ...

    def wall(self) -> float:
        """Unix seconds: for names and for people. May jump."""
        ...


class SystemClock:
    """The machine's clocks."""

    __slots__ = ()

    def now(self) -> float:
        """Monotonic seconds."""
        return time.monotonic()

    def wall(self) -> float:
        """Unix seconds."""
        return time.time()
