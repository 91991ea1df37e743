"""Bodies: every message goes there and back; whatever else arrives is a RemoteError with the field's name."""

import re
from dataclasses import MISSING, fields
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.strategies import messages, packable, patient, wrong_bodies
from wire.codec import MAX_BODY_BYTES, MAX_LIST, MAX_MAP, decode, encode
from wire.errors import ErrorCode, LocalError, RemoteError
from wire.messages import (
    MESSAGES,
    Alive,
    Cancel,
    Hello,
    Kind,
    Lease,
    Message,
    Placed,
    Progress,
    Refused,
    Register,
    Role,
    Seeded,
    Welcome,
)

TASK = "0123456789abcdef" * 4


def body_of(**values: Any) -> bytes:
    packed = msgpack.packb(values)
    assert isinstance(packed, bytes)
    return packed


def verdict(kind: Kind, body: bytes) -> ErrorCode | None:
    """Why a body is refused, None: it is a message. Any other exception goes through, and fails the test."""
    try:
        message = decode(kind, body)
    except RemoteError as error:
        return error.code if kind.name in str(error) else None
    return None if type(message) is MESSAGES[kind] else ErrorCode.INTERNAL


REASONS = (None, ErrorCode.MISSING_FIELD, ErrorCode.BAD_FIELD, ErrorCode.BAD_ENCODING)


def has_other_keys_than_text(value: Any) -> bool:
    match value:
        case dict():
            return any(not isinstance(key, str) or has_other_keys_than_text(each) for key, each in value.items())
        case list():
            return any(has_other_keys_than_text(each) for each in value)
        case _:
            return False


@given(messages)
@patient
def test_every_message_goes_there_and_back(message: Message) -> None:
    body = encode(message)
    there = decode(message.KIND, body)
    assert there == message
    assert type(there) is type(message)
    assert decode(message.KIND, memoryview(body)) == message
    assert encode(there) == body


@given(messages)
@patient
def test_a_field_at_its_default_is_not_sent(message: Message) -> None:
    sent = msgpack.unpackb(encode(message), use_list=False)
    for each in fields(message):  # type: ignore[arg-type]
        default = each.default is not MISSING and getattr(message, each.name) == each.default
        assert (each.name in sent) != default


@given(messages)
@patient
def test_a_default_that_is_sent_all_the_same_is_understood(message: Message) -> None:
    explicit = {each.name: getattr(message, each.name) for each in fields(message)}  # type: ignore[arg-type]
    assert decode(message.KIND, body_of(**explicit)) == message


@given(messages, st.dictionaries(st.text(min_size=40, max_size=50), packable, max_size=4))
@patient
def test_unknown_fields_are_skipped(message: Message, unknown: dict[str, Any]) -> None:
    body = body_of(**msgpack.unpackb(encode(message)), **unknown)
    if has_other_keys_than_text(unknown):
        assert verdict(message.KIND, body) is ErrorCode.BAD_ENCODING
    else:
        assert decode(message.KIND, body) == message


@given(wrong_bodies())
@patient
def test_anything_in_a_field_is_a_message_or_a_remote_error(case: tuple[Kind, bytes]) -> None:
    assert verdict(*case) in REASONS


@given(st.sampled_from(Kind), st.binary(max_size=200))
@patient
def test_any_bytes_are_a_message_or_a_remote_error(kind: Kind, body: bytes) -> None:
    assert verdict(kind, body) in REASONS


@pytest.mark.parametrize(
    ("kind", "body", "words"),
    [
        (Kind.PLACED, b"", "PLACED: ValueError"),
        (Kind.PLACED, b"\xc1", "PLACED: FormatError"),
        (Kind.PLACED, b"\x80\x80", "PLACED: ExtraData"),
        (Kind.PLACED, b"\x81\xa4task\xa2\xff\xfe", "PLACED: UnicodeDecodeError"),
        (Kind.PLACED, b"\x81\x01\x02", "PLACED: ValueError"),
        (Kind.PLACED, b"\x90", "PLACED: not a map"),
        (Kind.PLACED, b"\xc0", "PLACED: not a map"),
        (Kind.CANCEL, b"\x81\xa1x" + b"\x91" * 100_000, "CANCEL: StackError"),
        (Kind.CANCEL, b"\x81\xa1x" + b"\x81\xa1x" * 100_000, "CANCEL: StackError"),
        # Lengths that are said and not meant.
        (Kind.CANCEL, b"\xdf\xff\xff\xff\xff", "CANCEL: ValueError"),
        (Kind.CANCEL, b"\x81\xa1x\xdd\xff\xff\xff\xff", "CANCEL: ValueError"),
        (Kind.CANCEL, b"\x81\xa1x\xdb\xff\xff\xff\xff", "CANCEL: ValueError"),
        (Kind.CANCEL, b"\x81\xa1x\xc6\xff\xff\xff\xff", "CANCEL: ValueError"),
        (Kind.CANCEL, b"\x81\xa1x\xc9\xff\xff\xff\xff\x00", "CANCEL: ValueError"),
        # A timestamp (ext -1) of a length that no timestamp has.
        (Kind.CANCEL, b"\x81\xa1x\xd4\xff\x00", "CANCEL: ValueError"),
    ],
)
def test_bad_encodings_are_named(kind: Kind, body: bytes, words: str) -> None:
    with pytest.raises(RemoteError, match=f"^bad encoding: {words}$") as caught:
        decode(kind, body)
    assert caught.value.code is ErrorCode.BAD_ENCODING


def test_lists_and_maps_are_bounded_when_their_length_is_read() -> None:
    longest = body_of(x=[0] * MAX_LIST, y={str(n): n for n in range(MAX_MAP)})
    assert decode(Kind.CANCEL, longest) == Cancel()
    for too_long in ([0] * (MAX_LIST + 1), {str(n): n for n in range(MAX_MAP + 1)}):
        with pytest.raises(RemoteError, match="CANCEL: ValueError"):
            decode(Kind.CANCEL, body_of(x=too_long))


@pytest.mark.parametrize(
    ("kind", "values", "words"),
    [
        (Kind.PLACED, {}, "missing field: PLACED.task"),
        (Kind.PLACED, {"tasks": TASK}, "missing field: PLACED.task"),
        (Kind.PLACED, {"task": TASK, "linked": 1}, "bad field: PLACED.linked is not true or false"),
        (Kind.PLACED, {"task": TASK, "linked": None}, "bad field: PLACED.linked is not true or false"),
        (Kind.PLACED, {"task": TASK[1:]}, "bad field: PLACED.task is not a task id"),
        (Kind.PLACED, {"task": TASK.encode()}, "bad field: PLACED.task is not a task id"),
        (Kind.ALIVE, {"leases": list(range(4096)), "sent": -1}, "bad field: ALIVE.sent"),
        (Kind.ALIVE, {"leases": [float("nan")]}, "bad field: ALIVE.leases"),
        (Kind.WELCOME, {"protocol": [1, 0], "supernode": "s", "lost_after_s": float("nan")}, "WELCOME.lost_after_s"),
        (Kind.WELCOME, {"protocol": [1, 0], "supernode": "s", "lost_after_s": float("inf")}, "WELCOME.lost_after_s"),
        (Kind.WELCOME, {"protocol": [1], "supernode": "s"}, "WELCOME.protocol is not a list of 2"),
        (Kind.HELLO, {"protocol": [1, 0], "peer": "p", "role": 9}, "HELLO.role is 9 is no Role"),
        (Kind.REGISTER, {"task": TASK, "url": "u" * 16385}, "bad field: REGISTER.url is not a text of at most 16384"),
        (Kind.REGISTER, {"task": TASK, "url": "u", "have": bytes(131_073)}, "bad field: REGISTER.have"),
        (Kind.REGISTER, {"task": TASK, "url": "u", "headers": [["a"]]}, "bad field: REGISTER.headers"),
        (Kind.GET_BLOCKS, {"task": TASK, "piece": 1 << 20, "first": 0, "count": 1}, "bad field: GET_BLOCKS.piece"),
        (Kind.GET_BLOCKS, {"task": TASK, "piece": 0, "first": 0, "count": 0}, "bad field: GET_BLOCKS.count"),
        (Kind.SEED_FAILED, {"task": TASK, "code": 1000}, "bad field: SEED_FAILED.code is 1000 is no ErrorCode"),
    ],
)
def test_a_wrong_field_is_named(kind: Kind, values: dict[str, Any], words: str) -> None:
    with pytest.raises(RemoteError, match=re.escape(words)):
        decode(kind, body_of(**values))


def test_a_name_that_comes_twice_counts_as_the_last() -> None:
    body = b"\x83" + b"\xa4task" + b"\x01" + b"\xa4task" + b"\xd9\x40" + TASK.encode() + b"\xa6linked" + b"\xc3"
    assert decode(Kind.PLACED, body) == Placed(task=TASK, linked=True)


def test_a_body_is_bounded_before_it_is_parsed() -> None:
    with pytest.raises(RemoteError, match=f"CANCEL of {MAX_BODY_BYTES + 1} bytes") as caught:
        decode(Kind.CANCEL, bytes(MAX_BODY_BYTES + 1))
    assert caught.value.code is ErrorCode.BODY_TOO_LARGE


def test_the_largest_bodies_that_occur_fit() -> None:
    full = Seeded(
        task=TASK, length=1 << 40, piece_length=1 << 24, block_length=1 << 18, pieces=tuple(range(256)), digests=bytes(32 * 65536)
    )
    assert decode(Kind.SEEDED, encode(full)) == full
    resumed = Register(task=TASK, url="u", have=bytes(131_072), length=1 << 44, piece_length=1 << 24)
    assert decode(Kind.REGISTER, encode(resumed)) == resumed


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (Placed(task="short"), "bad field: PLACED.task is not a task id"),
        (Alive(sent=-1), "bad field: ALIVE.sent"),
        (Alive(leases=[1]), "bad field: ALIVE.leases is not a list"),  # type: ignore[arg-type]
        (Hello(protocol=(1, 0), peer="p", role=7), "bad field: HELLO.role is 7 is no Role"),  # type: ignore[arg-type]
        (Welcome(protocol=(1, 0), supernode="s", alive_every_s=float("nan")), "bad field: WELCOME.alive_every_s"),
        (Refused(code=ErrorCode.BUSY, message="x" * 1025), "bad field: REFUSED.message"),
        (Progress(task=TASK, supernode="\udc80"), "bad encoding: PROGRESS holds text that is not Unicode"),
        (Register(task=TASK, url="u", headers=(("a", "€" * 16384),) * 128), "body too large: REGISTER of"),
    ],
)
def test_what_may_not_be_sent_is_our_bug(message: Message, words: str) -> None:
    with pytest.raises(LocalError, match=re.escape(words)):
        encode(message)


def test_a_message_that_failed_leaves_nothing_in_the_next_body() -> None:
    with pytest.raises(LocalError):
        encode(Progress(task=TASK, supernode="\udc80"))
    assert encode(Cancel()) == b"\x80"
    assert decode(Kind.HELLO, encode(Hello(protocol=(1, 0), peer="p", role=Role.SEED))) == Hello(
        protocol=(1, 0), peer="p", role=Role.SEED
    )


def test_digests_are_bytes_and_not_text() -> None:
    lease = Lease(task=TASK, lease=1, parent="p", endpoint="e", pieces=(0,), digests=bytes(32), until_s=1.0)
    sent = msgpack.unpackb(encode(lease))
    with pytest.raises(RemoteError, match=re.escape("bad field: LEASE.digests")):
        decode(Kind.LEASE, body_of(**sent | {"digests": "x" * 32}))
    with pytest.raises(RemoteError, match="in units of 32"):
        decode(Kind.LEASE, body_of(**sent | {"digests": b"x" * 33}))
