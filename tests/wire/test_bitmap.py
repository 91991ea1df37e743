"""PieceSet against Python's own sets, and against the bit order of PROTOCOL.md."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.strategies import patient
from wire.bitmap import PieceSet

sizes = st.integers(0, 200)


@st.composite
def sized_sets(draw: st.DrawFn) -> tuple[int, set[int]]:
    size = draw(sizes)
    return size, draw(st.sets(st.integers(0, size - 1))) if size else set()


@given(sized_sets())
@patient
def test_behaves_as_the_set_of_its_pieces(sized: tuple[int, set[int]]) -> None:
    size, wanted = sized
    made = PieceSet.of(size, wanted)
    assert list(made) == sorted(wanted)
    assert len(made) == len(wanted)
    assert all((piece in made) == (piece in wanted) for piece in range(-2, size + 2))
    assert made.is_full == (len(wanted) == size)
    assert set(made.missing()) == set(range(size)) - wanted
    assert made.missing().missing() == made
    assert PieceSet.full(size).bits == made.bits | made.missing().bits


@given(sized_sets())
@patient
def test_bytes_go_there_and_back(sized: tuple[int, set[int]]) -> None:
    size, wanted = sized
    made = PieceSet.of(size, wanted)
    packed = made.to_bytes()
    assert len(packed) == -(-size // 8)
    assert PieceSet.from_bytes(size, packed) == made


@given(sizes, st.binary(max_size=30))
@patient
def test_any_bytes_are_a_set_or_a_value_error(size: int, packed: bytes) -> None:
    try:
        made = PieceSet.from_bytes(size, packed)
    except ValueError:
        return
    assert made.to_bytes() == packed


@pytest.mark.parametrize(
    ("size", "pieces", "packed"),
    [
        (0, [], ""),
        (1, [], "00"),
        (1, [0], "80"),
        (8, [0, 7], "81"),
        (9, [8], "0080"),
        (10, [0, 2, 9], "a040"),
        (16, range(16), "ffff"),
    ],
)
def test_bit_order_of_the_document(size: int, pieces: list[int], packed: str) -> None:
    assert PieceSet.of(size, pieces).to_bytes().hex() == packed
    assert list(PieceSet.from_bytes(size, bytes.fromhex(packed))) == list(pieces)


@pytest.mark.parametrize(
    ("size", "packed", "words"),
    [
        (9, b"\xff", "1 bytes are not the bitmap of 9 pieces"),
        (8, b"\xff\x00", "2 bytes are not the bitmap of 8 pieces"),
        (0, b"\x00", "1 bytes are not the bitmap of 0 pieces"),
        (7, b"\x01", "bits past its last piece"),
        (9, b"\x00\x40", "bits past its last piece"),
    ],
)
def test_a_wrong_bitmap_is_refused(size: int, packed: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        PieceSet.from_bytes(size, packed)


@pytest.mark.parametrize(("size", "bits"), [(-1, 0), (0, 1), (3, 8), (3, -1)])
def test_bits_outside_of_the_size_are_refused(size: int, bits: int) -> None:
    with pytest.raises(ValueError, match=f"bits outside of {size} pieces"):
        PieceSet(size, bits)


def test_adding_and_discarding() -> None:
    made = PieceSet(3)
    made.add(2)
    made.add(2)
    assert list(made) == [2]
    for outside in (-1, 3):
        with pytest.raises(IndexError, match=f"piece {outside} of 3"):
            made.add(outside)
        made.discard(outside)
    made.discard(0)
    assert list(made) == [2]
    made.discard(2)
    assert len(made) == 0


def test_a_copy_is_another_set() -> None:
    made = PieceSet.of(4, [1])
    other = made.copy()
    other.add(3)
    assert (list(made), list(other)) == ([1], [1, 3])


def test_equality_needs_the_size_too_and_a_set_is_no_key() -> None:
    assert PieceSet.of(4, [1]) == PieceSet.of(4, [1])
    assert PieceSet.of(4, [1]) != PieceSet.of(5, [1])
    assert PieceSet.of(4, [1]) != 2
    with pytest.raises(TypeError, match="cannot be a key"):
        hash(PieceSet(1))
    assert repr(PieceSet.of(4, [1])) == "PieceSet(1 of 4)"


def test_a_million_pieces() -> None:
    made = PieceSet.of(1 << 20, range(0, 1 << 20, 3))
    assert PieceSet.from_bytes(1 << 20, made.to_bytes()) == made
