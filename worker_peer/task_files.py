"""The store, asked from the loop: its blocking work in worker threads, and one thing at a time for each task.

Two things at once for one task would meet badly: a content that is being deleted must not be opened by the next reader.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from typing import TypeVar

from wire.pieces import PieceLayout
from worker_peer.host.store import Store, TaskFile

_Result = TypeVar("_Result")


class TaskFiles:
    """The files of one peer's tasks. Every method raises what `Store`'s raises."""

    def __init__(self, store: Store, executor: Executor) -> None:
        self._store = store
        self._executor = executor
        # A lock and how many hold it or wait for it.
        self._turns: dict[str, tuple[asyncio.Lock, int]] = {}

    async def open(self, task: str) -> TaskFile | None:
        """What is stored of the task, verified again; None: nothing."""
        async with self._turn(task):
            return await self._blocking(self._store.open, task)

    async def create(self, task: str, layout: PieceLayout, *, content_type: str) -> TaskFile:
        """A new file for the task; what was there before goes."""
        async with self._turn(task):
            return await self._blocking(lambda: self._store.create(task, layout, content_type=content_type))

    async def remove(self, task: str) -> None:
        """Delete what is stored of the task."""
        async with self._turn(task):
            await self._blocking(self._store.remove, task)

    async def finish(self, file: TaskFile, digest: str) -> None:
        """Note that the whole content is there and has this digest."""
        await self._blocking(file.finish, digest)

    async def left_behind(self, older_than_s: float, now: float, known: set[str]) -> list[str]:
        """Tasks of earlier runs, written to longer ago than that (`now`: unix seconds), and not among the `known`."""

        def look() -> list[str]:
            return [
                task for task in self._store.tasks() if task not in known and now - self._store.written_at(task) > older_than_s
            ]

        return await self._blocking(look)

    @asynccontextmanager
    async def _turn(self, task: str) -> AsyncIterator[None]:
        lock, holders = self._turns.get(task, (asyncio.Lock(), 0))
        self._turns[task] = (lock, holders + 1)
        try:
            async with lock:
                yield
        finally:
            lock, holders = self._turns.pop(task)
            if holders > 1:
                self._turns[task] = (lock, holders - 1)

    async def _blocking(self, function: Callable[..., _Result], *args: object) -> _Result:
        working = asyncio.get_running_loop().run_in_executor(self._executor, function, *args)
        try:
            return await asyncio.shield(working)
        except asyncio.CancelledError:
            await asyncio.wait([working])  # the thread goes on: the turn is over when it is
            raise
