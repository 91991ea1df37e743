"""The journal replays what was written, up to the first record that is torn, wrong or senseless."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.pieces import DIGEST_BYTES, PieceLayout
from worker_peer.host import journal
from worker_peer.host.journal import Header, encode_finished, encode_header, encode_piece, replay

LAYOUT = PieceLayout(10 * 64 + 7, 64, 16)
HEADER = Header(task="cd" * 32, layout=LAYOUT, url="https://h/p", content_type="text/plain")
DIGEST = "sha256:" + "0f" * 32


def digests(piece: int, fill: int = 1) -> bytes:
    return bytes([fill]) * (LAYOUT.block_count(piece) * DIGEST_BYTES)


RECORDS = [encode_header(HEADER), encode_piece(3, digests(3)), encode_piece(10, digests(10)), encode_finished(DIGEST)]


def test_all_of_it_comes_back() -> None:
    whole = b"".join(RECORDS)
    replayed = replay(whole)
    assert replayed is not None
    assert replayed.header == HEADER
    assert replayed.pieces == {3: digests(3), 10: digests(10)}
    assert replayed.digest == DIGEST
    assert replayed.valid_bytes == len(whole)


def test_the_last_word_on_a_piece_counts() -> None:
    replayed = replay(RECORDS[0] + encode_piece(1, digests(1, 5)) + encode_piece(1, digests(1, 6)))
    assert replayed is not None
    assert replayed.pieces == {1: digests(1, 6)}


@pytest.mark.parametrize("cut", range(len(b"".join(RECORDS))))
def test_a_torn_tail_is_as_if_never_written(cut: int) -> None:
    whole = b"".join(RECORDS)
    replayed = replay(whole[:cut])
    ends = [sum(map(len, RECORDS[: count + 1])) for count in range(len(RECORDS))]
    if cut < ends[0]:
        assert replayed is None
        return
    assert replayed is not None
    assert replayed.valid_bytes == max(end for end in ends if end <= cut)
    assert (3 in replayed.pieces, 10 in replayed.pieces, replayed.digest is not None) == (
        cut >= ends[1],
        cut >= ends[2],
        cut >= ends[3],
    )


@given(st.data())
def test_a_flipped_bit_ends_the_journal_there(data: st.DataObject) -> None:
    whole = bytearray(b"".join(RECORDS))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= 1 << data.draw(st.integers(0, 7))
    replayed = replay(bytes(whole))
    if replayed is None:
        assert at < len(RECORDS[0])
    else:
        assert len(RECORDS[0]) <= replayed.valid_bytes <= at
        assert replayed.header == HEADER


@given(st.binary(max_size=300))
def test_garbage_is_no_journal(garbage: bytes) -> None:
    assert replay(garbage) is None
    replayed = replay(RECORDS[0] + garbage)
    assert replayed is not None
    assert replayed.valid_bytes == len(RECORDS[0])


@pytest.mark.parametrize(
    "values",
    [
        [1, 11, digests(3)],
        [1, -1, digests(3)],
        [1, 3, digests(10)],
        [1, 3, b""],
        [1, 3, "x" * 128],
        [1, 3],
        [2, "sha256:xy"],
        [7],
        [2, 5],
        ["x"],
    ],
)
def test_a_whole_record_that_makes_no_sense_ends_the_journal(values: list[object]) -> None:
    replayed = replay(RECORDS[0] + journal._record(values) + RECORDS[1])
    assert replayed is not None
    assert replayed.pieces == {}
    assert replayed.digest is None
    assert replayed.valid_bytes == len(RECORDS[0])


@pytest.mark.parametrize(
    "values",
    [
        [0, 2, "t", [1, 4, 4], "", ""],
        [0, 1, "t", [1, 0, 4], "", ""],
        [0, 1, "t", [1, 5, 4], "", ""],
        [0, 1, "t", [-1, 4, 4], "", ""],
        [0, 1, "t", [1, 4], "", ""],
        [0, 1, b"t", [1, 4, 4], "", ""],
        [1, 3, digests(3)],
    ],
)
def test_no_header_no_journal(values: list[object]) -> None:
    assert replay(journal._record(values)) is None


def test_a_record_that_is_no_list_ends_the_journal() -> None:
    replayed = replay(RECORDS[0] + journal._record({"a": 1}))  # type: ignore[arg-type]
    assert replayed is not None
    assert replayed.valid_bytes == len(RECORDS[0])
