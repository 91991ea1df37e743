"""The parent's side of transfers: in which order children's requests are answered.

Pure. Children take turns, request by request, so that none waits behind another's long list. Requests that nobody waits for
(preheating) have one block in five while there are others: few enough that a pull is not slowed by a hundred hosts that
preheat, enough that none of these takes its parent for dead. A request for blocks that are still on their way to this peer
is parked until they are here (cut-through); one for blocks that are not is refused.
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
#: Blocks that somebody waits for, for one that nobody does. A child bears with a parent that becomes eight times slower.
LIVE_FOR_ONE: Final = 4


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


_Turns = OrderedDict[bytes, deque[GetBlocks]]


class Serving:
    """Requests of all children. `presence` says whether a request's blocks are here."""

    def __init__(self, presence: Callable[[GetBlocks], Presence]) -> None:
        self._presence = presence
        # Children in the order of their turns; those with nothing to send now are in `_parked` only.
        self._live: _Turns = OrderedDict()
        self._background: _Turns = OrderedDict()
        # Blocks that the background may have before the others go on.
        self._allowed = 0.0
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
                self._make_ready(child, request)
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
        turns = self._whose_turn()
        if not turns:
            return None
        child, requests = next(iter(turns.items()))
        request = requests.popleft()
        if requests:
            turns.move_to_end(child)
        else:
            del turns[child]
        if not (self._live and self._background):
            self._allowed = 0.0
        else:
            self._allowed += -request.count if turns is self._background else request.count / LIVE_FOR_ONE
        self._answered(child)
        return Send(child, request)

    def _whose_turn(self) -> "_Turns":
        return self._background if self._background and (self._allowed > 0 or not self._live) else self._live

    def _make_ready(self, child: bytes, request: GetBlocks) -> None:
        turns = self._background if request.background else self._live
        turns.setdefault(child, deque()).append(request)

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
                self._make_ready(parked.child, parked.request)
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
        self._live.pop(child, None)
        self._background.pop(child, None)
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
        counted: dict[bytes, int] = {child: len(requests) for child, requests in self._live.items()}
        for child, requests in self._background.items():
            counted[child] = counted.get(child, 0) + len(requests)
        waiting = [parked for parked in self._given_up if parked.waits]
        for parked in waiting:
            counted[parked.child] = counted.get(parked.child, 0) + 1
            assert parked in self._parked[parked.request.task, parked.request.piece]
        assert counted == self._open
        assert self.waiting == sum(self._open.values())
        assert len(waiting) == sum(len(parked) for parked in self._parked.values())


def _refusal(child: bytes, request: GetBlocks, code: ErrorCode) -> Refuse:
    return Refuse(child, NoBlocks(task=request.task, piece=request.piece, code=code))
