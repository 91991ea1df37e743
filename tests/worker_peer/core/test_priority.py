"""Who makes way for whom: the rule by itself, and the bytes that it gives on a link of virtual time."""

from collections import Counter, deque
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from wire.messages import Blocks
from wire.pieces import PieceLayout
from worker_peer.core.fetching import Fetching
from worker_peer.core.priority import LIVE_FOR_ONE, Priority
from worker_peer.host.limits import TokenBucket

LIVE, OTHER, WARM, WARM_TOO = "live", "other", "warm", "warm too"


def priority(*background: str) -> Priority:
    made = Priority()
    for task in background:
        made.classify(task, background=True, wants=False)
        made.began(task)
    return made


# -- the rule ---------------------------------------------------------------------------------------------------------------


def test_alone_the_background_waits_for_nobody() -> None:
    rule_ = priority(WARM)
    rule_.took(WARM, 1 << 30)
    assert not rule_.must_wait(WARM)


def test_beside_a_live_task_it_has_one_byte_for_so_many_of_it() -> None:
    rule_ = priority(WARM)
    rule_.began(LIVE)
    assert rule_.must_wait(WARM)
    assert not rule_.must_wait(LIVE)
    rule_.took(LIVE, LIVE_FOR_ONE)
    assert not rule_.must_wait(WARM)
    rule_.took(WARM, 2)
    assert rule_.must_wait(WARM)
    rule_.took(LIVE, LIVE_FOR_ONE)
    assert rule_.must_wait(WARM), "what was too much is made good"
    rule_.took(LIVE, LIVE_FOR_ONE)
    assert not rule_.must_wait(WARM)


def test_what_live_tasks_leave_by_their_own_limits_is_free() -> None:
    rule_ = priority(WARM)
    rule_.began(LIVE)
    rule_.began(OTHER)
    rule_.limited(LIVE, by_own_limit=True)
    assert rule_.must_wait(WARM), "the other one would take it"
    rule_.limited(OTHER, by_own_limit=True)
    assert not rule_.must_wait(WARM)
    rule_.took(OTHER, 1)
    rule_.took(WARM, 1)
    assert rule_.must_wait(WARM)
    rule_.limited(OTHER, by_own_limit=True)
    assert not rule_.must_wait(WARM)
    rule_.limited(LIVE, by_own_limit=False)
    assert rule_.must_wait(WARM), "now it waits for the host's limit, which others must not use up"


def test_a_task_that_somebody_waits_for_from_now_on_makes_way_no_more() -> None:
    rule_ = priority(WARM, WARM_TOO)
    rule_.classify(WARM, background=False, wants=True)
    assert not rule_.must_wait(WARM)
    assert rule_.must_wait(WARM_TOO)
    rule_.classify(WARM, background=True, wants=True)
    assert not rule_.must_wait(WARM_TOO)


def test_the_end_of_the_last_live_task_opens_the_way_and_forgets_what_was_owed() -> None:
    rule_ = priority(WARM)
    rule_.began(LIVE)
    rule_.took(WARM, 1 << 20)
    rule_.ended(LIVE)
    assert not rule_.must_wait(WARM)
    rule_.began(LIVE)
    rule_.took(LIVE, LIVE_FOR_ONE)
    assert not rule_.must_wait(WARM)
    rule_.forget(WARM)
    assert not rule_.has_background


def test_an_idle_background_saves_up_no_burst() -> None:
    rule_ = priority(WARM)
    rule_.began(LIVE)
    rule_.took(LIVE, 1 << 40)
    rule_.took(WARM, 256 << 10)
    assert rule_.must_wait(WARM)


class PriorityMachine(RuleBasedStateMachine):
    """Tasks begin, end, take and change their class in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.priority = Priority()
        self.wants: set[str] = set()
        self.background: set[str] = set()
        self.had: Counter[bool] = Counter()

    tasks = st.sampled_from([LIVE, OTHER, WARM, WARM_TOO])

    @rule(task=tasks)
    def begin(self, task: str) -> None:
        self.wants.add(task)
        self.priority.began(task)

    @rule(task=tasks)
    def end(self, task: str) -> None:
        self.wants.discard(task)
        self.priority.ended(task)

    @rule(task=tasks, background=st.booleans())
    def classify(self, task: str, background: bool) -> None:
        (self.background.add if background else self.background.discard)(task)
        self.priority.classify(task, background=background, wants=task in self.wants)

    @rule(task=tasks, size=st.sampled_from([1, 4096, 1 << 22]))
    def take(self, task: str, size: int) -> None:
        if task in self.wants and not self.priority.must_wait(task):
            self.priority.took(task, size)

    @rule(task=tasks, own=st.booleans())
    def limit(self, task: str, own: bool) -> None:
        self.priority.limited(task, by_own_limit=own)

    @invariant()
    def nobody_live_waits_and_nobody_waits_for_nothing(self) -> None:
        self.priority.validate()
        live = self.wants - self.background
        assert self.priority.has_live == bool(live)
        for task in (LIVE, OTHER, WARM, WARM_TOO):
            if self.priority.must_wait(task):
                assert task in self.background
                assert live, "it waits for nobody"


TestPriorityMachine = PriorityMachine.TestCase
TestPriorityMachine.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


# -- on a link --------------------------------------------------------------------------------------------------------------

BLOCK = 128 << 10
LAYOUT = PieceLayout(4096 * BLOCK, 4 * BLOCK, BLOCK)


@dataclass
class Link:
    """A child whose only link carries `rate` bytes per second, in the order of the requests, from as many parents as wanted."""

    rate: float
    delay_s: float = 0.01
    total: TokenBucket = field(default_factory=lambda: TokenBucket(0))
    background: TokenBucket = field(default_factory=lambda: TokenBucket(0))
    own: dict[str, TokenBucket] = field(default_factory=dict)
    now: float = 0.0
    free_at: float = 0.0
    got: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.fetching = Fetching(self._wait_for, lambda *_: [])
        self._queue: deque[tuple[float, str, Blocks, int]] = deque()

    def _wait_for(self, task: str, size: int, now: float) -> float:
        """As the exchange does it (block_fetcher.py)."""
        warm = self.fetching.priority.is_background(task)
        buckets = [self.own.setdefault(task, TokenBucket(0)), *([self.background] if warm else [])]
        own = max(bucket.ready_in(now) for bucket in buckets)
        self.fetching.priority.limited(task, by_own_limit=own > 0)
        wait = max(own, self.total.ready_in(now))
        if wait > 0:
            return wait
        for bucket in [*buckets, self.total]:
            bucket.take(size, now)
        return 0.0

    def wants(self, task: str, *parents: str, background: bool = False) -> None:
        """All of a content is leased, its pieces from the parents in turn."""
        self.fetching.classify(task, background=background)
        for number, parent in enumerate(parents):
            pieces = range(number, LAYOUT.piece_count, len(parents))
            wanted = [(piece, bytes(32 * LAYOUT.block_count(piece))) for piece in pieces]
            self.fetching.lease(task, number, parent, LAYOUT, wanted, self.now)

    def run(self, seconds: float) -> Counter[str]:
        """Bytes that came meanwhile, by task."""
        end, before = self.now + seconds, Counter(self.got)
        self._ask()
        while self.now < end:
            due = self.fetching.next_deadline()
            arrives = self._queue[0][0] if self._queue else end
            # Rounded up, as the exchange does it: a moment that is not one would never pass.
            self.now = min(end, arrives, max(due, self.now + 1e-4) if due is not None else end)
            while self._queue and self._queue[0][0] <= self.now:
                _, parent, message, size = self._queue.popleft()
                job = self.fetching.expects(parent, message, size, self.now)
                if job is None:
                    continue  # nobody wants it any more
                self.got[message.task] += size
                self.fetching.stored(job, message.count, self.now)
            self._ask()
        self.fetching.validate()
        return self.got - before

    def _ask(self) -> None:
        for ask in self.fetching.asks(self.now):
            request = ask.request
            size = LAYOUT.run_span(request.piece, request.first, request.count)[1]
            self.free_at = max(self.free_at, self.now + self.delay_s) + size / self.rate
            message = Blocks(task=request.task, piece=request.piece, first=request.first, count=request.count)
            self._queue.append((self.free_at, ask.parent, message, size))


@pytest.mark.parametrize("parents", [("seed",), ("seed", "one", "two")])
def test_a_live_pull_on_a_full_link_is_slowed_by_three_per_cent_at_most(parents: tuple[str, ...]) -> None:
    alone = Link(20e6)
    alone.wants(LIVE, *parents)
    unhindered = alone.run(4.0)[LIVE]
    link = Link(20e6)
    link.wants(WARM, *parents, background=True)
    link.wants(WARM_TOO, "four", "five", background=True)
    assert link.run(2.0)[LIVE] == 0
    link.wants(LIVE, *parents)
    got = link.run(4.0)
    assert unhindered == pytest.approx(20e6 * 4, rel=0.02)
    assert got[LIVE] >= 0.95 * unhindered
    assert 0 < got[WARM] + got[WARM_TOO] <= got[LIVE] / LIVE_FOR_ONE + 2 * BLOCK + link.rate * 0.2
    link.fetching.drop_task(LIVE)
    assert sum(link.run(2.0).values()) >= 0.9 * link.rate * 2, "and it has all of it again afterwards"


def test_under_the_hosts_limit_a_live_pull_comes_first() -> None:
    link = Link(100e6, total=TokenBucket(10_000_000))
    link.wants(WARM, "one", background=True)
    assert link.run(1.0)[WARM] == pytest.approx(10e6, rel=0.1)
    link.wants(LIVE, "seed")
    got = link.run(4.0)
    assert got[LIVE] >= 0.95 * 10e6 * 4
    assert got[LIVE] + got[WARM] <= 10e6 * 4.1


def test_what_a_live_pull_leaves_by_its_own_limit_goes_to_the_background() -> None:
    link = Link(100e6, total=TokenBucket(10_000_000), own={LIVE: TokenBucket(4_000_000)})
    link.wants(WARM, "one", background=True)
    link.wants(LIVE, "seed")
    got = link.run(4.0)
    assert got[LIVE] == pytest.approx(4e6 * 4, rel=0.05)
    assert got[WARM] == pytest.approx(6e6 * 4, rel=0.05)


def test_all_warming_together_holds_its_rate() -> None:
    link = Link(100e6, background=TokenBucket(3_000_000))
    link.wants(WARM, "one", background=True)
    link.wants(WARM_TOO, "two", background=True)
    got = link.run(4.0)
    assert sum(got.values()) == pytest.approx(3e6 * 4, rel=0.05)
    assert min(got[WARM], got[WARM_TOO]) >= 0.9 * 1.5e6 * 4, "in equal shares"
    # Somebody waits for one of them: it is bound by that rate no more.
    link.fetching.classify(WARM, background=False)
    assert link.run(1.0)[WARM] >= 0.9 * 100e6
