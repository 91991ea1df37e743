"""Layouts cover their content exactly, and the supernode's choice is the document's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.strategies import patient
from wire.pieces import (
    MAX_BLOCKS_PER_PIECE,
    MAX_PIECE_BYTES,
    MAX_PIECES,
    MIN_PIECE_BYTES,
    PieceLayout,
    layout_for,
)

MIB = 1 << 20


@st.composite
def layouts(draw: st.DrawFn) -> PieceLayout:
    block = draw(st.integers(1, 50))
    return PieceLayout(draw(st.integers(0, 3_000)), block * draw(st.integers(1, 8)), block)


@given(layouts())
@patient
def test_pieces_and_blocks_cover_the_content_once_and_in_order(cut: PieceLayout) -> None:
    at = 0
    for piece in range(cut.piece_count):
        piece_at, piece_size = cut.piece_span(piece)
        assert piece_at == at
        assert 0 < piece_size <= cut.piece_length or cut.length == 0
        assert list(cut.blocks_of(piece)) == list(range(cut.block_count(piece)))
        for block in cut.blocks_of(piece):
            block_at, block_size = cut.block_span(piece, block)
            assert block_at == at
            assert 0 < block_size <= cut.block_length or cut.length == 0
            at += block_size
        assert at == piece_at + piece_size
    assert at == cut.length


@given(layouts(), st.data())
@patient
def test_a_run_is_its_blocks(cut: PieceLayout, data: st.DataObject) -> None:
    piece = data.draw(st.integers(0, cut.piece_count - 1))
    first = data.draw(st.integers(0, cut.block_count(piece) - 1))
    count = data.draw(st.integers(1, cut.block_count(piece) - first))
    spans = [cut.block_span(piece, block) for block in range(first, first + count)]
    assert cut.run_span(piece, first, count) == (spans[0][0], sum(size for _, size in spans))


@given(layouts(), st.integers(0, 3_100), st.integers(0, 3_100))
@patient
def test_the_pieces_of_a_range_are_those_that_touch_it(cut: PieceLayout, start: int, stop: int) -> None:
    touching = [
        piece
        for piece in range(-(-3_200 // cut.piece_length))
        if piece * cut.piece_length < stop and (piece + 1) * cut.piece_length > start and start < stop
    ]
    assert list(cut.pieces_of_range(start, stop)) == touching


@given(st.integers(0, 1 << 44))
@patient
def test_the_supernodes_choice_is_a_layout_within_the_limits(length: int) -> None:
    cut = layout_for(length)
    assert cut.length == length
    assert MIN_PIECE_BYTES <= cut.piece_length <= MAX_PIECE_BYTES
    assert cut.block_length == min(256 * 1024, max(128 * 1024, cut.piece_length // 16))
    assert cut.piece_count <= 256 or cut.piece_length == MAX_PIECE_BYTES
    # Never larger than it has to be: half of it would be more than 256 pieces.
    assert cut.piece_length == MIN_PIECE_BYTES or cut.piece_length // 2 * 256 < length


@pytest.mark.parametrize(
    ("length", "piece_length", "pieces", "last"),
    [
        (0, 262_144, 1, 0),
        (1, 262_144, 1, 1),
        (262_143, 262_144, 1, 262_143),
        (262_144, 262_144, 1, 262_144),
        (262_145, 262_144, 2, 1),
        (64 * MIB, 262_144, 256, 262_144),
        (64 * MIB + 1, 524_288, 129, 1),
        (1024 * MIB, 4 * MIB, 256, 4 * MIB),
        (4096 * MIB, 16 * MIB, 256, 16 * MIB),
        (4096 * MIB + 1, 16 * MIB, 257, 1),
        (1 << 44, 16 * MIB, MAX_PIECES, 16 * MIB),
    ],
)
def test_vectors_of_the_document(length: int, piece_length: int, pieces: int, last: int) -> None:
    cut = layout_for(length)
    assert (cut.piece_length, cut.piece_count, cut.piece_span(pieces - 1)[1]) == (piece_length, pieces, last)


def test_an_empty_content_has_one_empty_piece_and_block() -> None:
    cut = layout_for(0)
    assert (cut.piece_count, cut.piece_span(0), cut.block_count(0), cut.block_span(0, 0)) == (1, (0, 0), 1, (0, 0))
    assert cut.run_span(0, 0, 1) == (0, 0)
    assert list(cut.pieces_of_range(0, 0)) == []


@pytest.mark.parametrize(
    ("length", "piece", "block", "words"),
    [
        (-1, 4, 4, "not a layout"),
        (1, 0, 4, "not a layout"),
        (1, 4, 0, "not a layout"),
        (1, 4, 3, "no whole number of blocks"),
        (1, 4, 8, "no whole number of blocks"),
        (1, MAX_PIECE_BYTES * 2, MAX_PIECE_BYTES, "exceed what the protocol carries"),
        (MAX_PIECES * 4 + 1, 4, 4, "exceed what the protocol carries"),
        (1, MAX_BLOCKS_PER_PIECE * 2, 1, "exceed what the protocol carries"),
    ],
)
def test_what_is_no_layout_is_refused(length: int, piece: int, block: int, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        PieceLayout(length, piece, block)


def test_the_largest_cuts_are_layouts() -> None:
    assert PieceLayout(MAX_PIECES * 4, 4, 4).piece_count == MAX_PIECES
    assert PieceLayout(MAX_BLOCKS_PER_PIECE, MAX_BLOCKS_PER_PIECE, 1).block_count(0) == MAX_BLOCKS_PER_PIECE


def test_too_long_a_content_has_no_layout() -> None:
    with pytest.raises(ValueError, match="exceed what the protocol carries"):
        layout_for((1 << 44) + 1)


def test_numbers_outside_are_index_errors() -> None:
    cut = PieceLayout(10, 4, 2)
    for piece in (-1, 3):
        with pytest.raises(IndexError, match=f"piece {piece} of 3"):
            cut.piece_span(piece)
    for block in (-1, 1):
        with pytest.raises(IndexError, match=f"block {block} of piece 2"):
            cut.block_span(2, block)
    with pytest.raises(IndexError, match="blocks 1 to 2 of piece 0"):
        cut.run_span(0, 1, 2)
