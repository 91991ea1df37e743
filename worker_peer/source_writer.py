"""From a source's body into the store: write, cut into blocks, digest, commit piece by piece.

Driver, shared by the seed (whole contents) and by back-to-source (what is missing). One chunk at a time is handed to a
worker thread, which writes it and feeds the digests; the event loop only waits.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from typing import Protocol

from blake3 import blake3

from wire.errors import ErrorCode
from wire.pieces import PieceLayout
from worker_peer.host.digests import ContentDigest
from worker_peer.host.source import SourceError
from worker_peer.host.store import TaskFile


class Body(Protocol):
    """What is read: a source's answer, or one that has been read into a file first."""

    @property
    def length(self) -> int | None:
        """Bytes of the whole content, None: not announced."""

    @property
    def offset(self) -> int:
        """Where in the content the body begins."""

    @property
    def content_type(self) -> str:
        """The source's Content-Type."""

    @property
    def validator(self) -> str:
        """ETag or Last-Modified."""

    @property
    def bytes_read(self) -> int:
        """Bytes of body read so far."""

    def chunks(self) -> AsyncIterator[bytes]:
        """The body, as it arrives."""

    async def close(self) -> None:
        """Hang up."""


class SourceWriter:
    """Writes one content's bytes, in order from `start` on. `content` (None: not wanted) digests all that passes by."""

    def __init__(self, file: TaskFile, start: int, content: ContentDigest | None, *, keep: frozenset[int] = frozenset()) -> None:
        """`start` is the offset of a piece. Pieces in `keep` are stored already: they are compared, not written."""
        self._file = file
        self._layout: PieceLayout = file.layout
        self._content = content
        self._keep = keep
        self._at = start
        self._block = blake3()
        self._digests = bytearray()

    @property
    def position(self) -> int:
        """Offset in the content of the next byte."""
        return self._at

    def write(self, chunk: bytes) -> list[int]:
        """Blocking. Store the next bytes; the pieces that are whole now. Raises SourceError (too long, changed), OSError."""
        view, whole = memoryview(chunk), []
        if self._at + len(view) > self._layout.length:
            raise SourceError(
                ErrorCode.SOURCE_ERROR, f"the source sends more than the {self._layout.length} bytes that it announced"
            )
        if self._content is not None:
            self._content.update(view)
        while len(view):
            piece = self._at // self._layout.piece_length
            piece_at, piece_size = self._layout.piece_span(piece)
            part = view[: piece_at + piece_size - self._at]
            if piece not in self._keep:
                self._file.write(self._at, part)
            self._digest_blocks(part, self._at - piece_at)
            self._at += len(part)
            view = view[len(part) :]
            if self._at == piece_at + piece_size:
                whole.append(self._commit(piece))
        return whole

    def finish_empty(self) -> list[int]:
        """Blocking. A content of no bytes has one piece of none."""
        return [self._commit(0)] if self._layout.length == 0 else []

    def _digest_blocks(self, part: memoryview, inside: int) -> None:
        """Feed bytes that begin `inside` the piece to its blocks' digests."""
        length = self._layout.block_length
        while len(part):
            room = length - inside % length
            self._block.update(part[:room])
            inside += min(room, len(part))
            part = part[room:]
            if inside % length == 0:
                self._end_block()

    def _end_block(self) -> None:
        self._digests += self._block.digest()
        self._block = blake3()

    def _commit(self, piece: int) -> int:
        if len(self._digests) < self._layout.block_count(piece) * 32:
            self._end_block()
        digests = bytes(self._digests)
        self._digests.clear()
        if piece not in self._keep:
            self._file.commit(piece, digests)
        elif self._file.digests(piece) != digests:
            raise SourceError(ErrorCode.SOURCE_CHANGED, "the source's content changed while it was read: try again")
        return piece


async def write_body(body: Body, writer: SourceWriter, *, executor: Executor, on_pieces: Callable[[list[int]], None]) -> None:
    """Read the body to its end into the writer, telling pieces as they become whole. Raises SourceError, OSError."""
    loop = asyncio.get_running_loop()
    async for chunk in body.chunks():
        if pieces := await loop.run_in_executor(executor, writer.write, chunk):
            on_pieces(pieces)
    if pieces := await loop.run_in_executor(executor, writer.finish_empty):
        on_pieces(pieces)
