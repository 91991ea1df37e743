"""One content of this host and its readers: who waits for which bytes, and who learns how it ended.

Loop only. The download (downloads.py) tells what has come; readers take bytes in order, each at its own pace.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from typing import Final

from wire.errors import ErrorCode
from wire.messages import Origin
from wire.pieces import DIGEST_BYTES, MIB
from worker_peer.api import Cause, DownloadFailed, Giver, Received, Waits
from worker_peer.core.arrival import Arrival
from worker_peer.core.provenance import Provenance
from worker_peer.core.session_events import Purpose
from worker_peer.host.clock import Clock, SystemClock
from worker_peer.host.digests import block_digest
from worker_peer.host.store import ContentChanged, TaskFile

#: A reader gets at most so much at once.
_CHUNK_BYTES: Final = MIB


class ContentDamaged(DownloadFailed):
    """What the disk gives is not what was stored. Once nobody reads it any more it is deleted, and may be got anew."""


class SharedContent:
    """What all readers of one content share."""

    def __init__(self, task: str, executor: Executor, clock: Clock | None = None) -> None:
        self.task = task
        self.content_type = ""
        self.received = Received()
        self.arrival: Arrival | None = None
        self.file: TaskFile | None = None
        self.digest: str | None = None
        self.failure: DownloadFailed | None = None
        #: Calls to make when the last reader has closed, and when a hard link of the file has been given out.
        self.on_unread: Callable[[], None] = lambda: None
        self.on_linked: Callable[[], None] = lambda: None
        #: Called when what it is for has changed; and when somebody reads the content while it comes.
        self.on_purpose: Callable[[Purpose], None] = lambda purpose: None
        self.on_reading: Callable[[], None] = lambda: None
        self.supernode = ""
        #: What the disk gives is not what was stored: nobody may be given it any more.
        self.damaged = False
        #: Who gave which piece, and what is waited for.
        self.provenance = Provenance()
        self._executor = executor
        self._clock = clock or SystemClock()
        # Readers that wait just now, and for which piece.
        self._waiting: dict[Waits, int] = {}
        self._changed = asyncio.Event()
        self._purposes: Counter[Purpose] = Counter()

    # -- who has it open ------------------------------------------------------------------------------------------------

    @property
    def readers(self) -> int:
        """Who has it open."""
        return self._purposes.total()

    def taken_up(self, purpose: Purpose) -> None:
        """Another one has it open, for this."""
        before = max(+self._purposes, default=None)
        self._purposes[purpose] += 1
        if before is None or purpose > before:
            self.on_purpose(purpose)

    def left(self, purpose: Purpose) -> None:
        """One of those has closed it."""
        self._purposes[purpose] -= 1
        highest = max(+self._purposes, default=None)
        if highest is None:
            self.on_unread()
        elif highest < purpose:
            self.on_purpose(highest)

    # -- told by the download -------------------------------------------------------------------------------------------

    def ready(self, file: TaskFile, arrival: Arrival, content_type: str) -> None:
        """The length is known and the file is there."""
        self.file, self.arrival, self.content_type = file, arrival, content_type
        self.wake()

    def came(self, piece: int, origin: Origin, giver: str = "") -> int:
        """A piece is here, from the parent `giver`. Returns its bytes; 0: it was here before."""
        assert self.arrival is not None
        self.arrival.piece(piece)
        self.wake()
        size = self.arrival.layout.piece_span(piece)[1]
        if not self.provenance.came(piece, size, (origin, giver)):
            return 0
        self.received.by_origin[origin] += size
        return size

    def complete(self, digest: str) -> None:
        """All of it is here and right."""
        self.digest = digest
        self.wake()

    def fail(self, failure: DownloadFailed) -> None:
        """It will not come."""
        self.failure = failure
        self.wake()

    def wake(self) -> None:
        """Something changed: whoever waits looks again."""
        self._changed.set()
        self._changed = asyncio.Event()

    def turned(self) -> None:
        """Something has happened to the download: what is waited for may be another thing now."""
        for waits, piece in self._waiting.items():
            waits.turn(self.provenance.cause(piece), self._clock.now())

    # -- waited for by readers ------------------------------------------------------------------------------------------

    async def wait_until(self, reached: Callable[[], bool], waits: Waits | None = None, piece: int = 0) -> None:
        """Wait for a condition. Raises the failure when there is one, unless the condition holds.

        `waits` learns what is waited for: it has to do with `piece`.
        """
        if reached():
            return
        if waits is not None:
            self._waiting[waits] = piece
            waits.turn(self.provenance.cause(piece), self._clock.now())
        try:
            while True:
                if self.failure is not None:
                    raise self.failure
                await self._changed.wait()
                if reached():
                    return
        finally:
            if waits is not None:
                self._waiting.pop(waits, None)
                waits.turn(None, self._clock.now())

    async def read_some(self, start: int, stop: int, waits: Waits, *, verify: bool = False) -> memoryview:
        """Bytes from `start` on that are here now, at least one. Raises DownloadFailed.

        `verify`: they came long ago, and who knows what the disk has done with them.
        """
        limit = min(stop, start + _CHUNK_BYTES)
        end = start

        def reached() -> bool:
            nonlocal end
            arrival = self.arrival  # another one when the content has been cut anew
            assert arrival is not None
            layout, last = arrival.layout, arrival.layout.piece_count - 1
            # The last block is kept back until the whole content's digest is right: a body is complete only if it is right.
            tail_at = layout.block_span(last, layout.block_count(last) - 1)[0]
            allowed = limit if self.digest is not None else min(limit, tail_at)
            end = arrival.ready_until(start, allowed) if allowed > start else start
            return end > start

        assert self.arrival is not None
        await self.wait_until(reached, waits, start // self.arrival.layout.piece_length)
        file = self.file
        assert file is not None
        waits.turn(Cause.STORE, self._clock.now())
        try:
            read = _read_verified if verify else TaskFile.read
            return await asyncio.get_running_loop().run_in_executor(self._executor, read, file, start, end - start)
        except (ContentChanged, OSError, ValueError) as error:
            self.damaged = True
            raise ContentDamaged(
                ErrorCode.INTERNAL, f"task {self.task[:16]}: the stored content cannot be read: {error}"
            ) from None
        finally:
            waits.turn(None, self._clock.now())


def verify_file(file: TaskFile) -> None:
    """Blocking. Read all of a complete content again. Raises ContentChanged, OSError."""
    for at in range(0, file.layout.length, _CHUNK_BYTES):
        _read_verified(file, at, min(_CHUNK_BYTES, file.layout.length - at))


def _read_verified(file: TaskFile, offset: int, size: int) -> memoryview:
    """Blocking. Bytes of a complete content, every block that they lie in checked again. Raises ContentChanged, OSError."""
    layout = file.layout
    begin = offset - offset % layout.block_length
    stop = min(layout.length, -(-(offset + size) // layout.block_length) * layout.block_length)
    view = file.read(begin, stop - begin)
    for piece in range(begin // layout.piece_length, -(-stop // layout.piece_length)):
        try:
            digests = file.digests(piece)
        except KeyError:
            continue  # not journalled yet, so it has been verified in this process a moment ago
        for block in layout.blocks_of(piece):
            at, length = layout.block_span(piece, block)
            wanted = digests[block * DIGEST_BYTES : (block + 1) * DIGEST_BYTES]
            if begin <= at < stop and block_digest(view[at - begin : at - begin + length]) != wanted:
                raise ContentChanged(f"the file of task {file.task[:12]} has gone bad at byte {at}: fetch it again")
    return view[offset - begin : offset - begin + size]


class ContentReader:
    """One reader's hold on a content: `worker_peer.api.Content`."""

    def __init__(self, shared: SharedContent, purpose: Purpose = Purpose.READ, waits: Waits | None = None) -> None:
        self.task = shared.task
        self.received = shared.received
        self._shared = shared
        self._purpose = purpose
        self._waits = waits or Waits()
        self._opened_at = shared.provenance.mark()
        self._closed = False
        shared.taken_up(purpose)

    @property
    def length(self) -> int:
        """Bytes of the content."""
        assert self._shared.arrival is not None
        return self._shared.arrival.layout.length

    @property
    def content_type(self) -> str:
        """The source's Content-Type."""
        return self._shared.content_type

    @property
    def digest(self) -> str:
        """sha256 of the content once it is complete, else empty."""
        return self._shared.digest or ""

    @property
    def supernode(self) -> str:
        """`host:port` of the supernode that it comes through, empty: none yet."""
        return self._shared.supernode

    async def opened(self) -> None:
        """Wait until the length is known. Raises DownloadFailed."""
        await self._shared.wait_until(lambda: self._shared.arrival is not None, self._waits)

    async def read(self, start: int = 0, stop: int | None = None) -> AsyncIterator[memoryview]:
        """The bytes from `start` up to `stop` in order, as they arrive. See `worker_peer.api.Content`."""
        end = self.length if stop is None else min(stop, self.length)
        self._shared.on_reading()
        # What comes while it is read has been verified a moment ago.
        verify = self._shared.digest is not None
        while start < end:
            chunk = await self._shared.read_some(start, end, self._waits, verify=verify)
            start += len(chunk)
            yield chunk
        if end == self.length:
            # Of an empty content too: its end is given only when it is known to be right.
            await self._shared.wait_until(lambda: self._shared.digest is not None, self._waits)

    async def whole(self, on_progress: Callable[[Received], None] | None = None) -> str:
        """Wait until all of it is here and right; the path of its file. Raises DownloadFailed."""

        def reached() -> bool:
            if on_progress is not None:
                on_progress(self.received)
            return self._shared.digest is not None

        await self._shared.wait_until(reached, self._waits)
        assert self._shared.file is not None
        return str(self._shared.file.path)

    def given_by(self, start: int, stop: int) -> dict[Giver, int]:
        """Bytes by who gave them. See `worker_peer.api.Content`."""
        arrival = self._shared.arrival
        assert arrival is not None
        return self._shared.provenance.given_by(arrival.layout, start, stop, self._opened_at)

    def mark_linked(self) -> None:
        """A hard link to the content's file has been given out."""
        self._shared.on_linked()

    async def close(self) -> None:
        """This reader is done."""
        if not self._closed:
            self._closed = True
            self._shared.left(self._purpose)
