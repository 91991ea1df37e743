"""The seed's contents that are to be ready: they are read from their sources as for FETCH; what is here stays as it is.

Driver, on the loop. Whatever the seed offers was verified in this run: read from its source, or read again from the disk.
"""

import asyncio
from concurrent.futures import Executor
from typing import Final

from wire.errors import ErrorCode
from wire.messages import Fetch, Warm
from worker_peer.broker_link import BrokerLink
from worker_peer.content import ContentDamaged, verify_file
from worker_peer.core.warming import MOST_READY
from worker_peer.core.warming_events import Progress, Proof
from worker_peer.host.stamps import Stamps, stamp_of
from worker_peer.host.store import ContentChanged, TaskFile
from worker_peer.seeding import Seeding

#: A content whose file has gone bad is read from its source again, so often.
_ATTEMPTS: Final = 3


class SeedContents:
    """See worker_peer.warming.WarmContents."""

    def __init__(self, seeding: Seeding, executor: Executor) -> None:
        self._seeding = seeding
        self._executor = executor
        self._stamps = Stamps(MOST_READY)

    async def have(self, warm: Warm, link: BrokerLink) -> Proof:
        """See WarmContents."""
        for attempt in range(_ATTEMPTS):
            file = await self._seeding.whole(link, fetch_for(warm))
            try:
                return await self._proven(file)
            except (ContentChanged, OSError, ValueError) as error:
                await self._seeding.discard(warm.task)
                if attempt + 1 == _ATTEMPTS:
                    raise ContentDamaged(ErrorCode.INTERNAL, f"task {warm.task[:16]}: the seed's disk: {error}") from None
        raise AssertionError("unreachable")

    async def _proven(self, file: TaskFile) -> Proof:
        """Raises ContentChanged, OSError, and ValueError when it was closed meanwhile."""
        loop, path = asyncio.get_running_loop(), str(file.path)
        stamp = await loop.run_in_executor(self._executor, stamp_of, path)
        if stamp is None or file.digest is None:
            raise ContentChanged(f"the file of task {file.task[:12]} is gone")
        if self._stamps.is_other(file.task, path, stamp):
            await loop.run_in_executor(self._executor, verify_file, file)
        self._stamps.note(file.task, path, stamp)
        return Proof(length=file.layout.length, digest=file.digest, received=())

    async def holds(self, task: str) -> bool:
        """See WarmContents."""
        holds = await asyncio.get_running_loop().run_in_executor(self._executor, self._stamps.holds, task)
        return holds and self._seeding.offers(task)

    def progress(self, task: str) -> Progress:
        """See WarmContents."""
        here, length = self._seeding.progress(task)
        return Progress(verified=here, length=length, received=())


def fetch_for(warm: Warm) -> Fetch:
    """What the seed reads for a WARM that comes before its FETCH."""
    return Fetch(
        task=warm.task,
        url=warm.url,
        headers=warm.headers,
        filters=warm.filters,
        digest=warm.digest,
        md5=warm.md5,
        byte_range=warm.byte_range,
        insecure=warm.insecure,
        certificates=warm.certificates,
        allow=warm.allow,
    )
