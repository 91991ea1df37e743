"""Background: the tasks that a driver leaves running. The only module that may create one.

An event loop keeps no reference to its tasks (one may vanish in mid-await) and tells nobody of their exceptions until they
are collected. Here a task is kept until it ends, its failure is logged once, and `close` waits for all of them.
"""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

_CANCEL_AGAIN_S: Final = 0.5
_LOG = logging.getLogger(__name__)
Result = TypeVar("Result")


class Background:
    """A group of running tasks that end with their owner. For one event loop."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    def __len__(self) -> int:
        return len(self._tasks)

    @property
    def is_closed(self) -> bool:
        """Whether nothing may be started any more."""
        return self._closed

    def spawn(self, coroutine: Coroutine[Any, Any, Result], name: str) -> asyncio.Task[Result]:
        """Run a coroutine until it ends or the group closes. Its exception is logged here, so nobody has to await it.

        Raises RuntimeError once the group is closed.
        """
        if self._closed:
            coroutine.close()
            raise RuntimeError(f"{name} cannot be started: its owner is closed")
        task = asyncio.create_task(coroutine, name=name)  # noqa: TID251  this is the place that keeps the reference
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            _LOG.error("%s failed: %s: %s", task.get_name(), type(error).__name__, error)

    async def close(self) -> None:
        """Cancel every task and wait until each has ended. May be called by one of them, which is then left out."""
        self._closed = True
        me = asyncio.current_task()
        while waiting := [task for task in self._tasks if task is not me]:
            for task in waiting:
                task.cancel()
            # Again after a moment: before Python 3.12 `asyncio.wait_for` loses a cancellation that comes together with what
            # it waits for, as when a supernode's death ends its seed and the seed's connection at once.
            await asyncio.wait(waiting, timeout=_CANCEL_AGAIN_S)
            # Done callbacks run in the loop's next turn: they take the ended ones out.
            await asyncio.sleep(0)
