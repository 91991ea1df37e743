"""The have-log of one task: what its records are, encoded and replayed. Pure: bytes in, values out; store.py does the I/O.

A journal is a row of records, each `length (u32) | crc32 of the body (u32) | body`, little-endian; a body is a msgpack list
that begins with the record's kind. The first record is the header. The row ends at the first record that is torn or wrong:
what a killed process left half-written is as if it had never been begun.
"""

import struct
import zlib
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final

import msgpack

from wire.ids import is_sha256_digest
from wire.pieces import DIGEST_BYTES, PieceLayout

#: Of the journal's own format. Another version is not read: the content is then fetched again.
VERSION: Final = 1
_HEAD: Final = struct.Struct("<II")
#: A piece of 65,536 blocks has the largest record.
_MAX_BODY_BYTES: Final = (65_536 * DIGEST_BYTES) + 1024


class _Kind(IntEnum):
    HEADER = 0
    PIECE = 1
    FINISHED = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a store must know of a content before its first piece."""

    task: str
    layout: PieceLayout
    #: For people. Without secrets: the caller has seen to it.
    url: str = ""
    content_type: str = ""


@dataclass(slots=True, kw_only=True)
class Replayed:
    """What a journal says. Pieces are claims, to be verified against the content."""

    header: Header
    #: Block digests of each piece, 32 bytes a block, in the blocks' order.
    pieces: dict[int, bytes] = field(default_factory=dict)
    #: The whole content's `sha256:...`, if it was verified.
    digest: str | None = None
    #: Bytes of the journal that are whole records; what follows them is to be cut off.
    valid_bytes: int = 0


def encode_header(header: Header) -> bytes:
    """The first record."""
    layout = header.layout
    cut = [layout.length, layout.piece_length, layout.block_length]
    return _record([_Kind.HEADER, VERSION, header.task, cut, header.url, header.content_type])


def encode_piece(piece: int, digests: bytes) -> bytes:
    """The record of a piece whose every block is written and verified."""
    return _record([_Kind.PIECE, piece, digests])


def encode_finished(digest: str) -> bytes:
    """The record of a content whose whole sha256 is right."""
    return _record([_Kind.FINISHED, digest])


def _record(values: list[Any]) -> bytes:
    body: bytes = msgpack.packb(values, use_bin_type=True)
    return _HEAD.pack(len(body), zlib.crc32(body)) + body


def read_header(journal: bytes) -> Header | None:
    """The header of a journal, of which the first bytes are enough; None where it is not readable."""
    values, _ = _next(journal, 0)
    return _header(values) if values is not None else None


def replay(journal: bytes) -> Replayed | None:
    """What the whole records of a journal say; None where there is no readable header of this version."""
    values, at = _next(journal, 0)
    header = _header(values) if values is not None else None
    if header is None:
        return None
    replayed = Replayed(header=header, valid_bytes=at)
    while True:
        values, at = _next(journal, at)
        if values is None or not _apply(values, replayed):
            return replayed
        replayed.valid_bytes = at


def _next(journal: bytes, at: int) -> tuple[list[Any] | None, int]:
    """(the record at `at`, where the next one begins); (None, `at`) where there is no whole and right one."""
    if at + _HEAD.size > len(journal):
        return None, at
    length, crc = _HEAD.unpack_from(journal, at)
    start = at + _HEAD.size
    body = memoryview(journal)[start : start + length]
    if length > _MAX_BODY_BYTES or len(body) != length or zlib.crc32(body) != crc:
        return None, at
    try:
        values = msgpack.unpackb(body, raw=False)
    except Exception:
        # msgpack raises whatever its parser meets; a record that cannot be read is the journal's end.
        return None, at
    return (values, start + length) if isinstance(values, list) and values else (None, at)


def _header(values: list[Any]) -> Header | None:
    match values:
        case [_Kind.HEADER, int(version), str(task), [int(length), int(piece), int(block)], str(url), str(content_type)]:
            if version != VERSION:
                return None
            try:
                layout = PieceLayout(length, piece, block)
            except ValueError:
                return None
            return Header(task=task, layout=layout, url=url, content_type=content_type)
        case _:
            return None


def _apply(values: list[Any], replayed: Replayed) -> bool:
    """Take a record in. False: it makes no sense here, and ends the journal."""
    layout = replayed.header.layout
    match values:
        case [_Kind.PIECE, int(piece), bytes(digests)]:
            if not 0 <= piece < layout.piece_count or len(digests) != layout.block_count(piece) * DIGEST_BYTES:
                return False
            replayed.pieces[piece] = digests
        case [_Kind.FINISHED, str(digest)]:
            if not is_sha256_digest(digest):
                return False
            replayed.digest = digest
        case _:
            return False
    return True
