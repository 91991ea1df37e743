"""Arrival against a model that keeps one flag per byte."""

from hypothesis import given
from hypothesis import strategies as st

from wire.bitmap import PieceSet
from wire.pieces import PieceLayout
from worker_peer.core.arrival import Arrival

#: Ten pieces of four blocks of two bytes, the last of three bytes: every border lies in reach.
LAYOUT = PieceLayout(75, 8, 2)
PIECES = st.integers(0, LAYOUT.piece_count - 1)


def arrival(*pieces: int) -> Arrival:
    return Arrival(LAYOUT, PieceSet.of(LAYOUT.piece_count, pieces))


def test_bytes_are_ready_as_far_as_there_is_no_gap() -> None:
    here = arrival(0, 1, 3)
    assert here.ready_until(0, 75) == 16
    assert here.ready_until(5, 12) == 12
    assert here.ready_until(16, 75) == 16
    here.blocks(2, 0, 3)
    assert here.ready_until(0, 75) == 22
    here.blocks(2, 3, 1)
    assert 2 in here.have
    assert here.ready_until(0, 75) == 32


def test_the_blocks_of_a_lost_piece_count_no_more() -> None:
    here = arrival()
    here.blocks(0, 0, 2)
    here.lost(0)
    assert here.ready_until(0, 75) == 0
    here.blocks(0, 2, 2)
    assert 0 not in here.have


def test_blocks_of_a_whole_piece_change_nothing() -> None:
    here = arrival(4)
    here.blocks(4, 0, 1)
    here.lost(4)
    assert here.ready_until(32, 40) == 40


def test_the_last_piece_and_block_are_short() -> None:
    here = arrival()
    here.blocks(9, 1, 1)
    assert here.ready_until(74, 75) == 75
    assert here.ready_until(72, 75) == 72
    here.blocks(9, 0, 1)
    assert here.have == PieceSet.of(10, [9])


def test_who_begins_at_a_late_block_goes_on_into_the_next_piece() -> None:
    here = arrival(4)
    here.blocks(3, 3, 1)
    assert here.ready_until(30, 33) == 33


def test_an_empty_content_is_ready_at_once() -> None:
    here = Arrival(PieceLayout(0, 8, 2), PieceSet(1))
    assert here.ready_until(0, 0) == 0
    here.blocks(0, 0, 1)
    assert here.have.is_full


@given(
    st.lists(st.one_of(st.tuples(st.just("piece"), PIECES), st.tuples(st.just("block"), PIECES, st.integers(0, 3)))),
    st.integers(0, 75),
    st.integers(0, 75),
)
def test_ready_bytes_are_those_of_the_model(steps: list[tuple[str, int] | tuple[str, int, int]], one: int, other: int) -> None:
    here, flags = arrival(), bytearray(LAYOUT.length)
    for _, piece, *rest in steps:
        if rest:
            block = rest[0] % LAYOUT.block_count(piece)
            here.blocks(piece, block, 1)
            offset, size = LAYOUT.block_span(piece, block)
        else:
            here.piece(piece)
            offset, size = LAYOUT.piece_span(piece)
        flags[offset : offset + size] = b"\1" * size
    start, stop = sorted((one, other))
    gap = flags.find(0, start, stop)
    assert here.ready_until(start, stop) == (stop if gap < 0 else gap)
    for piece in range(LAYOUT.piece_count):
        offset, size = LAYOUT.piece_span(piece)
        assert (piece in here.have) == all(flags[offset : offset + size])
