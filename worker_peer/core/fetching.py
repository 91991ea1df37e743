"""The child's side of transfers: which blocks to ask of which parent, and what became of them.

Pure. The exchange feeds it leases, frames and the time; it answers with requests to send and with the fate of pieces.
Of each parent it keeps the leased pieces in order, asks for runs of blocks within the parent's credit, and makes the
runs as long as half of that: long ones cost less, short ones are passed on sooner.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from wire.credit import MAX_CREDIT_BYTES, Credit
from wire.messages import Blocks, GetBlocks, PieceFailure
from wire.pieces import DIGEST_BYTES, PieceLayout
from worker_peer.core.path import Path
from worker_peer.core.priority import Priority
from worker_peer.core.turns import Turns

#: How often a piece is asked of other peers before its loss is reported.
_LOCAL_TRIES: Final = 2
#: In flight from a parent of which nothing is known yet.
_FIRST_BLOCKS: Final = 4
#: A parent that sends nothing of what it was asked for: after this long at least, and this many times what it should take.
_STALL_FLOOR_S: Final = 5.0
_STALL_FACTOR: Final = 8.0
#: Bytes per second below which a parent may compress what it sends: that costs it a second of CPU for some 500 MB.
_COMPRESSED_BELOW: Final = 60e6
#: Before a parent has sent anything its rate is not known; it may be at the other end of a slow link.
_FIRST_ANSWER_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Ask:
    """Send this request to that parent."""

    parent: str
    request: GetBlocks


@dataclass(frozen=True, slots=True)
class Done:
    """Every block of a leased piece is verified and stored. `digests` are its blocks', in order."""

    task: str
    lease: int
    piece: int
    parent: str
    digests: bytes
    rate: float


@dataclass(frozen=True, slots=True)
class Lost:
    """A leased piece will not come from this parent."""

    task: str
    lease: int
    piece: int
    parent: str
    failure: PieceFailure


Fate = Done | Lost


class _Held(Enum):
    """What holds back the rest of a piece."""

    BY_CREDIT = auto()
    BY_LIMIT = auto()
    BY_OTHERS = auto()


@dataclass(slots=True, eq=False)
class Job:
    """One leased piece on its way."""

    task: str
    lease: int
    piece: int
    parent: str
    layout: PieceLayout
    digests: bytes
    blocks: int
    next_block: int = 0
    stored: int = 0
    first_asked_at: float | None = None
    #: Parents that it did not come from.
    failed: tuple[str, ...] = ()

    def digest(self, block: int) -> bytes:
        """What the block's BLAKE3 has to be."""
        return self.digests[block * DIGEST_BYTES : (block + 1) * DIGEST_BYTES]


@dataclass(slots=True)
class _Parent:
    """One parent, as this child knows it."""

    name: str
    path: Path
    credit: Credit = field(default_factory=lambda: Credit(MAX_CREDIT_BYTES))
    jobs: deque[Job] = field(default_factory=deque)
    #: (task, piece, first block) -> (blocks, bytes, when, for whom): asked for and not here yet.
    asked: dict[tuple[str, int, int], tuple[int, int, float, Job]] = field(default_factory=dict)
    heard_at: float = 0.0


class Fetching:
    """All transfers to this peer.

    `wait_for(task, bytes, now)` says how long so many bytes must wait for the limits, 0: go. `holders(task, piece)` names
    peers that said they have a piece: a piece that its parent does not deliver is asked of one of them, before the
    supernode has to hear of it. `largest(task)`: bytes that one request should not exceed, as far as it is of blocks.
    """

    def __init__(
        self,
        wait_for: Callable[[str, int, float], float],
        holders: Callable[[str, int], list[str]],
        largest: Callable[[str], int] = lambda _: MAX_CREDIT_BYTES,
    ) -> None:
        self._wait_for = wait_for
        self._largest = largest
        self._holders = holders
        self._parents: dict[str, _Parent] = {}
        self._jobs: dict[tuple[str, int], Job] = {}
        # Parents of which more may be asked than was: those with new jobs, with credit given back, or held back by a limit.
        self._askable: dict[str, _Parent] = {}
        #: Whose turn it is while a limit holds back.
        self.turns = Turns()
        #: Which downloads nobody waits for: they make way.
        self.priority = Priority()
        # Parents of jobs that make way now.
        self._yielded: dict[str, _Parent] = {}
        # Whether a limit held something back when it was last asked for more: only then the order matters.
        self._held_back = False
        #: Whether `leases` has changed since it was last called.
        self.leases_changed = False
        self._asks_again_at: float | None = None
        #: When to look for stalled parents; None: nobody owes anything.
        self.stalls_at: float | None = None

    def __len__(self) -> int:
        return len(self._jobs)

    # -- what the supernode grants --------------------------------------------------------------------------------------

    def lease(self, task: str, lease: int, parent: str, layout: PieceLayout, wanted: list[tuple[int, bytes]], now: float) -> None:
        """Fetch pieces (number, digests of its blocks) from a parent. A piece that is on its way from another one moves."""
        at = self._parents.get(parent)
        if at is None:
            at = self._parents[parent] = _Parent(parent, Path(now), heard_at=now)
        if not at.asked:
            at.heard_at = now
        self.turns.began(task)
        self.priority.began(task)
        for piece, digests in wanted:
            known = self._jobs.get((task, piece))
            if known is not None and (known.parent, known.digests) == (parent, digests):
                known.lease = lease  # granted again while it comes: it goes on
                continue
            if known is not None:
                self._drop(known)
            job = Job(task, lease, piece, parent, layout, digests, layout.block_count(piece))
            self._add(at, job)
        self.leases_changed = True

    def drop_task(self, task: str) -> None:
        """Nobody wants the task any more."""
        for job in [job for job in self._jobs.values() if job.task == task]:
            self._drop(job)

    def classify(self, task: str, *, background: bool) -> None:
        """Whether nobody waits for the task, so that it makes way for those that somebody waits for."""
        self.priority.classify(task, background=background, wants=any(job.task == task for job in self._jobs.values()))
        # Whoever made way may have to do so no longer.
        self._askable, self._yielded = self._askable | self._yielded, {}

    def leases(self) -> set[int]:
        """Leases with pieces on their way."""
        self.leases_changed = False
        return {job.lease for job in self._jobs.values()}

    # -- asking ---------------------------------------------------------------------------------------------------------

    def asks(self, now: float) -> list[Ask]:
        """Requests to send now, as credit and limits allow."""
        out: list[Ask] = []
        self._asks_again_at = None
        askable, self._askable = self._askable, {}
        if self._yielded and self.priority.is_open:
            askable, self._yielded = askable | self._yielded, {}
        waiting = [(job, parent) for parent in askable.values() for job in parent.jobs if job.next_block < job.blocks]
        if self._held_back:
            waiting.sort(key=lambda each: self.turns.had(each[0].task))
        if self.priority.has_background:
            waiting.sort(key=lambda each: self.priority.is_background(each[0].task))
        full, limited = set(), set()
        for job, parent in waiting:
            if job.task in limited:
                self._askable[parent.name] = parent
            if job.task in limited or parent.name in full:
                continue
            match self._ask_job(parent, job, out, now):
                case _Held.BY_CREDIT:
                    full.add(parent.name)
                case _Held.BY_LIMIT:
                    limited.add(job.task)
                    self._askable[parent.name] = parent
                case _Held.BY_OTHERS:
                    self._yielded[parent.name] = parent
                case None:
                    pass
        self._held_back = bool(limited)
        return out

    def _ask_job(self, parent: _Parent, job: Job, out: list[Ask], now: float) -> "_Held | None":
        """Ask for what is left of a piece. Returns what holds the rest of it back."""
        block = job.layout.block_length
        parent.credit.limit = parent.path.credit(_FIRST_BLOCKS * block)
        run = max(1, min(parent.path.run(block), self._largest(job.task)) // block)
        if self.priority.has_live and self.priority.is_background(job.task):
            run = 1
        while job.next_block < job.blocks:
            if self.priority.must_wait(job.task):
                return _Held.BY_OTHERS
            key = (job.task, job.piece, job.next_block)
            if key in parent.asked:
                return None  # for a job that is no more: its answer must not be taken for this one's
            count = min(run, job.blocks - job.next_block)
            _, size = job.layout.run_span(job.piece, job.next_block, count)
            if not parent.credit.allows(size):
                return _Held.BY_CREDIT
            wait = self._wait_for(job.task, size, now)
            if wait > 0:
                again = now + wait
                self._asks_again_at = again if self._asks_again_at is None else min(again, self._asks_again_at)
                return _Held.BY_LIMIT
            self.turns.took(job.task, size)
            self.priority.took(job.task, size)
            parent.credit.spend(size)
            if not parent.asked:
                parent.heard_at = now
                parent.path.busy_again(now)
                stalls_at = self._stalls_at(parent)
                self.stalls_at = stalls_at if self.stalls_at is None else min(stalls_at, self.stalls_at)
            parent.asked[key] = (count, size, now, job)
            if job.first_asked_at is None:
                job.first_asked_at = now
            request = GetBlocks(
                task=job.task,
                piece=job.piece,
                first=job.next_block,
                count=count,
                lz4=0 < parent.path.rate < _COMPRESSED_BELOW,
                background=self.priority.is_background(job.task),
            )
            out.append(Ask(parent.name, request))
            job.next_block += count
        return None

    # -- what comes -----------------------------------------------------------------------------------------------------

    def expects(self, parent: str, message: Blocks, size: int, now: float) -> Job | None:
        """The piece that these blocks belong to; None when they were not asked for, or not with this length."""
        at = self._parents.get(parent)
        key = (message.task, message.piece, message.first)
        asked = at.asked.get(key) if at is not None else None
        if at is None or asked is None:
            return None
        count, wanted, asked_at, job = asked
        if (message.count, size) != (count, wanted):
            return None  # no answer to what was asked, which stays open: without one the parent stalls
        self._answered(at, key, now)
        at.heard_at = now
        at.path.arrived(size, asked_at, now)
        return job if self._jobs.get((message.task, message.piece)) is job else None

    def stored(self, job: Job, count: int, now: float) -> list[Fate]:
        """So many blocks of the piece are verified and stored."""
        job.stored += count
        if job.stored < job.blocks or self._jobs.get((job.task, job.piece)) is not job:
            return []
        self._drop(job)
        size = job.layout.piece_span(job.piece)[1]
        elapsed = now - (job.first_asked_at if job.first_asked_at is not None else now)
        rate = size / elapsed if elapsed > 0 else 0.0
        return [Done(job.task, job.lease, job.piece, job.parent, job.digests, rate)]

    def wrong(self, job: Job) -> list[Fate]:
        """A block's digest is not what the supernode said: nothing more of this parent's piece is believed."""
        self._drop(job)
        return [Lost(job.task, job.lease, job.piece, job.parent, PieceFailure.DIGEST)]

    def _answered(self, parent: _Parent, key: tuple[str, int, int], now: float) -> None:
        _, size, _, _ = parent.asked.pop(key)
        parent.credit.give_back(size)
        if not parent.asked:
            parent.path.idle(now)
        self._askable[parent.name] = parent

    def refused(self, parent: str, task: str, piece: int, now: float) -> list[Fate]:
        """The parent answers one request for the piece with no. Its others are answered too, and then mean nothing any more."""
        at = self._parents.get(parent)
        key = next((key for key in at.asked if key[:2] == (task, piece)), None) if at is not None else None
        if at is None or key is None:
            return []
        job = at.asked[key][3]
        self._answered(at, key, now)
        return self._elsewhere(job, PieceFailure.REFUSED) if self._jobs.get((task, piece)) is job else []

    def parent_gone(self, parent: str, failure: PieceFailure = PieceFailure.GONE) -> list[Fate]:
        """Nothing more comes from this parent."""
        at = self._parents.pop(parent, None)
        self._askable.pop(parent, None)
        self._yielded.pop(parent, None)
        if at is None:
            return []
        return [fate for job in list(at.jobs) for fate in self._elsewhere(job, failure)]

    def _elsewhere(self, job: Job, failure: PieceFailure) -> list[Fate]:
        """Ask another peer, which said that it has the piece and is connected already; or report the piece lost."""
        self._drop(job)
        tried = (*job.failed, job.parent)
        known = [name for name in self._holders(job.task, job.piece) if name in self._parents and name not in tried]
        if not known or len(tried) > _LOCAL_TRIES:
            return [Lost(job.task, job.lease, job.piece, job.parent, failure)]
        name = min(known, key=lambda each: len(self._parents[each].jobs))
        again = Job(job.task, job.lease, job.piece, name, job.layout, job.digests, job.blocks, failed=tried)
        self._add(self._parents[name], again)
        return []

    # -- time -----------------------------------------------------------------------------------------------------------

    def stalled(self, now: float) -> list[str]:
        """Parents that owe blocks and have been silent for too long. Sets when to look again."""
        times = {parent.name: self._stalls_at(parent) for parent in self._parents.values() if parent.asked}
        self.stalls_at = min((time for time in times.values() if time > now), default=None)
        return [name for name, time in times.items() if time <= now]

    def next_deadline(self) -> float | None:
        """When `asks` or `stalled` may have something new."""
        times = [time for time in (self.stalls_at, self._asks_again_at) if time is not None]
        return min(times, default=None)

    def idle_parents(self) -> list[str]:
        """Parents with nothing leased and nothing on its way."""
        return [name for name, parent in self._parents.items() if not parent.jobs and not parent.asked]

    def forget(self, parent: str) -> None:
        """An idle parent's connection has been closed."""
        self._parents.pop(parent, None)
        self._askable.pop(parent, None)
        self._yielded.pop(parent, None)

    @staticmethod
    def _stalls_at(parent: _Parent) -> float:
        if parent.path.rate <= 0:
            return parent.heard_at + _FIRST_ANSWER_S
        return parent.heard_at + max(_STALL_FLOOR_S, _STALL_FACTOR * parent.credit.in_flight / parent.path.rate)

    def _add(self, parent: _Parent, job: Job) -> None:
        self._jobs[job.task, job.piece] = job
        parent.jobs.append(job)
        self._askable[parent.name] = parent

    def _drop(self, job: Job) -> None:
        self._jobs.pop((job.task, job.piece), None)
        if not any(task == job.task for task, _ in self._jobs):
            self.priority.ended(job.task)
            self.turns.ended(job.task)  # what it has had must not be where a later one begins
        self.leases_changed = True
        parent = self._parents.get(job.parent)
        if parent is not None and job in parent.jobs:
            parent.jobs.remove(job)

    def validate(self) -> None:
        """Raise AssertionError where the indexes contradict each other."""
        for (task, piece), job in self._jobs.items():
            assert (job.task, job.piece) == (task, piece)
            assert job in self._parents[job.parent].jobs
        for parent in self._parents.values():
            assert parent.credit.in_flight == sum(size for _, size, _, _ in parent.asked.values())
            assert all(self._jobs.get((job.task, job.piece)) is job for job in parent.jobs)
        self.priority.validate()
