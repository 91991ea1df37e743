"""Patience: what is done about children and pieces that wait for too long. Nothing in here is on the common path.

How long is too long follows from what a piece usually takes here. Whatever a choice from a few random candidates has
missed is found at last: a child without any lease is looked after in turns, with every parent there is.
"""

from math import inf, log2
from typing import Final

from broker.core.choice import SAMPLE, Choice
from broker.core.links import UNPROVEN_SLOTS
from broker.core.matcher_settings import MatcherSettings
from broker.core.swarm import Peer

#: Parents that one search looks at; the next one goes on after them.
_SEARCHED: Final = 256
#: How common pieces are when rare ones are looked for: before, every piece is rare.
_RESCUE_FROM: Final = 0.3
_RESCUE_ALL_FROM: Final = 0.6


class Patience:
    """Looks after one swarm. The roster's `now` is the time."""

    def __init__(self, choice: Choice, settings: MatcherSettings) -> None:
        self.choice = choice
        self.settings = settings
        self._turn = 0
        self._settled = 0
        #: When the seed may repeat a piece beyond its ration.
        self._repeat_at = 0.0
        #: How long until the next one, at least: longer every time, until something arrives somewhere (then it is set to 0).
        self.repeat_gap = 0.0

    @property
    def piece_s(self) -> float:
        """What a piece takes here; before anything was seen, something that is long enough on most links."""
        links = self.choice.roster.links
        return links.piece_s if links.learned else self.settings.patience_s / 2

    # -- children that wait ---------------------------------------------------------------------------------------------

    def relieve(self, child: Peer, *, may_search: bool) -> int:
        """Help a child that has no lease at all. Returns how many long searches that took: 0 or 1."""
        roster, choice = self.choice.roster, self.choice
        now, piece_s = roster.now, self.piece_s
        # An empty peer of a swarm that has just begun waits because nobody has anything yet.
        waits = max(self.settings.idle_s, 2 * piece_s) * (1 if child.held else 4)
        if now - child.idle_since < waits:
            return 0
        if may_search:
            parents = roster.free.window(self._turn, _SEARCHED)
            self._turn += _SEARCHED
            if choice.match_relaxed(child, parents):
                return 1
        gap = max(self.repeat_gap, self.settings.patience_s, 4 * piece_s)
        if now - child.idle_since >= gap and now >= self._repeat_at and choice.from_seed(child):
            self._repeat_at = now + gap
            self.repeat_gap = 2 * gap
        return int(may_search)

    # -- pieces that stay rare ------------------------------------------------------------------------------------------

    def rescue(self) -> None:
        """A piece that stays in few copies (their holders are slow) gets a fresh one from the seed.

        With slow peers of unknown rate and dead ones this is worth 1.19 instead of up to 1.58 of the ideal time.
        """
        roster = self.choice.roster
        count, seed = len(roster.peers), roster.seed
        old = roster.now - 1 - 2 * log2(1 + count) * roster.links.piece_s
        while roster.injected and roster.injected[0][0] < old:
            self._settled |= 1 << roster.injected.popleft()[1]
        if len(seed.serving) >= seed.slots or not count:
            return
        common = roster.held_sum / (count * roster.pieces)
        if common < _RESCUE_FROM:
            return
        last = min(2, count.bit_length() - 5) if common < _RESCUE_ALL_FROM else count.bit_length() - 6
        for bucket in range(1, last + 1):
            rare = roster.rarity.buckets[bucket] & self._settled & seed.have
            if rare:
                self._give_again((rare & -rare).bit_length() - 1)
                return

    def _give_again(self, piece: int) -> None:
        roster, choice, bit = self.choice.roster, self.choice, 1 << piece
        for child in roster.incomplete.sample(2 * SAMPLE, roster.rng):
            if child.slow or child.seed_leases or not child.want & bit or len(child.fetching) > roster.usual_slots:
                continue
            if not choice.may_have_from_seed(child):
                continue
            choice.repeats_owed += 1
            choice.grant(roster.seed, child, piece)
            return

    # -- leases that last too long --------------------------------------------------------------------------------------

    def watch(self) -> dict[Peer, None]:
        """A lease whose first piece takes several times as long as usual has a slow parent: its child may have another.

        What was leased of a parent that was known to be slow may take its time. Returns the peers that have work to
        find; those in `links.changed` need `sync`.
        """
        roster = self.choice.roster
        watched, overdue_s = roster.watched, self._overdue_s()
        touched: dict[Peer, None] = {}
        while watched and watched[0][0] + overdue_s <= roster.now:
            granted_at, lease, piece = watched.popleft()
            if lease.number not in roster.leases or piece not in lease.pieces or lease.weight < 0.5:
                continue
            if roster.links.overdue(lease, roster.now - granted_at) and roster.rarity.copies[piece] > 1:
                roster.unpromise(lease, piece, touched)
        return touched

    def next_look(self) -> float:
        """When `watch` has something to do; infinite: not that is known."""
        watched = self.choice.roster.watched
        return watched[0][0] + self._overdue_s() if watched else inf

    def _overdue_s(self) -> float:
        links, settings = self.choice.roster.links, self.settings
        if not links.learned:
            return inf
        # However short a piece takes: the lease, its request and its report may each wait in a router's queue of 50 ms, and
        # parents taken for slow by that cost more than anything else (10 peers at 1x: 1.31 of the ideal time, not 1.12).
        return settings.overdue * UNPROVEN_SLOTS * links.piece_s + settings.idle_s
