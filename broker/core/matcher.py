"""Matcher: one task's swarm. Events in, assignments out; no clock, socket or log, and nothing that walks over all peers.

The scheduler tells it what has happened (`join`, `done`, `failed`, `gone`, the seed's coming and going) and takes what was
decided (`drain`). It has no deadlines of its own but `next_tick`: when children wait, a tick tries again with a wider
look, in turns, so that no wake-up is lost by a decision that was made from a few random candidates.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import inf
from typing import Final

from broker.core.choice import SAMPLE, Choice
from broker.core.idset import Rng
from broker.core.links import Links
from broker.core.matcher_check import validate
from broker.core.matcher_settings import LinkSettings, MatcherSettings
from broker.core.patience import Patience
from broker.core.roster import SEED, Assignment, Roster
from broker.core.swarm import Lease, Peer
from broker.core.zone_budget import ZoneBudget

__all__ = ["SEED", "Assignment", "LinkSettings", "Matcher", "MatcherSettings"]

DEFAULTS: Final = MatcherSettings()
#: Of the reports about a parent that is known one in so many is learned from: learning costs as much as deciding, and less of
#: it is better (with a fifth of slow peers 1.09 of the ideal time instead of 1.11 from all reports, at 60 peers).
_OBSERVED: Final = 4
#: Children that one tick looks at, and for how many of them it searches among many parents.
_TICK_CHILDREN: Final = 64
_TICK_SEARCHES: Final = 4
#: While a usual uplink sends one piece there are so many ticks, where that is not more often than `tick_s`.
_TICKS_PER_PIECE: Final = 8
#: A tick that found nothing is followed by a later one, up to this many times the first interval.
_SLOWEST_TICK: Final = 8
#: Avoidance of a parent doubles with every time, up to this; the seed's, which nobody replaces, up to less.
_MOST_AVOIDED_S: Final = 30.0
_SEED_AVOIDED_S: Final = 2.0


class Matcher:
    """Who fetches which piece from whom, for one content.

    `piece_length` in bytes; `nominal_rate` a first guess of what a peer uploads, in bytes per second, until reports tell;
    `lease_numbers` yields a number for each lease; `budget`, if there is one, is for what enters each zone by all tasks.
    `now` is any clock in seconds that never goes back. Events about peers, leases or pieces that are not known (any more)
    are ignored: reports are always a little late.
    """

    def __init__(
        self,
        pieces: int,
        piece_length: int,
        *,
        rng: Rng,
        nominal_rate: float,
        lease_numbers: Iterator[int],
        settings: MatcherSettings = DEFAULTS,
        budget: ZoneBudget | None = None,
    ) -> None:
        if pieces < 1:
            raise ValueError(f"a content of {pieces} pieces")
        self.settings = settings
        links = Links(nominal_rate, pieces, piece_length, settings.links, rng)
        self._roster = Roster(
            pieces,
            links,
            rng=rng,
            lease_numbers=lease_numbers,
            cut_through=settings.cut_through,
            settle_s=settings.settle_s,
            budget=budget,
        )
        self._choice = Choice(self._roster)
        self._patience = Patience(self._choice, settings)
        self._turn = 0
        self._ticked_at = 0.0
        self._tick_s = settings.tick_s
        self._reports = 0

    # -- the seed -------------------------------------------------------------------------------------------------------

    def seed_joined(self, now: float, *, upload_rate: float | None) -> None:
        """The seed is here; what it has is told by `seed_has`. `upload_rate`: bytes per second at most, None: not known."""
        self._begin(now)
        roster = self._roster
        roster.seed_here = True
        roster.seed.uplink_limit = roster.seed.uplink = roster.seed.derived_from = upload_rate
        roster.links.derive(roster.seed)

    def seed_has(self, pieces: Iterable[int], now: float) -> None:
        """The seed serves these pieces from now on. Raises IndexError for a piece that the content has not."""
        self._begin(now)
        roster = self._roster
        for piece in pieces:
            if not 0 <= piece < roster.pieces:
                raise IndexError(f"piece {piece} of {roster.pieces}")
            roster.seed.have |= 1 << piece
        if not roster.seed_here:
            roster.seed_here = True
        roster.seed.offers = roster.seed.have
        self._choice.inject()
        self._wake()

    def seed_gone(self, now: float) -> None:
        """The seed is away: its leases fail. What peers have stays; it may join again."""
        self._begin(now)
        roster = self._roster
        seed = roster.seed
        seed.have = seed.offers = 0
        roster.seed_here = False
        touched: dict[Peer, None] = {}
        for lease in list(seed.serving):
            for piece in list(lease.pieces):
                roster.unpromise(lease, piece, touched)
        self._settle(touched)

    # -- peers ----------------------------------------------------------------------------------------------------------

    def join(
        self, peer: str, now: float, *, have: int = 0, upload_rate: float | None = None, zone: str = "", wants: bool = True
    ) -> None:
        """A peer is in the swarm and has these pieces (bitmap, bit p is piece p). Without `wants` it only serves.

        `zone`: where it is, `a/b/c` from the widest to the narrowest; peers of no zone are near each other.

        A second join replaces what was known: its leases have failed, its pieces are those in `have`. What was learned
        about its uplink stays. Raises ValueError for bits outside of the content, or for the seed's id.
        """
        roster = self._roster
        if peer == SEED or have < 0 or have >> roster.pieces:
            raise ValueError(f"peer {peer!r} with pieces outside of {roster.pieces}")
        self._begin(now)
        touched: dict[Peer, None] = {}
        fresh = Peer(peer, wants=wants, location=zone)
        known = roster.peers.get(peer)
        if known is not None:
            touched = dict.fromkeys(roster.leave(known))
            upload_rate = upload_rate if known.uplink is None or upload_rate is not None else known.uplink
        roster.enter(fresh, have, upload_rate)
        if known is not None:
            fresh.uplink_limit = None if known.uplink_limit is None else upload_rate
        touched[fresh] = None
        self._choice.inject()
        self._settle(touched)

    def relocate(self, zones: Mapping[str, str], now: float) -> None:
        """These peers are in other zones than was believed. Leases go on; what is granted from now on heeds it. O(peers)."""
        self._begin(now)
        roster = self._roster
        for peer in zones.keys() & roster.peers.keys():
            roster.peers[peer].location = zones[peer]
        roster.zones.place(roster.peers.values())

    def gone(self, peer: str, now: float) -> None:
        """A peer has left or is dead: its copies are no more, its leases have failed, on both sides."""
        self._begin(now)
        known = self._roster.peers.get(peer)
        if known is None:
            return
        self._settle(dict.fromkeys(self._roster.leave(known)))
        self._choice.inject()

    def done(self, peer: str, pieces: Sequence[tuple[int, int, float]], now: float) -> None:
        """The peer has verified pieces: (lease or 0, piece, bytes per second or 0 for not measured), in one report."""
        roster = self._roster
        roster.now = now
        if now >= roster.look_at:
            self._begin(now)
        child = roster.peers.get(peer)
        if child is None:
            return
        kept = self._take_arrivals(child, pieces)
        self._patience.repeat_gap = 0.0
        choice = self._choice
        stays = bool(kept)
        refill_at = roster.links.refill_at
        for lease in kept:
            if len(lease.pieces) <= refill_at and lease.number in roster.leases:
                choice.top_up(lease)
                if not lease.pieces:
                    stays = False
                    roster.close_lease(lease)
                    roster.sync(lease.parent)
                    choice.serve(lease.parent)
        # The common case ends here: the child keeps its leases, is not young, not near its end, and not behind.
        if (
            stays
            and child.held + child.promised + 1 < roster.pieces
            and child.held > 4 + len(pieces)
            and (len(child.serving) >= child.slots or not roster.needy.items)
            and roster.progress_sum <= (child.held + child.offset + roster.behind_from) * roster.progress_count
        ):
            return
        roster.sync(child)
        if child.want:
            choice.feed(child)
        if roster.needy.items and len(child.serving) < child.slots:
            choice.serve(child)
        if len(roster.seed.serving) < roster.seed.slots:
            choice.inject()

    def _take_arrivals(self, child: Peer, pieces: Sequence[tuple[int, int, float]]) -> list[Lease]:
        """Note a report. Returns the leases of which a piece has come."""
        roster = self._roster
        kept: list[Lease] = []
        links, leases, moved = roster.links, roster.leases, False
        early = not links.learned
        for number, piece, rate in pieces:
            if not 0 <= piece < roster.pieces:
                continue
            bit = 1 << piece
            if not child.have & bit:
                roster.arrived(child, piece, bit)
            lease = leases.get(number)
            if lease is None or lease.child is not child or piece not in lease.pieces:
                continue  # that promise was moved to another lease meanwhile
            self._reports += 1
            if rate > 0 and (early or not lease.parent.proven or self._reports % _OBSERVED == 0):
                moved |= links.observe(lease, rate, followed=bool(lease.following & bit))
            roster.keep_promise(lease, piece, bit)
            kept.append(lease)
        if moved:
            self._measure_anew()
        if links.changed:
            self._sync_changed()
        return kept

    def failed(self, peer: str, lease: int, piece: int, now: float, *, blame: bool) -> None:
        """A leased piece did not come. `blame`: its parent stalled, was gone, or sent what is wrong.

        Then the parent is believed slower, and this child does not get it again for a while; unless the parent was itself
        still waiting for the piece. Without blame (the child gave up, the two missed each other) only for a moment.
        """
        self._begin(now)
        roster = self._roster
        known = roster.leases.get(lease)
        if known is None or known.child.name != peer or piece not in known.pieces:
            return
        parent, child = known.parent, known.child
        blame = blame and bool(parent.have >> piece & 1)
        self._avoid(child, parent, now, blame=blame)
        if blame and not parent.is_seed:
            roster.links.slow_down(parent)
            self._sync_changed()
        touched: dict[Peer, None] = {}
        roster.unpromise(known, piece, touched)
        self._settle(touched)

    def _avoid(self, child: Peer, parent: Peer, now: float, *, blame: bool) -> None:
        times = child.avoids[parent][1] + 1 if parent in child.avoids else 1
        first, most = (self.settings.avoid_s, _MOST_AVOIDED_S) if blame else (self.settings.retry_s, self.settings.avoid_s)
        if parent.is_seed:
            first, most = self.settings.retry_s, _SEED_AVOIDED_S
        child.avoids = {each: entry for each, entry in child.avoids.items() if entry[0] + _MOST_AVOIDED_S > now}
        child.avoids[parent] = (now + min(most, first * 2 ** min(times - 1, 20)), times)

    # -- time -----------------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Look again at children that wait: a bounded number of them, in turns, each with a wider sample."""
        self._begin(now)
        if now < self._ticked_at + self._tick_s:
            return
        self._ticked_at = now
        roster, choice, patience = self._roster, self._choice, self._patience
        decided = len(roster.decided)
        for child in roster.incomplete.window(self._turn, _TICK_CHILDREN):
            roster.sync(child)
        choice.inject()
        patience.rescue()
        searches = _TICK_SEARCHES
        for child in roster.needy.window(self._turn, _TICK_CHILDREN):
            if child in roster.needy and not choice.match_down(child, 4 * SAMPLE) and not child.fetching:
                searches -= patience.relieve(child, may_search=searches > 0)
        self._turn += _TICK_CHILDREN
        if len(roster.decided) > decided:
            self._wake()
        else:
            # Reports go on all the while, and each of them looks for work too: this is for what they miss.
            self._tick_s = min(2 * self._tick_s, max(_SLOWEST_TICK * self.settings.tick_s, self._patience.piece_s / 2))

    def next_tick(self) -> float | None:
        """When `tick` is due; None while nobody waits for anything."""
        roster = self._roster
        if not roster.incomplete.items or not (roster.needy.items or roster.seed.have & roster.rarity.buckets[0]):
            return None
        due = self._ticked_at + self._tick_s
        if roster.starting and roster.empty.items:
            # In a young swarm every moment counts; later on the next report comes soon enough.
            due = min(due, roster.starting[0][0] + self.settings.settle_s)
        return due

    # -- inside ---------------------------------------------------------------------------------------------------------

    def _begin(self, now: float) -> None:
        """Every event starts here: the time, and what is due by it."""
        roster = self._roster
        roster.now = now
        if now < roster.look_at:
            return
        roster.look_at = inf
        for child in roster.offer_what_starts():
            self._choice.serve(child)
        touched = self._patience.watch()
        self._sync_changed()
        if touched:
            self._settle(touched)
        roster.look_at = min(roster.look_at, self._patience.next_look())

    def _settle(self, touched: dict[Peer, None]) -> None:
        """Peers whose slots or wishes have changed look for work."""
        roster, choice = self._roster, self._choice
        for peer in touched:
            if not peer.is_seed:
                roster.sync(peer)
        for peer in touched:
            if peer.is_seed:
                choice.inject()
            elif peer.name in roster.peers:
                choice.feed(peer)
                choice.serve(peer)
        self._wake()

    def _wake(self) -> None:
        """Something has changed that no report tells of: ticks come often again, by what is often here."""
        links = self._roster.links
        self._tick_s = max(self.settings.tick_s, links.piece_s / _TICKS_PER_PIECE if links.learned else 0.0)

    def _measure_anew(self) -> None:
        """What is usual has changed: everybody's slots are derived from it."""
        roster = self._roster
        roster.links.derive(roster.seed)
        for peer in roster.peers.values():
            roster.links.derive(peer)
            roster.sync(peer)

    def _sync_changed(self) -> None:
        """Peers whose uplink is believed to be another have other slots."""
        roster = self._roster
        changed, roster.links.changed = roster.links.changed, []
        for peer in changed:
            if not peer.is_seed:
                roster.sync(peer)

    # -- questions ------------------------------------------------------------------------------------------------------

    def drain(self) -> list[Assignment]:
        """What was decided since the last call and still holds, in that order. Pieces of one lease belong into one message."""
        return self._roster.take_decided()

    def holders(self, piece: int) -> int:
        """How many peers have the piece, verified; the seed not counted. Looks at every peer: not for a busy path."""
        return sum(peer.have >> piece & 1 for peer in self._roster.peers.values())

    def outstanding(self, peer: str) -> list[tuple[int, int]]:
        """(lease, piece) of everything that is promised to the peer."""
        known = self._roster.peers.get(peer)
        return [(lease.number, piece) for lease in known.fetching for piece in lease.pieces] if known else []

    def lease_parent(self, lease: int) -> str | None:
        """The parent of a lease (SEED: the seed); None: it has ended, or never was."""
        known = self._roster.leases.get(lease)
        return known.parent.name if known else None

    @property
    def complete_peers(self) -> int:
        """How many peers have every piece."""
        return self._roster.complete

    def has_all(self, peer: str) -> bool:
        """Whether a peer has every piece."""
        known = self._roster.peers.get(peer)
        return known is not None and known.held == self._roster.pieces

    @property
    def is_wanted(self) -> bool:
        """Whether somebody here still lacks pieces."""
        return self._roster.progress_count > 0

    @property
    def waiting_children(self) -> int:
        """How many peers have room for a lease, as far as was looked at."""
        return len(self._roster.needy)

    @property
    def nominal_rate(self) -> float:
        """Bytes per second that a peer here usually uploads, as far as it is known; a guess for the next task."""
        return self._roster.links.nominal

    def validate(self) -> None:
        """Raise AssertionError where any index contradicts another. Walks over everything: for tests."""
        validate(self._roster)
