"""Zones (data centres, rows, racks): which pieces are in each, or on their way into it, and how much is entering.

A piece should enter a zone once: everybody in it can have it from there. That keeps traffic between 12 zones of 40 peers at
2.5 % of all bytes, which is the least possible, and makes narrow links between them harmless (simulated: behind
racks oversubscribed ten times, 1.09 of the ideal time instead of 9).

Locations are a hierarchy, `a/b/c` from the widest to the narrowest. Between two peers the widest zone counts in which the
child is and the parent is not: what that zone has not got, nothing narrower in it has.

Not every location is worth it. One that a single peer is in, or everybody, divides nobody: it is not tracked, and its peers
count as being right in the next wider one. Where no zone is tracked nothing here costs. Where zones have a budget, a single
peer's has it, too.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from broker.core.idset import IdSet, Rng
from broker.core.swarm import Lease, Peer, Zone
from broker.core.zone_budget import ZoneBudget

#: Levels that are told apart; what is below the last of them belongs to its name.
LEVELS: Final = 4
#: Hungry zones that one look considers.
_HUNGRY: Final = 3


@lru_cache(maxsize=4096)
def path_of(location: str) -> tuple[str, ...]:
    """Names of the zones that `a/b/c` is in, the widest first: `("a", "a/b", "a/b/c")`. Nowhere is a place of its own: `("",)`.

    Of more than LEVELS levels the last ones are one.
    """
    parts = [part for each in location.split("/") if (part := each.strip())]
    lengths = range(1, min(len(parts), LEVELS))
    return (*("/".join(parts[:length]) for length in lengths), "/".join(parts))


def level_between(parent: str, child: str) -> int:
    """The widest level at which the child's location differs from the parent's, 1 the widest of all; 0: it does not."""
    if parent == child:
        return 0
    theirs = path_of(parent)
    for level, name in enumerate(path_of(child)):
        if level >= len(theirs) or theirs[level] != name:
            return level + 1
    return 0


def entered(parent: Peer, child: Peer) -> Zone | None:
    """The widest tracked zone that a lease between the two leads into; None: they are near each other. The seed is in none."""
    mine, theirs = child.zones, parent.zones
    if mine is theirs:
        return None
    at, common = len(mine), len(theirs)
    while at and common and mine[at - 1] is theirs[common - 1]:
        at -= 1
        common -= 1
    return mine[at - 1] if at else None


class Zones:
    """All zones of a swarm. `free` and `needy` are the swarm's own sets: each zone's are its members among them."""

    def __init__(
        self, pieces: int, wanted_entering: int, *, free: IdSet[Peer], needy: IdSet[Peer], budget: ZoneBudget | None = None
    ) -> None:
        self.full = (1 << pieces) - 1
        #: Everybody is in it; nothing enters it.
        self.everywhere = Zone("")
        #: How many are tracked. `aware`: whether any is.
        self.tracked = 0
        self.aware = False
        #: What may enter each zone; None: no limit.
        self.budget = budget
        self._wanted_entering = wanted_entering
        self._free = free
        self._needy = needy

    # -- peers ----------------------------------------------------------------------------------------------------------

    def enter(self, peer: Peer) -> None:
        """A peer has joined, without any lease."""
        self._settle(peer)
        peer.zones = peer.zone.zones
        held = self._held_by(peer)
        for zone in peer.zones:
            zone.has |= held
            self._judge(zone)
        self._review(peer.zone)

    def leave(self, peer: Peer) -> None:
        """A peer is gone, and its leases are closed."""
        for zone in peer.zones:
            zone.free.discard(peer)
            zone.needy.discard(peer)
        around = self._upwards(peer.zone)
        for zone in (*around, self.everywhere):
            zone.members.discard(peer)
        self._forget(peer.zones, self._held_by(peer))
        peer.zones = ()
        for zone in around:
            if not zone.members.items and zone.wider is not None:
                if zone.tracked:
                    self._track(zone, False)
                del zone.wider.below[zone.name]
        self._review(peer.zone)

    def place(self, peers: Iterable[Peer]) -> None:
        """Begin anew with these peers, whose `location` may have changed; they may have leases."""
        members = list(peers)
        self.everywhere, self.tracked, self.aware = Zone(""), 0, False
        for peer in members:
            self._settle(peer)
        order = [self.everywhere]
        for zone in order:
            zone.tracked = self._is_worth_it(zone)
            self._chain(zone)
            order += zone.below.values()
        for peer in members:
            peer.zones = peer.zone.zones
        for zone in order:
            if zone.tracked:
                self.tracked += 1
                self._fill(zone)
                self._judge(zone)
        self.aware = self.tracked > 0

    def _settle(self, peer: Peer) -> None:
        """Make the peer a member of its location's zone, and of all around that."""
        zone = self.everywhere
        zone.members.add(peer)
        for name in path_of(peer.location):
            if name not in zone.below:
                zone.below[name] = Zone(name, zone)
            zone = zone.below[name]
            zone.members.add(peer)
        peer.zone = zone

    # -- which zones are tracked ----------------------------------------------------------------------------------------

    def _is_worth_it(self, zone: Zone) -> bool:
        return (2 if self.budget is None else 1) <= len(zone.members) < len(self.everywhere.members)

    def _review(self, zone: Zone) -> None:
        """Somebody has come to this zone, or left it: it, those around it, and any that has everybody in it may have changed."""
        changed = self._upwards(zone)
        if self.everywhere.members.items:
            changed += self._upwards(self.everywhere.members.items[0].zone)
        for each in changed:
            if each.members.items and each.tracked != self._is_worth_it(each):
                self._track(each, not each.tracked)

    @staticmethod
    def _upwards(zone: Zone) -> list[Zone]:
        found = []
        while zone.wider is not None:
            found.append(zone)
            zone = zone.wider
        return found

    def _track(self, zone: Zone, tracked: bool) -> None:
        inside = [zone]
        for each in inside:
            inside += each.below.values()
        for each in inside:
            if each.tracked:
                self._around(each).hungry.discard(each)
        zone.tracked = tracked
        self.tracked += 1 if tracked else -1
        self.aware = self.tracked > 0
        for each in inside:
            self._chain(each)
        for member in zone.members.items:
            member.zones = member.zone.zones
        if tracked:
            self._fill(zone)
        else:
            zone.free, zone.needy = IdSet(), IdSet()
        for each in inside:
            if each.tracked:
                self._judge(each)

    @staticmethod
    def _chain(zone: Zone) -> None:
        around = zone.wider.zones if zone.wider is not None else ()
        zone.zones = (zone, *around) if zone.tracked else around

    def _fill(self, zone: Zone) -> None:
        zone.has = zone.entering = 0
        zone.free, zone.needy = IdSet(), IdSet()
        for member in zone.members.items:
            zone.has |= self._held_by(member)
            zone.entering += sum(zone not in lease.parent.zones for lease in member.fetching)
            zone.free.put(member, member in self._free)
            zone.needy.put(member, member in self._needy)

    def _around(self, zone: Zone) -> Zone:
        """The next wider tracked zone of a tracked one."""
        return zone.zones[1] if len(zone.zones) > 1 else self.everywhere

    # -- leases and pieces ----------------------------------------------------------------------------------------------

    def opened(self, lease: Lease) -> None:
        """A lease has been granted."""
        self._count(lease, +1)

    def closed(self, lease: Lease) -> None:
        """A lease has ended."""
        self._count(lease, -1)

    def _count(self, lease: Lease, change: int) -> None:
        theirs = lease.parent.zones
        if lease.child.zones is theirs:
            return
        for zone in lease.child.zones:
            if zone in theirs:
                return
            zone.entering += change
            self._judge(zone)

    def gain(self, peer: Peer, pieces: int) -> None:
        """Pieces (a bitmap) are at the peer, or promised to it."""
        for zone in peer.zones:
            if not pieces & ~zone.has:
                return  # nor do the wider ones lack any
            zone.has |= pieces
            if zone.has == self.full:
                self._judge(zone)

    def lose(self, peer: Peer, piece: int) -> None:
        """The peer does not get a piece that it was promised."""
        self._forget(peer.zones, 1 << piece)

    def _forget(self, zones: tuple[Zone, ...], lost: int) -> None:
        """Somebody has these pieces no more: a zone has them only as far as another of its members does."""
        for zone in zones:
            for member in zone.members.items:
                lost &= ~self._held_by(member)
                if not lost:
                    return
            zone.has &= ~lost
            self._judge(zone)

    def spend(self, lease: Lease, amount: float, now: float) -> None:
        """So many bytes were promised over the lease; fewer than 0: are not any more. Only where there is a budget."""
        assert self.budget is not None
        for zone in lease.child.zones:
            if zone in lease.parent.zones:
                return
            self.budget.spend(zone.name, amount, now)

    # -- what is hungry -------------------------------------------------------------------------------------------------

    def is_hungry(self, zone: Zone) -> bool:
        """A zone is served first while it lacks pieces and too few leases lead into it: else a large one stalls at random."""
        return zone.entering < self._wanted_entering and zone.has != self.full

    def pick_hungry(self, parent: Peer, rng: Rng) -> list[Zone]:
        """A few zones that the parent should serve first: the widest first, and none that it is in.

        Of zones elsewhere only the widest counts: what enters one of its racks from here enters it, too.
        """
        picked: list[Zone] = []
        for around in (self.everywhere, *reversed(parent.zones)):
            if around.hungry.items:
                picked += [zone for zone in around.hungry.sample(_HUNGRY, rng) if zone not in parent.zones]
                if len(picked) >= _HUNGRY:
                    return picked[:_HUNGRY]
        return picked

    def hungry_for(self, lease: Lease, rng: Rng) -> Zone | None:
        """A hungry zone to which the lease may yield: one as wide as what it leads into serves nobody better."""
        parent = lease.parent
        for around in (self.everywhere, *reversed(parent.zones)):
            if around.hungry.items:
                break
        else:
            return None
        zone = entered(parent, lease.child)
        if zone is not None:
            outside = self._around(zone)
            if outside is self.everywhere or outside in around.zones:
                return None
        hungry = around.hungry.sample(1, rng)[0]
        return None if hungry in parent.zones else hungry

    def _held_by(self, peer: Peer) -> int:
        return self.full & ~peer.want if peer.wants else peer.have

    def _judge(self, zone: Zone) -> None:
        self._around(zone).hungry.put(zone, self.is_hungry(zone))

    # -- for tests ------------------------------------------------------------------------------------------------------

    def validate(self) -> None:
        """Raise AssertionError where what is tracked is not what the peers say."""
        order = [self.everywhere]
        for zone in order:
            order += zone.below.values()
            self._validate_tree(zone)
            if zone.tracked:
                self._validate_tracked(zone)
        assert self.tracked == sum(zone.tracked for zone in order)
        assert self.aware == (self.tracked > 0)
        for peer in self.everywhere.members.items:
            assert peer in peer.zone.members
            assert peer.zones is peer.zone.zones
            assert [zone.name for zone in reversed(self._upwards(peer.zone))] == [*path_of(peer.location)]

    def _validate_tree(self, zone: Zone) -> None:
        zone.members.validate()
        zone.hungry.validate()
        assert zone.tracked == self._is_worth_it(zone), zone
        assert zone.wider is None or zone.members, zone
        for name, each in zone.below.items():
            assert each.name == name
            assert each.wider is zone
            assert set(each.members.items) <= set(zone.members.items)
        assert all(each.tracked and self._around(each) is zone for each in zone.hungry.items), zone
        assert zone.tracked or zone is self.everywhere or not zone.hungry.items, zone

    def _validate_tracked(self, zone: Zone) -> None:
        members = set(zone.members.items)
        assert set(zone.free.items) == members & set(self._free.items), zone
        assert set(zone.needy.items) == members & set(self._needy.items), zone
        has = 0
        for member in members:
            has |= self._held_by(member)
        assert zone.has == has, zone
        entering = sum(lease.parent not in members for member in members for lease in member.fetching)
        assert zone.entering == entering, zone
        assert (zone in self._around(zone).hungry) == (entering < self._wanted_entering and has != self.full), zone
