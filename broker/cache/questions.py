"""Questions to the stores of hosts: each bears a number, and so does its answer; who does not answer in time is said so.

Driver, on the loop. One question may go to many hosts at once; what it costs the broker is a message to each.
"""

import asyncio
from collections.abc import Callable, Sequence
from itertools import count
from typing import Final

from broker.core.state import PeerRecord
from broker.router import Router
from wire.messages import CachePage, Message
from wire.version import CACHE_MINOR

TIME_LIMIT_S: Final = 10.0
#: Answers that may be waited for at the same time, in all.
_MOST_WAITING: Final = 20_000


class TooManyQuestions(Exception):
    """Others are waiting for as many answers as may be. The text says what to do."""


class CacheQuestions:
    """Asks hosts, and waits for what they answer."""

    def __init__(self, router: Router, *, time_limit_s: float = TIME_LIMIT_S) -> None:
        self._router = router
        self._time_limit_s = time_limit_s
        self._numbers = count(1)
        self._waiting: dict[tuple[str, int], asyncio.Future[CachePage]] = {}
        router.on_page = self._answered

    async def ask(
        self, peers: Sequence[PeerRecord], question: Callable[[int], Message], *, within_s: float | None = None
    ) -> dict[str, CachePage | str]:
        """By peer its answer, or why there is none. `question` makes one of a number. Raises TooManyQuestions.

        `within_s`: how long answers are waited for, where somebody has less time than the usual.
        """
        limit_s = self._time_limit_s if within_s is None else min(within_s, self._time_limit_s)
        if len(self._waiting) + len(peers) > _MOST_WAITING:
            raise TooManyQuestions("too many questions wait for answers: ask again in a moment, or name fewer hosts")
        told: dict[str, CachePage | str] = {}
        asked: dict[str, tuple[str, int]] = {}
        loop = asyncio.get_running_loop()
        for record in peers:
            if record.minor < CACHE_MINOR:
                told[record.peer] = (
                    f"it speaks protocol 1.{record.minor}, too old to be asked (from 1.{CACHE_MINOR} on): update it"
                )
                continue
            key = record.peer, next(self._numbers)
            asked[record.peer] = key
            self._waiting[key] = loop.create_future()
            self._router.tell(record.peer, question(key[1]))
        try:
            if asked:
                await asyncio.wait([self._waiting[key] for key in asked.values()], timeout=limit_s)
            for peer, key in asked.items():
                answer = self._waiting[key]
                told[peer] = answer.result() if answer.done() else f"it has not answered within {limit_s:g} s"
        finally:
            for key in asked.values():
                self._waiting.pop(key).cancel()
        return told

    def _answered(self, peer: str, page: CachePage) -> None:
        waiting = self._waiting.get((peer, page.number))
        if waiting is not None and not waiting.done():
            waiting.set_result(page)
