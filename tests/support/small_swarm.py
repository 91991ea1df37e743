"""A matcher with peers that do what they are told at once: for tests of what is decided, not of how long it takes."""

import itertools
import random
from collections import Counter

from broker.core.matcher import SEED, Assignment, Matcher, MatcherSettings


class SmallSwarm:
    """Drives one matcher. Time moves only by `wait`; every piece arrives in the order of its assignment."""

    def __init__(self, pieces: int, *, seed: bool = True, random_seed: int = 1, settings: MatcherSettings | None = None) -> None:
        self.pieces = pieces
        self.now = 0.0
        self._looks = 0
        self.matcher = Matcher(
            pieces,
            1 << 18,
            rng=random.Random(random_seed),
            nominal_rate=1e7,
            lease_numbers=itertools.count(1),
            settings=settings or MatcherSettings(),
        )
        self.have: dict[str, int] = {}
        #: Told and not reported, in order.
        self.told: list[Assignment] = []
        #: Pieces that each parent has delivered.
        self.sent: Counter[str] = Counter()
        if seed:
            self.matcher.seed_joined(0.0, upload_rate=None)
            self.matcher.seed_has(range(pieces), 0.0)

    def join(self, *peers: str, have: int = 0, zone: str = "", wants: bool = True, upload_rate: float | None = None) -> None:
        """Peers join."""
        for peer in peers:
            self.have[peer] = have
            self.matcher.join(peer, self.now, have=have, zone=zone, wants=wants, upload_rate=upload_rate)
        self.take()

    def gone(self, peer: str) -> None:
        """A peer is dead."""
        del self.have[peer]
        self.told = [each for each in self.told if each.child != peer]
        self.matcher.gone(peer, self.now)
        self.take()

    def take(self) -> list[Assignment]:
        """What was decided since the last look."""
        decided = self.matcher.drain()
        self.told += decided
        # Validation walks over everything: often enough to find the event that broke something, by its neighbours.
        self._looks += 1
        if self._looks % 5 == 0 or self._looks < 50:
            self.matcher.validate()
        return decided

    def wait(self, seconds: float) -> list[Assignment]:
        """Time passes, with the ticks that are due. Returns what they decided."""
        end, decided = self.now + seconds, []
        while (due := self.matcher.next_tick()) is not None and due <= end:
            self.now = max(self.now, due)
            self.matcher.tick(self.now)
            decided += self.take()
        self.now = end
        return decided

    def is_possible(self, each: Assignment) -> bool:
        """Whether the assignment still holds, and its parent has the piece."""
        if (each.lease, each.piece) not in self.matcher.outstanding(each.child):
            return False
        return each.parent == SEED or bool(self.have.get(each.parent, 0) >> each.piece & 1)

    def arrive(self, each: Assignment, rate: float = 1e7) -> None:
        """The piece is there, and reported."""
        self.told.remove(each)
        self.sent[each.parent] += 1
        self.have[each.child] |= 1 << each.piece
        self.matcher.done(each.child, [(each.lease, each.piece, rate)], self.now)
        self.take()

    def fail(self, each: Assignment, *, blame: bool) -> list[Assignment]:
        """The piece does not come. Returns what is decided then."""
        self.told.remove(each)
        self.matcher.failed(each.child, each.lease, each.piece, self.now, blame=blame)
        return self.take()

    def complete(self, peer: str) -> bool:
        """Whether the peer has everything."""
        return self.have[peer] == (1 << self.pieces) - 1

    def run(self, *, rates: dict[str, float] | None = None) -> None:
        """Deliver until nothing is outstanding and nobody waits. Raises AssertionError where that never comes."""
        for _ in range(100_000):
            if ready := next((each for each in self.told if self.is_possible(each)), None):
                self.now += 0.0001
                self.arrive(ready, (rates or {}).get(ready.parent, 1e7))
                continue
            due = self.matcher.next_tick()
            if due is None:
                self.matcher.validate()
                return
            self.now = max(self.now, due)
            self.matcher.tick(self.now)
            self.take()
        raise AssertionError("the swarm does not come to its end")
