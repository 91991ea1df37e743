"""Fetching under any order of leases, answers, refusals, deaths and silences: no piece is lost unsaid, none comes twice."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from wire.messages import Blocks, GetBlocks, PieceFailure
from wire.pieces import PieceLayout
from worker_peer.core.fetching import Done, Fate, Fetching

TASKS = ("a" * 64, "b" * 64)
LAYOUT = PieceLayout(6 * 4096 - 100, 4096, 1024)
PARENTS = ("one", "two", "three")
parents, tasks = st.sampled_from(PARENTS), st.sampled_from(TASKS)


class FetchingMachine(RuleBasedStateMachine):
    """The rules are what a supernode, parents and time can do. `blocks` are those that the disk holds, per piece and lease."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.holds = False
        self.number = 0
        self.fetching = Fetching(lambda *_: 0.1 if self.holds else 0.0, lambda *_: list(PARENTS))
        #: Requests on their way, per parent, oldest first.
        self.wire: dict[str, list[GetBlocks]] = {parent: [] for parent in PARENTS}
        #: Lease numbers under which a piece is wanted now, and the blocks of it that were stored since it was granted.
        self.granted: dict[tuple[str, int], int] = {}
        self.stored: dict[tuple[str, int], set[int]] = {}

    def settle(self, fates: list[Fate]) -> None:
        """Every fate is of a piece that was wanted, under its own lease, and ends it."""
        for fate in fates:
            assert self.granted.pop((fate.task, fate.piece)) == fate.lease
            if isinstance(fate, Done):
                assert self.stored[fate.task, fate.piece] == set(LAYOUT.blocks_of(fate.piece)), "done, yet blocks are missing"

    @rule(task=tasks, parent=parents, pieces=st.sets(st.integers(0, LAYOUT.piece_count - 1), min_size=1, max_size=3))
    def grant(self, task: str, parent: str, pieces: set[int]) -> None:
        self.number += 1
        wanted = [(piece, bytes(32 * LAYOUT.block_count(piece))) for piece in sorted(pieces)]
        for piece in pieces:
            if (task, piece) not in self.granted:
                self.stored[task, piece] = set()
            self.granted[task, piece] = self.number
        self.fetching.lease(task, self.number, parent, LAYOUT, wanted, self.now)

    @rule()
    def ask(self) -> None:
        for each in self.fetching.asks(self.now):
            self.wire[each.parent].append(each.request)

    @rule(parent=parents, place=st.integers(0, 3), right=st.booleans())
    def answer(self, parent: str, place: int, right: bool) -> None:
        if not self.wire[parent]:
            return
        request = self.wire[parent].pop(place % len(self.wire[parent]))
        size = LAYOUT.run_span(request.piece, request.first, request.count)[1]
        message = Blocks(task=request.task, piece=request.piece, first=request.first, count=request.count)
        job = self.fetching.expects(parent, message, size, self.now)
        if job is None:
            return
        assert (request.task, request.piece) in self.granted, "blocks are taken that nobody wants"
        if not right:
            self.settle(self.fetching.wrong(job))
            return
        self.stored[request.task, request.piece].update(range(request.first, request.first + request.count))
        self.settle(self.fetching.stored(job, request.count, self.now))

    @rule(parent=parents, place=st.integers(0, 3))
    def answer_with_another_length(self, parent: str, place: int) -> None:
        if self.wire[parent]:
            request = self.wire[parent][place % len(self.wire[parent])]
            message = Blocks(task=request.task, piece=request.piece, first=request.first, count=request.count)
            assert self.fetching.expects(parent, message, 1, self.now) is None

    @rule(parent=parents)
    def refuse(self, parent: str) -> None:
        if self.wire[parent]:
            request = self.wire[parent].pop(0)
            self.settle(self.fetching.refused(parent, request.task, request.piece, self.now))

    @rule(parent=parents, failure=st.sampled_from([PieceFailure.GONE, PieceFailure.STALLED]))
    def die(self, parent: str, failure: PieceFailure) -> None:
        self.wire[parent].clear()
        self.settle(self.fetching.parent_gone(parent, failure))

    @rule(task=tasks)
    def drop(self, task: str) -> None:
        self.fetching.drop_task(task)
        for key in [key for key in self.granted if key[0] == task]:
            del self.granted[key]

    @rule(seconds=st.sampled_from([0.01, 1.0, 6.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        for parent in self.fetching.stalled(self.now):
            self.die(parent, PieceFailure.STALLED)

    @rule(holds=st.booleans())
    def limit(self, holds: bool) -> None:
        self.holds = holds

    @rule()
    def forget_the_idle(self) -> None:
        for parent in self.fetching.idle_parents():
            self.fetching.forget(parent)
            self.wire[parent].clear()

    @precondition(lambda self: not self.holds)
    @rule()
    def nothing_hangs(self) -> None:
        """Whatever is wanted is asked for, or owed by a parent whose silence has a deadline."""
        self.ask()
        if self.granted:
            assert self.fetching.next_deadline() is not None

    @invariant()
    def indexes_agree(self) -> None:
        self.fetching.validate()
        assert len(self.fetching) == len(self.granted)
        assert self.fetching.leases() == set(self.granted.values())


TestFetchingMachine = FetchingMachine.TestCase
TestFetchingMachine.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
