"""Leases: which child was granted which pieces from which parent, until when. Bookkeeping; who gets one is decided elsewhere."""

from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(slots=True)
class LeaseRecord:
    """One grant: a parent feeds a child."""

    lease: int
    task: str
    child: str
    parent: str
    until: float
    pieces: set[int] = field(default_factory=set)


class LeaseBook:
    """All leases, found by number, by child and by parent. A lease without pieces is over and gone."""

    def __init__(self) -> None:
        self._by_number: dict[int, LeaseRecord] = {}
        self._of_child: dict[str, set[int]] = {}
        self._of_parent: dict[str, set[int]] = {}

    def __len__(self) -> int:
        return len(self._by_number)

    def __iter__(self) -> Iterator[LeaseRecord]:
        return iter(self._by_number.values())

    def grant(self, number: int, *, task: str, child: str, parent: str, pieces: list[int], until: float) -> None:
        """A new lease, or more pieces for one that is running."""
        lease = self._by_number.get(number)
        if lease is None:
            lease = self._by_number[number] = LeaseRecord(number, task, child, parent, until)
            self._of_child.setdefault(child, set()).add(number)
            self._of_parent.setdefault(parent, set()).add(number)
        lease.pieces.update(pieces)
        lease.until = max(lease.until, until)

    def renew(self, child: str, number: int, until: float) -> None:
        """The child says that it works on the lease."""
        lease = self._by_number.get(number)
        if lease is not None and lease.child == child:
            lease.until = until

    def take_back(self, child: str, task: str, number: int, piece: int) -> str | None:
        """A leased piece has come, or will not. The lease's parent; None: this child was not granted that."""
        lease = self._by_number.get(number)
        if lease is None or lease.child != child or lease.task != task or piece not in lease.pieces:
            return None
        lease.pieces.remove(piece)
        if not lease.pieces:
            self._remove(lease)
        return lease.parent

    def end_of_member(self, peer: str, task: str) -> None:
        """The peer has left the task, or begins anew: what it was to get and to give, the matcher has taken back too."""
        self._remove_all(self._of_child.get(peer, ()), task)
        self.end_of_parent(peer, task)

    def end_of_parent(self, parent: str, task: str) -> None:
        """The parent serves the task no more."""
        self._remove_all(self._of_parent.get(parent, ()), task)

    def expire(self, now: float) -> list[LeaseRecord]:
        """Leases whose time is over; they are removed."""
        late = [lease for lease in self._by_number.values() if lease.until <= now]
        for lease in late:
            self._remove(lease)
        return late

    def _remove_all(self, numbers: "set[int] | tuple[()]", task: str) -> None:
        for lease in [self._by_number[number] for number in numbers]:
            if lease.task == task:
                self._remove(lease)

    def _remove(self, lease: LeaseRecord) -> None:
        del self._by_number[lease.lease]
        for index, key in ((self._of_child, lease.child), (self._of_parent, lease.parent)):
            index[key].discard(lease.lease)
            if not index[key]:
                del index[key]

    def validate(self) -> None:
        """Raise AssertionError where the indexes contradict each other."""
        for number, lease in self._by_number.items():
            assert number == lease.lease
            assert lease.pieces, number
            assert number in self._of_child[lease.child]
            assert number in self._of_parent[lease.parent]
        for index in (self._of_child, self._of_parent):
            assert all(index.values())
            assert sum(map(len, index.values())) == len(self._by_number)
