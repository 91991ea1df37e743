"""The parent's side of transfers: in which order children's requests are answered.

Pure. Children take turns, request by request, so that none waits behind another's long list. A request for blocks that
are still on their way to this peer is parked until they are here (cut-through); one for blocks that are not is refused.
"""

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, assert_never

from wire.errors import ErrorCode
from wire.messages import GetBlocks, NoBlocks

#: A child within its credit has no more open requests than this; more are refused.
MAX_REQUESTS_PER_CHILD: Final = 256
MAX_CHILDREN: Final = 4096
#: A request for blocks on their way here is refused after so long.
PARKED_S: Final = 20.0


class Presence(Enum):
    """Whether blocks can be sent."""

    HERE = auto()
    COMING = auto()
    MISSING = auto()
    UNKNOWN_TASK = auto()


@dataclass(frozen=True, slots=True)
class Send:
    """Send these blocks to that child."""

    child: bytes
    request: GetBlocks


@dataclass(frozen=True, slots=True)
class Refuse:
    """Tell that child no."""

    child: bytes
    answer: NoBlocks


@dataclass(slots=True, eq=False)
class _Parked:
    """A request for blocks that are on their way here."""

    until: float
    child: bytes
    request: GetBlocks
    #: Whether it is still parked.
    waits: bool = True


class Serving:
    """Requests of all children. `presence` says whether a request's blocks are here."""

    def __init__(self, presence: Callable[[GetBlocks], Presence]) -> None:
        self._presence = presence
        # Children in the order of their turns; those with nothing to send now are in `_parked` only.
        self._ready: OrderedDict[bytes, deque[GetBlocks]] = OrderedDict()
        # By (task, piece), because that is what comes; and all of them in the order in which they are given up.
        self._parked: dict[tuple[str, int], list[_Parked]] = {}
        self._given_up: deque[_Parked] = deque()
        self._open: dict[bytes, int] = {}
        #: All that is open. Kept beside, so that another thread may look at it.
        self.waiting = 0

    def __len__(self) -> int:
        return self.waiting

    def asked(self, child: bytes, request: GetBlocks, now: float) -> Refuse | None:
        """A child's request. An answer: it is refused at once."""
        if self._open.get(child, 0) >= MAX_REQUESTS_PER_CHILD or (child not in self._open and len(self._open) >= MAX_CHILDREN):
            return _refusal(child, request, ErrorCode.BUSY)
        presence = self._presence(request)
        match presence:
            case Presence.HERE:
                self._ready.setdefault(child, deque()).append(request)
            case Presence.COMING:
                parked = _Parked(now + PARKED_S, child, request)
                self._parked.setdefault((request.task, request.piece), []).append(parked)
                self._given_up.append(parked)
            case Presence.MISSING:
                return _refusal(child, request, ErrorCode.BLOCKS_MISSING)
            case Presence.UNKNOWN_TASK:
                return _refusal(child, request, ErrorCode.TASK_UNKNOWN)
            case _:
                assert_never(presence)
        self._open[child] = self._open.get(child, 0) + 1
        self.waiting += 1
        return None

    def next(self) -> Send | None:
        """The request whose turn it is, or None. It counts as answered."""
        if not self._ready:
            return None
        child, requests = next(iter(self._ready.items()))
        request = requests.popleft()
        if requests:
            self._ready.move_to_end(child)
        else:
            del self._ready[child]
        self._answered(child)
        return Send(child, request)

    def changed(self, task: str, piece: int) -> list[Refuse]:
        """Blocks of a piece have come, or will not come: parked requests for them are looked at again."""
        if (task, piece) not in self._parked:
            return []
        kept, refused = [], []
        for parked in self._parked.pop((task, piece)):
            presence = self._presence(parked.request)
            if presence is Presence.COMING:
                kept.append(parked)
                continue
            parked.waits = False
            if presence is Presence.HERE:
                self._ready.setdefault(parked.child, deque()).append(parked.request)
            else:
                self._answered(parked.child)
                refused.append(_refusal(parked.child, parked.request, ErrorCode.BLOCKS_MISSING))
        if kept:
            self._parked[task, piece] = kept
        self._tidy()
        return refused

    def task_gone(self, task: str) -> list[Refuse]:
        """Nothing of the task is served any more: whoever waits for a part of it is told."""
        keys = [key for key in self._parked if key[0] == task]
        return [refusal for _, piece in keys for refusal in self.changed(task, piece)]

    def expire(self, now: float) -> list[Refuse]:
        """Parked requests whose blocks did not come in time."""
        refused = []
        while self._given_up and self._given_up[0].until <= now:
            parked = self._given_up[0]
            self._unpark(parked)
            self._answered(parked.child)
            refused.append(_refusal(parked.child, parked.request, ErrorCode.BLOCKS_MISSING))
            self._tidy()
        return refused

    def next_deadline(self) -> float | None:
        """When `expire` has something to do."""
        return self._given_up[0].until if self._given_up else None

    def gone(self, child: bytes) -> None:
        """The child cannot be reached any more."""
        self._ready.pop(child, None)
        for parked in [each for each in self._given_up if each.waits and each.child == child]:
            self._unpark(parked)
        self._tidy()
        self.waiting -= self._open.pop(child, 0)

    def _tidy(self) -> None:
        """What stands first still waits. Requests are answered about in the order in which they came: little stays behind."""
        while self._given_up and not self._given_up[0].waits:
            self._given_up.popleft()

    def _unpark(self, parked: "_Parked") -> None:
        parked.waits = False
        key = (parked.request.task, parked.request.piece)
        left = [each for each in self._parked[key] if each is not parked]
        if left:
            self._parked[key] = left
        else:
            del self._parked[key]

    def _answered(self, child: bytes) -> None:
        left = self._open.get(child, 0) - 1
        if left >= 0:
            self.waiting -= 1
        if left > 0:
            self._open[child] = left
        else:
            self._open.pop(child, None)

    def validate(self) -> None:
        """Raise AssertionError where the counts contradict the queues."""
        counted: dict[bytes, int] = {child: len(requests) for child, requests in self._ready.items()}
        waiting = [parked for parked in self._given_up if parked.waits]
        for parked in waiting:
            counted[parked.child] = counted.get(parked.child, 0) + 1
            assert parked in self._parked[parked.request.task, parked.request.piece]
        assert counted == self._open
        assert self.waiting == sum(self._open.values())
        assert len(waiting) == sum(len(parked) for parked in self._parked.values())


def _refusal(child: bytes, request: GetBlocks, code: ErrorCode) -> Refuse:
    return Refuse(child, NoBlocks(task=request.task, piece=request.piece, code=code))
