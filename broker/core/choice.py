"""Choice: who should feed whom, and which piece first. It reads the roster, and grants by telling it.

Two-sided matching of leases (the best policy simulated): a free parent looks for the best of a few random children, a
child with room for the best of a few random parents. Nothing walks over all peers or all pieces, so an assignment costs
the same in a swarm of ten and of ten thousand. The rules that carry the result, each with what its absence costs at 1,000
peers, alike and with a fifth of them ten times slower (1.09 and 1.08 of the ideal time with all of them):
  - who is ahead yields its lease to who is behind: 1.21, 1.40
  - who is behind gets extra leases: 1.10, 1.41 (without both: 1.10, 2.80)
  - no slow parent for a child that is behind or nearly done: 1.09, 1.40
  - a lease's next piece goes to an empty peer while there is one: 1.10, 1.09
"""

from collections.abc import Sequence
from typing import Final

from broker.core.idset import IdSet
from broker.core.roster import Roster
from broker.core.swarm import Lease, Peer, Zone
from broker.core.zones import entered

#: How many random candidates are compared: 4 are worse with slow peers (1.09), 16 no better.
SAMPLE: Final = 8
#: Cross-zone leases into one zone, in what its link carries, where that is known.
_ZONE_LINK_SHARE: Final = 1.3
#: The seed may repeat pieces up to this share of the content, however many peers there are...
_REPEATS: Final = 0.04
#: ... and, where its share in all uplinks is not tiny, up to that, but not more than this: a swarm lives from its peers.
_WORTH_IT: Final = 0.05
_MOST_OF_ALL: Final = 0.4
#: From this bucket on (8 to 15 copies) a piece is common enough to go to a peer that uploads slowly.
_RARE_BUCKETS: Final = 4
#: How often a lease yields where that may be for a child that has its usual ones (always: 20 us per assignment, not 10).
_YIELD_FOR_MORE: Final = 0.1
_WORST: Final = 1e18


class Choice:
    """The decisions of one swarm."""

    def __init__(self, roster: Roster) -> None:
        self.roster = roster
        self._random = roster.rng.random
        self.repeats_owed = 0

    # -- granting -------------------------------------------------------------------------------------------------------

    def grant(self, parent: Peer, child: Peer, piece: int) -> None:
        """Open a lease with this piece, and fill it."""
        roster = self.roster
        lease = roster.open_lease(parent, child)
        roster.promise(lease, piece)
        self.top_up(lease)
        roster.sync(parent)
        roster.sync(child)

    def top_up(self, lease: Lease) -> None:
        """Refill a lease, while that stays the right thing to do."""
        roster = self.roster
        parent, child, pieces = lease.parent, lease.child, lease.pieces
        empty = roster.empty
        if empty.items and (len(empty.items) > 1 or child not in empty.places):
            return
        depth = 1 if lease.weight < 0.5 else roster.links.lease_pieces
        if parent.is_seed:
            self._top_up_from_seed(lease, depth)
            return
        if self._should_yield(lease):
            return
        plain = parent.zones is child.zones
        promise, rarest = roster.promise, roster.rarity.rarest
        while len(pieces) < depth:
            useful = parent.offers & child.want if plain else self.useful(parent, child)
            if not useful:
                return
            promise(lease, rarest(useful, self._random())[1])

    def _top_up_from_seed(self, lease: Lease, depth: int) -> None:
        """The seed goes on with first copies only, and not to a peer that has had far more than the others."""
        roster, child = self.roster, lease.child
        if child.held > 2 * roster.held_sum / max(1, len(roster.peers)) + 8:
            return
        while len(lease.pieces) < depth and self._seed_may_enter(child):
            fresh = roster.seed.have & child.want & roster.rarity.buckets[0]
            if not fresh:
                return
            roster.promise(lease, (fresh & -fresh).bit_length() - 1)

    def _should_yield(self, lease: Lease) -> bool:
        """Whether the lease's slot is worth more to somebody else."""
        roster = self.roster
        parent, child = lease.parent, lease.child
        waiting = roster.needy.items
        if waiting:
            size = len(waiting)
            at = int(self._random() * size)
            one, other = waiting[at], waiting[at - (size >> 1)]
            ahead = child.held + child.offset - roster.ahead_from
            if ahead > one.held + one.offset or ahead > other.held + other.offset:
                # One that has its usual leases and waits for another would make everybody yield, and mostly to third ones.
                return len(one.fetching) < roster.usual_slots or self._random() < _YIELD_FOR_MORE
        if len(parent.serving) > parent.slots or (child.avoids and child.avoids_now(parent, roster.now)):
            return True
        if parent.slow and len(child.fetching) > 1 and self.too_slow(parent, child):
            return True
        if not roster.zones.aware:
            return False
        hungry = roster.zones.hungry_for(lease, roster.rng)
        if hungry is None or not hungry.needy.items:
            return False
        _, one_copy, few, several, *_ = roster.rarity.buckets
        return bool(parent.offers & ~hungry.has & (one_copy | few | several))

    # -- what fits ------------------------------------------------------------------------------------------------------

    def useful(self, parent: Peer, child: Peer, *, relaxed: bool = False) -> int:
        """Bitmap of what the parent may give the child; into a zone only what nobody there has or is promised."""
        roster = self.roster
        pieces = parent.offers & child.want
        if not pieces or (child.avoids and child.avoids_now(parent, roster.now)):
            return 0
        if parent.zones is child.zones:
            return pieces
        zone = entered(parent, child)
        if zone is None:
            return pieces
        if roster.zones.budget is not None and not self._may_enter(zone, child, relaxed=relaxed):
            return 0
        if relaxed:
            return pieces
        if child.slow:
            return 0
        if roster.behind(child) <= 2 * roster.behind_from:
            pieces &= ~zone.has
        return pieces

    def _may_enter(self, zone: Zone, child: Peer, *, relaxed: bool) -> bool:
        """Whether the budgets of the zone, and of the child's narrower ones, allow more, and their links another lease."""
        roster = self.roster
        budget = roster.zones.budget
        assert budget is not None
        most = max(2.0, _ZONE_LINK_SHARE * budget.rate * roster.usual_slots / roster.links.nominal)
        for each in child.zones:
            if budget.left(each.name, roster.now) <= 0 or (each.entering >= most and not relaxed):
                return False
            if each is zone:
                break
        return True

    def may_have_from_seed(self, child: Peer) -> bool:
        """Whether the child may have something of the seed: it has not failed it lately, and its zones' budgets allow it."""
        roster = self.roster
        if child.avoids and child.avoids_now(roster.seed, roster.now):
            return False
        return not child.zones or self._seed_may_enter(child)

    def _seed_may_enter(self, child: Peer) -> bool:
        """Whether the budgets of all zones of the child allow more."""
        budget, now = self.roster.zones.budget, self.roster.now
        return budget is None or all(budget.left(zone.name, now) > 0 for zone in child.zones)

    def too_slow(self, parent: Peer, child: Peer) -> bool:
        """Whether a slow parent would be this child's last: it holds one of its last pieces, or holds it further back."""
        roster = self.roster
        if roster.usual_slots / parent.weight > roster.pieces - child.held + 2:
            return True
        return roster.behind(child) > roster.behind_from

    # -- matching -------------------------------------------------------------------------------------------------------

    def feed(self, child: Peer) -> None:
        """Find parents for a child until it has enough, or none is found."""
        needy = self.roster.needy.places
        while child in needy and self.match_down(child, SAMPLE):
            pass

    def serve(self, parent: Peer) -> None:
        """Find children for a parent until it has enough, or none is found."""
        if parent.is_seed:
            self.inject()
            return
        needy, free = self.roster.needy.items, self.roster.free.places
        while needy and parent in free and self.match_up(parent):
            pass

    def match_down(self, child: Peer, count: int) -> bool:
        """Give the child a lease of the best of `count` random free parents, or of the seed. False: there is none."""
        roster = self.roster
        for pool in self._parents_for(child):
            found = self._best_parent(child, pool.sample(count, roster.rng))
            if found is not None:
                self.grant(found[0], child, found[1])
                return True
        return self.may_repeat() and self.from_seed(child)

    def match_relaxed(self, child: Peer, parents: list[Peer]) -> bool:
        """The same for a child that has waited for long: slow parents and other zones will do."""
        found = self._best_parent(child, parents, relaxed=True)
        if found is None:
            return False
        self.grant(found[0], child, found[1])
        return True

    def _parents_for(self, child: Peer) -> Sequence[IdSet[Peer]]:
        """Where to look for a parent: from the nearest zone outwards, but right around a hungry zone before in it."""
        roster = self.roster
        if not child.zones:
            return (roster.free,)
        is_hungry = roster.zones.is_hungry
        pools = [zone.free for zone in child.zones]
        ordered = [pools[0]]
        for zone, outside in zip(child.zones, [*pools[1:], roster.free], strict=True):
            ordered.insert(0 if is_hungry(zone) else len(ordered), outside)
        return ordered

    def _best_parent(self, child: Peer, parents: list[Peer], *, relaxed: bool = False) -> tuple[Peer, int] | None:
        """The parent with the rarest useful piece, and among those the least busy one."""
        roster = self.roster
        plain = not roster.zones.aware and not child.avoids
        want, random, rarest = child.want, self._random, roster.rarity.rarest
        least = 4 * roster.rarity.first
        best, found = _WORST, None
        for parent in parents:
            busy = 8 * len(parent.serving) / parent.slots
            if busy + least >= best:
                continue  # not better, whatever it has
            pieces = parent.offers & want if plain else self.useful(parent, child, relaxed=relaxed)
            if not pieces or parent is child or (parent.slow and not relaxed and self.too_slow(parent, child)):
                continue
            bucket, piece = rarest(pieces, random())
            score = 4 * bucket + busy
            if score < best:
                best, found = score, (parent, piece)
        return found

    def match_up(self, parent: Peer) -> bool:
        """Give the parent the best of a few random children with room: who has nothing first. False: there is none."""
        roster = self.roster
        for pool in self._children_for(parent):
            found = self._best_child(parent, pool.sample(SAMPLE, roster.rng))
            if found is not None:
                self.grant(parent, found[0], found[1])
                return True
        return False

    def _children_for(self, parent: Peer) -> list[IdSet[Peer]]:
        roster = self.roster
        if roster.empty.items:
            return [roster.empty, roster.needy]
        if not roster.zones.aware:
            return [roster.needy]
        hungry = [zone.needy for zone in roster.zones.pick_hungry(parent, roster.rng)]
        return [*hungry, *(zone.needy for zone in parent.zones), roster.needy]

    def _best_child(self, parent: Peer, children: list[Peer]) -> tuple[Peer, int] | None:
        """The child that lacks the rarest piece, has least and is fed by few; a rare piece goes to a good uploader."""
        roster = self.roster
        mean = roster.progress_sum / roster.progress_count if roster.progress_count else 0.0
        random, rarest, usual, all_pieces = self._random, roster.rarity.rarest, roster.usual_slots, roster.pieces
        aware, offers, slow = roster.zones.aware, parent.offers, parent.slow
        least = 4 * roster.rarity.first
        best, found = _WORST, None
        for child in children:
            known = child.held + child.promised
            need = 6 * (known + child.offset - mean) / all_pieces + 8 * len(child.fetching) / usual + (4 if known else 0)
            if need + least >= best:
                continue  # not better, whatever it lacks
            pieces = self.useful(parent, child) if aware or child.avoids else offers & child.want
            if not pieces or child is parent or (slow and self.too_slow(parent, child)):
                continue
            bucket, piece = rarest(pieces, random())
            score = 4 * bucket + need
            if bucket <= _RARE_BUCKETS:
                score += 8 * (1 - child.goodness)
            if score < best:
                best, found = score, (child, piece)
        return found

    # -- the seed -------------------------------------------------------------------------------------------------------

    def inject(self) -> None:
        """Give away what nobody has yet, once, in the content's order, to the best and emptiest uploaders.

        No child gets two leases of the seed: the first to join would take them all, and the others wait for what it passes on.
        """
        roster = self.roster
        seed = roster.seed
        while len(seed.serving) < seed.slots:
            fresh = seed.have & roster.rarity.buckets[0]
            if not fresh:
                return
            bit = fresh & -fresh
            pool = roster.incomplete if roster.seed_is_scarce else roster.needy
            child = self._best_uploader(pool.sample(2 * SAMPLE, roster.rng), bit)
            if child is None:
                return
            self.grant(seed, child, bit.bit_length() - 1)

    def _best_uploader(self, children: list[Peer], bit: int) -> Peer | None:
        roster = self.roster
        usual = roster.usual_slots
        best, found = _WORST, None
        for child in children:
            if not child.want & bit or child.seed_leases:
                continue
            if (child.avoids or child.zones) and not self.may_have_from_seed(child):
                continue
            known = child.held + child.promised
            score = 20 * (1 - child.goodness) + 2 * len(child.fetching) / usual
            if known:
                score += 4 + 4 * known / roster.pieces
            if score < best:
                best, found = score, child
        return found

    def may_repeat(self) -> bool:
        """Whether the seed may give a piece again. Repeats buy nothing in a large swarm (1.090 without, 1.089 with 50 %).

        Never while there is something that nobody has, or that is still to come: then its uplink has better to do. Otherwise
        up to a few percent of the content, or up to the seed's share in the swarm's uplinks, which a small swarm's ideal
        time counts on.
        """
        roster = self.roster
        seed = roster.seed
        if len(seed.serving) >= seed.slots or seed.have & roster.rarity.buckets[0]:
            return False
        if seed.have != roster.full:
            # The source still streams: what it sends next is what nobody has. Where the seed's link is as fast as a peer's,
            # repeats meanwhile made the whole swarm wait (10 peers on real links: egress 1.18, and 1.26 of the ideal time).
            return False
        if roster.seed_sent + 1 <= (1 + _REPEATS) * roster.pieces + self.repeats_owed:
            return True
        uplink = seed.uplink
        if uplink is None or not roster.links.learned:
            return False
        share = min(_MOST_OF_ALL, uplink / (uplink + roster.links.total))
        return share > _WORTH_IT and roster.seed_sent < share * roster.held_sum

    def from_seed(self, child: Peer) -> bool:
        """Give the child a lease of the seed. False: the seed has no slot, or nothing for it."""
        roster = self.roster
        seed = roster.seed
        pieces = seed.have & child.want
        if not pieces or child.seed_leases or len(seed.serving) >= seed.slots:
            return False
        if not self.may_have_from_seed(child):
            return False
        self.grant(seed, child, roster.rarity.rarest(pieces, self._random())[1])
        return True
