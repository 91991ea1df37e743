"""What this host may move: the limits of all downloads together and of what is served, and what makes them less.

Shared by the loop and the exchange's thread. A limit is what was configured, or less while the host yields to other traffic.
"""

import threading
from typing import Final

from worker_peer.core.turns import Turns
from worker_peer.host.limits import TokenBucket, lowest

#: Somebody who waits is expected back when his bytes may pass; so much later at most, then his turn goes to another. Less
#: than the bucket's burst, so that nothing of the rate is lost.
_LATE_S: Final = 0.02
#: Whose turn it is not asks again after so long.
_AGAIN_S: Final = 0.002
#: Who has asked for nothing for so long has no claim to what others had meanwhile.
_ABSENT_S: Final = 2.0


class FairLimit:
    """A rate that downloads share: while several want more than it gives, each gets as much as any other. See Limit."""

    def __init__(self, rate_bytes_per_s: int) -> None:
        self._lock = threading.Lock()
        self._bucket = TokenBucket(rate_bytes_per_s)
        self._turns = Turns()
        # When each was here last; when those who wait come back.
        self._asked_at: dict[str, float] = {}
        self._back_at: dict[str, float] = {}

    @property
    def rate(self) -> int:
        """Bytes per second; 0: not limited."""
        return self._bucket.rate

    def ask(self, who: str, size: int, now: float) -> float:
        """See Limit: who has had least comes first."""
        with self._lock:
            if not self._bucket.rate:
                return 0.0
            if who not in self._asked_at:
                self._forget_absent(now)
                self._turns.began(who)
            self._asked_at[who] = now
            wait = self._bucket.ready_in(now) or self._others_turn(who, now)
            if wait > 0:
                self._back_at[who] = now + wait
                return wait
            self._back_at.pop(who, None)
            self._turns.took(who, size)
            self._bucket.take(size, now)
            return 0.0

    def ready_in(self, now: float) -> float:
        """See Limit."""
        return self._bucket.ready_in(now)

    def set_rate(self, rate: int, now: float) -> None:
        """Another rate from `now` on."""
        self._bucket.set_rate(rate, now)

    def _others_turn(self, who: str, now: float) -> float:
        for name in [name for name, at in self._back_at.items() if at + _LATE_S < now]:
            del self._back_at[name]
        had = self._turns.had(who)
        return _AGAIN_S if any(self._turns.had(name) < had for name in self._back_at) else 0.0

    def _forget_absent(self, now: float) -> None:
        for name in [name for name, at in self._asked_at.items() if at + _ABSENT_S < now]:
            del self._asked_at[name]
            self._back_at.pop(name, None)
            self._turns.ended(name)


class HostLimits:
    """The limits of one peer: of all that it receives, and of all that it serves."""

    def __init__(self, *, total_rate: int = 0, upload_rate: int = 0) -> None:
        """Bytes per second, 0: not limited. Without an upload rate the total holds for each direction, as in 1.x."""
        self._total = total_rate
        self._upload = upload_rate
        self._yields = (0, 0)
        self.down = FairLimit(total_rate)
        self.up = TokenBucket(upload_rate or total_rate)

    def set_total(self, rate: int, now: float) -> None:
        """Another limit for all downloads together, and for what is served where that has none of its own."""
        self._total = rate
        self._apply(now)

    def yield_to(self, down: int, up: int, now: float) -> None:
        """No more than this for now, because others use the link; 0: no less than configured."""
        self._yields = (down, up)
        self._apply(now)

    def _apply(self, now: float) -> None:
        down, up = lowest(self._total, self._yields[0]), lowest(self._upload or self._total, self._yields[1])
        if down != self.down.rate:
            self.down.set_rate(down, now)
        if up != self.up.rate:
            self.up.set_rate(up, now)
