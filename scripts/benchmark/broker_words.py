"""Frames of the control connection, written and read in a fraction of the time that wire's checks of every field take.

The drivers of `bench broker` share the machine with the broker: what they spend is not there for it. What they write is
what `wire.framing.to_frames` writes, byte for byte (a test holds them together).
"""

import struct
from typing import Any, Final

import lz4.block
import msgpack

from wire.framing import MAGIC
from wire.messages import Kind
from wire.version import PROTOCOL

_HEAD: Final = struct.Struct(">4sBBBBI")
_PACKER: Final = msgpack.Packer(use_bin_type=True, autoreset=True)
#: Longer bodies would be compressed by a real peer.
_LONGEST: Final = 1023


def written(kind: Kind, values: dict[str, Any]) -> bytes:
    """The head frame of a short message. Raises ValueError where a real peer would compress it."""
    body: bytes = _PACKER.pack(values)
    if len(body) > _LONGEST:
        raise ValueError(f"{kind.name} of {len(body)} bytes")
    head = _HEAD.pack(MAGIC, PROTOCOL[0], kind, 0, 0, len(body)) + body
    padding = -(2 + len(head)) % 32
    if len(head) + padding > 255:
        padding = -(9 + len(head)) % 32
    return head + bytes(padding)


def read(frame: bytes) -> tuple[int, dict[str, Any]]:
    """The kind and the fields of a message of the broker, which is trusted to say nothing wrong."""
    _, _, kind, flags, _, size = _HEAD.unpack_from(frame)
    body = frame[_HEAD.size : _HEAD.size + size]
    if flags & 1:
        body = lz4.block.decompress(body)
    return kind, msgpack.unpackb(body, raw=False, use_list=False)
