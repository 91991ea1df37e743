"""The simulated peers: what the data plane does with leases. A piece is fetched over its lease's connection, in order.

Cut-through: a piece may be asked of a parent that is receiving it. It waits for the parent's first block, then flows beside
the parent's own transfer; when it is done before that one is, its last block waits for the parent's last block.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from scripts.simulation.network import Flow, Link, Network


class Transfer(Flow):
    """One piece from a parent to a child."""

    __slots__ = ("asked_at", "began_at", "child", "dropped", "lease", "parent", "piece", "size")

    def __init__(
        self, parent: Host, child: Host, lease: int, piece: int, size: int, finished: Callable[[Transfer], None]
    ) -> None:
        super().__init__(_links(parent, child), size, finished)
        self.parent = parent
        self.child = child
        self.lease = lease
        self.piece = piece
        self.size = size
        self.asked_at = 0.0
        self.began_at: float | None = None
        self.dropped = False


class Zone:
    """A zone's link to what is around it, each way."""

    __slots__ = ("down", "name", "up")

    def __init__(self, name: str, rate: float) -> None:
        self.name = name
        self.up = Link(rate)
        self.down = Link(rate)


class Host:
    """A peer, or the seed."""

    __slots__ = (
        "alive",
        "batch",
        "done_at",
        "down",
        "fetching",
        "flush_at",
        "have",
        "held",
        "joined_at",
        "name",
        "queues",
        "up",
        "waiting",
        "zones",
    )

    def __init__(self, name: str, up: float, down: float) -> None:
        self.name = name
        self.up = Link(up)
        self.down = Link(down)
        #: Those that it is in, the widest first.
        self.zones: tuple[Zone, ...] = ()
        self.have = 0
        self.held = 0
        self.alive = True
        #: Piece -> its transfer, running, waiting or queued.
        self.fetching: dict[int, Transfer] = {}
        #: Lease -> its transfers in order; the first one is running or waits for its parent.
        self.queues: dict[int, deque[Transfer]] = {}
        #: Piece -> transfers from this host that wait until it begins to receive the piece, or until it has it.
        self.waiting: dict[int, list[Transfer]] = {}
        self.batch: list[tuple[int, int, float]] = []
        self.flush_at: float | None = None
        self.joined_at = 0.0
        self.done_at: float | None = None


def common_zones(parent: Host, child: Host) -> int:
    """How many levels of zones, the widest first, both are in."""
    common = 0
    for here, there in zip(parent.zones, child.zones, strict=False):
        if here is not there:
            break
        common += 1
    return common


def _links(parent: Host, child: Host) -> tuple[Link, ...]:
    """The seed is near every zone: its own link is what it has."""
    if parent.zones is child.zones or not parent.zones or not child.zones:
        return (parent.up, child.down)
    common = common_zones(parent, child)
    ups, downs = parent.zones[common:], child.zones[common:]
    return (parent.up, child.down, *(zone.up for zone in ups), *(zone.down for zone in downs))


class DataPlane:
    """All transfers. `arrived(transfer, rate)` is called when a child has a piece."""

    def __init__(
        self,
        network: Network,
        *,
        block_length: int,
        request_s: float,
        arrived: Callable[[Transfer, float], None],
        refused: Callable[[Transfer], None],
    ) -> None:
        self._network = network
        self._block_length = block_length
        self._request_s = request_s
        self._arrived = arrived
        self._refused = refused

    def lease(self, parent: Host, child: Host, lease: int, pieces: list[tuple[int, int]]) -> None:
        """The child is told to fetch pieces (number, bytes). One that is on its way over another lease moves."""
        queue = child.queues.setdefault(lease, deque())
        for piece, size in pieces:
            if child.have >> piece & 1:
                self._arrived(Transfer(parent, child, lease, piece, size, self._finished), 0.0)
                continue
            if piece in child.fetching:
                self._forget(child.fetching[piece])
                queue = child.queues.setdefault(lease, deque())
            transfer = child.fetching[piece] = Transfer(parent, child, lease, piece, size, self._finished)
            queue.append(transfer)
            if len(queue) == 1:
                self._network.at(self._network.now + self._request_s, self._begin, transfer)
        if not queue:
            child.queues.pop(lease, None)

    def drop(self, transfer: Transfer) -> None:
        """The child does not wait for this one any more: who wanted the piece of the child meanwhile is refused."""
        self._forget(transfer)
        for each in transfer.child.waiting.pop(transfer.piece, ()):
            if not each.dropped:
                self._refused(each)

    def parent_gone(self, parent: Host, children: list[Host]) -> None:
        """The children of a dead parent notice it."""
        for child in children:
            for transfer in [each for each in child.fetching.values() if each.parent is parent]:
                self.drop(transfer)

    def _forget(self, transfer: Transfer) -> None:
        if transfer.dropped:
            return
        transfer.dropped = True
        if transfer.rate:
            self._network.stop(transfer)
        child = transfer.child
        if child.fetching.get(transfer.piece) is transfer:
            del child.fetching[transfer.piece]
        queue = child.queues[transfer.lease]
        was_first = queue[0] is transfer
        queue.remove(transfer)
        if not queue:
            del child.queues[transfer.lease]
        elif was_first:
            self._begin(queue[0])

    def kill(self, host: Host) -> None:
        """The host is dead: what flows to and from it stops."""
        host.alive = False
        for transfer in list(host.fetching.values()):
            self.drop(transfer)
        for flow in list(host.up.flows):
            self._network.stop(flow)

    def _begin(self, transfer: Transfer) -> None:
        """Start, or wait for the parent's first block."""
        if transfer.dropped or transfer.rate or not transfer.parent.alive:
            return
        now = self._network.now
        if transfer.began_at is None:
            transfer.asked_at = transfer.asked_at or now
        parent, piece = transfer.parent, transfer.piece
        if not parent.have >> piece & 1:
            above = parent.fetching.get(piece)
            if above is None:
                self._refused(transfer)
                return
            if above.began_at is None or above.parent.alive is False:
                parent.waiting.setdefault(piece, []).append(transfer)
                return
            missing = self._block_length - (above.size - above.remaining + above.rate * (now - above.since))
            if missing > 1:
                when = now + max(1e-6, missing / above.rate) if above.rate else None
                if when is None:
                    parent.waiting.setdefault(piece, []).append(transfer)
                else:
                    self._network.at(when, self._begin, transfer)
                return
        self._start(transfer)

    def _start(self, transfer: Transfer) -> None:
        if transfer.began_at is None:
            transfer.began_at = self._network.now
        self._network.start(transfer)
        self._wake(transfer)

    def _wake(self, transfer: Transfer) -> None:
        """The child has begun to receive the piece: who waits for it may soon begin, too."""
        waiting = transfer.child.waiting.pop(transfer.piece, None)
        for each in waiting or ():
            self._begin(each)

    def _finished(self, transfer: Transfer) -> None:
        network, child, parent, piece = self._network, transfer.child, transfer.parent, transfer.piece
        if not parent.have >> piece & 1:
            # Faster than its parent: the last block waits for the parent's.
            network.stop(transfer)
            transfer.remaining = min(self._block_length, transfer.size)
            parent.waiting.setdefault(piece, []).append(transfer)
            return
        queue = child.queues[transfer.lease]
        queue.popleft()
        del child.fetching[piece]
        following = queue[0] if queue else None
        if following is not None and parent.have >> following.piece & 1:
            following.asked_at = following.began_at = network.now
            network.replace(transfer, following)
            self._wake(following)
        else:
            network.stop(transfer)
            if following is not None:
                self._begin(following)
        if not queue:
            child.queues.pop(transfer.lease, None)
        child.have |= 1 << piece
        child.held += 1
        assert transfer.began_at is not None
        waiting = child.waiting.pop(piece, None)
        self._arrived(transfer, transfer.size / max(1e-9, network.now - transfer.asked_at))
        for each in waiting or ():
            self._begin(each)
