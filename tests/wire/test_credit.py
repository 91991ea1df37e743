"""Credit: the arithmetic, and that nothing is ever conjured up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.strategies import patient
from wire.credit import MAX_CREDIT_BYTES, Credit


def test_requests_fit_until_the_limit_and_no_further() -> None:
    credit = Credit(100)
    credit.spend(60)
    assert credit.allows(40)
    assert not credit.allows(41)
    credit.give_back(60)
    assert credit.in_flight == 0


def test_one_request_is_always_allowed() -> None:
    credit = Credit(100)
    assert credit.allows(1_000)
    credit.spend(1_000)
    assert not credit.allows(0)


def test_the_limit_is_bounded() -> None:
    assert Credit(1 << 40).limit == MAX_CREDIT_BYTES
    assert Credit(0).limit == Credit(-5).limit == 1


def test_more_back_than_in_flight_is_a_bug() -> None:
    credit = Credit(100)
    credit.spend(5)
    with pytest.raises(ValueError, match="6 bytes back of 5 in flight"):
        credit.give_back(6)
    assert credit.in_flight == 5


@given(st.lists(st.integers(0, 300), max_size=50), st.integers(1, 500))
@patient
def test_asking_only_when_allowed_keeps_the_bound(sizes: list[int], limit: int) -> None:
    credit = Credit(limit)
    asked: list[int] = []
    for size in sizes:
        if not credit.allows(size):
            credit.give_back(asked.pop(0))
            continue
        credit.spend(size)
        asked.append(size)
        assert credit.in_flight == sum(asked)
        assert credit.in_flight <= limit or len([each for each in asked if each]) == 1
