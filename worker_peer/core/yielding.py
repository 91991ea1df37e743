"""How much of a link is left for the swarm, when others come first.

Pure, one of it for each direction. Samples of two counters go in (what the interface has carried, and what of that was this
peer's own), a limit comes out. What is not the peer's own is others'; the link's rate less that and a margin is the
peer's. The margin is where others show that they want more: when it stays used up the limit is halved, until it is there
again, since what others would have taken cannot be seen. It rises again slowly while there are others, soon when not.

A link whose rate nobody states is as fast as the fastest second that was seen; now and then more is tried.
"""

from collections import deque
from dataclasses import dataclass
from typing import Final

#: Bytes on the wire for one of a block: headers of TCP, IP and Ethernet in frames of 1,514 bytes.
OVERHEAD: Final = 1514 / 1448
#: Rates are taken over so long: shorter, and a block that is counted when it is whole looks like others' traffic before.
_WINDOW_S: Final = 1.0
#: Whether the link is full is looked for in the newest part of that.
_SHORT_S: Final = 0.5
#: Two samples are no nearer to each other.
_LEAST_S: Final = 0.05
#: Others' traffic below this share of the link is noise, or small enough for the margin; from twice as much on all of it counts.
_NOISE: Final = 0.04
#: What was left to others shows its effect within this time. Is the margin used up still, the limit is halved.
_EFFECT_S: Final = 0.75
#: The limit does not rise so soon after others have used the margin up: they take what was left to them bit by bit.
_HOLD_S: Final = 2.0
#: The limit rises by the whole link within so long, with others about and without.
_RISE_S: Final = 8.0
_RISE_ALONE_S: Final = 2.0

#: Before a link's rate counts as learned, the peer's own traffic has to be most of it for so long.
_LEARN_S: Final = 3.0
#: How much more than was ever seen is tried, for how long, and how often: less often each time that it was in vain.
_TRY: Final = 1.25
_TRY_S: Final = 3.0
_TRY_EVERY_S: Final = (15.0, 300.0)
#: More than was seen before by this factor counts as more.
_MORE: Final = 1.02


@dataclass(frozen=True, slots=True, kw_only=True)
class YieldSettings:
    """What is known of a link. Rates in bytes per second."""

    #: As the operator states it; 0: to be learned.
    link_rate: int = 0
    #: As the network card says, where it has to be learned; 0: it does not say.
    first_guess: int = 0
    #: The limit is never less.
    floor: int = 64 << 10
    #: Share of the link that is left to whoever comes.
    margin: float = 0.1


class Yielding:
    """One direction of one link."""

    def __init__(self, settings: YieldSettings, now: float) -> None:
        self._settings = settings
        #: Bytes per second that the peer may move now; 0: not limited.
        self.limit = 0
        #: What the peer and the others have moved in the last second, on the wire.
        self.own_rate = 0.0
        self.other_rate = 0.0
        self._samples: deque[tuple[float, int, int]] = deque()
        self._held_until = now - _HOLD_S
        #: Since when the margin is used up, or when the limit was halved for it; None: it is there.
        self._full_since: float | None = None
        # What is seen of a link whose rate is not stated.
        self._learned = 0.0
        self._seen = 0.0
        self._own_s = 0.0
        self._tries_until = now
        self._tries_at = now
        self._try_every_s = _TRY_EVERY_S[0]

    @property
    def link_rate(self) -> int:
        """What the link carries, as far as is known; 0: nothing is."""
        settings = self._settings
        if settings.link_rate:
            return settings.link_rate
        if self._learned:
            return int(min(self._learned, settings.first_guess or self._learned))
        return settings.first_guess

    def sampled(self, link_bytes: int, own_bytes: int, now: float) -> int:
        """The counters as they stand. Returns the limit from now on, 0: none."""
        samples = self._samples
        if samples and (link_bytes < samples[-1][1] or own_bytes < samples[-1][2]):
            samples.clear()  # another interface, or another count
        if samples and now - samples[-1][0] < _LEAST_S:
            return self.limit
        elapsed = now - samples[-1][0] if samples else 0.0
        samples.append((now, link_bytes, own_bytes))
        while len(samples) > 2 and samples[1][0] <= now - _WINDOW_S:
            samples.popleft()
        if not elapsed:
            return self.limit
        total, own = self._rates(_WINDOW_S, now)
        self.own_rate = own * OVERHEAD
        self.other_rate = max(0.0, total - self.own_rate)
        if not self._settings.link_rate:
            self._learn(total, elapsed, now)
        self._decide(elapsed, now)
        return self.limit

    def _rates(self, over_s: float, now: float) -> tuple[float, float]:
        """Bytes per second in all, and of the peer's own, in the last `over_s`."""
        newest = self._samples[-1]
        oldest = next((each for each in reversed(self._samples) if each[0] <= now - over_s), self._samples[0])
        elapsed = newest[0] - oldest[0]
        return (newest[1] - oldest[1]) / elapsed, (newest[2] - oldest[2]) / elapsed

    def _decide(self, elapsed: float, now: float) -> None:
        link = self.link_rate
        if not link:
            self.limit = 0
            return
        settings = self._settings
        floor = min(settings.floor, link)
        trying = not settings.link_rate and bool(self._learned) and now < self._tries_until
        # Without a step, at which the limit would go to and fro.
        other = max(0.0, min(self.other_rate, 2 * (self.other_rate - _NOISE * link)))
        share = _TRY if trying else 1 - settings.margin
        target = max(floor, int((share * link - other) / OVERHEAD))
        limit = self.limit or target
        short, own = self._rates(_SHORT_S, now)
        if other and not trying and short >= (1 - settings.margin / 2) * link:
            self._held_until = now + _HOLD_S
            if self._full_since is None:
                self._full_since = now
            elif now - self._full_since >= _EFFECT_S:
                self._full_since = now
                limit = min(limit, int(self.own_rate / OVERHEAD)) // 2
            # Of others who have just come the whole window tells too little.
            limit = min(limit, target, int((share * link - short) / OVERHEAD + own))
            self.limit = max(floor, limit)
            return
        self._full_since = None
        if target > limit and (now >= self._held_until or not other):
            limit = min(target, limit + int(link * elapsed / (_RISE_S if other else _RISE_ALONE_S)) + 1)
        else:
            limit = min(limit, target)
        self.limit = max(floor, limit)

    def _learn(self, total: float, elapsed: float, now: float) -> None:
        if not self._learned:
            if self.own_rate > self.other_rate:
                self._own_s += elapsed
                self._seen = max(self._seen, total)
            if self._own_s >= _LEARN_S:
                self._learned = self._seen
                self._tries_until = now + _TRY_S
            return
        if total > self._learned * _MORE:
            self._learned = total
            self._tries_until = now + _TRY_S
            self._try_every_s = _TRY_EVERY_S[0]
            self._tries_at = now + _TRY_S + self._try_every_s
        elif now >= self._tries_at and self.own_rate >= 0.8 * self.limit:
            self._tries_until = now + _TRY_S
            self._try_every_s = min(_TRY_EVERY_S[1], 2 * self._try_every_s)
            self._tries_at = now + _TRY_S + self._try_every_s
