"""What a child learns of the way from one parent: its rate, its delay, and so how much to have in flight and per frame.

Pure. In flight belongs what the way holds (rate times delay) and little more: less leaves the link idle, more only makes
a queue in front of it, behind which everybody's requests and reports wait too. The delay is the least that was seen
lately from a request to its blocks; the little more is a fixed time (as LEDBAT's target, RFC 6817).
"""

from typing import Final

from wire.credit import MAX_CREDIT_BYTES

#: Queueing that is asked for, so that the link never runs dry: at least and at most. On a slow link everybody's requests and
#: reports wait behind it; on a fast one it holds the long frames that cost little, and a computer that is busy elsewhere.
_LEAST_QUEUE_S: Final = 0.02
_MOST_QUEUE_S: Final = 0.08
#: Bytes per second for which the queue is as long as a second would be.
_RATE_OF_A_SECOND: Final = 1.5e8
#: The least delay is taken from the last one to two such times.
_WINDOW_S: Final = 5.0
#: The rate is measured over at least so long: frames come in bursts, whose own rate says nothing.
_SAMPLE_S: Final = 0.1
_MAX_RUN_BYTES: Final = 4 << 20


class Path:
    """One parent's way to this child."""

    __slots__ = ("_bytes", "_delays", "_idle_at", "_sample_at", "_window_at", "rate")

    def __init__(self, now: float) -> None:
        #: Bytes per second while something is asked for; 0: not known yet.
        self.rate = 0.0
        self._sample_at = now
        self._bytes = 0
        # Since when nothing is asked for; None: something is.
        self._idle_at: float | None = now
        # The least delay of the running window, and of the one before it.
        self._delays = [float("inf"), float("inf")]
        self._window_at = now

    def idle(self, now: float) -> None:
        """Nothing is asked for any more."""
        self._idle_at = now

    def busy_again(self, now: float) -> None:
        """Something is asked for after a pause, which is no part of the rate.

        The sample goes on: where little is in flight pauses are many and short, and a rate that began anew after each of
        them would never be learned.
        """
        if self._idle_at is not None:
            self._sample_at += now - self._idle_at
            self._idle_at = None

    def arrived(self, size: int, asked_at: float, now: float) -> None:
        """Blocks have come that were asked for at `asked_at`."""
        self._bytes += size
        elapsed = now - self._sample_at
        if elapsed >= _SAMPLE_S or (self.rate == 0 and elapsed > 0):
            seen = self._bytes / elapsed
            self.rate = seen if self.rate == 0 else 0.6 * self.rate + 0.4 * seen
            self._sample_at, self._bytes = now, 0
        if now - self._window_at >= _WINDOW_S:
            self._delays = [float("inf"), self._delays[0]]
            self._window_at = now
        self._delays[0] = min(self._delays[0], now - asked_at)

    def credit(self, first: int) -> int:
        """Bytes to have in flight; `first` before anything is known."""
        if self.rate == 0:
            return first
        queue_s = max(_LEAST_QUEUE_S, min(_MOST_QUEUE_S, self.rate / _RATE_OF_A_SECOND))
        return max(1, min(MAX_CREDIT_BYTES, int(self.rate * (min(self._delays) + queue_s))))

    def run(self, first: int) -> int:
        """Bytes to ask for in one request: half of what may be in flight, so that one is under way while one is answered."""
        return min(_MAX_RUN_BYTES, self.credit(first) // 2)
