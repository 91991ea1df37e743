"""What a supernode asks of this host's store, and is told: CACHE_LIST, KEEP, COLLECT, and DROP of what nobody has open.

Driver, on the loop. One question after the other, so that an answer shows what the questions before it have done.
"""

import asyncio
import heapq
import logging
from concurrent.futures import Executor
from typing import Final

from wire.messages import CacheList, CachePage, Collect, Keep
from wire.vocabulary import LONGEST_S
from worker_peer.broker_link import BrokerLink
from worker_peer.cache_keeper import CacheKeeper, Collected, KeepRefused
from worker_peer.host.background import Background
from worker_peer.host.clock import Clock
from worker_peer.host.store_index import Stored

_log = logging.getLogger("cache")

_URL_TEXT: Final = 512
#: Questions that wait for their turn; more are refused.
_MOST_WAITING: Final = 100
_WORDS: Final = 1024
Question = CacheList | Keep | Collect
_Row = tuple[str, int, int, float, float, bool, str]


class CacheAnswers:
    """Answers for one store."""

    def __init__(self, keeper: CacheKeeper, *, clock: Clock, executor: Executor, background: Background) -> None:
        self._keeper = keeper
        self._clock = clock
        self._executor = executor
        self._background = background
        self._turn = asyncio.Lock()
        self._waiting = 0

    def message(self, link: BrokerLink, question: Question) -> None:
        """A question; its answer follows."""
        if self._waiting >= _MOST_WAITING:
            link.send(CachePage(number=question.number, refused="too many questions wait on this host: ask again in a moment"))
            return
        self._waiting += 1
        self._background.spawn(self._answer(link, question), f"{question.KIND.name} {question.number}")

    def drop(self, task: str) -> None:
        """A content is to be deleted, if it is here and nobody uses it."""
        self._background.spawn(self._drop(task), f"drop {task[:16]}")

    async def _drop(self, task: str) -> None:
        async with self._turn:
            await self._keeper.drop(task)

    async def _answer(self, link: BrokerLink, question: Question) -> None:
        try:
            async with self._turn:
                try:
                    page = await self._page(question)
                except (KeepRefused, OSError) as error:
                    _log.warning("the supernode's %s cannot be done: %s", question.KIND.name, error)
                    page = await self._told(question.number, [], refused=str(error)[:_WORDS])
            link.send(page)
        finally:
            self._waiting -= 1

    async def _page(self, question: Question) -> CachePage:
        """Raises KeepRefused, OSError."""
        match question:
            case CacheList():
                index = self._keeper.store.index
                following = (each for each in index.all() if each.task > question.after)
                found = heapq.nsmallest(question.limit + 1, following, key=lambda each: each.task)
                return await self._told(question.number, found[: question.limit], more=len(found) > question.limit)
            case Keep():
                await self._keeper.keep(question.task, question.keep_s)
                stored = self._keeper.store.index.get(question.task)
                return await self._told(question.number, [stored] if stored is not None else [])
            case Collect():
                return await self._told(question.number, [], collected=await self._keeper.collect(question.free))

    async def _told(
        self,
        number: int,
        stored: list[Stored],
        *,
        more: bool = False,
        collected: Collected | None = None,
        refused: str = "",
    ) -> CachePage:
        use = self._keeper.use()
        fill = await self._keeper.fill()
        rows = await asyncio.get_running_loop().run_in_executor(self._executor, self._rows, stored)
        return CachePage(
            number=number,
            contents=tuple(rows),
            more=more,
            used=fill.used,
            quota=fill.quota,
            free=fill.free,
            kept=fill.kept,
            removed=collected.removed if collected is not None else 0,
            removed_bytes=collected.removed_bytes if collected is not None else 0,
            refused=refused,
            stored=use.stored,
            evicted=tuple((reason, *gone) for reason, gone in use.evicted.items()),
            left=tuple((why.value, *left) for why, left in collected.left.items()) if collected is not None else (),
        )

    def _rows(self, stored: list[Stored]) -> list[_Row]:
        """Blocking: the URLs are in the journals."""
        return [self._row(each) for each in stored]

    def _row(self, stored: Stored) -> _Row:
        now, about = self._clock.wall(), self._keeper.store.about(stored.task)
        return (
            stored.task,
            stored.length,
            stored.size,
            _seconds(now - stored.used_at),
            _seconds(stored.kept_until - now),
            self._keeper.is_in_use(stored.task),
            about.url[:_URL_TEXT] if about is not None else "",
        )


def _seconds(seconds: float) -> float:
    return min(LONGEST_S, max(0.0, round(seconds, 1)))
