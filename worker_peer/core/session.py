"""One content's download, decided: from the first question to the supernode to the last word on its digest.

Pure. The driver (worker_peer/downloads.py) turns what happens into events, calls `handle`, and carries out the effects
in their order. The states and what leads from one to the next:

    OPENING         store looked at            → REGISTERING
                    all here, digest known     → COMPLETE
    REGISTERING     length known, file ready   → SWARMING
                    nobody answers, task dead  → FAILED
    SWARMING        all here, digest right     → COMPLETE
                    supernode lost too long, or the task dead with pieces here → BACK_TO_SOURCE, where somebody waits for it
                    all here, but pieces of more than one origin → BACK_TO_SOURCE, which then only digests the whole
                    another content            → FAILED
    BACK_TO_SOURCE  all here, digest right     → COMPLETE
                    cannot be had, digest wrong → FAILED
"""

from dataclasses import dataclass
from enum import Enum, auto
from itertools import accumulate
from typing import assert_never

from wire.bitmap import PieceSet
from wire.errors import ErrorCode
from wire.messages import MAX_PIECES_PER_MESSAGE, Lease, Task, TaskState
from wire.pieces import DIGEST_BYTES, PieceLayout
from worker_peer.core.session_effects import (
    Effect,
    Fail,
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

#: For whoever asked.
NOT_WHOLE = "what is stored of it is not whole, and nobody wants the rest"
NO_SUPERNODE = "no supernode answers: check the address given as --node (supernodes: in dfdaemon.yml), and that it runs"


class SessionState(Enum):
    """Where a download is."""

    OPENING = auto()
    REGISTERING = auto()
    SWARMING = auto()
    BACK_TO_SOURCE = auto()
    COMPLETE = auto()
    FAILED = auto()


@dataclass(slots=True, kw_only=True)
class SessionSettings:
    """How patient a download is. Seconds."""

    supernode_patience_s: float
    back_to_source_after_s: float
    #: How long the supernode may take to say a task's length before the peer asks again.
    ask_again_after_s: float = 5.0


class Session:
    """The decisions of one download. Illegal calls raise; a supernode's nonsense never does."""

    def __init__(self, task: str, *, wanted_digest: str | None, settings: SessionSettings, now: float) -> None:
        self.task = task
        self.wanted_digest = wanted_digest
        self.state = SessionState.OPENING
        self.layout: PieceLayout | None = None
        self.have: PieceSet | None = None
        #: sha256 of the content by the seed, which has read all of it.
        self.verdict: str | None = None
        self.content_type = ""
        self.purpose = Purpose.READ
        self._settings = settings
        #: What the store holds of this task, when that may be of an older content: a piece counts once a lease, or the
        #: whole content's digest, says that it is the same.
        self._candidates: dict[int, bytes] = {}
        self._stored_digest: str | None = None
        self._file_ready = False
        self._preparing = False
        self._supernode_up = False
        self._down_since = now
        self._asked_at = now
        #: The supernode's run that the pieces' digests come from; and whether pieces of another origin are among them, so
        #: that the whole must be digested here before it counts as right.
        self._run = ""
        self._must_check = False
        #: When a piece last came, was granted or was lost.
        self._moved_at = now
        #: Whether the supernode has said anything of the task since it was asked.
        self._answered = False
        self._waiting: list[Lease] = []
        #: Pieces on their way: piece -> lease.
        self.promised: dict[int, int] = {}

    # -- the front ------------------------------------------------------------------------------------------------------

    def handle(self, event: Event, now: float) -> list[Effect]:
        """What to do about what happened. `now` in seconds of any clock that only goes forward."""
        if self.state is SessionState.FAILED:
            return []
        if isinstance(event, LeaseGiven | PieceCame | PieceLost):
            self._moved_at = now
        match event:
            case PurposeChanged():
                self.purpose = event.purpose
                return []
            case StoreOpened():
                return self._on_store_opened(event, now)
            case StorePrepared():
                return self._on_store_prepared(event, now)
            case StoreRefused():
                return self._fail(event.code, event.message)
            case SupernodeUp():
                return self._on_supernode_up(event.run, now)
            case SupernodeDown():
                if self._supernode_up:
                    self._supernode_up, self._down_since = False, now
                return []
            case TaskTold():
                return self._on_task_told(event.told, now)
            case LeaseGiven():
                return self._on_lease(event.lease)
            case PieceCame():
                return self._on_piece(event)
            case PieceLost():
                return self._on_piece_lost(event)
            case SourceEnded():
                return self._on_source_ended(event)
            case Tick():
                return self._on_tick(now)
            case _:
                assert_never(event)

    def next_deadline(self) -> float | None:
        """When `Tick` is due, or None."""
        if self.state is SessionState.REGISTERING and not self._supernode_up:
            return self._down_since + self._settings.supernode_patience_s
        if self.state is SessionState.REGISTERING and not self._answered:
            return self._asked_at + self._settings.supernode_patience_s
        if self.state is SessionState.REGISTERING:
            return self._asked_at + self._settings.ask_again_after_s
        if self.state is SessionState.SWARMING and not self.promised:
            if self._supernode_up:
                return max(self._asked_at, self._moved_at) + self._settings.ask_again_after_s
            # Whoever has it only warmed waits for the supernode, which wants the source read once for all hosts.
            return self._down_since + self._settings.back_to_source_after_s if self.purpose is Purpose.READ else None
        return None

    @property
    def has_supernode(self) -> bool:
        """Whether a supernode is there to grant anything."""
        return self._supernode_up

    def validate(self) -> None:
        """Raise AssertionError where the parts of the state contradict each other."""
        if self.state in (SessionState.SWARMING, SessionState.BACK_TO_SOURCE, SessionState.COMPLETE):
            assert self.layout is not None, self.state
            assert self.have is not None, self.state
            assert self.have.size == self.layout.piece_count
        if self.state is SessionState.COMPLETE:
            assert self.have is not None
            assert self.have.is_full
        assert self.have is None or not any(piece in self.have for piece in self.promised)

    # -- the store ------------------------------------------------------------------------------------------------------

    def _on_store_opened(self, event: StoreOpened, now: float) -> list[Effect]:
        self._asked_at = self._down_since = now  # looking into the store may have taken long: patience begins here
        if event.layout is not None and event.have is not None:
            self.layout, self._stored_digest, self._file_ready = event.layout, event.digest, True
            if self._trusts_store:
                self.have = event.have
                # They were right by what an earlier seed said, before it knew whether its source had told it the truth.
                self._must_check = len(event.have) > 0
            else:
                self.have, self._candidates = PieceSet(event.have.size), dict(event.piece_digests)
            if event.digest is not None and event.digest == self.wanted_digest and event.have.is_full:
                self.state, self.verdict = SessionState.COMPLETE, event.digest
                return [*self._register(), Finish(digest=event.digest)]
        if self.purpose is Purpose.OFFER:
            return self._fail(ErrorCode.CANCELLED, NOT_WHOLE)
        self.state = SessionState.REGISTERING
        return self._register()

    @property
    def _trusts_store(self) -> bool:
        """Whether stored pieces are of the right content. Under a digest there is only one; a URL's content may change."""
        return self.wanted_digest is not None

    def _on_store_prepared(self, event: StorePrepared, now: float) -> list[Effect]:
        self.have, self._file_ready, self._preparing = event.have, True, False
        self.state = SessionState.SWARMING
        told = self._told_done([(0, piece, 0.0) for piece in event.have])
        return told + self._take_waiting() + self._completed() + (self._on_tick(now) if not self._supernode_up else [])

    # -- the supernode --------------------------------------------------------------------------------------------------

    def _register(self) -> list[Effect]:
        if not self._supernode_up:
            return []
        offer = self.have if self.have is not None and len(self.have) else None
        return [
            RegisterTask(
                have=offer,
                layout=self.layout if offer is not None else None,
                serves_only=self.state is SessionState.COMPLETE,
            )
        ]

    def _on_supernode_up(self, run: str, now: float) -> list[Effect]:
        if run != self._run:
            # The next supernode's seed may have read another content: pieces by its digests would lie beside older ones.
            # Those that are only granted so far come by its digests too.
            began = bool(self.promised or self._waiting or (self.have is not None and len(self.have)))
            self._must_check, self._run = self._must_check or began, run
        self._supernode_up, self._asked_at, self._answered = True, now, False
        if self.state is SessionState.OPENING:
            return []
        return self._register()

    def _on_task_told(self, told: Task, now: float) -> list[Effect]:
        self._asked_at = now
        if self.state is SessionState.OPENING:
            return []  # of an earlier registration: this one's answer is still to come
        self._answered = True
        if told.state is TaskState.DEAD:
            return self._on_dead(told)
        if told.length is None or self.state is SessionState.COMPLETE:
            return []
        try:
            layout = PieceLayout(told.length, told.piece_length, told.block_length)
        except ValueError as error:
            return self._fail(ErrorCode.INTERNAL, f"the supernode gave a cut that cannot be: {error}")
        if self.state is not SessionState.REGISTERING and layout != self.layout:
            return self._fail(ErrorCode.SOURCE_CHANGED, "the source's content changed meanwhile: try again", discard=True)
        if self.wanted_digest is not None and told.digest not in (None, self.wanted_digest):
            return self._fail(
                ErrorCode.DIGEST_MISMATCH, f"the source's content is {told.digest}, not {self.wanted_digest}", discard=True
            )
        self.content_type = told.content_type
        if told.digest is not None:
            self.verdict = told.digest
        content = told.content if told.digest is not None and len(told.content) == told.length else b""
        return self._take_layout(layout, content) + self._adopt_whole() + self._completed()

    def _take_layout(self, layout: PieceLayout, content: bytes) -> list[Effect]:
        """Make the file ready for a content of this cut; a stored one with another cut is of another content and goes.

        `content`: all of it, where the supernode told it with the task.
        """
        if self.state is not SessionState.REGISTERING or self._preparing:
            return []
        # A finished file is never written to again: it is of this content as a whole, or it goes.
        usable = self._trusts_store or self._stored_digest in (None, self.verdict)
        if self._file_ready and self.layout == layout and usable and not content:
            self.state = SessionState.SWARMING
            return self._take_waiting()
        self._candidates.clear()
        self.layout, self._file_ready, self._preparing = layout, False, True
        self.have = PieceSet(layout.piece_count)
        digest = self.verdict if content and self.verdict is not None else ""
        return [PrepareFile(layout=layout, content_type=self.content_type, content=content, digest=digest)]

    def _adopt_whole(self) -> list[Effect]:
        """The stored content has the digest that the seed found: all of its pieces count."""
        if not self._candidates or self._stored_digest is None or self._stored_digest != self.verdict or self.have is None:
            return []
        fresh = [piece for piece in self._candidates if piece not in self.have]
        self._candidates.clear()
        for piece in fresh:
            self.have.add(piece)
            self.promised.pop(piece, None)
        return self._told_done([(0, piece, 0.0) for piece in fresh])

    @staticmethod
    def _told_done(done: list[tuple[int, int, float]]) -> list[Effect]:
        """Reports of pieces, as many to a message as it may name."""
        step = MAX_PIECES_PER_MESSAGE
        return [ReportPieces(done=tuple(done[at : at + step])) for at in range(0, len(done), step)]

    def _take_waiting(self) -> list[Effect]:
        waiting, self._waiting = self._waiting, []
        return [effect for lease in waiting for effect in self._on_lease(lease)]

    def _on_dead(self, told: Task) -> list[Effect]:
        if self.state is SessionState.COMPLETE:
            return []
        wrong = told.code in (ErrorCode.DIGEST_MISMATCH, ErrorCode.SOURCE_CHANGED)
        reads = self.purpose is Purpose.READ and self.have is not None and len(self.have) > 0
        if self.state is SessionState.SWARMING and not wrong and reads:
            return self._back_to_source()
        if self.state is SessionState.BACK_TO_SOURCE and not wrong:
            return []
        return self._fail(told.code or ErrorCode.INTERNAL, told.message, status=told.status, discard=wrong)

    def _on_lease(self, lease: Lease) -> list[Effect]:
        if self.state in (SessionState.COMPLETE, SessionState.BACK_TO_SOURCE):
            known = self._pieces_of(lease, self.layout) if self._is_full and self.layout is not None else []
            return self._told_done([(lease.lease, piece, 0.0) for piece, _ in known])
        if self.state is not SessionState.SWARMING or self.layout is None or self.have is None:
            self._waiting.append(lease)
            return []
        wanted, digests, held = [], [], []
        for piece, digest in self._pieces_of(lease, self.layout):
            if self._candidates.pop(piece, None) == digest:
                self.have.add(piece)
                self.promised.pop(piece, None)
            if piece in self.have:
                held.append((lease.lease, piece, 0.0))
                continue
            wanted.append(piece)
            digests.append(digest)
        effects: list[Effect] = self._told_done(held)
        if wanted:
            self.promised.update(dict.fromkeys(wanted, lease.lease))
            effects.append(
                FetchPieces(
                    lease=lease.lease,
                    parent=lease.parent,
                    endpoint=lease.endpoint,
                    hint_endpoint=lease.hint_endpoint,
                    pieces=tuple(wanted),
                    digests=tuple(digests),
                )
            )
        return effects + self._completed()

    @staticmethod
    def _pieces_of(lease: Lease, layout: PieceLayout) -> list[tuple[int, bytes]]:
        """The lease's pieces with their digests; none when they are not of this cut: its end will tell the supernode."""
        sizes = [layout.block_count(piece) * DIGEST_BYTES for piece in lease.pieces if piece < layout.piece_count]
        if len(sizes) != len(lease.pieces) or sum(sizes) != len(lease.digests):
            return []
        ends = accumulate(sizes)
        return [(piece, lease.digests[end - size : end]) for piece, size, end in zip(lease.pieces, sizes, ends, strict=True)]

    # -- pieces ---------------------------------------------------------------------------------------------------------

    @property
    def _is_full(self) -> bool:
        return self.have is not None and self.have.is_full

    def _on_piece(self, event: PieceCame) -> list[Effect]:
        if self.have is None or event.piece >= self.have.size:
            return []
        self.promised.pop(event.piece, None)
        self.have.add(event.piece)
        return [ReportPieces(done=((event.lease, event.piece, event.rate),)), *self._completed()]

    def _on_piece_lost(self, event: PieceLost) -> list[Effect]:
        if self.promised.get(event.piece) == event.lease:
            del self.promised[event.piece]
        return [ReportPieces(failed=((event.lease, event.piece, event.failure),))]

    def _completed(self) -> list[Effect]:
        """Every piece is here and the digest is known to be right: that is the end."""
        if self.state is not SessionState.SWARMING or not self._is_full or self.verdict is None or not self._file_ready:
            return []
        if self._must_check:
            # Nothing is missing: this only digests what is here, and says whether it is the content.
            return self._back_to_source()
        self.state = SessionState.COMPLETE
        return [Finish(digest=self.verdict)]

    # -- the source -----------------------------------------------------------------------------------------------------

    def _back_to_source(self) -> list[Effect]:
        assert self.have is not None
        self.state = SessionState.BACK_TO_SOURCE
        return [ReadFromSource(pieces=self.have.missing(), digest=self.verdict or self.wanted_digest)]

    def _on_source_ended(self, event: SourceEnded) -> list[Effect]:
        if self.state is not SessionState.BACK_TO_SOURCE:
            return []
        if event.code is not None or event.digest is None:
            wrong = event.code in (ErrorCode.DIGEST_MISMATCH, ErrorCode.SOURCE_CHANGED)
            return self._fail(event.code or ErrorCode.INTERNAL, event.message, status=event.status, discard=wrong)
        self.state, self.verdict = SessionState.COMPLETE, event.digest
        return [Finish(digest=event.digest)]

    # -- time -----------------------------------------------------------------------------------------------------------

    def _on_tick(self, now: float) -> list[Effect]:
        due = self.next_deadline()
        if due is None or now < due:
            return []
        if self._supernode_up and (self.state is SessionState.SWARMING or self._answered):
            # Whatever was lost on the way, a grant or its report: registering again says what is here and what is not.
            self._asked_at = now
            return self._register()
        if self.state is SessionState.REGISTERING:
            return self._fail(ErrorCode.NO_SUPERNODE, NO_SUPERNODE)
        return self._back_to_source()

    def _fail(self, code: ErrorCode, message: str, *, status: int = 0, discard: bool = False) -> list[Effect]:
        self.state = SessionState.FAILED
        self.promised.clear()
        return [Fail(code=code, message=message, status=status, discard=discard)]
