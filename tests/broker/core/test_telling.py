"""What the supernode says is what its records hold; what it hears is taken only where it fits."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from broker.core.state import TaskRecord
from broker.core.telling import (
    bits_of,
    claimed_bits,
    fetch_asked,
    lease_granted,
    peer_greeted,
    split_digests,
    task_told,
)
from tests.support.broker_words import PIECE, TASK, URL, block_digests, hello, seeded
from wire.bitmap import PieceSet
from wire.errors import ErrorCode
from wire.framing import from_frames, to_frames
from wire.messages import Fetch, Register, Role, Task, TaskState
from wire.pieces import DIGEST_BYTES, PieceLayout

SPEC = Register(
    task=TASK,
    url=URL,
    headers=(("Authorization", "Bearer x"),),
    filters=("Expires",),
    digest="sha256:" + "3" * 64,
    md5="0" * 32,
    byte_range=(1, None),
    insecure=True,
    certificates=(b"pem",),
)


def record() -> TaskRecord:
    return TaskRecord(task=TASK, spec=SPEC, born_at=0.0, used_at=0.0)


def test_a_task_of_unknown_length_is_told_without_a_cut() -> None:
    assert task_told(record()) == Task(task=TASK, state=TaskState.PROBING)


def test_a_task_is_told_with_all_that_is_known() -> None:
    task = record()
    task.layout, task.state, task.digest, task.content_type = PieceLayout(5000, 2048, 1024), TaskState.CACHED, SPEC.digest, "x/y"
    task.code, task.status, task.message = ErrorCode.SOURCE_ERROR, 500, "words"
    assert task_told(task) == Task(
        task=TASK,
        state=TaskState.CACHED,
        length=5000,
        piece_length=2048,
        block_length=1024,
        digest=SPEC.digest,
        content_type="x/y",
        code=ErrorCode.SOURCE_ERROR,
        status=500,
        message="words",
    )


def test_the_seed_is_asked_with_all_that_the_source_needs() -> None:
    assert fetch_asked(record()) == Fetch(
        task=TASK,
        url=URL,
        headers=SPEC.headers,
        filters=SPEC.filters,
        digest=SPEC.digest,
        md5=SPEC.md5,
        byte_range=SPEC.byte_range,
        insecure=True,
        certificates=SPEC.certificates,
    )


def test_whom_the_seed_may_ask_is_the_preheats_list_or_the_one_for_peers() -> None:
    task = record()
    assert fetch_asked(task, ("for.peers",)).allow == ("for.peers",)
    for allow in ((), ("for.jobs",)):
        task.allow = allow
        assert fetch_asked(task, ("for.peers",)).allow == allow


def test_a_lease_names_its_parents_sockets_and_its_pieces_digests_in_their_order() -> None:
    task = record()
    task.digests = {piece: block_digests(piece) for piece in range(3)}
    lease = lease_granted(task, 7, peer_greeted(hello("p"), 0.0), [2, 0], 4.5)
    assert (lease.lease, lease.parent, lease.endpoint, lease.hint_endpoint) == (7, "p", "tcp://p:1", "tcp://p:2")
    assert lease.pieces == (2, 0)
    assert lease.digests == block_digests(2, 0)
    assert lease.until_s == 4.5
    assert from_frames(to_frames(lease)).message == lease


def test_a_peer_is_kept_as_it_greeted() -> None:
    peer = peer_greeted(hello("cdnnode:x", role=Role.SEED, upload_rate=5, location="a/b"), 3.5)
    assert (peer.peer, peer.role, peer.host, peer.software) == ("cdnnode:x", Role.SEED, "host-cdnnode:x", "1.2.3")
    assert (peer.data_endpoint, peer.hint_endpoint) == ("tcp://cdnnode:x:1", "tcp://cdnnode:x:2")
    assert (peer.location, peer.upload_rate, peer.joined_at, peer.heard_at) == ("a/b", 5, 3.5, 3.5)


def test_a_claim_is_the_bitmap_that_was_packed() -> None:
    have = PieceSet.of(11, [0, 3, 10])
    message = Register(task=TASK, url=URL, have=have.to_bytes(), length=10 * PIECE + 1, piece_length=PIECE)
    assert claimed_bits(message) == have.bits
    empty = Register(task=TASK, url=URL, have=b"\x80", length=0, piece_length=PIECE)
    assert claimed_bits(empty) == 1, "an empty content has one piece"


@pytest.mark.parametrize(
    ("have", "length", "piece_length"),
    [
        (b"", 4 * PIECE, PIECE),
        (b"\xf0", None, PIECE),
        (b"\xf0", 4 * PIECE, 0),
        (b"\xf0\x00", 4 * PIECE, PIECE),  # too long
        (b"\xf8", 4 * PIECE, PIECE),  # a fifth piece of four
        (b"\xff", 1 << 44, 1),  # a million megabytes of bitmap
    ],
)
def test_a_claim_that_does_not_fit_its_own_length_is_no_claim(have: bytes, length: int | None, piece_length: int) -> None:
    assert claimed_bits(Register(task=TASK, url=URL, have=have, length=length, piece_length=piece_length)) == 0


def test_digests_are_split_by_each_pieces_own_number_of_blocks() -> None:
    layout = PieceLayout(5 * 1024 + 1, 2048, 1024)  # pieces of 2, 2 and 2 blocks; the last block has one byte
    packed = bytes(range(4)) * DIGEST_BYTES
    message = seeded(2, 0, of=3, digests=packed)
    assert split_digests(layout, message) == {2: packed[: 2 * DIGEST_BYTES], 0: packed[2 * DIGEST_BYTES :]}
    short = PieceLayout(4 * 1024 + 1, 2048, 1024)  # the last piece has one block
    assert {piece: len(each) for piece, each in split_digests(short, seeded(1, 2, of=3, digests=bytes(96))).items()} == {
        1: 2 * DIGEST_BYTES,
        2: DIGEST_BYTES,
    }


def test_digests_that_do_not_fit_are_refused() -> None:
    layout = PieceLayout(3 * PIECE, PIECE, PIECE)
    with pytest.raises(ValueError, match="missing"):
        split_digests(layout, seeded(0, 1, of=3, digests=block_digests(0)))
    with pytest.raises(ValueError, match="more digests"):
        split_digests(layout, seeded(0, of=3, digests=block_digests(0, 1)))
    with pytest.raises(IndexError):
        split_digests(layout, seeded(3, of=3))


@given(st.sets(st.integers(0, 300)))
def test_bits_of_a_dict_are_its_pieces(pieces: set[int]) -> None:
    assert list(PieceSet(301, bits_of(dict.fromkeys(pieces, b"")))) == sorted(pieces)
