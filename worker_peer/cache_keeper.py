"""The store's life: room is made before a content is written, what nobody uses goes, what is kept stays.

Driver, on the loop; its blocking work in worker threads. Who goes is decided in core/eviction.py; who is in use, the holder
knows (downloads.py, seeding.py): it is asked again for each content just before that goes, and lets go of it.
"""

import asyncio
import contextlib
import logging
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Executor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import Final, Protocol, TypeVar

from worker_peer.api import CacheUse
from worker_peer.core.eviction import (
    Content,
    Rules,
    Shortage,
    Stays,
    Why,
    collected,
    may_go,
    room_for,
    room_to_keep,
    staying,
    tidied,
)
from worker_peer.host.clock import Clock
from worker_peer.host.store import Store, StoreFull
from worker_peer.task_files import TaskFiles

_log = logging.getLogger("cache")
_Result = TypeVar("_Result")

#: Served so recently is in use: more of it will be asked for.
_RECENT_S: Final = 2.0
#: How long a new content waits for those in use, when there is no room without them.
_LOOKS: Final = 20
_LOOK_AGAIN_S: Final = 0.25
_GIVEN_BACK_S: Final = 0.02
#: Contents that are deleted by one call to a worker thread.
_AT_ONCE: Final = 64
#: 1.x's thresholds are of its disks. Where nobody has chosen another, they are at most so much of a smaller disk.
_LARGEST_YOUNG_SHARE: Final = 10
_LARGEST_FULL_SHARE: Final = 50
DEFAULT_YOUNG_FREE: Final = 100 << 30
DEFAULT_FULL_FREE: Final = 5 << 30


class KeepRefused(Exception):
    """A content cannot be kept. The text says why, and what to do."""


class Holder(Protocol):
    """Who uses the contents."""

    def last_uses(self) -> dict[str, float]:
        """The tasks that it has open, and when each was last used, by the clock."""
        ...

    def is_busy(self, task: str) -> bool:
        """Whether somebody reads it or waits for it, or it is being written."""
        ...

    def served_at(self, task: str) -> float:
        """When it was last served, by the clock."""
        ...

    def let_go(self, task: str) -> None:
        """Neither use nor offer it any more: it is about to be deleted."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Fill:
    """How full a store is, bytes."""

    used: int
    quota: int
    free: int
    kept: int


@dataclass(frozen=True, slots=True)
class Collected:
    """What a collection has done."""

    removed: int
    removed_bytes: int
    #: What stays, whoever asks: how many contents, and their bytes.
    left: dict[Stays, tuple[int, int]]


class CacheKeeper:
    """Keeps one store within its rules."""

    def __init__(self, store: Store, *, rules: Rules, clock: Clock, executor: Executor) -> None:
        self.store: Final = store
        self.rules = rules
        self.files: Final = TaskFiles(store, executor, self.room)
        #: Given by the composition root. Without one nothing is in use.
        self.holder: Holder | None = None
        #: Contents deleted so far, by why; and their bytes.
        self.removed: Counter[Why] = Counter()
        self.removed_bytes: Counter[Why] = Counter()
        self._clock = clock
        self._executor = executor
        # One decision at a time: two would count on the same bytes.
        self._deciding = asyncio.Lock()
        #: Bytes of contents that have been given room and are not there yet.
        self._promises: Counter[str] = Counter()
        self._held: Counter[str] = Counter()

    # -- what is in use -------------------------------------------------------------------------------------------------

    @contextmanager
    def holding(self, task: str) -> Iterator[None]:
        """While it lasts, the content is in use."""
        self._held[task] += 1
        try:
            yield
        finally:
            self._held[task] -= 1
            if not self._held[task]:
                del self._held[task]

    def is_in_use(self, task: str) -> bool:
        """Whether somebody reads, writes or serves it, or did a moment ago."""
        return self._is_busy(task) or (self.holder is not None and self._clock.now() - self.holder.served_at(task) < _RECENT_S)

    def _is_busy(self, task: str) -> bool:
        return task in self._held or (self.holder is not None and self.holder.is_busy(task))

    # -- room -----------------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def room(self, task: str, size: int) -> AsyncIterator[None]:
        """Room for a new content of so many bytes on the disk, which is to be there when the context ends.

        Waits some seconds for contents in use, where only these are in its way. Raises StoreFull.
        """
        await self._make_room(task, size)
        try:
            with self.holding(task):
                yield
        finally:
            self._promises[task] -= size
            if not self._promises[task]:
                del self._promises[task]

    @property
    def _promised(self) -> int:
        """Bytes of contents that have been given room, without those that are counted as there already."""
        return sum(max(0, size - self._size_of(task)) for task, size in self._promises.items())

    async def _make_room(self, task: str, size: int) -> None:
        for look in range(_LOOKS):
            async with self._deciding:
                shortage = await self._try_to_make_room(task, size)
                if shortage is None:
                    self._promises[task] += size
                    return
            if not shortage.passes or look + 1 == _LOOKS:
                raise self._no_room(size, shortage)
            await asyncio.sleep(_LOOK_AGAIN_S)

    async def _try_to_make_room(self, task: str, size: int) -> Shortage | None:
        while True:
            free, rules = await self._disk()
            free += self._size_of(task)
            lacking = free < size + self._promised + rules.full_free
            others = [each for each in await self._with_links(lacking) if each.task != task]
            found = room_for(size, others, rules, self._clock.wall(), free=free, promised=self._promised)
            if isinstance(found, Shortage):
                return found
            gone = await self._remove([(each, Why.ROOM) for each in found])
            if lacking:
                await self._until_free(free - self._size_of(task) + sum(each.gives for each in gone))
            if len(gone) == len(found):
                return None
            # Somebody has taken one up meanwhile: others go in its place.

    async def _until_free(self, wanted: int) -> None:
        """Wait until the disk has given back what was deleted: its last user closes it in a moment."""
        for _ in range(_LOOKS):
            if (await self._disk())[0] >= wanted:
                return
            await asyncio.sleep(_GIVEN_BACK_S)

    def _no_room(self, size: int, shortage: Shortage) -> StoreFull:
        root = self.store.root
        if shortage.quota_room is not None and shortage.quota_room < size:
            quota = self.rules.quota
            text = f"{root}: {size} bytes are needed, and of the cache quota of {quota} bytes {shortage.quota_room} can be had: "
            text += (
                "raise it (--cache-quota)"
                if size > quota
                else "the rest is in use or kept: try later, or raise it (--cache-quota)"
            )
            return StoreFull(root, size, shortage.quota_room, text)
        return StoreFull(root, size, shortage.disk_room)

    def _size_of(self, task: str) -> int:
        stored = self.store.index.get(task)
        return stored.size if stored is not None else 0

    # -- from time to time ----------------------------------------------------------------------------------------------

    async def tidy(self) -> list[str]:
        """Delete what the rules want deleted, and note the last uses on the disk. The tasks that went."""
        async with self._deciding:
            free, rules = await self._disk()
            contents = await self._with_links(free < max(rules.young_free, rules.full_free))
            gone = await self._remove(tidied(contents, rules, self._clock.wall(), free=free, promised=self._promised))
        await self._blocking(self.store.index.write_uses)
        return [each.task for each in gone]

    async def purge(self) -> list[str]:
        """Delete what this process has open and nobody reads: it ends, and would not serve it any more."""
        opened = self.holder.last_uses() if self.holder is not None else {}
        async with self._deciding:
            mine = [replace(each, in_use=self._is_busy(each.task)) for each in self._contents() if each.task in opened]
            idle = [(each, Why.EXPIRED) for each in mine if may_go(each, self._clock.wall())]
            return [each.task for each in await self._remove(idle, now=True)]

    async def collect(self, wanted: int) -> Collected:
        """Delete until so many bytes more are free, as far as nothing in use or kept has to go; 0: as the rules want it."""
        before, before_bytes = self.removed.total(), self.removed_bytes.total()
        if wanted:
            async with self._deciding:
                found = collected(await self._with_links(True), wanted, self._clock.wall())
                await self._remove([(each, Why.ASKED) for each in found])
        else:
            await self.tidy()
        left = staying(await self._with_links(True), self._clock.wall())
        return Collected(self.removed.total() - before, self.removed_bytes.total() - before_bytes, left)

    async def drop(self, task: str) -> bool:
        """Delete one content, kept or not, because somebody says so. False: it is in use, or not here."""
        async with self._deciding:
            found = [(each, Why.ASKED) for each in self._contents() if each.task == task]
            return bool(await self._remove(found, now=True))

    # -- keeping --------------------------------------------------------------------------------------------------------

    async def keep(self, task: str, keep_s: float) -> bool:
        """Keep a content for so long from now on; 0: no longer. False: it is not here. Raises KeepRefused, OSError."""
        async with self._deciding:
            now = self._clock.wall()
            if keep_s > 0:
                room, size = room_to_keep(task, self._contents(), self.rules, now), self._size_of(task)
                if room is not None and size > room:
                    raise KeepRefused(
                        f"task {task[:16]} takes {size} bytes, and {room} are left of what kept contents may take, "
                        f"{self.rules.kept_percent} % of the cache quota: raise --preheat-quota or --cache-quota, or unpin others"
                    )
            return await self._blocking(self.store.keep, task, now + keep_s if keep_s > 0 else 0.0)

    async def fill(self) -> Fill:
        """How full the store is."""
        free, _ = await self._disk()
        use = self.use()
        return Fill(used=use.used, quota=use.quota, free=free, kept=use.kept)

    def use(self) -> CacheUse:
        """What is stored and what has gone, without a look at the disk."""
        now, index = self._clock.wall(), self.store.index
        return CacheUse(
            used=index.used,
            quota=self.rules.quota,
            kept=sum(each.size for each in index.all() if each.kept_until > now),
            stored=len(index),
            evicted={why.name.lower(): (self.removed[why], self.removed_bytes[why]) for why in Why},
        )

    async def close(self) -> None:
        """Note the last uses: the next run goes on from there."""
        self._contents()
        await self._blocking(self.store.index.write_uses)

    # -- carried out ----------------------------------------------------------------------------------------------------

    def _contents(self) -> list[Content]:
        """All that is stored, as of now."""
        now, wall = self._clock.now(), self._clock.wall()
        if self.holder is not None:
            for task, used_at in self.holder.last_uses().items():
                self.store.index.used_now(task, wall - (now - used_at))
        return [
            Content(
                task=each.task,
                size=each.size,
                used_at=each.used_at,
                kept_until=each.kept_until,
                in_use=self.is_in_use(each.task),
            )
            for each in self.store.index.all()
        ]

    async def _with_links(self, matters: bool) -> list[Content]:
        """All that is stored, with what the disk would have of it: nothing, while a user's hard link holds it."""
        contents = self._contents()
        if not matters:
            return contents

        def look() -> list[Content]:
            return [replace(each, frees=0) if self.store.is_linked(each.task) else each for each in contents]

        return await self._blocking(look)

    async def _remove(self, chosen: list[tuple[Content, Why]], *, now: bool = False) -> list[Content]:
        """Delete contents in this order, but for those that somebody has taken up since they were chosen. Which went.

        `now`: those too that were served a moment ago.
        """
        gone: list[Content] = []
        for at in range(0, len(chosen), _AT_ONCE):
            some = chosen[at : at + _AT_ONCE]
            # One whose turn somebody has may have to be waited for: not with the others' turns in hand.
            free = [each for each in some if not self.files.is_taken(each[0].task)]
            for together in (free, *([each] for each in some if each not in free)):
                gone += await self._remove_together(together, now)
        return gone

    async def _remove_together(self, chosen: list[tuple[Content, Why]], now: bool) -> list[Content]:
        def let_go(task: str) -> bool:
            if self._is_busy(task) if now else self.is_in_use(task):
                return False
            if self.holder is not None:
                self.holder.let_go(task)
            return True

        went = set(await self.files.remove_if([each.task for each, _ in chosen], let_go))
        gone = [(each, why) for each, why in chosen if each.task in went]
        for content, why in gone:
            self.removed[why] += 1
            self.removed_bytes[why] += content.size
            _log.info("task %s deleted, %d bytes: %s", content.task[:16], content.size, why.value)
        return [each for each, _ in gone]

    async def _disk(self) -> tuple[int, Rules]:
        """Bytes that are free, and the rules for a disk of this size."""

        def look() -> tuple[int, int]:
            with contextlib.suppress(OSError):
                found = os.statvfs(self.store.root)
                return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
            return 0, 0

        free, total = await self._blocking(look)
        young, full = self.rules.young_free, self.rules.full_free
        if young == DEFAULT_YOUNG_FREE:
            young = min(young, total // _LARGEST_YOUNG_SHARE)
        if full == DEFAULT_FULL_FREE:
            full = min(full, total // _LARGEST_FULL_SHARE)
        return free, replace(self.rules, young_free=young, full_free=full)

    async def _blocking(self, function: Callable[..., _Result], *args: object) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._executor, function, *args)
