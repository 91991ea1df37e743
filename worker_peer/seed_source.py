"""Sources as the seed reads them: every body has a length, and all bytes that come are counted.

Driver, on the loop. Pieces can be told only of a content whose length is known: a body of unannounced length is read to its
end into a file first, and again from there.
"""

import asyncio
import errno
from collections.abc import AsyncIterator
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO, Final

from worker_peer.cache_keeper import CacheKeeper
from worker_peer.host.source import SourceReader, SourceRequest
from worker_peer.host.store import StoreFull
from worker_peer.source_writer import Body

_SPOOL_CHUNK: Final = 1 << 20
#: While a body of unannounced length is read to its end, so much of the disk stays free; it is looked at this often.
_RESERVE_BYTES: Final = 1 << 30
_LOOK_BYTES: Final = 64 << 20


class _Spooled:
    """A body of unannounced length that has been read to its end into a file, read again from there."""

    def __init__(self, path: Path, length: int, body: Body, executor: Executor) -> None:
        self.length, self.offset = length, 0
        self.content_type, self.validator, self.bytes_read = body.content_type, body.validator, 0
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


class SeedSource:
    """Opens sources for one seed. `spool` is the folder of bodies that are read to their end first."""

    def __init__(self, reader: SourceReader, *, keeper: CacheKeeper, spool: Path, executor: Executor) -> None:
        self._reader = reader
        self._store = keeper.store
        self._rules = keeper.rules
        self._spool = spool
        self._executor = executor
        # Bodies being read, and the bytes of those that have ended.
        self._bodies: set[Body] = set()
        self._ended_bytes = 0

    @property
    def bytes_read(self) -> int:
        """Bytes of bodies so far, in all."""
        return self._ended_bytes + sum(body.bytes_read for body in self._bodies)

    async def is_current(self, request: SourceRequest, validator: str) -> bool:
        """Whether the source still has the content of this validator. Raises SourceError."""
        return await self._reader.is_current(request, validator)

    @asynccontextmanager
    async def body(self, task: str, request: SourceRequest, *, offset: int, validator: str) -> AsyncIterator[Body]:
        """The content from `offset` on, where the source still has the one of this validator (empty: whatever it has).

        Its length is known. Raises SourceError, StoreFull, OSError.
        """
        body: Body = await self._reader.open(request, offset=offset, validator=validator, who=task)
        self._bodies.add(body)
        try:
            if body.length is None:
                body = await self._spooled(body, self._spool / task)
            yield body
        finally:
            self._end(body)
            await body.close()

    def _end(self, body: Body) -> None:
        if body in self._bodies:
            self._bodies.discard(body)
            self._ended_bytes += body.bytes_read

    async def _spooled(self, body: Body, path: Path) -> Body:
        """The same body, read to its end and closed."""
        loop = asyncio.get_running_loop()
        spool = await loop.run_in_executor(self._executor, path.open, "wb")
        length = 0
        try:
            async for chunk in body.chunks():
                await loop.run_in_executor(self._executor, spool.write, chunk)
                length += len(chunk)
                if length // _LOOK_BYTES > (length - len(chunk)) // _LOOK_BYTES:
                    await loop.run_in_executor(self._executor, self._check_room, path, length)
            await loop.run_in_executor(self._executor, spool.close)
            self._end(body)
        except BaseException as error:
            _abandon(spool, path)
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                raise StoreFull(path, length, self._store.free_bytes()) from None
            raise
        await body.close()
        return _Spooled(path, length, body, self._executor)

    def _check_room(self, path: Path, length: int) -> None:
        """Blocking. A source that never ends must not fill the disk. Raises StoreFull while there is still some room."""
        free = self._store.free_bytes()
        quota = self._rules.quota
        if quota and length > quota:
            raise StoreFull(
                path, length, quota, f"{path}: it is larger than the cache quota of {quota} bytes: raise --cache-quota"
            )
        if free < _RESERVE_BYTES:
            raise StoreFull(path, length, free)


def _abandon(spool: BinaryIO, path: Path) -> None:
    """Not in a worker thread: whoever is cancelled can await nothing more."""
    spool.close()
    path.unlink(missing_ok=True)
