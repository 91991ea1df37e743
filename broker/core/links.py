"""What is believed of uplinks: each peer's, and what is usual here. Learned from reports, starting optimistic.

Nobody tells the supernode how fast a cluster's links are, so nothing in the matcher is an absolute rate: a peer is fast
or slow in relation to `nominal`, the median of what is believed of peers. Data flows in from reports (`observe`) and out
as the numbers that the choices use (`derive` writes them onto a peer).
"""

from collections import deque
from typing import Final

from broker.core.idset import IdSet, Rng
from broker.core.matcher_settings import LinkSettings
from broker.core.swarm import Lease, Peer

#: So many reports are needed before anything is concluded.
_FIRST_SAMPLES: Final = 8
#: Of so many peers at most the median is taken.
_SAMPLES: Final = 64
#: It is taken again after so many reports; peers are measured by it anew when it has moved by this factor.
_EVERY: Final = 32
_MOVED: Final = 1.2
#: A lease of this share of its child's best one, or less, is held back by its parent and not by the child's own link.
_CLEARLY_SLOWER: Final = 0.7
#: A child that receives less than this share of the most it ever did has room on its link.
_BELOW_PEAK: Final = 0.8
#: No report makes a parent faster than so many usual ones: a wrong one must not draw the whole swarm to it.
_MOST: Final = 64.0
#: Nor, before it is known what is usual, than this: bytes per second that no link has.
_ABSURD: Final = 1e12
#: A content of fewer pieces is passed on to two children at once: each copy is whole sooner (16 pieces: by 0.1 to 0.2).
_FEW_PIECES: Final = 32
#: Leases that a peer serves at most until a first report of it: were it slow, each of its children would wait so much longer
#: for a first piece (1 makes the ramp slower by 0.05, no limit makes a fifth of slow peers cost 0.02 more).
UNPROVEN_SLOTS: Final = 2
#: Leases of the seed until rates are known: 4 are worse by 0.015 where it is as fast as a peer, 1 where it is faster.
_FIRST_SEED_SLOTS: Final = 2
#: From so many times the usual uplink on a peer gets more slots than the usual ones, up to this multiple of them.
_FAST: Final = 2.0
_FAST_SLOTS: Final = 4


class Links:
    """The uplinks of one swarm."""

    def __init__(self, nominal_rate: float, pieces: int, piece_length: int, settings: LinkSettings, rng: Rng) -> None:
        if nominal_rate <= 0:
            raise ValueError(f"a usual uplink of {nominal_rate} bytes/s")
        self.settings = settings
        #: Leases that a usual peer serves at once, and that feed a child.
        self.usual_slots = settings.upload_slots if pieces >= _FEW_PIECES else min(2, settings.upload_slots)
        self.nominal = nominal_rate
        #: Whether `nominal` comes from this swarm, and is not the guess it began with.
        self.learned = False
        self.total_known = 0.0
        self.unknown = 0
        #: Peers of whose uplink something is believed.
        self.known: IdSet[Peer] = IdSet()
        #: Peers of whom something else is derived now: they need `sync`. Whoever does that clears the list.
        self.changed: list[Peer] = []
        self._rng = rng
        self.piece_length = max(1, piece_length)
        self._seen: deque[float] = deque(maxlen=_SAMPLES)
        self._until_median = _FIRST_SAMPLES
        self.lease_pieces = settings.lease_pieces
        self.refill_at = 1
        self._set_nominal(nominal_rate)

    @property
    def total(self) -> float:
        """Bytes per second that all peers together are believed to upload, the seed not counted."""
        return self.total_known + self.unknown * self.nominal

    @property
    def piece_s(self) -> float:
        """Seconds that a usual uplink takes for one piece, with nothing else to do."""
        return self.piece_length / self.nominal

    def enter(self, peer: Peer, upload_rate: float | None) -> None:
        """A peer joins. `upload_rate`: bytes per second that it may upload at most; None: nothing is known."""
        peer.uplink_limit = upload_rate
        peer.uplink = upload_rate
        if upload_rate is None:
            self.unknown += 1
        else:
            self.total_known += upload_rate
            self.known.add(peer)
        self.derive(peer)

    def leave(self, peer: Peer) -> None:
        """A peer is gone."""
        if peer.uplink is None:
            self.unknown -= 1
        else:
            self.total_known -= peer.uplink
            self.known.discard(peer)

    def derive(self, peer: Peer) -> None:
        """Set what the choices need of a peer: slots, what one lease of it is worth, whether it is slow."""
        usual = self.usual_slots
        relative = 1.0 if peer.uplink is None else peer.uplink / self.nominal
        if peer.is_seed:
            # Few, until it is known how its link compares: the first pieces are here sooner then, and can be passed on.
            known = self.learned and peer.uplink is not None
            peer.slots = max(1, round((usual + 1) * relative)) if known else _FIRST_SEED_SLOTS
            peer.goodness, peer.weight, peer.slow = 1.0, 1.0, False
            return
        peer.goodness = min(1.0, relative)
        peer.slow = relative < 0.5
        if relative >= _FAST:
            peer.slots = min(_FAST_SLOTS * usual, round(usual * relative))
        else:
            # 1.3: a peer a little below the usual keeps all its slots.
            peer.slots = max(1, min(usual, round(1.3 * usual * relative)))
        if not peer.proven:
            peer.slots = min(peer.slots, UNPROVEN_SLOTS)
        peer.weight = min(1.0, relative * usual / peer.slots)

    def observe(self, lease: Lease, rate: float, *, followed: bool) -> bool:
        """A child received a piece over the lease at `rate` bytes per second. `followed`: while its parent received it.

        Returns whether `nominal` has moved so far that `derive` is due for everybody.

        What a child measures is its parent's share only when nothing else held the piece back. It did where the parent
        itself waited for the bytes, and where the child's own link was the narrow place: by max-min fairness, a lease that
        is as fast as the fastest of a full link. Such a sample may only raise the belief.
        """
        parent = lease.parent
        begun_with, load = lease.shared_by, len(parent.serving)
        lease.shared_by = load
        lease.rate = rate
        least = self._active_leases(parent)
        if begun_with < least:
            least = begun_with
        most = begun_with if begun_with > load else load
        self._believe(parent, rate * least, rate * most, followed or self._held_back_by_child(lease.child, rate))
        if not parent.proven and (not self.learned or rate * most >= 0.5 * self.nominal):
            parent.proven = True
            self.derive(parent)
            self.changed.append(parent)
        if followed or parent.is_seed:
            return False
        self._seen.append(rate * least)
        self._until_median -= 1
        return self._until_median <= 0 and self._take_median()

    def overdue(self, lease: Lease, age_s: float) -> bool:
        """The lease's first piece has not come for `age_s` seconds, which its parent had from the start.

        That bounds the parent's uplink from above, long before a report tells. Returns whether it is known to be slow now.
        """
        parent = lease.parent
        most = self.piece_length / age_s * max(lease.shared_by, len(parent.serving))
        if most < (self.nominal if parent.uplink is None else parent.uplink):
            self._replace(parent, most)
        return parent.slow

    def slow_down(self, peer: Peer) -> None:
        """The peer kept a child waiting: believe half of it."""
        self._replace(peer, 0.5 * (self.nominal if peer.uplink is None else min(peer.uplink, self.nominal)))

    def _held_back_by_child(self, child: Peer, rate: float) -> bool:
        best = total = 0.0
        for lease in child.fetching:
            total += lease.rate
            if lease.rate > best:
                best = lease.rate
        if total > child.inbound_peak:
            child.inbound_peak = total
        return rate > _CLEARLY_SLOWER * best and total > _BELOW_PEAK * child.inbound_peak

    @staticmethod
    def _active_leases(parent: Peer) -> int:
        """Between how many leases the parent's uplink is divided at least: not those that may wait for what it receives."""
        if parent.offers == parent.have:
            return len(parent.serving)
        active = 0
        for lease in parent.serving:
            # A lease is empty only while its last arrival is being noted.
            first = 1 << lease.pieces[0] if lease.pieces else 0
            active += not lease.following & first or bool(parent.have & first)
        return active or 1

    def _believe(self, parent: Peer, least: float, most: float, held_back: bool) -> None:
        """The parent uploaded between `least` and `most`; `held_back`: it could have uploaded more."""
        believed = parent.uplink
        ceiling = _MOST * self.nominal if self.learned and not parent.is_seed else _ABSURD
        if parent.uplink_limit is not None and parent.uplink_limit < ceiling:
            ceiling = parent.uplink_limit
        least, most = min(least, ceiling), min(most, ceiling)
        if believed is None:
            if not held_back:
                self._replace(parent, most)
            elif parent.is_seed or (self.learned and least > self.nominal):
                # A lower bound says nothing of a peer that is held for a usual one already, unless it is above that.
                self._replace(parent, least)
        elif least > believed:
            self._replace(parent, 0.6 * believed + 0.4 * least)
        elif most < believed and not held_back:
            self._replace(parent, 0.6 * believed + 0.4 * most)

    def _replace(self, peer: Peer, uplink: float) -> None:
        if not peer.is_seed:
            if peer.uplink is None:
                self.unknown -= 1
                self.total_known += uplink
                self.known.add(peer)
            else:
                self.total_known += uplink - peer.uplink
        peer.uplink = uplink
        if peer.derived_from is None or abs(uplink - peer.derived_from) > 0.1 * peer.derived_from:
            peer.derived_from = uplink
            self.derive(peer)
            self.changed.append(peer)

    def _take_median(self) -> bool:
        """Of beliefs, one per peer: fast parents report more often, and at the end of a task reports are all too low."""
        self._until_median = _EVERY
        believed = [peer.uplink for peer in self.known.sample(_SAMPLES, self._rng) if peer.uplink is not None]
        if len(believed) >= _FIRST_SAMPLES:
            middle = sorted(believed)[len(believed) // 2]
        else:
            # Most of what children measure are lower bounds: take an upper one of those.
            middle = sorted(self._seen)[len(self._seen) * 3 // 4]
        if middle <= 0 or (self.learned and 1 / _MOVED < middle / self.nominal < _MOVED):
            return False
        self.learned = True
        self._set_nominal(middle)
        return True

    def _set_nominal(self, rate: float) -> None:
        self.nominal = rate
        settings = self.settings
        lasting = settings.lease_s * rate / self.usual_slots / self.piece_length if self.learned else 0.0
        self.lease_pieces = min(settings.max_lease_pieces, max(settings.lease_pieces, 1 + int(lasting)))
        # Refilled when half is used up: a longer lease is topped up by several pieces in one message.
        self.refill_at = self.lease_pieces // 2
