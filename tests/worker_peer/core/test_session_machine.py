"""A session under any order of events that a store, supernodes, peers and a source can make: it never contradicts itself."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from wire.bitmap import PieceSet
from wire.errors import ErrorCode
from wire.messages import Lease, PieceFailure, Task, TaskState
from wire.pieces import PieceLayout
from worker_peer.core.session import Session, SessionSettings, SessionState
from worker_peer.core.session_effects import Effect, Fail, FetchPieces, Finish, PrepareFile, ReadFromSource, ReportPieces
from worker_peer.core.session_events import (
    Event,
    LeaseGiven,
    PieceCame,
    PieceLost,
    Purpose,
    PurposeChanged,
    SourceEnded,
    StoreOpened,
    StorePrepared,
    StoreRefused,
    SupernodeDown,
    SupernodeUp,
    TaskTold,
    Tick,
)

TASK = "a" * 64
LAYOUTS = (PieceLayout(4 * 4096, 4096, 1024), PieceLayout(3 * 4096, 4096, 1024))
DIGESTS = ("sha256:" + "1" * 64, "sha256:" + "2" * 64)
layouts, digests = st.sampled_from(LAYOUTS), st.sampled_from((None, *DIGESTS))
pieces = st.integers(0, 4)
WRONG = (ErrorCode.DIGEST_MISMATCH, ErrorCode.SOURCE_CHANGED)


def blocks(piece: int, content: int) -> bytes:
    return bytes([content, piece]) * 64


class SessionMachine(RuleBasedStateMachine):
    """Stands for the driver: it keeps what the session has asked for, and answers only that."""

    @initialize(wanted=st.sampled_from((None, DIGESTS[0])))
    def begin(self, wanted: str | None) -> None:
        self.now = 0.0
        self.session = Session(
            TASK, wanted_digest=wanted, settings=SessionSettings(supernode_patience_s=1.0, back_to_source_after_s=3.0), now=0.0
        )
        #: What the session has asked for and not got: pieces per lease, the file, the source's reading.
        self.fetching: dict[int, int] = {}
        self.preparing: PrepareFile | None = None
        self.reading: PieceSet | None = None
        #: Pieces of the file as it is now; what the supernode was told; how it ended.
        self.disk = PieceSet(0)
        self.ends: list[Finish | Fail] = []
        self.lease_number = 0
        self.opened = False
        #: The supernode's run; whether pieces that count are of this peer's earlier run, or of two of supernodes; whether
        #: the whole was digested.
        self.run = ""
        self.resumed = self.mixed = self.digested = False

    def happens(self, event: Event) -> None:
        was_failed = self.session.state is SessionState.FAILED
        effects = self.session.handle(event, self.now)
        self.session.validate()
        assert not (was_failed and effects), "a failed session does nothing"
        for effect in effects:
            self.do(effect)

    def do(self, effect: Effect) -> None:
        match effect:
            case PrepareFile():
                assert self.preparing is None, "one file at a time"
                self.preparing, self.disk, self.resumed = effect, PieceSet(effect.layout.piece_count), False
                self.mixed = False
                self.fetching.clear()
            case FetchPieces():
                assert len(effect.pieces) == len(effect.digests)
                for piece in effect.pieces:
                    # One that lies there from an earlier content counts for nothing, and is overwritten.
                    assert piece not in self.disk_counted(), "fetched although it is here"
                    self.fetching[piece] = effect.lease
            case ReportPieces():
                for _, piece, _ in effect.done:
                    assert self.session.have is not None
                    assert piece in self.session.have, "told to others, yet not counted here"
                    assert piece in self.disk, "told to others, yet not on the disk"
            case ReadFromSource():
                assert self.reading is None
                assert effect.pieces == self.disk_counted().missing()
                if self.session.purpose is not Purpose.READ:
                    assert not len(effect.pieces), "nobody waits for it, and the source is read"
                self.reading = effect.pieces.copy()
                self.fetching.clear()
            case Finish() | Fail():
                self.ends.append(effect)

    def disk_counted(self) -> PieceSet:
        assert self.session.have is not None
        return self.session.have

    # -- the store ------------------------------------------------------------------------------------------------------

    @precondition(lambda self: not self.opened)
    @rule(layout=st.sampled_from((None, *LAYOUTS)), have=st.sets(pieces), digest=digests, content=st.integers(0, 1))
    def store_opens(self, layout: PieceLayout | None, have: set[int], digest: str | None, content: int) -> None:
        self.opened = True
        if layout is None:
            self.happens(StoreOpened())
            return
        here = {piece for piece in have if piece < layout.piece_count}
        if digest is not None:
            here = set(range(layout.piece_count))  # only a whole content has one
        if digest is not None and self.session.wanted_digest is not None:
            digest = self.session.wanted_digest  # the task is the digest's own
        held = PieceSet.of(layout.piece_count, here)
        self.disk = held.copy()
        self.resumed = bool(here) and self.session.wanted_digest is not None and digest is None
        found = {piece: blocks(piece, content) for piece in here}
        self.happens(StoreOpened(layout=layout, have=held, piece_digests=found, digest=digest))

    @precondition(lambda self: self.preparing is not None)
    @rule()
    def file_is_ready(self) -> None:
        assert self.preparing is not None
        count, self.preparing = self.preparing.layout.piece_count, None
        self.happens(StorePrepared(have=PieceSet(count)))

    @precondition(lambda self: self.opened)
    @rule()
    def store_breaks(self) -> None:
        self.preparing = None
        self.happens(StoreRefused(code=ErrorCode.STORE_FULL, message="full"))

    @rule(purpose=st.sampled_from(Purpose))
    def is_wanted_by_others(self, purpose: Purpose) -> None:
        self.happens(PurposeChanged(purpose))

    # -- supernodes -----------------------------------------------------------------------------------------------------

    @rule(up=st.booleans(), run=st.sampled_from(("run-1", "run-2")))
    def supernode(self, up: bool, run: str) -> None:
        if up:
            began = bool(self.fetching) or (self.session.have is not None and len(self.session.have) > 0)
            self.mixed = self.mixed or (self.run not in ("", run) and began and not self.ends)
            self.run = run
        self.happens(SupernodeUp(run) if up else SupernodeDown())

    @rule(layout=layouts, digest=digests, known=st.booleans())
    def told(self, layout: PieceLayout, digest: str | None, known: bool) -> None:
        if not known:
            self.happens(TaskTold(told=Task(task=TASK, state=TaskState.PROBING)))
            return
        state = TaskState.CACHING if digest is None else TaskState.CACHED
        cut = (layout.length, layout.piece_length, layout.block_length)
        task = Task(task=TASK, state=state, length=cut[0], piece_length=cut[1], block_length=cut[2], digest=digest)
        self.happens(TaskTold(told=task))

    @rule(code=st.sampled_from((None, ErrorCode.SOURCE_NOT_FOUND, *WRONG)))
    def dies(self, code: ErrorCode | None) -> None:
        self.happens(TaskTold(told=Task(task=TASK, state=TaskState.DEAD, code=code, message="dead")))

    @rule(given=st.lists(pieces, min_size=1, max_size=3, unique=True), content=st.integers(0, 1), short=st.booleans())
    def lease(self, given: list[int], content: int, short: bool) -> None:
        self.lease_number += 1
        sealed = b"".join(blocks(piece, content) for piece in given)
        self.happens(
            LeaseGiven(
                lease=Lease(
                    task=TASK,
                    lease=self.lease_number,
                    parent="parent",
                    endpoint="tcp://parent:1",
                    pieces=tuple(given),
                    digests=sealed[:-32] if short else sealed,
                    until_s=9.0,
                )
            )
        )

    # -- pieces, the source, time ---------------------------------------------------------------------------------------

    @precondition(lambda self: self.fetching)
    @rule(place=st.integers(0, 4), comes=st.booleans())
    def transfer_ends(self, place: int, comes: bool) -> None:
        piece = sorted(self.fetching)[place % len(self.fetching)]
        number = self.fetching.pop(piece)
        if comes:
            self.disk.add(piece)
            self.happens(PieceCame(piece=piece, lease=number, rate=1.0))
        else:
            self.happens(PieceLost(piece=piece, lease=number, failure=PieceFailure.GONE))

    @precondition(lambda self: self.reading is not None)
    @rule(fails=st.sampled_from((None, ErrorCode.SOURCE_ERROR, *WRONG)))
    def source_goes_on(self, fails: ErrorCode | None) -> None:
        assert self.reading is not None
        if fails is not None:
            self.happens(SourceEnded(code=fails, message="the source failed"))
        elif len(self.reading):
            piece = next(iter(self.reading))
            self.reading.discard(piece)
            self.disk.add(piece)
            self.happens(PieceCame(piece=piece))
        else:
            self.digested = True
            self.happens(SourceEnded(digest=DIGESTS[0]))

    @rule(seconds=st.sampled_from((0.1, 1.0, 3.0, 6.0)))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        due = self.session.next_deadline()
        if due is not None and due <= self.now:
            self.happens(Tick())
            again = self.session.next_deadline()
            assert again is None or again > self.now, "a deadline that has passed is not set again"

    # -- what always holds ----------------------------------------------------------------------------------------------

    @invariant()
    def what_counts_is_on_the_disk(self) -> None:
        if self.session.have is not None and self.session.state is not SessionState.FAILED and self.preparing is None:
            assert not self.session.have.bits & ~self.disk.bits

    @invariant()
    def it_ends_once_and_right(self) -> None:
        finishes = [end for end in self.ends if isinstance(end, Finish)]
        failures = [end for end in self.ends if isinstance(end, Fail)]
        assert len(finishes) <= 1
        assert len(failures) <= 1
        if finishes and not failures:
            assert self.session.state is SessionState.COMPLETE
            assert finishes[0].digest == self.session.verdict
        if failures:
            assert self.session.state is SessionState.FAILED
        if finishes and (self.resumed or self.mixed):
            assert self.digested, "pieces of two origins are believed by one's word"

    @invariant()
    def promises_are_kept_by_somebody(self) -> None:
        if self.session.state is SessionState.SWARMING:
            assert set(self.session.promised) <= set(self.fetching)


TestSessionMachine = SessionMachine.TestCase
TestSessionMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
