"""How long bytes have to wait so that a rate holds. Arithmetic only; `now` is an argument, the caller sleeps.

A limit is shared by the loop (sources) and by the exchange's thread (blocks), hence the locks, which are never held long.
"""

import threading
from typing import Final, Protocol

#: How much of a second's bytes may pass at once, where the caller does not say: small, so that a second holds its rate.
_BURST_S: Final = 0.05


def lowest(*rates: int) -> int:
    """The limit that several make together, each 0 where it is none."""
    return min((rate for rate in rates if rate), default=0)


class Limit(Protocol):
    """What holds transfers back."""

    @property
    def rate(self) -> int:
        """Bytes per second; 0: not limited."""

    def ask(self, who: str, size: int, now: float) -> float:
        """0: these bytes of `who` may pass, and count as taken. Else nothing is taken: ask again in so many seconds."""

    def ready_in(self, now: float) -> float:
        """Seconds until all that was taken has passed."""


class TokenBucket:
    """A rate in bytes per second, shared by all who take from it, in any thread.

    Up to any moment t seconds after the first take, at most `rate * t + burst` bytes have passed. A take larger than the
    burst goes into debt, which the next takes wait off: so a block of any size passes, and takers are served in order.
    """

    __slots__ = ("_at", "_burst", "_given_burst", "_level", "_lock", "_rate")

    def __init__(self, rate_bytes_per_s: int, burst_bytes: int | None = None) -> None:
        self._lock = threading.Lock()
        self._given_burst = burst_bytes
        self._rate = 0
        self._burst = 0.0
        self._level = 0.0
        self._at: float | None = None
        self._adopt(rate_bytes_per_s)
        self._level = self._burst

    @property
    def rate(self) -> int:
        """Bytes per second; 0: not limited."""
        return self._rate

    def take(self, n: int, now: float) -> float:
        """Seconds to wait from `now` before these `n` bytes may pass. They count as taken."""
        if n < 0:
            raise ValueError(f"{n} bytes cannot be taken")
        with self._lock:
            if not self._rate:
                return 0.0
            self._refill(now)
            self._level -= n
            return self._wait()

    def ask(self, who: str, size: int, now: float) -> float:
        """See Limit: whoever comes first when nothing is owed any more."""
        with self._lock:
            if not self._rate:
                return 0.0
            self._refill(now)
            wait = self._wait()
            if wait <= 0:
                self._level -= size
            return wait

    def ready_in(self, now: float) -> float:
        """Seconds until all that was taken has passed; 0: a take passes at once, as far as the burst reaches."""
        with self._lock:
            if not self._rate:
                return 0.0
            self._refill(now)
            return self._wait()

    def set_rate(self, rate: int, now: float) -> None:
        """Another rate from `now` on. Debt stays and is paid at the new rate; 0 (not limited) forgets it."""
        with self._lock:
            self._refill(now)
            limited_before = bool(self._rate)
            self._adopt(rate)
            self._level = min(self._level, self._burst) if limited_before and rate else self._burst

    def _adopt(self, rate: int) -> None:
        if rate < 0 or (self._given_burst is not None and self._given_burst < 0):
            raise ValueError(f"a rate of {rate} bytes per second, burst {self._given_burst}: neither may be negative")
        self._rate = rate
        self._burst = rate * _BURST_S if self._given_burst is None else float(self._given_burst)

    def _refill(self, now: float) -> None:
        # A clock that steps back gives nothing, and must not give the same seconds twice.
        if self._at is not None and now > self._at:
            self._level = min(self._burst, self._level + (now - self._at) * self._rate)
        self._at = now if self._at is None else max(self._at, now)

    def _wait(self) -> float:
        return max(0.0, -self._level / self._rate)
