"""A shared limit is exact and fair whoever asks how; what the host may move follows what was configured and what is left."""

import heapq
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker_peer.host_limits import FairLimit, HostLimits

MIB = 1 << 20
SECONDS = 10.0


def run(limit: FairLimit, sizes: dict[str, int], *, seconds: float = SECONDS, late_s: float = 0.001) -> dict[str, int]:
    """Bytes that each has had after so long, when all ask again as soon as they are told to, or a moment later."""
    had = dict.fromkeys(sizes, 0)
    wakes = [(0.0, number, name) for number, name in enumerate(sizes)]
    heapq.heapify(wakes)
    while wakes[0][0] < seconds:
        now, number, name = heapq.heappop(wakes)
        wait = limit.ask(name, sizes[name], now)
        if wait == 0:
            had[name] += sizes[name]
        heapq.heappush(wakes, (now + wait + late_s, number, name))
    return had


@given(rate=st.integers(2 * MIB, 1 << 30), takers=st.integers(1, 12))
def test_ten_seconds_hold_the_rate_within_two_percent(rate: int, takers: int) -> None:
    had = run(FairLimit(rate), {f"t{number}": max(1, rate // 100) for number in range(takers)})
    assert sum(had.values()) == pytest.approx(rate * SECONDS, rel=0.02)


def test_each_gets_as_much_whatever_its_requests_are() -> None:
    sizes = {"small": 16 << 10, "middle": 128 << 10, "large": MIB}
    had = run(FairLimit(8 * MIB), sizes)
    for name, size in sizes.items():
        # To within one request of the largest, in which the others cannot be served.
        assert had[name] == pytest.approx(8 * MIB * SECONDS / 3, abs=MIB + size), had


def test_who_comes_late_gets_a_share_from_then_on_and_nothing_of_what_was() -> None:
    limit = FairLimit(MIB)
    run(limit, {"first": 16 << 10}, seconds=5.0)
    at = 5.0
    had = {"first": 0, "late": 0}
    while at < 10.0:
        for name in had:
            had[name] += (16 << 10) if limit.ask(name, 16 << 10, at) == 0 else 0
        at += 0.002
    assert had["late"] == pytest.approx(had["first"], rel=0.05)
    assert sum(had.values()) == pytest.approx(5 * MIB, rel=0.02)


def test_who_is_told_to_come_back_and_does_not_holds_nobody_up() -> None:
    limit = FairLimit(MIB)
    assert limit.ask("gone", MIB, 0.0) == 0.0
    assert limit.ask("here", 1000, 0.0) > 0
    assert limit.ask("gone", 1000, 0.0) > 0
    limit.ask("gone", 0, 0.0)
    had = run(limit, {"here": 16 << 10}, seconds=11.0)
    assert had["here"] == pytest.approx(10 * MIB, rel=0.02)


def test_whoever_was_away_begins_where_the_others_are() -> None:
    limit = FairLimit(MIB)
    assert limit.ask("a", 10, 0.0) == 0
    for second in range(1, 60):
        assert limit.ask("b", MIB // 2, float(second)) == 0
    limit.ask("c", 1, 60.0)
    assert limit._turns.had("a") == 0, "its count has gone with it, nothing grows for ever"
    assert limit._turns.had("c") >= 59 * MIB // 2
    assert set(limit._asked_at) == {"b", "c"}


def test_zero_is_not_limited() -> None:
    limit = FairLimit(0)
    assert (limit.rate, limit.ask("a", 1 << 50, 0.0), limit.ready_in(0.0)) == (0, 0.0, 0.0)


def rates(limits: HostLimits) -> tuple[int, int]:
    return limits.down.rate, limits.up.rate


def changed(change: Callable[[HostLimits], None], **configured: int) -> tuple[int, int]:
    limits = HostLimits(**configured)
    change(limits)
    return rates(limits)


@pytest.mark.parametrize(
    ("configured", "expected"),
    [
        ({}, (0, 0)),
        ({"total_rate": 5}, (5, 5)),
        ({"total_rate": 5, "upload_rate": 7}, (5, 7)),
        ({"upload_rate": 7}, (0, 7)),
    ],
)
def test_the_total_holds_for_each_direction(configured: dict[str, int], expected: tuple[int, int]) -> None:
    assert rates(HostLimits(**configured)) == expected


def test_the_least_of_all_limits_holds() -> None:
    assert changed(lambda limits: limits.set_total(9, 0.0), total_rate=5) == (9, 9)
    assert changed(lambda limits: limits.set_total(9, 0.0), upload_rate=7) == (9, 7)
    assert changed(lambda limits: limits.yield_to(3, 4, 0.0)) == (3, 4)
    assert changed(lambda limits: limits.yield_to(30, 4, 0.0), total_rate=5) == (5, 4)

    def and_back(limits: HostLimits) -> None:
        limits.yield_to(1, 1, 0.0)
        limits.yield_to(0, 0, 1.0)

    assert changed(and_back, total_rate=5, upload_rate=6) == (5, 6)
    assert changed(and_back) == (0, 0)
