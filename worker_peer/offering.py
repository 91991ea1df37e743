"""What an earlier run left whole is offered again: so that pulls that are spread over time still meet.

Driver, on the loop. Each content is read again and verified before it is offered, one at a time, the last used first, no
more than half of the time; while somebody waits for a download it rests. Only contents that are named by their digest: what
lies behind a URL may be another one today, and is offered when somebody asks for it.
"""

import asyncio
import logging
from concurrent.futures import Executor
from typing import Final

from worker_peer.api import DownloadFailed, DownloadRequest
from worker_peer.core.session_events import Purpose
from worker_peer.downloads import Downloads
from worker_peer.host.clock import Clock
from worker_peer.host.store import Store

_log = logging.getLogger("offer")

#: Contents of earlier runs that are offered: each is a task of the supernode's, and a session in memory here.
MOST_OFFERED: Final = 1000
#: The peer's own start comes first.
_BEGIN_S: Final = 1.0
#: The least pause between two, and how long it rests while somebody waits.
_PAUSE_S: Final = 0.05
_REST_S: Final = 0.5


class Offering:
    """Offers what is in one store."""

    def __init__(self, store: Store, downloads: Downloads, *, clock: Clock, executor: Executor) -> None:
        self._store = store
        self._downloads = downloads
        self._clock = clock
        self._executor = executor
        #: Contents that were offered.
        self.offered = 0

    async def run(self) -> None:
        """Offer what is here now, to the end."""
        await asyncio.sleep(_BEGIN_S)
        stored = sorted(self._store.index.all(), key=lambda each: each.used_at, reverse=True)
        for each in stored[:MOST_OFFERED]:
            while self._downloads.active:  # noqa: ASYNC110  readers come and go without a word
                await asyncio.sleep(_REST_S)
            if each.task in self._store.index and each.task not in self._downloads.tasks:
                begun = self._clock.now()
                await self._offer(each.task)
                await asyncio.sleep(max(_PAUSE_S, self._clock.now() - begun))
        if self.offered:
            _log.info("%d contents of an earlier run are offered again", self.offered)

    async def _offer(self, task: str) -> None:
        request = await asyncio.get_running_loop().run_in_executor(self._executor, _request_of, self._store, task)
        if request is None:
            return
        try:
            reader = await self._downloads.open(request, Purpose.OFFER)
            try:
                await reader.whole()
                self.offered += 1
            finally:
                await reader.close()
        except DownloadFailed as error:
            _log.debug("task %s is not offered: %s", task[:16], error)


def _request_of(store: Store, task: str) -> DownloadRequest | None:
    """Blocking. The download that the content came by, without its secrets; None: it is not whole, or not named by a digest."""
    replayed = store.journal(task)
    if replayed is None or replayed.digest is None or not replayed.header.url:
        return None
    request = DownloadRequest(url=replayed.header.url, digest=replayed.digest, caller="offered again")
    return request if request.task == task else None
