"""The child's side without a socket: what is asked of whom, and what becomes of every leased piece."""

from collections import deque

import pytest

from wire.credit import MAX_CREDIT_BYTES
from wire.messages import Blocks, GetBlocks, PieceFailure
from wire.pieces import PieceLayout
from worker_peer.core import fetching
from worker_peer.core.fetching import Ask, Done, Fetching, Job, Lost
from worker_peer.host.limits import TokenBucket

TASK, OTHER = "a" * 64, "b" * 64
#: Five pieces of four blocks of 1 KiB; the last has one block and a bit.
LAYOUT = PieceLayout(4 * 4096 + 1100, 4096, 1024)
ONE, TWO, THREE = "one", "two", "three"


def digests_of(piece: int, layout: PieceLayout = LAYOUT) -> bytes:
    return b"".join(bytes([piece, block]) * 16 for block in layout.blocks_of(piece))


class Child:
    """A `Fetching` with what stands around it: limits, holders, and a clock."""

    def __init__(self, layout: PieceLayout = LAYOUT) -> None:
        self.layout = layout
        self.now = 100.0
        self.waits: list[float] = []
        self.holders: dict[int, list[str]] = {}
        self.fetching = Fetching(self._wait, lambda _, piece: self.holders.get(piece, []))

    def _wait(self, task: str, size: int, now: float) -> float:
        assert now == self.now
        return self.waits.pop(0) if self.waits else 0.0

    def lease(self, parent: str, *pieces: int, lease: int = 7, task: str = TASK) -> None:
        wanted = [(piece, digests_of(piece, self.layout)) for piece in pieces]
        self.fetching.lease(task, lease, parent, self.layout, wanted, self.now)
        self.fetching.validate()

    def asks(self) -> list[tuple[str, int, int, int]]:
        found = [(ask.parent, ask.request.piece, ask.request.first, ask.request.count) for ask in self.fetching.asks(self.now)]
        self.fetching.validate()
        return found

    def expects(self, parent: str, piece: int, first: int, count: int = 1, size: int | None = None) -> Job | None:
        message = Blocks(task=TASK, piece=piece, first=first, count=count)
        wanted = self.layout.run_span(piece, first, count)[1]
        job = self.fetching.expects(parent, message, wanted if size is None else size, self.now)
        self.fetching.validate()
        return job

    def takes(self, parent: str, piece: int, first: int, count: int = 1) -> list[Done | Lost]:
        job = self.expects(parent, piece, first, count)
        assert job is not None
        return self.fetching.stored(job, count, self.now)


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch) -> Child:
    """A child that asks for all it may have at once: how much that is at a time is the path's business."""
    monkeypatch.setattr(fetching, "_FIRST_BLOCKS", 64)
    return Child()


def lost(piece: int, parent: str, failure: PieceFailure, lease: int = 7) -> Lost:
    return Lost(TASK, lease, piece, parent, failure)


def test_a_leased_piece_is_asked_for_block_by_block_and_done_when_all_are_stored(child: Child) -> None:
    child.lease(ONE, 0)
    assert len(child.fetching) == 1
    assert child.fetching.leases() == {7}
    assert child.asks() == [(ONE, 0, block, 1) for block in range(4)]
    assert child.asks() == []
    child.now += 2.0
    for block in (2, 0, 1):
        assert child.takes(ONE, 0, block) == []
    assert child.takes(ONE, 0, 3) == [Done(TASK, 7, 0, ONE, digests_of(0), 4096 / 2.0)]
    assert len(child.fetching) == 0
    assert child.fetching.leases() == set()
    child.fetching.validate()


def test_requests_carry_the_task(child: Child) -> None:
    child.lease(ONE, 4, task=OTHER)
    expected = [GetBlocks(task=OTHER, piece=4, first=0, count=1), GetBlocks(task=OTHER, piece=4, first=1, count=1)]
    assert child.fetching.asks(child.now) == [Ask(ONE, request) for request in expected]


def test_runs_grow_with_what_a_parent_delivers(child: Child) -> None:
    child.lease(ONE, 0, 1)
    child.asks()
    child.now += 0.001
    for block in range(4):
        child.takes(ONE, 0, block)
    for piece, first, count in [(piece, first, count) for _, piece, first, count in child.asks()]:
        child.takes(ONE, piece, first, count)
    child.lease(ONE, 2)
    assert max(count for *_, count in child.asks()) > 1


def test_the_rate_of_a_piece_that_came_in_no_time_is_told_as_none(child: Child) -> None:
    child.lease(ONE, 4)
    child.asks()
    child.takes(ONE, 4, 0)
    (done,) = child.takes(ONE, 4, 1)
    assert isinstance(done, Done)
    assert done.rate == 0.0


def test_no_more_is_asked_of_a_parent_than_its_credit_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "_FIRST_BLOCKS", 8)
    child = Child(PieceLayout(64 << 20, 1 << 20, 1 << 16))
    child.lease(ONE, *range(16))
    first = child.asks()
    assert [parent for parent, *_ in first] == [ONE] * len(first)
    assert sum(count for *_, count in first) == 8
    child.lease(TWO, 20)
    other = child.asks()
    assert {(parent, piece) for parent, piece, *_ in other} == {(TWO, 20)}
    assert sum(count for *_, count in other) == 8
    _, piece, at, count = first[0]
    child.takes(ONE, piece, at, count)
    assert sum(again for parent, *_, again in child.asks() if parent == ONE) == count


def test_credit_grows_with_the_rate_up_to_its_limit() -> None:
    child = Child(PieceLayout(256 << 20, 1 << 20, 1 << 16))
    child.lease(ONE, *range(48))
    open_asks = child.asks()
    first = sum(count for *_, count in open_asks)
    for _ in range(40):
        child.now += 0.001
        _, piece, at, count = open_asks.pop(0)
        child.takes(ONE, piece, at, count)
        open_asks += child.asks()
    owed = sum(count for *_, count in open_asks) << 16
    assert first << 16 < owed <= MAX_CREDIT_BYTES


def test_a_limit_delays_the_request_until_its_time(child: Child) -> None:
    child.lease(ONE, 4)
    child.lease(TWO, 0)
    child.waits = [0.0, 0.25]  # a task's limit is asked once: it holds for all of its parents
    assert child.asks() == [(ONE, 4, 0, 1)]
    assert child.fetching.next_deadline() == child.now + 0.25
    child.now += 0.25
    assert child.asks() == [(ONE, 4, 1, 1), *((TWO, 0, block, 1) for block in range(4))]


def test_a_limit_of_the_host_is_exact_and_two_downloads_get_half_each_of_it() -> None:
    """Ten seconds in virtual time; one has three parents and long pieces, the other one parent, and comes later."""
    rate, now = 10_000_000, 100.0
    total, layout = TokenBucket(rate), PieceLayout(1 << 30, 1 << 20, 1 << 17)
    own = {TASK: TokenBucket(0), OTHER: TokenBucket(0)}

    def wait_for(task: str, size: int, now: float) -> float:
        wait = max(total.ready_in(now), own[task].ready_in(now))
        if wait == 0:
            total.take(size, now)
            own[task].take(size, now)
        return wait

    fetching = Fetching(wait_for, lambda task, piece: [])
    had = {TASK: [0, 0], OTHER: [0, 0]}
    for number, parent in enumerate((ONE, TWO, THREE)):
        fetching.lease(TASK, number, parent, layout, [(piece, bytes(256)) for piece in range(number, 300, 3)], now)
    on_the_way: deque[Ask] = deque()
    while now < 120.0:
        if now >= 110.0 and not had[OTHER][0] and not any(ask.request.task == OTHER for ask in on_the_way):
            fetching.lease(OTHER, 9, ONE, layout, [(piece, bytes(256)) for piece in range(300)], now)
        on_the_way.extend(fetching.asks(now))
        now = max(now + 0.005, (fetching.next_deadline() or now) if not on_the_way else now)
        while on_the_way:
            ask = on_the_way.popleft()
            request = ask.request
            size = layout.run_span(request.piece, request.first, request.count)[1]
            message = Blocks(task=request.task, piece=request.piece, first=request.first, count=request.count)
            job = fetching.expects(ask.parent, message, size, now)
            assert job is not None
            fetching.stored(job, request.count, now)
            had[request.task][now >= 110.0] += size
    assert had[TASK][0] == pytest.approx(10 * rate, rel=0.02)
    assert had[TASK][1] + had[OTHER][1] == pytest.approx(10 * rate, rel=0.02)
    assert had[OTHER][1] == pytest.approx(5 * rate, rel=0.05)


@pytest.mark.parametrize(("largest", "longest"), [(1 << 30, 8), (3 << 17, 3), (1 << 17, 1), (0, 1)])
def test_a_slow_limit_makes_requests_short(largest: int, longest: int) -> None:
    layout, now, counts = PieceLayout(1 << 30, 1 << 20, 1 << 17), 0.0, set()
    fetching = Fetching(lambda *_: 0.0, lambda *_: [], lambda task: largest if task == TASK else 0)
    fetching.lease(TASK, 1, ONE, layout, [(piece, bytes(256)) for piece in range(60)], now)
    while asks := fetching.asks(now):
        now += 0.001
        for request in (ask.request for ask in asks):
            counts.add(request.count)
            size = layout.run_span(request.piece, request.first, request.count)[1]
            message = Blocks(task=TASK, piece=request.piece, first=request.first, count=request.count)
            job = fetching.expects(ONE, message, size, now)
            assert job is not None
            fetching.stored(job, request.count, now)
    assert max(counts) == longest
    assert len(fetching) == 0


def test_a_download_that_is_done_is_not_where_a_later_one_begins(child: Child) -> None:
    """Else it would be given all that the others have had since, before they get anything."""
    asked: list[str] = []

    def wait_for(task: str, size: int, now: float) -> float:
        asked.append(task)
        return 0.0

    late = "c" * 64
    fetching = Fetching(wait_for, lambda task, piece: [])
    fetching.lease(OTHER, 1, ONE, LAYOUT, [(4, digests_of(4))], 0.0)
    for ask in fetching.asks(0.0):
        request = ask.request
        message = Blocks(task=OTHER, piece=4, first=request.first, count=request.count)
        job = fetching.expects(ONE, message, LAYOUT.run_span(4, request.first, request.count)[1], 1.0)
        assert job is not None
        fetching.stored(job, request.count, 1.0)
    assert len(fetching) == 0
    fetching.lease(TASK, 2, TWO, LAYOUT, [(0, digests_of(0)), (1, digests_of(1))], 2.0)
    fetching.asks(2.0)
    assert asked.count(TASK) == 8
    fetching.lease(late, 3, THREE, LAYOUT, [(0, digests_of(0))], 3.0)
    assert fetching.turns.had(late) == fetching.turns.had(TASK) == 8 * 1024


def test_what_one_download_may_not_have_does_not_hold_another_up(child: Child) -> None:
    """Its own limit: the pieces of another task behind it at the same parent are asked for."""
    fetching = Fetching(lambda task, size, now: 9.0 if task == TASK else 0.0, lambda task, piece: [])
    fetching.lease(TASK, 1, ONE, LAYOUT, [(0, digests_of(0))], 0.0)
    fetching.lease(OTHER, 2, ONE, LAYOUT, [(4, digests_of(4))], 0.0)
    assert {(ask.request.task, ask.request.piece) for ask in fetching.asks(0.0)} == {(OTHER, 4)}
    assert fetching.next_deadline() == 9.0


def test_blocks_that_nobody_asked_for_are_not_expected(child: Child) -> None:
    child.lease(ONE, 0)
    assert child.expects(ONE, 0, 0) is None
    assert child.expects("stranger", 0, 0) is None
    child.asks()
    assert child.expects(ONE, 1, 0) is None
    assert child.expects(TWO, 0, 0) is None
    assert child.expects(ONE, 0, 0) is not None
    assert child.expects(ONE, 0, 0) is None


@pytest.mark.parametrize(("count", "size"), [(2, 2048), (1, 1023), (1, 0), (2, 1024)])
def test_an_answer_of_another_length_is_none_and_the_parent_stalls(child: Child, count: int, size: int) -> None:
    child.lease(ONE, 0)
    child.asks()
    child.now += 9.0
    assert child.expects(ONE, 0, 0, count, size) is None
    child.now += 1.0
    assert child.fetching.stalled(child.now) == [ONE]


def test_a_wrong_digest_loses_the_piece_and_keeps_the_parents_others(child: Child) -> None:
    child.lease(ONE, 0, 4)
    child.asks()
    job = child.expects(ONE, 0, 0)
    assert job is not None
    assert job.digest(0) == bytes([0, 0]) * 16
    assert job.digest(3) == bytes([0, 3]) * 16
    assert child.fetching.wrong(job) == [lost(0, ONE, PieceFailure.DIGEST)]
    # What else of it was asked for comes in vain, and gives its credit back.
    assert [child.expects(ONE, 0, block) for block in (1, 2, 3)] == [None] * 3
    child.takes(ONE, 4, 0)
    assert child.takes(ONE, 4, 1) != []


def test_a_late_answer_to_a_dropped_job_is_not_taken_for_the_next_jobs(child: Child) -> None:
    child.lease(ONE, 0)
    child.asks()
    job = child.expects(ONE, 0, 0)
    assert job is not None
    child.fetching.wrong(job)
    child.lease(ONE, 0, lease=8)
    # Block 0 is free to be asked for again; 1 to 3 are still owed to the job that is no more.
    assert child.asks() == [(ONE, 0, 0, 1)]
    assert child.expects(ONE, 0, 1) is None
    assert child.asks() == [(ONE, 0, 1, 1)]
    assert child.expects(ONE, 0, 2) is None
    assert child.expects(ONE, 0, 3) is None
    assert child.asks() == [(ONE, 0, 2, 1), (ONE, 0, 3, 1)]
    assert [child.takes(ONE, 0, block) for block in range(3)] == [[], [], []]
    (done,) = child.takes(ONE, 0, 3)
    assert isinstance(done, Done)
    assert done.lease == 8


def test_a_stored_run_of_a_job_that_was_dropped_meanwhile_ends_nothing(child: Child) -> None:
    child.lease(ONE, 4)
    child.asks()
    child.takes(ONE, 4, 0)
    job = child.expects(ONE, 4, 1)
    assert job is not None
    child.fetching.drop_task(TASK)
    assert child.fetching.stored(job, 1, child.now) == []


def test_a_piece_granted_again_by_the_same_parent_goes_on_under_the_new_lease(child: Child) -> None:
    child.lease(ONE, 4)
    child.asks()
    child.takes(ONE, 4, 0)
    child.lease(ONE, 4, lease=9)
    assert child.fetching.leases() == {9}
    assert child.asks() == []
    (done,) = child.takes(ONE, 4, 1)
    assert (done.lease, done.piece) == (9, 4)


def test_a_piece_granted_from_another_parent_moves(child: Child) -> None:
    child.lease(ONE, 4)
    child.asks()
    child.takes(ONE, 4, 0)
    child.lease(TWO, 4, lease=9)
    assert child.asks() == [(TWO, 4, 0, 1), (TWO, 4, 1, 1)]
    assert child.expects(ONE, 4, 1) is None
    child.takes(TWO, 4, 0)
    (done,) = child.takes(TWO, 4, 1)
    assert (done.parent, done.lease) == (TWO, 9)


def test_a_refused_piece_without_another_holder_is_lost(child: Child) -> None:
    child.lease(ONE, 0, 4)
    child.asks()
    child.holders = {0: [ONE, "not connected"]}
    assert child.fetching.refused(ONE, TASK, 0, child.now) == [lost(0, ONE, PieceFailure.REFUSED)]
    child.fetching.validate()
    assert child.fetching.refused(ONE, TASK, 0, child.now) == []
    assert child.fetching.refused(TWO, TASK, 4, child.now) == []
    assert child.fetching.refused(ONE, OTHER, 4, child.now) == []
    assert len(child.fetching) == 1


def test_late_refusals_of_a_lost_piece_do_not_refuse_its_next_lease(child: Child) -> None:
    child.lease(ONE, 4)
    child.asks()
    assert child.fetching.refused(ONE, TASK, 4, child.now) == [lost(4, ONE, PieceFailure.REFUSED)]
    child.lease(ONE, 4, lease=8)
    assert child.asks() == [(ONE, 4, 0, 1)]
    assert child.fetching.refused(ONE, TASK, 4, child.now) == []
    assert child.asks() == [(ONE, 4, 1, 1)]
    assert child.takes(ONE, 4, 0) == []
    (done,) = child.takes(ONE, 4, 1)
    assert isinstance(done, Done)
    assert done.lease == 8


def test_a_refused_piece_is_asked_of_the_least_busy_holder_before_it_is_lost(child: Child) -> None:
    child.lease(ONE, 0)
    child.lease(TWO, 1, 2)
    child.lease(THREE, 3)
    child.asks()
    child.holders = {0: [ONE, TWO, THREE]}
    assert child.fetching.refused(ONE, TASK, 0, child.now) == []
    assert child.asks() == [(THREE, 0, block, 1) for block in range(4)]
    assert child.fetching.refused(THREE, TASK, 0, child.now) == []
    assert child.asks() == [(TWO, 0, block, 1) for block in range(4)]
    assert child.fetching.refused(TWO, TASK, 0, child.now) == [lost(0, TWO, PieceFailure.REFUSED)]


def test_a_piece_is_not_asked_of_others_for_ever(child: Child) -> None:
    parents = [ONE, TWO, THREE, "four"]
    for number, parent in enumerate(parents):
        child.lease(parent, number)
    child.holders = {0: parents}
    fates: list[Done | Lost] = []
    tries = 0
    while not fates:
        tries += 1
        child.asks()
        (parent,) = [name for name in parents if child.fetching._jobs[TASK, 0].parent == name]
        fates = [fate for fate in child.fetching.refused(parent, TASK, 0, child.now) if fate.piece == 0]
    assert tries == 3
    assert isinstance(fates[0], Lost)


def test_a_parent_that_is_gone_loses_what_no_other_has(child: Child) -> None:
    child.lease(ONE, 0, 1)
    child.lease(TWO, 2)
    child.asks()
    child.holders = {1: [ONE, TWO]}
    assert child.fetching.parent_gone(ONE) == [lost(0, ONE, PieceFailure.GONE)]
    child.fetching.validate()
    assert child.asks() == [(TWO, 1, block, 1) for block in range(4)]
    assert child.fetching.parent_gone(ONE) == []
    assert child.fetching.parent_gone(TWO, PieceFailure.STALLED) == [
        lost(2, TWO, PieceFailure.STALLED),
        lost(1, TWO, PieceFailure.STALLED),
    ]
    assert len(child.fetching) == 0


def stalls_at(child: Child) -> float | None:
    """When the first parent stalls, looked up now. Until then nobody has."""
    assert child.fetching.stalled(child.now) == []
    return child.fetching.next_deadline()


def test_a_parent_that_never_answers_stalls_after_ten_seconds(child: Child) -> None:
    child.lease(ONE, 0)
    assert stalls_at(child) is None
    child.now += 60.0  # it owes nothing yet
    assert stalls_at(child) is None
    child.asks()
    deadline = child.fetching.next_deadline()
    assert deadline is not None
    assert deadline <= child.now + 10.0
    assert stalls_at(child) == child.now + 10.0
    assert child.fetching.stalled(child.now + 9.999) == []
    assert child.fetching.stalled(child.now + 10.0) == [ONE]


def test_a_parent_that_falls_silent_stalls_after_some_times_of_what_it_should_take(child: Child) -> None:
    child.lease(ONE, 0)
    child.asks()
    child.now += 8.0
    child.takes(ONE, 0, 0)
    # 128 bytes a second and 3072 owed: eight times the 24 s that this takes.
    assert stalls_at(child) == child.now + 8 * 24.0


def test_a_quick_parent_has_some_seconds_all_the_same(child: Child) -> None:
    child.lease(ONE, 0)
    child.asks()
    child.now += 0.001
    child.takes(ONE, 0, 0)
    assert stalls_at(child) == child.now + 5.0


def test_a_lease_to_an_idle_parent_begins_its_patience_anew(child: Child) -> None:
    child.lease(ONE, 4)
    child.asks()
    child.now += 1.0
    child.takes(ONE, 4, 0)
    child.takes(ONE, 4, 1)
    child.now += 3600.0
    child.lease(ONE, 0)
    child.asks()
    assert child.fetching.stalled(child.now) == []


def test_a_lease_to_a_parent_that_owes_does_not_renew_its_patience(child: Child) -> None:
    child.lease(ONE, 0)
    child.asks()
    child.now += 9.0
    child.lease(ONE, 1)
    child.asks()
    assert child.fetching.stalled(child.now + 1.0) == [ONE]


def test_a_parent_is_idle_when_nothing_is_leased_and_nothing_owed(child: Child) -> None:
    child.lease(ONE, 4)
    assert child.fetching.idle_parents() == []
    child.asks()
    child.fetching.drop_task(TASK)
    assert child.fetching.idle_parents() == []
    for block in (0, 1):
        assert child.expects(ONE, 4, block) is None
    assert child.fetching.idle_parents() == [ONE]
    child.fetching.forget(ONE)
    child.fetching.forget(ONE)
    assert child.fetching.idle_parents() == []


def test_dropping_a_task_leaves_others(child: Child) -> None:
    child.lease(ONE, 0)
    child.lease(ONE, 1, task=OTHER, lease=8)
    child.fetching.drop_task(TASK)
    assert child.fetching.leases() == {8}
    child.fetching.validate()


@pytest.mark.parametrize("parent_is_known", [True, False])
def test_validate_sees_a_broken_index(child: Child, parent_is_known: bool) -> None:
    child.lease(ONE, 0)
    child.asks()
    at = child.fetching._parents[ONE]
    if parent_is_known:
        at.credit.in_flight += 1
    else:
        at.jobs.clear()
    with pytest.raises(AssertionError):
        child.fetching.validate()
