"""Zones (racks, data centres): which pieces are in each, or on their way into it, and how much is entering.

A piece should enter a zone once: everybody in it can have it from there. That keeps traffic between 12 zones of 40 peers at
2.5 % of all bytes, which is the least possible, and makes narrow links between them harmless (simulated: behind
racks oversubscribed ten times, 1.09 of the ideal time instead of 9).
"""

from broker.core.idset import IdSet, Rng
from broker.core.swarm import Lease, Peer, Zone


class Zones:
    """All zones of a swarm. With fewer than two of them nothing is tracked: `aware` is False, and nothing here costs."""

    def __init__(self, pieces: int, wanted_entering: int) -> None:
        self.full = (1 << pieces) - 1
        self.by_name: dict[str, Zone] = {}
        self.aware = False
        #: Zones that lack pieces and into which too few leases lead: they are served first, or a large one stalls at random.
        self.hungry: IdSet[Zone] = IdSet()
        self._wanted_entering = wanted_entering

    def enter(self, peer: Peer) -> bool:
        """A peer has joined: its `zone` is set. Returns whether everything must be tracked from now on (`rebuild`)."""
        zone = self.by_name.get(peer.zone_name)
        if zone is None:
            zone = self.by_name[peer.zone_name] = Zone(peer.zone_name)
        peer.zone = zone
        zone.members.add(peer)
        if self.aware:
            zone.has |= self._held_by(peer)
            self._judge(zone)
            return False
        self.aware = len(self.by_name) > 1
        return self.aware

    def leave(self, peer: Peer) -> None:
        """A peer is gone, and its leases are closed."""
        zone = peer.zone
        zone.members.discard(peer)
        zone.free.discard(peer)
        zone.needy.discard(peer)
        if not zone.members:
            del self.by_name[zone.name]
            self.hungry.discard(zone)
        elif self.aware:
            zone.has = 0
            for member in zone.members.items:
                zone.has |= self._held_by(member)
            self._judge(zone)
        self.aware = self.aware and len(self.by_name) > 1

    def rebuild(self) -> None:
        """Begin to track: there are two zones now."""
        for zone in self.by_name.values():
            zone.has, zone.entering = 0, 0
            for member in zone.members.items:
                zone.has |= self._held_by(member)
                zone.entering += sum(self.crosses(lease) for lease in member.fetching)
            self._judge(zone)

    def crosses(self, lease: Lease) -> bool:
        """Whether the lease leads from one zone into another. The seed is in none."""
        return lease.parent.is_seed or lease.parent.zone is not lease.child.zone

    def opened(self, lease: Lease) -> None:
        """A lease has been granted."""
        if self.crosses(lease):
            lease.child.zone.entering += 1
            self._judge(lease.child.zone)

    def closed(self, lease: Lease) -> None:
        """A lease has ended."""
        if self.crosses(lease):
            lease.child.zone.entering -= 1
            self._judge(lease.child.zone)

    def gain(self, zone: Zone, pieces: int) -> None:
        """Pieces (a bitmap) are in the zone, or promised to a peer of it."""
        if pieces & ~zone.has:
            zone.has |= pieces
            self._judge(zone)

    def lose(self, zone: Zone, piece: int) -> None:
        """A peer of the zone does not get a piece that it was promised."""
        bit = 1 << piece
        if not any(self._held_by(member) & bit for member in zone.members.items):
            zone.has &= ~bit
            self._judge(zone)

    def pick_hungry(self, count: int, rng: Rng) -> list[Zone]:
        """Some zones to serve first."""
        return self.hungry.sample(count, rng)

    def _held_by(self, peer: Peer) -> int:
        return self.full & ~peer.want if peer.wants else peer.have

    def _judge(self, zone: Zone) -> None:
        self.hungry.put(zone, zone.entering < self._wanted_entering and zone.has != self.full)

    def validate(self) -> None:
        """Raise AssertionError where what is tracked is not what the peers say."""
        self.hungry.validate()
        assert self.aware == (len(self.by_name) > 1)
        for name, zone in self.by_name.items():
            assert zone.name == name
            assert zone.members
            if not self.aware:
                continue
            has = 0
            for member in zone.members.items:
                assert member.zone is zone
                has |= self._held_by(member)
            assert zone.has == has, name
            assert zone.entering == sum(self.crosses(lease) for member in zone.members.items for lease in member.fetching)
            assert (zone in self.hungry) == (zone.entering < self._wanted_entering and zone.has != self.full)
