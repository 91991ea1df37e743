"""A play of one session: what happens on the left, what is to be done on the right; and the usual scenes to begin with."""

from dataclasses import dataclass, field
from typing import Any

from wire.bitmap import PieceSet
from wire.errors import ErrorCode
from wire.messages import Lease, Task, TaskState
from wire.pieces import PieceLayout
from worker_peer.core.session import Session, SessionSettings, SessionState
from worker_peer.core.session_effects import (
    Effect,
    FetchPieces,
    Finish,
    PrepareFile,
    ReadFromSource,
    RegisterTask,
    ReportPieces,
)
from worker_peer.core.session_events import (
    Event,
    LeaseGiven,
    PieceCame,
    StoreOpened,
    StorePrepared,
    SupernodeDown,
    SupernodeUp,
    TaskTold,
    Tick,
)

TASK = "a" * 64
LAYOUT = PieceLayout(4 * 4096, 4096, 1024)
OTHER_LAYOUT = PieceLayout(5 * 4096, 4096, 1024)
DIGEST, OTHER_DIGEST = "sha256:" + "1" * 64, "sha256:" + "2" * 64
PATIENCE_S, BACK_S, AGAIN_S = 1.0, 3.0, 5.0


def digests_of(piece: int) -> bytes:
    return bytes([piece]) * 128


def told(layout: PieceLayout | None = LAYOUT, state: TaskState = TaskState.CACHING, **more: Any) -> TaskTold:
    """TASK as a supernode sends it. `layout` None: the length is not known."""
    if layout is not None:
        more |= {"length": layout.length, "piece_length": layout.piece_length, "block_length": layout.block_length}
    return TaskTold(told=Task(task=TASK, state=state, **more))


def dead(code: ErrorCode | None, status: int = 0, message: str = "no") -> TaskTold:
    return TaskTold(told=Task(task=TASK, state=TaskState.DEAD, code=code, status=status, message=message))


def lease(*pieces: int, number: int = 7, digests: bytes | None = None) -> LeaseGiven:
    sealed = b"".join(digests_of(piece) for piece in pieces) if digests is None else digests
    return LeaseGiven(
        lease=Lease(
            task=TASK,
            lease=number,
            parent="parent",
            endpoint="tcp://parent:1",
            hint_endpoint="tcp://parent:2",
            pieces=pieces,
            digests=sealed,
            until_s=10.0,
        )
    )


def fetch(*pieces: int, number: int = 7) -> FetchPieces:
    return FetchPieces(
        lease=number,
        parent="parent",
        endpoint="tcp://parent:1",
        hint_endpoint="tcp://parent:2",
        pieces=pieces,
        digests=tuple(digests_of(piece) for piece in pieces),
    )


def register(*have: int, serves_only: bool = False) -> RegisterTask:
    offered = PieceSet.of(LAYOUT.piece_count, have) if have else None
    return RegisterTask(have=offered, layout=LAYOUT if have else None, serves_only=serves_only)


def reported(*done: tuple[int, int, float]) -> ReportPieces:
    return ReportPieces(done=done)


def prepare(layout: PieceLayout = LAYOUT) -> PrepareFile:
    return PrepareFile(layout=layout, content_type="")


def opened(*have: int, digest: str | None = None, layout: PieceLayout = LAYOUT) -> StoreOpened:
    """What the store holds, as it says."""
    pieces = PieceSet.of(layout.piece_count, have)
    return StoreOpened(layout=layout, have=pieces, piece_digests={piece: digests_of(piece) for piece in have}, digest=digest)


def empty() -> StorePrepared:
    """The file is there, with nothing in it."""
    return StorePrepared(have=PieceSet(LAYOUT.piece_count))


#: Every play that was begun, for the fixture that sees to their ends.
PLAYS: list["Play"] = []


@dataclass
class Play:
    """`play >> event << effect << effect`, step by step; time by `at`. Every step is checked when the next begins."""

    wanted: str | None = None
    now: float = 0.0
    session: Session = field(init=False)
    _left: list[Effect] = field(default_factory=list)

    def __post_init__(self) -> None:
        settings = SessionSettings(supernode_patience_s=PATIENCE_S, back_to_source_after_s=BACK_S, ask_again_after_s=AGAIN_S)
        PLAYS.append(self)
        self.session = Session(TASK, wanted_digest=self.wanted, settings=settings, now=self.now)

    def at(self, now: float) -> "Play":
        self.now = now
        return self

    def __rshift__(self, event: Event) -> "Play":
        self.over()
        self._left = self.session.handle(event, self.now)
        self.session.validate()
        return self

    def __lshift__(self, effect: Effect) -> "Play":
        assert self._left, f"nothing more is done, not {effect}"
        assert self._left.pop(0) == effect
        return self

    def only(self) -> Effect:
        """The one thing that is done."""
        (effect,) = self._left
        self._left = []
        return effect

    def over(self, state: SessionState | None = None) -> "Play":
        assert self._left == [], "more is done than the play says"
        assert state is None or self.session.state is state
        return self


def swarming(wanted: str | None = None) -> Play:
    """A download with an empty file and a supernode."""
    play = Play(wanted) >> SupernodeUp() >> StoreOpened() << register() >> told() << prepare() >> empty()
    return play.over(SessionState.SWARMING)


def complete() -> Play:
    play = swarming() >> told(state=TaskState.CACHED, digest=DIGEST)
    for piece in range(4):
        play = play >> PieceCame(piece=piece, lease=7, rate=5.0) << reported((7, piece, 5.0))
    return (play << Finish(digest=DIGEST)).over(SessionState.COMPLETE)


def back_to_source() -> Play:
    play = swarming() >> PieceCame(piece=2, lease=7) << reported((7, 2, 0.0)) >> SupernodeDown()
    play = play.at(BACK_S) >> Tick() << ReadFromSource(pieces=PieceSet.of(4, (0, 1, 3)), digest=None)
    return play.over(SessionState.BACK_TO_SOURCE)
