"""Roster: the state of one swarm and every step that changes it, each keeping all indexes true. It decides nothing.

choice.py asks it and tells it what to grant; matcher.py tells it what has happened.
"""

from collections import deque
from collections.abc import Iterator
from math import inf
from typing import Final, NamedTuple

from broker.core.idset import IdSet, Rng
from broker.core.links import Links
from broker.core.rarity import Rarity
from broker.core.swarm import Lease, Peer
from broker.core.zone_budget import ZoneBudget
from broker.core.zones import Zones

_new: Final = tuple.__new__
#: Parent id of the seed inside the matcher: no peer has an empty id.
SEED: Final = ""
#: No child has more leases than so many times the usual ones, however slow they are.
_MOST_LEASES: Final = 4
#: A peer is behind, or ahead, by this share of the content, and by a few pieces at least.
_GAP_SHARE: Final = 0.02


class Assignment(NamedTuple):
    """`child` is to fetch `piece` from `parent` (SEED: the seed) under the number of their lease.

    One is made per piece and peer: a frozen dataclass would take twice as long.
    """

    child: str
    parent: str
    lease: int
    piece: int


class Roster:
    """Peers, leases and pieces of one swarm."""

    def __init__(
        self,
        pieces: int,
        links: Links,
        *,
        rng: Rng,
        lease_numbers: Iterator[int],
        cut_through: bool,
        settle_s: float,
        budget: ZoneBudget | None = None,
    ) -> None:
        self.pieces = pieces
        self.full = (1 << pieces) - 1
        self.links = links
        self.rng = rng
        self.now = 0.0
        self.usual_slots = links.usual_slots
        self.cut_through = cut_through
        self.settle_s = settle_s
        self.behind_from = max(2.0, _GAP_SHARE * pieces)
        self.ahead_from = max(3.0, _GAP_SHARE * pieces)
        self.rarity = Rarity(pieces)
        self.seed = Peer(SEED, wants=False, is_seed=True)
        self.seed_here = False
        self.seed_sent = 0
        links.derive(self.seed)
        self.peers: dict[str, Peer] = {}
        self.leases: dict[int, Lease] = {}
        #: Parents with a free slot and something to offer. Always exact.
        self.free: IdSet[Peer] = IdSet()
        #: Children with room for a lease. Room depends on everybody's progress, so this is brought up to date in turns.
        self.needy: IdSet[Peer] = IdSet()
        #: Children that have and were promised nothing; and all that have pieces to be promised. Always exact.
        self.empty: IdSet[Peer] = IdSet()
        self.incomplete: IdSet[Peer] = IdSet()
        self.zones = Zones(pieces, (3 * links.usual_slots + 1) // 2, free=self.free, needy=self.needy, budget=budget)
        self.progress_sum = 0.0
        self.progress_count = 0
        self.held_sum = 0
        self.complete = 0
        #: First pieces of leases, by the time of their grant: their children may offer them a moment later.
        self.starting: deque[tuple[float, Lease, int]] = deque()
        #: The same, once they can be on their way: a parent is slow if they are so for too long.
        self.watched: deque[tuple[float, Lease, int]] = deque()
        #: When the first of either has to be looked at.
        self.look_at = inf
        #: Pieces that the seed gave first copies of, by time: rescue looks at them later.
        self.injected: deque[tuple[float, int]] = deque()
        self.decided: list[Assignment] = []
        #: Whether a promise was broken since `decided` was begun: something in it may not hold any more.
        self.undone = False
        self._numbers = lease_numbers

    # -- questions ------------------------------------------------------------------------------------------------------

    def behind(self, peer: Peer) -> float:
        """How many pieces the peer is behind the mean of those that are not complete; negative: ahead."""
        count = self.progress_count
        return self.progress_sum / count - peer.held - peer.offset if count else 0.0

    def room(self, child: Peer) -> float:
        """How many more usual leases the child may get: not negative, one more fits. One that is behind gets extra ones."""
        room = self.usual_slots - child.fetching_weight - 0.5
        if child.seed_leases and self.seed_is_scarce:
            room += 1
        count = self.progress_count
        if count:
            behind = self.progress_sum / count - child.held - child.offset
            if behind > self.behind_from:
                room += min(2.0, behind / self.behind_from)
        return room

    @property
    def seed_is_scarce(self) -> bool:
        """Whether the seed's uplink is what the swarm waits for: less than two usual ones. Then it must never pause."""
        return self.seed.slots < 2 * (self.usual_slots + 1)

    # -- peers ----------------------------------------------------------------------------------------------------------

    def enter(self, peer: Peer, have: int, upload_rate: float | None) -> None:
        """Take a new peer in."""
        self.peers[peer.name] = peer
        peer.have = peer.offers = have
        peer.held = have.bit_count()
        peer.idle_since = self.now
        self.links.enter(peer, upload_rate)
        self._count_copies(have, +1)
        self.held_sum += peer.held
        self.complete += peer.held == self.pieces
        if peer.wants:
            peer.want = self.full & ~have
        if peer.want:
            peer.offset = self.progress_sum / self.progress_count - peer.held if self.progress_count else 0.0
            self.progress_sum += peer.held + peer.offset
            self.progress_count += 1
        self.zones.enter(peer)
        self.sync(peer)

    def leave(self, peer: Peer) -> list[Peer]:
        """Forget a peer, its copies and its promises. Returns the partners of its leases: they have work to find."""
        touched: dict[Peer, None] = {}
        for lease in list(peer.serving):
            for piece in list(lease.pieces):
                self.unpromise(lease, piece, touched)
        for lease in list(peer.fetching):
            for piece in list(lease.pieces):
                self.unpromise(lease, piece, touched)
        del self.peers[peer.name]
        self._count_copies(peer.have, -1)
        self.held_sum -= peer.held
        self.complete -= peer.held == self.pieces
        if peer.wants and peer.held < self.pieces:
            self._no_longer_incomplete(peer)
        self.links.leave(peer)
        for members in (self.free, self.needy, self.empty, self.incomplete):
            members.discard(peer)
        self.zones.leave(peer)
        touched.pop(peer, None)
        return list(touched)

    def arrived(self, child: Peer, piece: int, bit: int) -> None:
        """The child has verified and stored a piece that it did not have; `bit` is 1 << piece."""
        child.have |= bit
        child.offers |= bit
        child.held += 1
        self.held_sum += 1
        if not child.wants or child.want & bit:
            # Nobody had promised it: it came by another way.
            child.want &= ~bit
            self.rarity.add(piece)
            if child.zones:
                self.zones.gain(child, bit)
        if child.wants:
            self.progress_sum += 1.0
        if child.held == self.pieces:
            self.complete += 1
            if child.wants:
                self._no_longer_incomplete(child)

    def _no_longer_incomplete(self, peer: Peer) -> None:
        self.progress_count -= 1
        # From 0 again when nobody is left: rounding errors of offsets do not add up over a long task.
        self.progress_sum = self.progress_sum - peer.held - peer.offset if self.progress_count else 0.0

    def _count_copies(self, bits: int, change: int) -> None:
        count = self.rarity.add if change > 0 else self.rarity.remove
        while bits:
            lowest = bits & -bits
            count(lowest.bit_length() - 1)
            bits ^= lowest

    def sync(self, peer: Peer) -> None:
        """Put the peer into the sets that it belongs to."""
        if peer.is_seed:
            return
        free = peer.offers != 0 and len(peer.serving) < peer.slots
        want = peer.want
        needy = want != 0 and len(peer.fetching) < _MOST_LEASES * self.usual_slots and self.room(peer) >= 0
        # Mostly nothing changes: a look into each set is a third of a call's price.
        if (peer in self.free.places) != free:
            self.free.put(peer, free)
        if (peer in self.needy.places) != needy:
            self.needy.put(peer, needy)
        if (peer in self.incomplete.places) != (want != 0):
            self.incomplete.put(peer, want != 0)
        if (peer in self.empty.places) != (want == self.full):
            self.empty.put(peer, want == self.full)
        zones = peer.zones
        if zones:
            if (peer in zones[0].free.places) != free:
                for zone in zones:
                    zone.free.put(peer, free)
            if (peer in zones[0].needy.places) != needy:
                for zone in zones:
                    zone.needy.put(peer, needy)

    # -- leases ---------------------------------------------------------------------------------------------------------

    def open_lease(self, parent: Peer, child: Peer) -> Lease:
        """A new lease between two, with nothing promised yet: promise something before anything else happens."""
        number = next(self._numbers)
        lease = self.leases[number] = Lease(number, parent, child)
        parent.serving[lease] = None
        child.fetching[lease] = None
        child.fetching_weight += lease.weight
        lease.shared_by = len(parent.serving)
        if parent.is_seed:
            child.seed_leases += 1
        if child.zones:
            self.zones.opened(lease)
        return lease

    def close_lease(self, lease: Lease) -> None:
        """Nothing of it is outstanding and nothing more is wanted of it: both ends have a slot again. They need `sync`."""
        parent, child = lease.parent, lease.child
        del self.leases[lease.number]
        del parent.serving[lease]
        del child.fetching[lease]
        if parent.is_seed:
            child.seed_leases -= 1
        if child.fetching:
            child.fetching_weight -= lease.weight
        else:
            child.fetching_weight = 0.0
            child.idle_since = self.now
        if child.zones:
            self.zones.closed(lease)

    def promise(self, lease: Lease, piece: int) -> None:
        """Add a piece to a lease."""
        child, parent, bit = lease.child, lease.parent, 1 << piece
        child.want ^= bit
        child.promised += 1
        lease.pieces.append(piece)
        rarity = self.rarity
        copies = rarity.copies[piece] + 1
        if copies & (copies - 1):
            rarity.copies[piece] = copies
        else:
            rarity.add(piece)
        if parent.is_seed:
            self.seed_sent += 1
            if copies == 1:
                self.injected.append((self.now, piece))
        elif not parent.have & bit:
            lease.following |= bit
        if child.zones:
            self.zones.gain(child, bit)
            if self.zones.budget is not None:
                self.zones.spend(lease, self.links.piece_length, self.now)
        if len(lease.pieces) == 1:
            if not self.starting:
                self.look_at = min(self.look_at, self.now + self.settle_s)
            self.starting.append((self.now, lease, piece))
        # What a NamedTuple's own constructor does, in half of its time.
        self.decided.append(_new(Assignment, (child.name, parent.name, lease.number, piece)))

    def take_decided(self) -> list[Assignment]:
        """What was decided since the last call and still holds, in that order."""
        decided, self.decided = self.decided, []
        if self.undone:
            self.undone = False
            leases = self.leases
            kept = dict.fromkeys(decided)
            return [each for each in kept if each.lease in leases and each.piece in leases[each.lease].pieces]
        return decided

    def keep_promise(self, lease: Lease, piece: int, bit: int) -> None:
        """The piece has come over the lease; its child fetches the lease's next one now, and may pass that on."""
        pieces = lease.pieces
        pieces.remove(piece)
        if lease.following:
            lease.following &= ~bit
        lease.child.promised -= 1
        if pieces and self.cut_through and lease.parent.proven and not lease.parent.slow:
            lease.child.offers |= 1 << pieces[0]

    def offer_start(self, lease: Lease, piece: int) -> bool:
        """The child receives the piece now: it can pass its blocks on, once its parent is known not to be slow.

        A slow parent would keep slots of a whole tree below it waiting (a fifth of slow peers: 1.15 instead of 1.08).
        Returns whether the child has something more to offer by that.
        """
        bit = 1 << piece
        parent = lease.parent
        if not self.cut_through or parent.slow or not parent.proven or lease.child.offers & bit:
            return False
        lease.child.offers |= bit
        return True

    def offer_what_starts(self) -> list[Peer]:
        """Leases have reached their children by now: what these receive, they can pass on. Returns who has a free slot."""
        starting, free = self.starting, []
        # The same sum as where it is asked when that is due: rounded otherwise, a tick could come too early for ever.
        while starting and starting[0][0] + self.settle_s <= self.now:
            entry = starting.popleft()
            _, lease, piece = entry
            if piece not in lease.pieces or lease.number not in self.leases:
                continue
            if not lease.following and not lease.parent.is_seed:
                self.watched.append(entry)
            if self.offer_start(lease, piece):
                child = lease.child
                if len(child.serving) < child.slots:
                    self.sync(child)
                    free.append(child)
        if starting:
            self.look_at = min(self.look_at, starting[0][0] + self.settle_s)
        return free

    def unpromise(self, lease: Lease, piece: int, touched: dict[Peer, None]) -> None:
        """A promise will not be kept, and none that waits for it: who was to get the piece while this child got it.

        A promised piece is rooted in somebody who has it, always; so nobody waits for a peer that waits for himself. Adds
        the peers whose slots or wishes change to `touched`; they need `sync`.
        """
        broken = [(lease, piece)]
        while broken:
            lease, piece = broken.pop()
            if piece not in lease.pieces:
                continue
            child, bit = lease.child, 1 << piece
            lease.pieces.remove(piece)
            lease.following &= ~bit
            child.promised -= 1
            self.undone = True
            if child.zones and self.zones.budget is not None:
                self.zones.spend(lease, -self.links.piece_length, self.now)
            if lease.parent.is_seed:
                self.seed_sent -= 1
            if not child.have & bit:
                child.want |= bit
                child.offers &= ~bit
                self.rarity.remove(piece)
                if child.zones:
                    self.zones.lose(child, piece)
                broken += [(other, piece) for other in child.serving if other.following & bit]
            if not lease.pieces:
                self.close_lease(lease)
            elif self.cut_through:
                self.offer_start(lease, lease.pieces[0])
            touched[child] = None
            touched[lease.parent] = None
