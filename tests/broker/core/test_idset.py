"""IdSet against Python's own set."""

import random

from hypothesis import given
from hypothesis import strategies as st

from broker.core.idset import IdSet


@given(st.lists(st.tuples(st.sampled_from(["add", "discard", "put", "take"]), st.integers(0, 9))))
def test_it_is_a_set(steps: list[tuple[str, int]]) -> None:
    made: IdSet[int] = IdSet()
    model: set[int] = set()
    for step, item in steps:
        match step:
            case "add":
                made.add(item)
                model.add(item)
            case "discard":
                made.discard(item)
                model.discard(item)
            case "put":
                made.put(item, True)
                model.add(item)
            case _:
                made.put(item, False)
                model.discard(item)
        made.validate()
        assert set(made.items) == model
        assert len(made) == len(model)
        assert all((number in made) == (number in model) for number in range(10))


def test_a_sample_is_all_of_a_small_set_and_random_members_of_a_large_one() -> None:
    made: IdSet[int] = IdSet()
    for item in range(100):
        made.add(item)
    rng = random.Random(1)
    assert sorted(made.sample(100, rng)) == list(range(100))
    drawn = [item for _ in range(300) for item in made.sample(8, rng)]
    assert len(drawn) == 2400
    assert set(drawn) == set(range(100)), "every member can be drawn"


def test_windows_meet_every_member_in_turn() -> None:
    made: IdSet[int] = IdSet()
    for item in range(10):
        made.add(item)
    assert made.window(8, 4) == [8, 9, 0, 1]
    assert made.window(18, 4) == [8, 9, 0, 1]
    assert made.window(3, 99) == list(range(10))
    met = {item for start in range(0, 12, 4) for item in made.window(start, 4)}
    assert met == set(range(10))
