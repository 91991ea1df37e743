"""TokenBucket holds its rate exactly: whatever is asked, whenever."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker_peer.host.limits import TokenBucket, lowest

MIB = 1 << 20
TAKES = st.lists(st.tuples(st.integers(0, 4 * MIB), st.floats(0, 5)), min_size=1, max_size=60)


@given(rate=st.integers(1, 10**9), burst=st.integers(0, 8 * MIB), takes=TAKES)
def test_never_more_than_rate_times_time_and_one_burst(rate: int, burst: int, takes: list[tuple[int, float]]) -> None:
    bucket = TokenBucket(rate, burst)
    now = 0.0
    passed: list[tuple[float, int]] = []
    for size, pause in takes:
        now += pause
        passed.append((now + bucket.take(size, now), size))
    total = 0
    for at, size in sorted(passed):
        total += size
        assert total <= (rate * at + burst) * (1 + 1e-9) + 1e-3


@given(rate=st.integers(1, 10**9), sizes=st.lists(st.integers(1, 4 * MIB), min_size=1, max_size=60))
def test_a_taker_that_waits_as_told_loses_nothing(rate: int, sizes: list[int]) -> None:
    bucket = TokenBucket(rate, 0)
    now = 0.0
    for size in sizes:
        now += bucket.take(size, now)
    assert now == pytest.approx(sum(sizes) / rate, rel=1e-6)


@pytest.mark.parametrize("rate", [64 << 10, 1_000_000, 20 * MIB, 1 << 30])
def test_ten_seconds_hold_the_rate_within_two_percent(rate: int) -> None:
    bucket = TokenBucket(rate)
    now, total = 0.0, 0
    size = max(1, rate // 100)
    while now < 10.0:
        now += bucket.take(size, now)
        total += size
    assert total / now == pytest.approx(rate, rel=0.02)


def test_takers_at_one_moment_are_served_in_order() -> None:
    bucket = TokenBucket(100, 0)
    assert [bucket.take(100, 5.0) for _ in range(3)] == [1.0, 2.0, 3.0]
    assert bucket.ready_in(5.0) == 3.0
    assert bucket.ready_in(7.5) == 0.5
    assert bucket.ready_in(99.0) == 0.0


def test_a_pause_saves_up_one_burst_and_no_more() -> None:
    bucket = TokenBucket(100, 50)
    bucket.take(50, 0.0)
    assert bucket.take(50, 1000.0) == 0.0
    assert bucket.take(100, 1000.0) == 1.0


def test_zero_is_not_limited() -> None:
    bucket = TokenBucket(0)
    assert bucket.take(1 << 50, 0.0) == 0.0
    assert bucket.ready_in(0.0) == 0.0


def test_debt_is_paid_at_the_new_rate_and_forgotten_without_one() -> None:
    bucket = TokenBucket(100, 0)
    bucket.take(200, 0.0)
    bucket.set_rate(50, 1.0)
    assert bucket.rate == 50
    assert bucket.ready_in(1.0) == 2.0
    bucket.set_rate(0, 1.0)
    assert bucket.take(10**9, 1.0) == 0.0
    bucket.set_rate(100, 2.0)
    assert bucket.take(100, 2.0) == 1.0


def test_what_was_not_needed_is_given_back_up_to_the_burst() -> None:
    bucket = TokenBucket(100, 50)
    bucket.take(250, 0.0)
    bucket.give_back(150)
    assert bucket.ready_in(0.0) == 0.5
    bucket.give_back(10_000)
    assert bucket.take(150, 0.0) == 1.0


def test_whoever_asks_takes_only_when_nothing_is_owed() -> None:
    bucket = TokenBucket(100, 0)
    assert bucket.ask("a", 200, 0.0) == 0.0
    assert [bucket.ask("b", 100, 0.0), bucket.ask("b", 100, 1.5)] == [2.0, 0.5]
    assert bucket.ask("b", 100, 2.0) == 0.0
    assert bucket.ready_in(2.0) == 1.0
    assert TokenBucket(0).ask("a", 1 << 50, 0.0) == 0.0


@pytest.mark.parametrize(("rates", "expected"), [((), 0), ((0, 0), 0), ((5,), 5), ((0, 9, 5), 5)])
def test_the_lowest_of_several_limits_holds(rates: tuple[int, ...], expected: int) -> None:
    assert lowest(*rates) == expected


def test_a_clock_that_steps_back_gives_no_seconds_twice() -> None:
    bucket = TokenBucket(100, 0)
    bucket.take(1000, 10.0)
    assert bucket.ready_in(12.0) == 8.0
    assert bucket.ready_in(11.0) == 8.0
    assert bucket.ready_in(12.0) == 8.0


@pytest.mark.parametrize("make", [lambda: TokenBucket(-1), lambda: TokenBucket(1, -1), lambda: TokenBucket(1).take(-1, 0.0)])
def test_negative_numbers_are_refused(make: object) -> None:
    assert callable(make)
    with pytest.raises(ValueError):
        make()
