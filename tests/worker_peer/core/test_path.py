"""What a child has in flight: enough that the way is never idle, not so much that a queue grows in front of it."""

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.credit import MAX_CREDIT_BYTES
from worker_peer.core.path import Path

BLOCK = 1 << 16
FIRST = 4 * BLOCK


class Link:
    """A link of a fixed rate and delay, which a child uses as its path says."""

    def __init__(self, rate: float, delay_s: float) -> None:
        self.rate, self.delay_s = rate, delay_s
        self.now = 50.0
        self.path = Path(self.now)
        self.free_at = self.now
        self.on_the_way: deque[tuple[float, float, int]] = deque()

    def carry(self, seconds: float) -> int:
        """Keep as much in flight as the path says, for so long. The bytes that came."""
        end, came = self.now + seconds, 0
        while self.now < end:
            while not self.on_the_way or (len(self.on_the_way) + 1) * BLOCK <= self.path.credit(FIRST):
                if not self.on_the_way:
                    self.path.busy_again(self.now)
                begins = max(self.free_at, self.now + self.delay_s)
                self.free_at = begins + BLOCK / self.rate
                self.on_the_way.append((self.free_at, self.now, BLOCK))
            arrives, asked_at, size = self.on_the_way.popleft()
            self.now = max(self.now, arrives)
            self.path.arrived(size, asked_at, self.now)
            came += size
        return came


def test_before_anything_has_come_the_first_credit_holds() -> None:
    path = Path(0.0)
    assert (path.rate, path.credit(FIRST), path.run(FIRST)) == (0.0, FIRST, FIRST // 2)


@pytest.mark.parametrize("rate", [1e6, 1e7, 1.25e8, 1.25e9])
@pytest.mark.parametrize("delay_s", [0.0002, 0.001, 0.01])
def test_a_link_is_kept_busy_and_not_flooded(rate: float, delay_s: float) -> None:
    link = Link(rate, delay_s)
    link.carry(1.0)
    came = link.carry(1.0)
    assert came > 0.75 * rate or link.path.credit(FIRST) == MAX_CREDIT_BYTES
    # What the way holds, one block, and a fifth of a second at most of queue.
    assert link.path.credit(FIRST) <= rate * (delay_s + 0.2) + 2 * BLOCK


def test_a_pause_is_no_part_of_the_rate() -> None:
    link = Link(1e7, 0.001)
    link.carry(2.0)
    before = link.path.rate
    link.path.idle(link.now)
    link.now += 60.0
    link.on_the_way.clear()
    link.carry(0.5)
    assert link.path.rate > 0.5 * before


def test_a_rate_is_learned_although_each_answer_is_followed_by_a_pause() -> None:
    """As where one request is in flight at a time: each of them alone is too short to measure a rate by."""
    path, now = Path(0.0), 0.0
    for number in range(200):
        path.busy_again(now)
        asked_at, now = now, now + (0.05 if number < 3 else 0.005)
        path.arrived(50_000, asked_at, now)
        path.idle(now)
        now += 0.3
    assert path.rate == pytest.approx(1e7, rel=0.05)


#: A clock's steps: none, or at least a nanosecond.
SECONDS = st.just(0.0) | st.floats(1e-9, 20)


@given(st.lists(st.tuples(st.integers(0, 1 << 24), SECONDS, SECONDS), min_size=1, max_size=30))
def test_credit_is_never_nothing_and_never_too_much(arrivals: list[tuple[int, float, float]]) -> None:
    path, now = Path(0.0), 0.0
    for size, wait, delay in arrivals:
        now += wait
        path.arrived(size, now - delay, now)
        assert 1 <= path.credit(FIRST) <= MAX_CREDIT_BYTES
        assert 0 <= path.run(FIRST) <= path.credit(FIRST)
        assert path.rate >= 0
