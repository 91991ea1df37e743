"""The seed's own work: which tasks are read from their sources now, who asked for each, and until when each is offered.

Driver, on the loop. FETCH starts one reading per task (seed_reading.py); what has been read is served like any peer's
(seed_files.py), after a restart too, without a byte from the source, unless the source says that it has changed.
"""

import asyncio
import logging
from concurrent.futures import Executor
from typing import Final

from wire.errors import ErrorCode
from wire.messages import Drop, Fetch, Leave, LeaveReason, Message, SeedFailed
from worker_peer.api import DownloadFailed
from worker_peer.broker_link import BrokerLink
from worker_peer.host.background import Background
from worker_peer.host.clock import Clock
from worker_peer.host.store import TaskFile
from worker_peer.seed_files import SeedFiles
from worker_peer.seed_reading import SeedReading
from worker_peer.seed_source import SeedSource

_log = logging.getLogger("seed")

#: Sources read at the same time; more tasks wait for their turn.
_AT_ONCE: Final = 32


class Seeding:
    """Reads sources for one supernode."""

    def __init__(self, *, files: SeedFiles, source: SeedSource, clock: Clock, background: Background, executor: Executor) -> None:
        self._files = files
        self._source = source
        self._clock = clock
        self._background = background
        self._executor = executor
        self._running: dict[str, asyncio.Task[SeedFailed | None]] = {}
        self._readings: dict[str, SeedReading] = {}
        #: Who asked for each content, and when.
        self._links: dict[str, BrokerLink] = {}
        self._asked_at: dict[str, float] = {}
        self._turns = asyncio.Semaphore(_AT_ONCE)

    @property
    def source_bytes(self) -> int:
        """Bytes of bodies read from sources so far, in all."""
        return self._source.bytes_read

    def message(self, link: BrokerLink, message: Message) -> None:
        """What the supernode asks."""
        match message:
            case Fetch():
                self._links[message.task], self._asked_at[message.task] = link, self._clock.now()
                running = self._running.get(message.task)
                if running is None or running.done():
                    self._begin(link, message)
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
        self._background.spawn(self._files.remove(task), f"remove {task[:16]}")

    async def discard(self, task: str) -> None:
        """Neither read nor offer the task any more, and delete what is stored of it."""
        running = self._running.pop(task, None)
        if running is not None:
            running.cancel()
        self._files.withdraw(task)
        self._forget(task)
        await self._files.remove(task)

    # -- contents that are to be ready ----------------------------------------------------------------------------------

    async def whole(self, link: BrokerLink, fetch: Fetch) -> TaskFile:
        """The content's file, once all of it is here and right; it is read as for FETCH if need be. Raises DownloadFailed."""
        task = fetch.task
        if task not in self._running and self._files.whole(task) is None:
            self.message(link, fetch)
        running = self._running.get(task)
        failure: SeedFailed | None = None
        if running is not None:
            await asyncio.wait([running])
            failure = None if running.cancelled() else running.result()
        if failure is not None:
            raise DownloadFailed(failure.code, f"task {task[:16]}: {failure.message}"[:1000], status=failure.status)
        file = self._files.whole(task)
        if file is None:
            raise DownloadFailed(ErrorCode.CANCELLED, f"task {task[:16]} was dropped while it was read: ask again")
        self._asked_at[task] = self._clock.now()
        return file

    def offers(self, task: str) -> bool:
        """Whether all of the content is here, right, and served."""
        return self._files.whole(task) is not None

    def progress(self, task: str) -> tuple[int, int | None]:
        """Bytes of the content that are here, and of all of it where that is known."""
        file = self._files.offered(task)
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
        return self._files.served_at(task)

    def let_go(self, task: str) -> None:
        """See Holder."""
        if self._files.offered(task) is not None:
            self._files.withdraw(task)
            self._links[task].send(Leave(task=task, reason=LeaveReason.EVICTED))
        self._forget(task)

    # -------------------------------------------------------------------------------------------------------------------

    def _begin(self, link: BrokerLink, fetch: Fetch) -> None:
        reading = SeedReading(fetch, link, files=self._files, source=self._source, executor=self._executor)
        self._readings[fetch.task] = reading
        self._running[fetch.task] = self._background.spawn(self._read(reading, fetch.task), f"seed {fetch.task[:16]}")

    async def _read(self, reading: SeedReading, task: str) -> SeedFailed | None:
        """Returns why it cannot be had."""
        async with self._turns:
            try:
                return await reading.run()
            finally:
                if self._readings.get(task) is reading:
                    del self._readings[task]
                    self._running.pop(task, None)
                    if self._files.offered(task) is None:
                        self._forget(task)

    def _forget(self, task: str) -> None:
        self._files.forget(task)
        self._links.pop(task, None)
        self._asked_at.pop(task, None)
