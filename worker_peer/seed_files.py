"""What the seed has: the files of its contents, offered to peers, and by what their sources would know them again.

Driver, on the loop: the store behind it is asked in worker threads. It reads no source and says nothing to a supernode.
"""

import asyncio
import logging
from concurrent.futures import Executor
from typing import Final

from wire.pieces import PieceLayout
from worker_peer.cache_keeper import CacheKeeper
from worker_peer.exchange import Exchange
from worker_peer.host.store import TaskFile

_log = logging.getLogger("seed")

#: Longer ones are cut off, and then match nothing.
_LONGEST_VALIDATOR: Final = 4096


class SeedFiles:
    """The contents of one seed, by task. A validator is an ETag, or a Last-Modified; empty: there is none."""

    def __init__(self, *, keeper: CacheKeeper, exchange: Exchange, executor: Executor) -> None:
        self._index = keeper.store.index
        self._on_disk = keeper.files
        self._exchange = exchange
        self._executor = executor
        self._offered: dict[str, TaskFile] = {}
        self._validators: dict[str, str] = {}

    # -- what is offered ------------------------------------------------------------------------------------------------

    def offered(self, task: str) -> TaskFile | None:
        """The file that peers are served from, whole or still growing."""
        return self._offered.get(task)

    def whole(self, task: str) -> TaskFile | None:
        """The file that peers are served from, once all of it is here and right."""
        file = self._offered.get(task)
        return file if file is not None and file.digest is not None else None

    def offer(self, file: TaskFile) -> None:
        """Serve peers from it; it is closed when it is no longer offered."""
        if file.task not in self._offered:
            self._offered[file.task] = file
            self._exchange.share(file.task, file, file.have)

    def piece_came(self, task: str, piece: int) -> None:
        """A piece of what is offered is here."""
        self._exchange.piece_available(task, piece)

    def served_at(self, task: str) -> float:
        """When it was last served, by the clock."""
        return self._exchange.served_at.get(task, float("-inf"))

    def withdraw(self, task: str) -> None:
        """Serve nobody from it any more, and forget it; what is stored stays."""
        self._exchange.unshare(task)
        self.forget(task)

    def forget(self, task: str) -> None:
        """As `withdraw`, for one that the exchange has let go of already, or never had."""
        self._offered.pop(task, None)
        self._validators.pop(task, None)

    # -- what is stored -------------------------------------------------------------------------------------------------

    async def find(self, task: str) -> TaskFile | None:
        """The file that is offered, or stored. None: there is nothing. Raises OSError."""
        return self._offered.get(task) or await self._on_disk.open(task)

    async def create(self, task: str, layout: PieceLayout, *, url: str, content_type: str) -> TaskFile:
        """A new file, offered from its first piece on. Raises StoreFull, OSError."""
        file = await self._on_disk.create(task, layout, url=url, content_type=content_type)
        self.offer(file)
        return file

    async def discard(self, file: TaskFile) -> None:
        """Neither offered nor stored any more: it is not, or not surely, the source's content of today. Raises OSError."""
        self._exchange.unshare(file.task)
        if self._offered.pop(file.task, None) is None:
            file.close()
        await self._on_disk.remove(file.task)

    async def remove(self, task: str) -> None:
        """Delete what is stored of the task. Raises OSError."""
        await self._on_disk.remove(task)

    # -- by what a source knows it --------------------------------------------------------------------------------------

    def validator(self, task: str) -> str:
        """The one that this run has heard, or has seen to be current."""
        return self._validators.get(task, "")

    async def last_validator(self, task: str) -> str:
        """The one that this run has heard, or an earlier one. Raises OSError."""
        return self.validator(task) or await asyncio.get_running_loop().run_in_executor(self._executor, self._noted, task)

    def confirm_validator(self, task: str, validator: str) -> None:
        """The source says that its content is still the one of this validator."""
        self._validators[task] = validator

    async def note_validator(self, task: str, validator: str) -> None:
        """The source has told this one. For the next run too: without it the source would be read again."""
        self._validators[task] = validator
        await asyncio.get_running_loop().run_in_executor(self._executor, self._note, task, validator)

    def _noted(self, task: str) -> str:
        """Blocking."""
        return self._index.notes(task).validator

    def _note(self, task: str, validator: str) -> None:
        """Blocking."""
        try:
            self._index.write_notes(task, validator=validator[:_LONGEST_VALIDATOR])
        except OSError as error:
            _log.warning("task %s: its validator cannot be noted: %s", task[:16], error)
