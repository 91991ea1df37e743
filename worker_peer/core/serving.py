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


class Serving:
    """Requests of all children. `presence` says whether a request's blocks are here."""

    def __init__(self, presence: Callable[[GetBlocks], Presence]) -> None:
        self._presence = presence
        # Children in the order of their turns; those with nothing to send now are in `_parked` only.
        self._ready: OrderedDict[bytes, deque[GetBlocks]] = OrderedDict()
        self._parked: list[tuple[float, bytes, GetBlocks]] = []
        self._open: dict[bytes, int] = {}

    def __len__(self) -> int:
        return sum(self._open.values())

    def asked(self, child: bytes, request: GetBlocks, now: float) -> Refuse | None:
        """A child's request. An answer: it is refused at once."""
        if self._open.get(child, 0) >= MAX_REQUESTS_PER_CHILD or (child not in self._open and len(self._open) >= MAX_CHILDREN):
            return _refusal(child, request, ErrorCode.BUSY)
        presence = self._presence(request)
        match presence:
            case Presence.HERE:
                self._ready.setdefault(child, deque()).append(request)
            case Presence.COMING:
                self._parked.append((now + PARKED_S, child, request))
            case Presence.MISSING:
                return _refusal(child, request, ErrorCode.BLOCKS_MISSING)
            case Presence.UNKNOWN_TASK:
                return _refusal(child, request, ErrorCode.TASK_UNKNOWN)
            case _:
                assert_never(presence)
        self._open[child] = self._open.get(child, 0) + 1
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

    def put_back(self, send: Send) -> None:
        """It could not be sent now (a limit): it comes first again."""
        self._ready.setdefault(send.child, deque()).appendleft(send.request)
        self._ready.move_to_end(send.child, last=False)
        self._open[send.child] = self._open.get(send.child, 0) + 1

    def changed(self, task: str) -> list[Refuse]:
        """Blocks of the task have come or gone: parked requests are looked at again."""
        kept, refused = [], []
        for until, child, request in self._parked:
            presence = self._presence(request) if request.task == task else Presence.COMING
            if presence is Presence.COMING:
                kept.append((until, child, request))
            elif presence is Presence.HERE:
                self._ready.setdefault(child, deque()).append(request)
            else:
                self._answered(child)
                refused.append(_refusal(child, request, ErrorCode.BLOCKS_MISSING))
        self._parked = kept
        return refused

    def expire(self, now: float) -> list[Refuse]:
        """Parked requests whose blocks did not come in time."""
        late = [(child, request) for until, child, request in self._parked if until <= now]
        self._parked = [each for each in self._parked if each[0] > now]
        for child, _ in late:
            self._answered(child)
        return [_refusal(child, request, ErrorCode.BLOCKS_MISSING) for child, request in late]

    def next_deadline(self) -> float | None:
        """When `expire` has something to do."""
        return min((until for until, _, _ in self._parked), default=None)

    def gone(self, child: bytes) -> None:
        """The child cannot be reached any more."""
        self._ready.pop(child, None)
        self._parked = [each for each in self._parked if each[1] != child]
        self._open.pop(child, None)

    def _answered(self, child: bytes) -> None:
        left = self._open.get(child, 0) - 1
        if left > 0:
            self._open[child] = left
        else:
            self._open.pop(child, None)

    def validate(self) -> None:
        """Raise AssertionError where the counts contradict the queues."""
        counted: dict[bytes, int] = {child: len(requests) for child, requests in self._ready.items()}
        for _, child, _ in self._parked:
            counted[child] = counted.get(child, 0) + 1
        assert counted == self._open


def _refusal(child: bytes, request: GetBlocks, code: ErrorCode) -> Refuse:
    return Refuse(child, NoBlocks(task=request.task, piece=request.piece, code=code))
