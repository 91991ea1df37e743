"""The store, asked from the loop: its blocking work in worker threads, and one thing at a time for each task.

Two things at once for one task would meet badly: a content that is being deleted must not be opened by the next reader.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from typing import TypeVar

from wire.pieces import PieceLayout
from worker_peer.host.digests import ContentDigest, block_digest
from worker_peer.host.store import Store, TaskFile
from worker_peer.host.store_index import size_on_disk

_Result = TypeVar("_Result")
#: Makes room for a task's so many bytes on the disk, and counts them as taken while it lasts.
Room = Callable[[str, int], AbstractAsyncContextManager[None]]


class TaskFiles:
    """The files of one peer's tasks. Every method raises what `Store`'s raises."""

    def __init__(self, store: Store, executor: Executor, room: Room = lambda task, size: nullcontext()) -> None:
        self._store = store
        self._room = room
        self._executor = executor
        # A lock and how many hold it or wait for it.
        self._turns: dict[str, tuple[asyncio.Lock, int]] = {}

    async def open(self, task: str) -> TaskFile | None:
        """What is stored of the task, verified again; None: nothing."""
        async with self._turn(task):
            return await self._blocking(self._store.open, task)

    async def create(
        self, task: str, layout: PieceLayout, content_type: str, content: bytes = b"", digest: str = "", *, url: str = ""
    ) -> TaskFile:
        """A new file for the task; what was there before goes, and others if there is no room.

        With all of its `content` in it, if that has this digest.
        """

        def made() -> TaskFile:
            file = self._store.create(task, layout, url=url, content_type=content_type)
            if content:
                _fill(file, content, digest)
            return file

        # Room first: whoever has a task's turn must not wait for others to be deleted, which takes their turns.
        async with self._room(task, size_on_disk(layout)), self._turn(task):
            return await self._blocking(made)

    async def remove(self, task: str) -> None:
        """Delete what is stored of the task."""
        async with self._turn(task):
            await self._blocking(self._store.remove, task)

    async def remove_if(self, tasks: list[str], may_go: Callable[[str], bool]) -> list[str]:
        """Delete what is stored of those tasks that, at their turn, may go. Which went."""
        async with AsyncExitStack() as stack:
            for task in tasks:
                await stack.enter_async_context(self._turn(task))
            going = [task for task in tasks if may_go(task)]

            def remove() -> None:
                for task in going:
                    self._store.remove(task)

            # Nobody who has one turn waits for a second one, so having many locks nobody out for good.
            await self._blocking(remove)
            return going

    def is_taken(self, task: str) -> bool:
        """Whether somebody has the task's turn."""
        return task in self._turns

    async def finish(self, file: TaskFile, digest: str) -> None:
        """Note that the whole content is there and has this digest."""
        await self._blocking(file.finish, digest)

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


def _fill(file: TaskFile, content: bytes, digest: str) -> None:
    """Write a whole content into its new file, unless it is another one. Closes the file where that fails."""
    whole = ContentDigest()
    whole.update(content)
    if whole.sha256() != digest or len(content) != file.layout.length:
        return
    try:
        file.write(0, content)
        for piece in range(file.layout.piece_count):
            blocks = (file.layout.block_span(piece, block) for block in file.layout.blocks_of(piece))
            file.commit(piece, b"".join(block_digest(content[at : at + size]) for at, size in blocks))
    except BaseException:
        file.close()
        raise
