"""Messages to and from ZeroMQ frames: one head frame (fixed struct, body, padding), and a payload frame where one belongs.

The head is refused before anything in it is parsed, and its body's size is capped before it is inflated or unpacked.
Padding keeps every message's wire bytes a multiple of 32 and a payload's start aligned: some CPUs copy four times
slower otherwise (PROTOCOL.md, "Frames").
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import lz4.block

from wire.codec import MAX_BODY_BYTES, decode, encode
from wire.errors import ErrorCode, LocalError, RemoteError
from wire.messages import MESSAGES, Kind, Message
from wire.pieces import MAX_PIECE_BYTES
from wire.version import PROTOCOL

MAGIC: Final = b"DMSF"
#: magic, major, kind, flags, reserved (0), body bytes as sent.
_HEAD: Final = struct.Struct(">4sBBBBI")
_COMPRESSED: Final = 1
#: Bodies from this size on are worth lz4; in a lease the digests are most of it and do not shrink.
_COMPRESS_FROM: Final = 1024
#: No frame may be longer; the sockets refuse more before it is read (ZMQ_MAXMSGSIZE).
MAX_FRAME_BYTES: Final = MAX_PIECE_BYTES + (64 << 10)
# ZMTP 3.1 §3.2: a frame of less than 256 bytes has a header of 2 bytes, a longer one of 9.
_SHORT_FRAME: Final = 255
#: Zeros after a body. This end sends at most 31; the rest is room for a later minor that aligns to more.
_ZEROS: Final = bytes(255)
# A look-up costs a tenth of an enum's call, and this is done for every message.
_KINDS: Final = {kind.value: kind for kind in Kind}

Frame = bytes | memoryview


@dataclass(frozen=True, slots=True)
class Received:
    """A message as it arrived. `payload` is a view of the frame that carried it: keep the frame while you use it."""

    message: Message
    payload: memoryview | None = None


def _padded(head: bytes, *, with_payload: bool) -> bytes:
    """`head` with zeros up to a length that leaves what follows it on the wire at a multiple of 32 bytes."""
    after = 9 if with_payload else 0
    padding = -(2 + len(head) + after) % 32
    if len(head) + padding > _SHORT_FRAME:
        padding = -(9 + len(head) + after) % 32
    return head + bytes(padding)


def to_frames(message: Message, payload: Frame | None = None) -> list[Frame]:
    """The frames of a message. `payload` is passed through, never copied. Raises LocalError for what may not be sent."""
    if (payload is not None) != message.CARRIES_PAYLOAD:
        raise LocalError(ErrorCode.UNEXPECTED_PAYLOAD, f"{message.KIND.name} with payload: {payload is not None}")
    if payload is not None and len(payload) > MAX_PIECE_BYTES:
        raise LocalError(ErrorCode.PAYLOAD_TOO_LARGE, f"{len(payload)} bytes")
    body, flags = encode(message), 0
    if len(body) >= _COMPRESS_FROM:
        packed = lz4.block.compress(body, store_size=True)
        if len(packed) < len(body):
            body, flags = packed, _COMPRESSED
    head = _HEAD.pack(MAGIC, PROTOCOL[0], message.KIND, flags, 0, len(body)) + body
    head = _padded(head, with_payload=payload is not None)
    return [head] if payload is None else [head, payload]


def from_frames(frames: Sequence[Frame]) -> Received:
    """The message in frames that arrived (without a ROUTER's identity). Raises RemoteError, and nothing else."""
    if not 1 <= len(frames) <= 2:
        raise RemoteError(ErrorCode.WRONG_FRAME_COUNT, f"{len(frames)} frames")
    head = memoryview(frames[0])
    if len(head) < _HEAD.size:
        raise RemoteError(ErrorCode.SHORT_HEAD, f"{len(head)} bytes")
    magic, major, number, flags, _, body_bytes = _HEAD.unpack_from(head)
    if magic != MAGIC:
        raise RemoteError(ErrorCode.BAD_MAGIC, "the peer does not speak this protocol")
    if major != PROTOCOL[0]:
        raise RemoteError(ErrorCode.MAJOR_MISMATCH, f"it speaks {major}, this end {PROTOCOL[0]}")
    kind = _KINDS.get(number)
    if kind is None:
        raise RemoteError(ErrorCode.UNKNOWN_KIND, f"kind {number}")
    if body_bytes > MAX_BODY_BYTES:
        raise RemoteError(ErrorCode.BODY_TOO_LARGE, f"{kind.name} of {body_bytes} bytes")
    body, padding = head[_HEAD.size : _HEAD.size + body_bytes], head[_HEAD.size + body_bytes :]
    if len(body) != body_bytes or padding != _ZEROS[: len(padding)]:
        raise RemoteError(
            ErrorCode.BODY_LENGTH_MISMATCH, f"{kind.name}: {body_bytes} bytes said, a head of {len(head)} bytes here"
        )
    payload = memoryview(frames[1]) if len(frames) == 2 else None
    if (payload is not None) != MESSAGES[kind].CARRIES_PAYLOAD:
        raise RemoteError(ErrorCode.UNEXPECTED_PAYLOAD, f"{kind.name} with payload: {payload is not None}")
    if payload is not None and len(payload) > MAX_PIECE_BYTES:
        raise RemoteError(ErrorCode.PAYLOAD_TOO_LARGE, f"{len(payload)} bytes")
    return Received(decode(kind, _inflated(body) if flags & _COMPRESSED else body), payload)


def _inflated(body: memoryview) -> bytes:
    """An lz4 body's content. Its size is the first four bytes (little endian) and is checked before it is believed."""
    if len(body) < 4:
        raise RemoteError(ErrorCode.BAD_COMPRESSION, "no size")
    size = int.from_bytes(body[:4], "little")
    if size > MAX_BODY_BYTES:
        raise RemoteError(ErrorCode.BODY_TOO_LARGE, f"{size} bytes inflated")
    try:
        return lz4.block.decompress(body)  # type: ignore[no-any-return]
    except Exception as error:
        # lz4 raises LZ4BlockError, ValueError or MemoryError, by how the body is broken.
        raise RemoteError(ErrorCode.BAD_COMPRESSION, type(error).__name__) from None
