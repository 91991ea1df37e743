"""The budget: never more than the rate and one burst, nothing lost while it is used."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core import zone_budget
from broker.core.zone_budget import BURST_S, ZoneBudget


def test_what_is_spent_is_earned_again_at_the_rate() -> None:
    budget = ZoneBudget(100.0)
    budget.spend("a", 250.0, 10.0)
    assert budget.left("a", 10.0) == -150.0
    assert budget.left("a", 11.0) == -50.0
    assert budget.left("a", 12.0) == 50.0
    assert budget.left("a", 99.0) == 100.0 * BURST_S
    assert budget.left("b", 10.0) == 100.0 * BURST_S, "each zone has its own"


def test_a_broken_promise_is_given_back_and_no_more_is_kept_than_a_burst() -> None:
    budget = ZoneBudget(100.0)
    budget.spend("a", 60.0, 0.0)
    budget.spend("a", -60.0, 0.0)
    budget.spend("a", -60.0, 0.0)
    assert budget.left("a", 0.0) == 100.0


def test_a_budget_of_nothing_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="lets nothing in"):
        ZoneBudget(0.0)


def test_accounts_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zone_budget, "_ACCOUNTS", 10)
    budget = ZoneBudget(1.0)
    budget.spend("busy", 1e9, 0.0)
    for number in range(100):
        budget.spend(f"zone-{number}", 0.5, float(number))
        assert len(budget) <= 10
    assert budget.left("busy", 100.0) < 0, "those that are full again went first"


@given(
    rate=st.floats(1, 1e6),
    steps=st.lists(st.tuples(st.floats(0, 5), st.floats(1, 1e5)), min_size=1, max_size=50),
)
def test_over_any_time_no_more_than_rate_burst_and_one_piece(rate: float, steps: list[tuple[float, float]]) -> None:
    budget, now, spent = ZoneBudget(rate), 0.0, 0.0
    largest = max(amount for _, amount in steps)
    for wait, amount in steps:
        now += wait
        if budget.left("a", now) > 0:
            budget.spend("a", amount, now)
            spent += amount
        assert spent <= rate * (now + BURST_S) + largest + 1e-3
