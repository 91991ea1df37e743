"""Whether compressing is tried: always where it pays, seldom where it does not, never for ever and never never again."""

from hypothesis import given
from hypothesis import strategies as st

from worker_peer.core.compressing import WORTH_IT, Compressing

TASK, OTHER = "a" * 64, "b" * 64


def vain_tries(made: Compressing, answers: int, task: str = TASK) -> int:
    """How many of so many answers are tried, none of which shrinks."""
    tries = 0
    for _ in range(answers):
        if made.tries(task):
            tries += 1
            assert not made.tried(task, 1000, 1000)
    return tries


def test_what_does_not_shrink_is_tried_less_and_less_but_again_and_again() -> None:
    made = Compressing()
    assert vain_tries(made, 1000) < 16
    assert vain_tries(made, 1280) in (9, 10, 11), "still every 128th"


def test_what_shrinks_is_tried_every_time_and_one_part_that_does_not_costs_one_answer() -> None:
    made = Compressing()
    assert [made.tries(TASK) and made.tried(TASK, 1000, 500) for _ in range(50)] == [True] * 50
    assert made.tries(TASK)
    assert not made.tried(TASK, 1000, 1004)
    assert [made.tries(TASK), made.tries(TASK)] == [False, True]


def test_contents_do_not_know_of_each_other() -> None:
    made = Compressing()
    vain_tries(made, 100)
    assert made.tries(OTHER)


@given(size=st.integers(1, 1 << 24), packed=st.integers(1, 1 << 24))
def test_it_pays_from_a_tenth_less(size: int, packed: int) -> None:
    assert Compressing().tried(TASK, size, packed) == (packed <= WORTH_IT * size)


def test_memory_is_bounded() -> None:
    made = Compressing()
    for number in range(3000):
        vain_tries(made, 1, f"{number:064x}")
    assert len(made._skips) == 1024
    assert made.tries(f"{0:064x}"), "the oldest are forgotten"
    assert not made.tries(f"{2999:064x}")
