"""A peer's contents that are to be ready: they come through the swarm, in the background; what is here is read again.

Driver, on the loop.
"""

import asyncio
from concurrent.futures import Executor
from typing import Final

from wire.errors import ErrorCode
from wire.ids import ByteRange
from wire.messages import Origin, Warm
from worker_peer.api import DownloadFailed, DownloadRequest
from worker_peer.broker_link import BrokerLink
from worker_peer.content import ContentDamaged, ContentReader
from worker_peer.core.session_events import Purpose
from worker_peer.core.warming import MOST_READY
from worker_peer.core.warming_events import Progress, Proof
from worker_peer.downloads import Downloads
from worker_peer.host.stamps import Stamps, stamp_of

#: A content whose file has gone bad is got anew; while somebody still reads the bad one, that is tried again and again.
_ATTEMPTS: Final = 8
_PAUSE_S: Final = 0.1


class SwarmContents:
    """See worker_peer.warming.WarmContents."""

    def __init__(self, downloads: Downloads, executor: Executor) -> None:
        self._downloads = downloads
        self._executor = executor
        self._readers: dict[str, ContentReader] = {}
        #: Bytes that have been read again, of contents that were here already.
        self._read: dict[str, int] = {}
        #: Files as they were when they were proven.
        self._stamps = Stamps(MOST_READY)

    async def have(self, warm: Warm, link: BrokerLink) -> Proof:
        """See WarmContents."""
        request = request_for(warm, link)
        if request.task != warm.task:
            raise DownloadFailed(
                ErrorCode.TASK_CONFLICT,
                f"task {warm.task[:16]} is {request.task[:16]} by its URL: run the same release on the supernode and its hosts",
            )
        for attempt in range(_ATTEMPTS):
            try:
                return await self._have(request)
            except ContentDamaged:
                if attempt + 1 == _ATTEMPTS:
                    raise
                await asyncio.sleep(_PAUSE_S * 2**attempt)
        raise AssertionError("unreachable")

    async def _have(self, request: DownloadRequest) -> Proof:
        task = request.task
        was_here = self._downloads.is_here(task)
        reader = await self._downloads.open(request, Purpose.WARM)
        try:
            self._readers[task] = reader
            path = await reader.whole()
            # First the stamp: who touches the file while it is read again has touched it.
            stamp = await asyncio.get_running_loop().run_in_executor(self._executor, stamp_of, path)
            if was_here:
                self._read[task] = 0
                async for chunk in reader.read():
                    self._read[task] += len(chunk)
            if stamp is None:
                raise ContentDamaged(ErrorCode.INTERNAL, f"task {task[:16]}: its file has been deleted by somebody")
            self._stamps.note(task, path, stamp)
            return Proof(length=reader.length, digest=reader.digest, received=_by_origin(reader))
        finally:
            self._readers.pop(task, None)
            self._read.pop(task, None)
            await reader.close()

    async def holds(self, task: str) -> bool:
        """See WarmContents."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._stamps.holds, task)

    def progress(self, task: str) -> Progress:
        """See WarmContents."""
        reader = self._readers.get(task)
        if reader is None:
            return Progress()
        verified = self._read.get(task, reader.received.total)
        return Progress(verified=verified, length=reader.length, received=_by_origin(reader))


def request_for(warm: Warm, link: BrokerLink) -> DownloadRequest:
    """What is downloaded for a WARM: through the supernode that wants it, and no other."""
    return DownloadRequest(
        url=warm.url,
        headers=warm.headers,
        filters=warm.filters,
        digest=warm.digest,
        md5=warm.md5,
        identifier=warm.identifier,
        byte_range=ByteRange(*warm.byte_range) if warm.byte_range is not None else None,
        insecure=warm.insecure,
        certificates=warm.certificates,
        supernodes=(link.node,),
        caller=f"preheat {warm.job}".strip(),
    )


def _by_origin(reader: ContentReader) -> tuple[int, ...]:
    return tuple(reader.received.by_origin[origin] for origin in Origin)
