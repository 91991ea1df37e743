"""Rarity: buckets follow the counts, and the rarest is found."""

from hypothesis import given
from hypothesis import strategies as st

from broker.core.rarity import Rarity


@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), max_size=200), st.integers(1, 127), st.floats(0, 0.999))
def test_the_rarest_of_any_candidates_is_found(steps: list[tuple[int, bool]], candidates: int, draw: float) -> None:
    rarity = Rarity(7)
    counts = [0] * 7
    for piece, more in steps:
        if more:
            counts[piece] += 1
            assert rarity.add(piece) == counts[piece]
        elif counts[piece]:
            counts[piece] -= 1
            rarity.remove(piece)
    rarity.validate()
    assert rarity.copies == counts
    bucket, piece = rarity.rarest(candidates, draw)
    assert candidates >> piece & 1
    assert bucket == counts[piece].bit_length()
    assert bucket == min(counts[each].bit_length() for each in range(7) if candidates >> each & 1)


def test_the_draw_picks_among_equals() -> None:
    rarity = Rarity(10)
    found = {rarity.rarest(0b1001001001, number / 10)[1] for number in range(10)}
    assert found == {0, 3, 6, 9}
