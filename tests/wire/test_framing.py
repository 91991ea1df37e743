"""Frames: there and back, the padding rule, and that garbage of any kind is a named refusal and nothing else."""

import hashlib
import struct
from collections.abc import Callable
from dataclasses import fields

import lz4.block
import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.wire.strategies import framed, messages, patient, wrong_bodies
from wire.codec import MAX_BODY_BYTES, encode
from wire.errors import ErrorCode, LocalError, RemoteError
from wire.framing import MAX_FRAME_BYTES, Frame, Received, from_frames, to_frames
from wire.messages import MESSAGES, Blocks, Cancel, GetBlocks, Kind, Lease, Message, Progress, Refused
from wire.pieces import MAX_PIECE_BYTES
from wire.version import PROTOCOL

TASK = "0123456789abcdef" * 4
BLOCKS = Blocks(task=TASK, piece=1, first=2, count=3)
LARGE = Lease(task=TASK, lease=1, parent="p", endpoint="e", pieces=tuple(range(64)), digests=bytes(range(32)) * 64, until_s=1.0)


def head(
    kind: int = Kind.CANCEL,
    body: bytes = b"\x80",
    *,
    magic: bytes = b"DMSF",
    major: int = PROTOCOL[0],
    flags: int = 0,
    said: int | None = None,
    padding: bytes = b"",
) -> bytes:
    """A head frame by PROTOCOL.md's table, written without the code under test."""
    return struct.pack(">4sBBBBI", magic, major, kind, flags, 0, len(body) if said is None else said) + body + padding


def refusal(frames: list[Frame]) -> ErrorCode:
    """The code by which frames are refused. They have to be."""
    with pytest.raises(RemoteError) as caught:
        from_frames(frames)
    return caught.value.code


def accepted(frames: list[Frame]) -> bool:
    """Whether frames are a message; if not, they must be refused by RemoteError: all else goes through, and fails the test."""
    try:
        received = from_frames(frames)
    except RemoteError:
        return False
    assert isinstance(received, Received)
    assert type(received.message) is MESSAGES[received.message.KIND]
    return True


def squeezed(body: bytes, *, said: int | None = None) -> bytes:
    """A head frame whose body is lz4: `said` bytes inflated, if it is to lie."""
    size = (len(body) if said is None else said).to_bytes(4, "little")
    return head(body=size + lz4.block.compress(body, store_size=False), flags=1)


@given(framed())
@patient
def test_every_message_goes_there_and_back(case: tuple[Message, bytes | None, list[Frame]]) -> None:
    message, payload, frames = case
    assert len(frames) == 1 + message.CARRIES_PAYLOAD
    for sent in (frames, [memoryview(frame) for frame in frames]):
        received = from_frames(sent)
        assert received.message == message
        assert received.payload == payload


@given(messages)
@patient
def test_the_head_is_the_documents(message: Message) -> None:
    frame = bytes(to_frames(message, b"" if message.CARRIES_PAYLOAD else None)[0])
    magic, major, kind, flags, reserved, size = struct.unpack_from(">4sBBBBI", frame)
    assert (magic, major, kind, reserved) == (b"DMSF", PROTOCOL[0], message.KIND, 0)
    body, padding = frame[12 : 12 + size], frame[12 + size :]
    assert len(body) == size
    assert padding == bytes(len(padding))
    assert len(padding) < 32
    assert (lz4.block.decompress(body) if flags == 1 else body) == encode(message)


def padded_length(message: Message, *, payload: int | None) -> int:
    frames = to_frames(message, None if payload is None else bytes(payload))
    length, after = len(frames[0]), 0 if payload is None else 9
    own = 2 if length < 256 else 9
    assert (own + length + after) % 32 == 0, f"a head of {length} bytes leaves what follows it unaligned"
    return length


def test_padding_keeps_what_follows_at_a_multiple_of_32() -> None:
    lengths = {padded_length(Refused(code=ErrorCode.BUSY, message="x" * size), payload=None) for size in range(1025)}
    # 2 + L = 32 n as long as the frame's own header is short, then 9 + L = 32 n.
    assert {length for length in lengths if length < 256} == {30 + 32 * n for n in range(8)}
    assert min(length for length in lengths if length > 255) == 279


def test_padding_keeps_payloads_at_a_multiple_of_32() -> None:
    longest = Blocks(task=TASK, piece=(1 << 20) - 1, first=65535, count=65536)
    for message in (BLOCKS, Blocks(task=TASK, piece=0, first=0, count=1), longest):
        length = padded_length(message, payload=256)
        assert (2 + length + 9) % 32 == 0
        assert length == 117, "a head that is one of the lengths that were measured"


@pytest.mark.parametrize("size", range(200, 300))
def test_padding_with_payload_around_the_end_of_short_frames(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Progress, "CARRIES_PAYLOAD", True)
    padded_length(Progress(task=TASK, supernode="x" * (size - 100)), payload=256)


def test_a_payload_is_passed_through_and_not_copied() -> None:
    content = bytearray(b"content" * 10)
    view = memoryview(content)[7:14]
    sent = to_frames(BLOCKS, view)
    assert sent[1] is view
    received = from_frames([bytes(sent[0]), view])
    content[7:14] = b"CHANGED"
    assert received.payload is not None
    assert bytes(received.payload) == b"CHANGED"


def test_large_bodies_are_compressed_and_small_ones_are_not() -> None:
    assert bytes(to_frames(LARGE)[0])[6] == 1
    assert len(to_frames(LARGE)[0]) < len(encode(LARGE))
    assert from_frames(to_frames(LARGE)).message == LARGE
    assert bytes(to_frames(Cancel())[0])[6] == 0


def test_a_body_that_does_not_shrink_is_sent_as_it_is() -> None:
    noise = b"".join(hashlib.sha256(bytes([n])).digest() for n in range(64))
    lease = Lease(task=noise[:32].hex(), lease=1, parent="p", endpoint="e", pieces=(1,), digests=noise[32:], until_s=1.0)
    frame = bytes(to_frames(lease)[0])
    assert frame[6] == 0
    assert from_frames([frame]).message == lease


def test_what_may_not_be_sent_is_our_bug() -> None:
    for message, payload, code in (
        (Cancel(), b"", ErrorCode.UNEXPECTED_PAYLOAD),
        (BLOCKS, None, ErrorCode.UNEXPECTED_PAYLOAD),
        (BLOCKS, bytes(MAX_PIECE_BYTES + 1), ErrorCode.PAYLOAD_TOO_LARGE),
        (GetBlocks(task=TASK, piece=-1, first=0, count=1), None, ErrorCode.BAD_FIELD),
    ):
        with pytest.raises(LocalError) as caught:
            to_frames(message, payload)
        assert caught.value.code is code


def test_the_largest_payload_fits_a_frame() -> None:
    frames = to_frames(BLOCKS, bytes(MAX_PIECE_BYTES))
    assert max(len(frame) for frame in frames) <= MAX_FRAME_BYTES
    received = from_frames(frames)
    assert received.payload is not None
    assert len(received.payload) == MAX_PIECE_BYTES


BLOCKS_BODY = encode(BLOCKS)
REFUSALS: dict[str, tuple[list[Frame], ErrorCode]] = {
    "no frame": ([], ErrorCode.WRONG_FRAME_COUNT),
    "three frames": ([head(), b"", b""], ErrorCode.WRONG_FRAME_COUNT),
    "empty head": ([b""], ErrorCode.SHORT_HEAD),
    "short head": ([head(body=b"")[:11]], ErrorCode.SHORT_HEAD),
    "magic": ([head(magic=b"DMSG")], ErrorCode.BAD_MAGIC),
    "http": ([b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"], ErrorCode.BAD_MAGIC),
    "newer major": ([head(major=PROTOCOL[0] + 1)], ErrorCode.MAJOR_MISMATCH),
    "older major": ([head(major=0)], ErrorCode.MAJOR_MISMATCH),
    "kind 0": ([head(0)], ErrorCode.UNKNOWN_KIND),
    "kind 255": ([head(255)], ErrorCode.UNKNOWN_KIND),
    "body cut off": ([head(said=2)], ErrorCode.BODY_LENGTH_MISMATCH),
    "padding that is none": ([head(padding=b"\0\0\1")], ErrorCode.BODY_LENGTH_MISMATCH),
    "padding without end": ([head(padding=bytes(256))], ErrorCode.BODY_LENGTH_MISMATCH),
    "a frame of zeros behind": ([head(padding=bytes(MAX_FRAME_BYTES))], ErrorCode.BODY_LENGTH_MISMATCH),
    "body of 4 GiB, said": ([head(said=(1 << 32) - 1)], ErrorCode.BODY_TOO_LARGE),
    "body over the limit, said": ([head(said=MAX_BODY_BYTES + 1)], ErrorCode.BODY_TOO_LARGE),
    "body over the limit": ([head(body=bytes(MAX_BODY_BYTES + 1))], ErrorCode.BODY_TOO_LARGE),
    "no body": ([head(body=b"")], ErrorCode.BAD_ENCODING),
    "payload missing": ([head(Kind.BLOCKS, BLOCKS_BODY)], ErrorCode.UNEXPECTED_PAYLOAD),
    "payload where none belongs": ([head(), b"x"], ErrorCode.UNEXPECTED_PAYLOAD),
    "payload too large": ([head(Kind.BLOCKS, BLOCKS_BODY), bytes(MAX_PIECE_BYTES + 1)], ErrorCode.PAYLOAD_TOO_LARGE),
    "bad field": ([head(Kind.DROP, b"\x81\xa4task\xa1x")], ErrorCode.BAD_FIELD),
    "missing field": ([head(Kind.DROP)], ErrorCode.MISSING_FIELD),
    "lz4 without a size": ([head(body=b"\1\0\0", flags=1)], ErrorCode.BAD_COMPRESSION),
    "lz4 of nothing": ([head(body=b"\1\0\0\0", flags=1)], ErrorCode.BAD_COMPRESSION),
    "lz4 that says less": ([squeezed(b"\x80" * 9, said=1)], ErrorCode.BAD_COMPRESSION),
    "lz4 that says more": ([squeezed(b"\x80" * 9, said=10)], ErrorCode.BAD_COMPRESSION),
    "lz4 bomb, said": ([head(body=b"\xff\xff\xff\xff" + bytes(9), flags=1)], ErrorCode.BODY_TOO_LARGE),
    "lz4 bomb, just over": ([squeezed(bytes(MAX_BODY_BYTES + 1))], ErrorCode.BODY_TOO_LARGE),
    "lz4 bomb, just under": ([squeezed(bytes(MAX_BODY_BYTES))], ErrorCode.BAD_ENCODING),
    "lz4 of deep nesting": ([squeezed(b"\x81\xa1x" + b"\x91" * 1_000_000)], ErrorCode.BAD_ENCODING),
    "lz4 of a wrong message": ([squeezed(b"\x90")], ErrorCode.BAD_ENCODING),
    "not compressed, but said so": ([head(body=b"\x80" * 9, flags=1)], ErrorCode.BODY_TOO_LARGE),
    "compressed, but not said so": ([head(body=lz4.block.compress(b"\x80"))], ErrorCode.BAD_ENCODING),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
def test_garbage_is_refused_by_name(name: str) -> None:
    frames, code = REFUSALS[name]
    assert refusal(frames) is code


def test_nested_lists_that_say_to_be_long_take_no_memory() -> None:
    """An old msgpack takes a list's memory when it reads its length: 500 of 4 million would be 16 GB."""
    bomb = b"\x81\xa1x" + (b"\xdd" + (4_000_000).to_bytes(4, "big")) * 500
    assert refusal([squeezed(bomb.ljust(MAX_BODY_BYTES, b"\0"))]) is ErrorCode.BAD_ENCODING


def test_a_refused_major_is_named_with_ours() -> None:
    with pytest.raises(RemoteError, match=f"it speaks 9, this end {PROTOCOL[0]}"):
        from_frames([head(major=9)])


def test_an_unknown_kind_is_named() -> None:
    with pytest.raises(RemoteError, match="unknown kind: kind 200"):
        from_frames([head(200)])


def test_what_a_later_minor_may_send_is_understood() -> None:
    assert from_frames([head(flags=0x80)]).message == Cancel()
    assert from_frames([head(padding=bytes(255))]).message == Cancel()
    assert from_frames([head(body=b"\x81\xa3new\x2a")]).message == Cancel()
    reserved = bytearray(head())
    reserved[7] = 9
    assert from_frames([bytes(reserved)]).message == Cancel()


@given(st.lists(st.binary(max_size=300), max_size=4))
@example([b"DMSF"])
@patient
def test_any_frames_are_a_message_or_a_remote_error(frames: list[Frame]) -> None:
    accepted(frames)


@given(st.integers(0, 255), st.binary(max_size=200), st.integers(0, 255), st.binary(max_size=40))
@patient
def test_any_body_behind_a_right_head_is_one_too(kind: int, body: bytes, flags: int, padding: bytes) -> None:
    accepted([head(kind, body, flags=flags, padding=padding)])


@given(wrong_bodies(), st.booleans())
@patient
def test_any_fields_are_one_too(case: tuple[Kind, bytes], compressed: bool) -> None:
    kind, body = case
    frame = head(kind, lz4.block.compress(body) if compressed else body, flags=int(compressed))
    accepted([frame, b"payload"] if MESSAGES[kind].CARRIES_PAYLOAD else [frame])


def _flipped(frame: bytes, at: int, value: int) -> bytes:
    return frame[:at] + bytes([frame[at] ^ value]) + frame[at + 1 :]


def _cut(frame: bytes, at: int, value: int) -> bytes:
    return frame[:at]


def _grown(frame: bytes, at: int, value: int) -> bytes:
    return frame[:at] + bytes([value]) * value + frame[at:]


@given(framed(), st.sampled_from([_flipped, _cut, _grown]), st.data())
@patient
def test_a_damaged_frame_is_one_too(
    case: tuple[Message, bytes | None, list[Frame]], damage: Callable[[bytes, int, int], bytes], data: st.DataObject
) -> None:
    _, _, frames = case
    at = data.draw(st.integers(0, len(frames[0]) - 1))
    accepted([damage(bytes(frames[0]), at, data.draw(st.integers(1, 255))), *frames[1:]])


@given(framed())
@patient
def test_a_head_that_is_cut_anywhere_before_its_padding_is_refused(case: tuple[Message, bytes | None, list[Frame]]) -> None:
    _, _, frames = case
    whole = bytes(frames[0])
    end = 12 + int.from_bytes(whole[8:12], "big")
    for at in range(0, end, max(1, end // 40)):
        assert not accepted([whole[:at], *frames[1:]])


def test_no_value_that_msgpack_can_say_gets_past_a_field() -> None:
    """Each kind's every field, with each type that it is not."""
    wrong: list[object] = [float("nan"), -(1 << 63), msgpack.ExtType(5, b"x"), {"a": 1}, [[[]]], msgpack.Timestamp(1, 2)]
    for kind, message in MESSAGES.items():
        for field in fields(message):  # type: ignore[arg-type]
            for value in wrong:
                body = msgpack.packb({field.name: value})
                frames: list[Frame] = [head(kind, body), *([b""] if message.CARRIES_PAYLOAD else [])]
                assert refusal(frames) in (ErrorCode.BAD_FIELD, ErrorCode.MISSING_FIELD)
