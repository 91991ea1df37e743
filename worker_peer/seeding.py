"""The seed's own work: read a source once for the supernode, and serve it like any peer.

Driver, on the loop. FETCH starts one reading per task; SEEDED tells the length, then pieces as they become whole, then
the content's digest: the last word on a task. A source that dies is asked for the rest; what is stored already is
served again after a restart without a byte from the source, unless the source says that it has changed.
"""

import asyncio
import errno
import logging
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from pathlib import Path
from typing import Final, TypeVar

from wire.bitmap import PieceSet
from wire.errors import ErrorCode
from wire.ids import ByteRange, url_without_secrets
from wire.messages import (
    MAX_PIECES_PER_MESSAGE,
    MAX_SMALL_CONTENT_BYTES,
    Drop,
    Fetch,
    Leave,
    LeaveReason,
    Message,
    Seeded,
    SeedFailed,
)
from wire.pieces import PieceLayout, layout_for
from worker_peer.api import DownloadFailed
from worker_peer.broker_link import BrokerLink
from worker_peer.cache_keeper import CacheKeeper
from worker_peer.exchange import Exchange
from worker_peer.host.allowed_hosts import allowed_as_told
from worker_peer.host.background import Background
from worker_peer.host.clock import Clock
from worker_peer.host.digests import ContentDigest
from worker_peer.host.source import SourceError, SourceReader, SourceRequest
from worker_peer.host.store import StoreFull, TaskFile
from worker_peer.source_writer import Body, SourceWriter, write_body

_log = logging.getLogger("seed")
_Result = TypeVar("_Result")

#: A source that dies in the middle is asked for the rest so often before the task is given up.
_ATTEMPTS: Final = 5
_PAUSE_S: Final = 0.2
#: Sources read at the same time; more tasks wait for their turn.
_AT_ONCE: Final = 32
_SPOOL_CHUNK: Final = 1 << 20
#: Longer ones are cut off, and then match nothing.
_LONGEST_VALIDATOR: Final = 4096
#: While a body of unannounced length is read to its end, so much of the disk stays free; it is looked at this often.
_RESERVE_BYTES: Final = 1 << 30
_LOOK_BYTES: Final = 64 << 20


class _Spooled:
    """A body of unannounced length that has been read to its end into a file, read again from there."""

    def __init__(self, path: Path, length: int, content_type: str, executor: Executor) -> None:
        self.length, self.offset = length, 0
        self.content_type, self.validator, self.bytes_read = content_type, "", 0
        self._path = path
        self._executor = executor

    async def chunks(self) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        file = await loop.run_in_executor(self._executor, self._path.open, "rb")
        try:
            while chunk := await loop.run_in_executor(self._executor, file.read, _SPOOL_CHUNK):
                yield chunk
        finally:
            file.close()

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._executor, self._path.unlink, True)


class Seeding:
    """Reads sources for one supernode."""

    def __init__(
        self,
        *,
        keeper: CacheKeeper,
        spool: Path,
        source: SourceReader,
        exchange: Exchange,
        clock: Clock,
        background: Background,
        executor: Executor,
    ) -> None:
        self._store = keeper.store
        self._files_on_disk = keeper.files
        self._rules = keeper.rules
        self._spool = spool
        self._source = source
        self._exchange = exchange
        self._clock = clock
        self._background = background
        self._executor = executor
        self._running: dict[str, asyncio.Task[SeedFailed | None]] = {}
        self._readings: dict[str, _Reading] = {}
        #: Contents that are offered, who asked for each, and when.
        self._files: dict[str, TaskFile] = {}
        self._links: dict[str, BrokerLink] = {}
        self._asked_at: dict[str, float] = {}
        self._validators: dict[str, str] = {}
        self._turns = asyncio.Semaphore(_AT_ONCE)
        # Bodies being read, and the bytes of those that have ended.
        self._bodies: set[Body] = set()
        self._ended_bytes = 0

    @property
    def source_bytes(self) -> int:
        """Bytes of bodies read from sources so far, in all."""
        return self._ended_bytes + sum(body.bytes_read for body in self._bodies)

    def _end_body(self, body: Body) -> None:
        if body in self._bodies:
            self._bodies.discard(body)
            self._ended_bytes += body.bytes_read

    def message(self, link: BrokerLink, message: Message) -> None:
        """What the supernode asks."""
        match message:
            case Fetch():
                self._links[message.task], self._asked_at[message.task] = link, self._clock.now()
                running = self._running.get(message.task)
                if running is None or running.done():
                    reading = self._readings[message.task] = _Reading(self, link, message)
                    self._running[message.task] = self._background.spawn(
                        self._read(reading, message.task), f"seed {message.task[:16]}"
                    )
                else:
                    # A supernode that had lost sight of this seed has forgotten what it was told.
                    self._readings[message.task].tell_again(link)
            case Drop():
                # Said at once: a supernode that still knows the task must send nobody here for it.
                link.send(Leave(task=message.task, reason=LeaveReason.EVICTED))
                self._background.spawn(self.discard(message.task), f"drop {message.task[:16]}")
            case _:
                _log.debug("the supernode said %s, which is not for a seed", message.KIND.name)

    def broke(self, link: BrokerLink, task: str, message: str) -> None:
        """The task's file can no longer be read: nobody may be sent here for it any more. Asked again, it is read anew."""
        running = self._running.pop(task, None)
        if running is not None:
            running.cancel()
        self._forget(task)
        link.send(SeedFailed(task=task, code=ErrorCode.INTERNAL, message=message[:1000], source_bytes=self.source_bytes))
        self._background.spawn(self._files_on_disk.remove(task), f"remove {task[:16]}")

    async def discard(self, task: str) -> None:
        """Neither read nor offer the task any more, and delete what is stored of it."""
        running = self._running.pop(task, None)
        if running is not None:
            running.cancel()
        self._exchange.unshare(task)
        self._forget(task)
        await self._files_on_disk.remove(task)

    def _forget(self, task: str) -> None:
        for known in (self._files, self._links, self._asked_at, self._validators):
            known.pop(task, None)

    # -- contents that are to be ready ----------------------------------------------------------------------------------

    async def whole(self, link: BrokerLink, fetch: Fetch) -> TaskFile:
        """The content's file, once all of it is here and right; it is read as for FETCH if need be. Raises DownloadFailed."""
        task = fetch.task
        file = self._files.get(task)
        if task not in self._running and (file is None or file.digest is None):
            self.message(link, fetch)
        running = self._running.get(task)
        failure: SeedFailed | None = None
        if running is not None:
            await asyncio.wait([running])
            failure = None if running.cancelled() else running.result()
        if failure is not None:
            raise DownloadFailed(failure.code, f"task {task[:16]}: {failure.message}"[:1000], status=failure.status)
        file = self._files.get(task)
        if file is None or file.digest is None:
            raise DownloadFailed(ErrorCode.CANCELLED, f"task {task[:16]} was dropped while it was read: ask again")
        self._asked_at[task] = self._clock.now()
        return file

    def offers(self, task: str) -> bool:
        """Whether all of the content is here, right, and served."""
        file = self._files.get(task)
        return file is not None and file.digest is not None

    def progress(self, task: str) -> tuple[int, int | None]:
        """Bytes of the content that are here, and of all of it where that is known."""
        file = self._files.get(task)
        if file is None:
            return 0, None
        return min(file.layout.length, len(file.have) * file.layout.piece_length), file.layout.length

    # -- worker_peer.cache_keeper.Holder --------------------------------------------------------------------------------

    def last_uses(self) -> dict[str, float]:
        """See Holder."""
        return {task: max(asked_at, self.served_at(task)) for task, asked_at in self._asked_at.items()}

    def is_busy(self, task: str) -> bool:
        """See Holder."""
        return task in self._running

    def served_at(self, task: str) -> float:
        """See Holder."""
        return self._exchange.served_at.get(task, float("-inf"))

    def let_go(self, task: str) -> None:
        """See Holder."""
        if task in self._files:
            self._exchange.unshare(task)
            self._links[task].send(Leave(task=task, reason=LeaveReason.EVICTED))
        self._forget(task)

    # -------------------------------------------------------------------------------------------------------------------

    async def _read(self, reading: "_Reading", task: str) -> SeedFailed | None:
        """Returns why it cannot be had."""
        async with self._turns:
            try:
                await reading.run()
                return None
            except SourceError as error:
                _log.warning("task %s cannot be read: %s", task[:16], error)
                return reading.failed(error.code, str(error), error.status)
            except StoreFull as error:
                return reading.failed(ErrorCode.STORE_FULL, str(error), 0)
            except ValueError as error:
                return reading.failed(ErrorCode.TOO_LARGE, str(error), 0)
            except OSError as error:
                return reading.failed(ErrorCode.INTERNAL, f"the seed's store: {error}", 0)
            finally:
                if self._readings.get(task) is reading:
                    del self._readings[task]
                    self._running.pop(task, None)
                    if task not in self._files:
                        self._forget(task)

    def _noted_validator(self, task: str) -> str:
        """Blocking. What an earlier run noted."""
        return self._store.index.notes(task).validator

    def _note_validator(self, task: str, validator: str) -> None:
        """Blocking. For the next run; without it the source is read again."""
        try:
            self._store.index.write_notes(task, validator=validator[:_LONGEST_VALIDATOR])
        except OSError as error:
            _log.warning("task %s: its validator cannot be noted: %s", task[:16], error)

    async def _blocking(self, function: Callable[..., _Result], *args: object) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._executor, function, *args)


class _Reading:
    """One task, read from its source to its end."""

    def __init__(self, seeding: Seeding, link: BrokerLink, fetch: Fetch) -> None:
        self._seeding = seeding
        self._link = link
        self._fetch = fetch
        self._task = fetch.task
        self._content_type = ""
        self._request = SourceRequest(
            url=fetch.url,
            headers=fetch.headers,
            insecure=fetch.insecure,
            certificates=fetch.certificates,
            byte_range=ByteRange(*fetch.byte_range) if fetch.byte_range is not None else None,
            allowed=allowed_as_told(fetch.allow),
        )

    def tell_again(self, link: BrokerLink) -> None:
        """What is here so far, to a supernode that asks for it anew."""
        self._link = link
        file = self._seeding._files.get(self._task)
        if file is not None:
            self._tell(file, list(file.have), digest=file.digest)

    def failed(self, code: ErrorCode, message: str, status: int) -> SeedFailed:
        """The task cannot be had. Returns what was told."""
        told = SeedFailed(
            task=self._task, code=code, status=status, message=message[:1000], source_bytes=self._seeding.source_bytes
        )
        self._link.send(told)
        return told

    async def run(self) -> None:
        """Raises SourceError, StoreFull, OSError; ValueError for a content too large for the protocol."""
        seeding = self._seeding
        file = seeding._files.get(self._task) or await seeding._files_on_disk.open(self._task)
        if file is not None and not await self._is_current(file):
            await self._forget(file)
            file = None
        if file is not None:
            self._share(file)
        if file is not None and file.digest is not None and file.have.is_full:
            await self._tell_whole(file, file.digest, list(file.have))
            return
        for attempt in range(_ATTEMPTS):
            try:
                file = await self._read(file)
                return
            except SourceError as error:
                if not error.retryable or attempt + 1 == _ATTEMPTS:
                    raise
                _log.warning("task %s, attempt %d: %s", self._task[:16], attempt + 1, error)
                file = seeding._files.get(self._task)
                await asyncio.sleep(_PAUSE_S * 2**attempt)

    async def _is_current(self, file: TaskFile) -> bool:
        """Whether a stored content is still the source's. Under a digest there is only one; else the source is asked."""
        if self._fetch.digest is not None:
            return True
        seeding = self._seeding
        validator = seeding._validators.get(self._task) or await seeding._blocking(seeding._noted_validator, self._task)
        if not validator or (file.digest is None and not validator.startswith('"')):
            return False  # the rest of what is here in part must be of the very same bytes: a date does not promise that
        if not await seeding._source.is_current(self._request, validator):
            return False
        seeding._validators[self._task] = validator
        return True

    async def _forget(self, file: TaskFile) -> None:
        """What is stored is not, or not surely, the source's content of today."""
        self._seeding._exchange.unshare(self._task)
        if self._seeding._files.pop(self._task, None) is None:
            file.close()
        await self._seeding._files_on_disk.remove(self._task)

    async def _read(self, file: TaskFile | None) -> TaskFile:
        """One attempt, from the first piece that is missing."""
        seeding = self._seeding
        offset = _first_missing(file) if file is not None else 0
        validator = seeding._validators.get(self._task, "")
        body: Body = await seeding._source.open(
            self._request, offset=offset, validator=validator if offset else "", who=self._task
        )
        seeding._bodies.add(body)
        try:
            found = body.validator
            if body.length is None:
                body = await self._spooled(body)
            assert body.length is not None
            layout = layout_for(body.length)
            if file is not None and file.layout != layout:
                raise SourceError(ErrorCode.SOURCE_CHANGED, "the source's length changed while it was read: try again")
            self._content_type = body.content_type[:256]
            if file is None:
                file = await self._create(layout)
                self._share(file)
            if found != validator or not offset:
                seeding._validators[self._task] = found
                await seeding._blocking(seeding._note_validator, self._task, found)
            if not _is_small(file):
                self._tell(file, list(file.have))
            await self._write(file, body)
        finally:
            seeding._end_body(body)
            await body.close()
        return file

    async def _write(self, file: TaskFile, body: Body) -> None:
        seeding = self._seeding
        content = ContentDigest(with_md5=self._fetch.md5 is not None)
        if body.offset:
            await seeding._blocking(_digest_prefix, file, content, body.offset)
        have = file.have
        writer = SourceWriter(file, body.offset, content, keep=frozenset(have))

        def on_pieces(pieces: list[int]) -> None:
            fresh = [piece for piece in pieces if piece not in have]
            for piece in fresh:
                seeding._exchange.piece_available(self._task, piece)
            if fresh and not _is_small(file):
                self._tell(file, fresh)

        await write_body(body, writer, executor=seeding._executor, on_pieces=on_pieces)
        await self._judge(file, content)

    async def _judge(self, file: TaskFile, content: ContentDigest) -> None:
        """The whole content against the digest in the URL and the user's."""
        found = content.sha256()
        wrong = ""
        if self._fetch.digest is not None and found != self._fetch.digest:
            wrong = f"the source's content is {found}, not {self._fetch.digest}"
        elif self._fetch.md5 is not None and content.md5() != self._fetch.md5.lower():
            wrong = f"the source's content has md5 {content.md5()}, not {self._fetch.md5}"
        if wrong:
            await self._forget(file)
            raise SourceError(
                ErrorCode.DIGEST_MISMATCH, f"{url_without_secrets(self._fetch.url)}: {wrong}: check the digest and the source"
            )
        await self._seeding._blocking(file.finish, found)
        await self._tell_whole(file, found, [] if not _is_small(file) else list(file.have))

    async def _spooled(self, body: Body) -> Body:
        """A body without a length is read to its end first: pieces can be told only of a content whose length is known."""
        seeding = self._seeding
        path = seeding._spool / self._task
        loop = asyncio.get_running_loop()
        spool = await loop.run_in_executor(seeding._executor, path.open, "wb")
        length = 0
        try:
            async for chunk in body.chunks():
                await loop.run_in_executor(seeding._executor, spool.write, chunk)
                length += len(chunk)
                if length // _LOOK_BYTES > (length - len(chunk)) // _LOOK_BYTES:
                    await loop.run_in_executor(seeding._executor, self._check_room, path, length)
            await loop.run_in_executor(seeding._executor, spool.close)
            seeding._end_body(body)
        except BaseException as error:
            spool.close()
            path.unlink(missing_ok=True)
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                raise StoreFull(path, length, seeding._store.free_bytes()) from None
            raise
        await body.close()
        return _Spooled(path, length, body.content_type, seeding._executor)

    def _check_room(self, path: Path, length: int) -> None:
        """Blocking. A source that never ends must not fill the disk. Raises StoreFull while there is still some room."""
        free = self._seeding._store.free_bytes()
        quota = self._seeding._rules.quota
        if quota and length > quota:
            raise StoreFull(
                path, length, quota, f"{path}: it is larger than the cache quota of {quota} bytes: raise --cache-quota"
            )
        if free < _RESERVE_BYTES:
            raise StoreFull(path, length, free)

    async def _create(self, layout: PieceLayout) -> TaskFile:
        url = url_without_secrets(self._fetch.url)
        return await self._seeding._files_on_disk.create(self._task, layout, url=url, content_type=self._content_type)

    def _share(self, file: TaskFile) -> None:
        if self._task not in self._seeding._files:
            self._seeding._files[self._task] = file
            self._seeding._exchange.share(self._task, file, file.have)

    async def _tell_whole(self, file: TaskFile, digest: str, pieces: list[int]) -> None:
        """All of it is here. A small content goes with its one SEEDED: who asks for it has it in the supernode's answer."""
        content = b""
        if _is_small(file):
            content = bytes(await self._seeding._blocking(file.read, 0, file.layout.length))
        self._tell(file, pieces, digest, content)

    def _tell(self, file: TaskFile, pieces: list[int], digest: str | None = None, content: bytes = b"") -> None:
        """SEEDED, in as many messages as it takes; the digest in the last one."""
        step = MAX_PIECES_PER_MESSAGE
        batches = [pieces[at : at + step] for at in range(0, len(pieces), step)] or [[]]
        for number, batch in enumerate(batches):
            self._link.send(
                Seeded(
                    task=self._task,
                    length=file.layout.length,
                    piece_length=file.layout.piece_length,
                    block_length=file.layout.block_length,
                    content_type=self._content_type or file.content_type,
                    pieces=tuple(batch),
                    digests=b"".join(file.digests(piece) for piece in batch),
                    digest=digest if number == len(batches) - 1 else None,
                    source_bytes=self._seeding.source_bytes,
                    content=content,
                )
            )


def _is_small(file: TaskFile) -> bool:
    """Whether the content is told with its task instead of being fetched."""
    return 0 < file.layout.length <= MAX_SMALL_CONTENT_BYTES


def _first_missing(file: TaskFile) -> int:
    """Offset of the first piece that is not stored; the content's start when all are (its digest is to be found again)."""
    missing: PieceSet = file.have.missing()
    return file.layout.piece_span(next(iter(missing)))[0] if len(missing) else 0


def _digest_prefix(file: TaskFile, content: ContentDigest, stop: int) -> None:
    """Blocking. Feed the stored bytes before `stop` to the digest."""
    at = 0
    while at < stop:
        view = file.read(at, min(_SPOOL_CHUNK, stop - at))
        content.update(view)
        at += len(view)
