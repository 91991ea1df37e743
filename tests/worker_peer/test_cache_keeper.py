"""The keeper of a real store: room is made, nobody in use is hurt, what is kept stays, last uses outlive the process."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from tests.worker_peer.parts import FakeClock, until
from wire.pieces import PieceLayout
from worker_peer import cache_keeper
from worker_peer.cache_keeper import DEFAULT_FULL_FREE, DEFAULT_YOUNG_FREE, CacheKeeper, Collected, KeepRefused
from worker_peer.core.eviction import Rules, Stays, Why
from worker_peer.host.store import Store, StoreFull
from worker_peer.host.store_index import size_on_disk

LAYOUT = PieceLayout(100_000, 32_768, 4096)
SIZE = size_on_disk(LAYOUT)
A, B, C, D = (name * 64 for name in "abcd")


@dataclass
class Users:
    """Who uses what, as a test says."""

    uses: dict[str, float] = field(default_factory=dict)
    busy: set[str] = field(default_factory=set)
    served: dict[str, float] = field(default_factory=dict)
    gone: list[str] = field(default_factory=list)

    def last_uses(self) -> dict[str, float]:
        """See Holder."""
        return self.uses

    def is_busy(self, task: str) -> bool:
        """See Holder."""
        return task in self.busy

    def served_at(self, task: str) -> float:
        """See Holder."""
        return self.served.get(task, float("-inf"))

    def let_go(self, task: str) -> None:
        """See Holder."""
        self.gone.append(task)


@dataclass(kw_only=True)
class Lab:
    """A keeper and what stands around it."""

    keeper: CacheKeeper
    users: Users
    clock: FakeClock
    executor: ThreadPoolExecutor

    async def put(self, *tasks: str) -> None:
        """New contents, each used a second after the one before."""
        for task in tasks:
            self.clock.at += 1
            (await self.keeper.files.create(task, LAYOUT, content_type="")).close()

    @property
    def there(self) -> str:
        """The first digits of what is there."""
        tasks = self.keeper.store.tasks()
        assert sorted(each.task for each in self.keeper.store.index.all()) == tasks
        return "".join(task[0] for task in tasks)

    def rule(self, **changes: float) -> None:
        """Other rules from now on."""
        self.keeper.rules = replace(self.keeper.rules, **changes)  # type: ignore[arg-type]


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    """A store without limits."""
    clock = FakeClock()
    with ThreadPoolExecutor(4) as executor:
        keeper = CacheKeeper(Store(tmp_path / "data", clock=clock), rules=Rules(), clock=clock, executor=executor)
        keeper.holder = users = Users()
        yield Lab(keeper=keeper, users=users, clock=clock, executor=executor)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for room."""
    monkeypatch.setattr(cache_keeper, "_LOOKS", 1)


async def test_room_is_made_before_a_content_is_written_from_the_least_recently_used(lab: Lab) -> None:
    lab.rule(quota=3 * SIZE)
    await lab.put(A, B, C)
    assert lab.there == "abc"
    lab.users.uses = {A: lab.clock.now() + 0.5}
    lab.clock.at += 1
    await lab.put(D)
    assert lab.there == "acd", "a was used after b"
    assert lab.users.gone == [B], "whoever offers it hears of it first"
    assert (lab.keeper.removed[Why.ROOM], lab.keeper.removed_bytes[Why.ROOM]) == (1, SIZE)
    assert lab.keeper.store.index.used == 3 * SIZE


@pytest.mark.usefixtures("impatient")
async def test_what_cannot_have_room_is_refused_in_words_and_nothing_goes_for_it(lab: Lab) -> None:
    lab.rule(quota=2 * SIZE)
    await lab.put(A, B)
    with pytest.raises(StoreFull, match="raise it") as caught:
        await lab.keeper.files.create(C, PieceLayout(3 * 100_000, 32_768, 4096), content_type="")
    assert f"cache quota of {2 * SIZE} bytes" in str(caught.value)
    lab.users.busy = {A, B}
    with pytest.raises(StoreFull, match="in use or kept"):
        await lab.put(C)
    assert lab.there == "ab"
    lab.users.busy = {A}
    await lab.put(C)
    assert lab.there == "ac"


async def test_a_content_waits_a_moment_for_one_in_use(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.rule(quota=SIZE)
    await lab.put(A)
    looks: list[int] = []

    async def one_look(_: float) -> None:
        looks.append(1)
        lab.users.busy = set() if len(looks) == 3 else {A}

    lab.users.busy = {A}
    monkeypatch.setattr(asyncio, "sleep", one_look)
    await lab.put(B)
    assert (len(looks), lab.there) == (3, "b")


async def test_served_a_moment_ago_is_in_use_and_held_is_too(lab: Lab) -> None:
    await lab.put(A, B, C, D)
    lab.rule(expire_s=10)
    lab.clock.at += 100
    lab.users.served = {A: lab.clock.now() - 1.9, B: lab.clock.now() - 2.1}
    with lab.keeper.holding(C), lab.keeper.holding(C):
        assert lab.keeper.is_in_use(C)
        assert sorted(await lab.keeper.tidy()) == [B, D]
    assert not lab.keeper.is_in_use(C)
    assert await lab.keeper.tidy() == [C]


async def test_whoever_takes_a_content_up_at_the_last_moment_keeps_it(lab: Lab) -> None:
    lab.rule(quota=2 * SIZE)
    await lab.put(A, B)
    taken: list[str] = []
    original = lab.keeper.files.remove_if

    async def taken_up(tasks: list[str], may_go: Callable[[str], bool]) -> list[str]:
        if not taken:
            taken.extend(tasks)
            lab.users.busy.update(tasks)
        return await original(tasks, may_go)

    lab.keeper.files.remove_if = taken_up  # type: ignore[method-assign]
    await lab.put(C)
    assert taken == [A]
    assert lab.there == "ac"


async def test_two_at_once_do_not_count_on_the_same_bytes(lab: Lab) -> None:
    lab.rule(quota=2 * SIZE)
    await lab.put(A, B)
    files = await asyncio.gather(*(lab.keeper.files.create(task, LAYOUT, content_type="") for task in (C, D)))
    assert lab.there == "cd"
    assert lab.keeper.store.index.used == 2 * SIZE
    assert lab.keeper._promised == 0
    for file in files:
        file.close()


async def test_a_content_that_is_fetched_anew_needs_only_its_own_room(lab: Lab) -> None:
    lab.rule(quota=2 * SIZE)
    await lab.put(A, B)
    await lab.put(A)
    assert lab.there == "ab"
    assert lab.users.gone == []


async def test_what_fails_to_be_made_leaves_its_room(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(fd: int, offset: int, length: int) -> None:
        raise OSError(28, "no space left")

    with monkeypatch.context() as patched:
        patched.setattr(os, "posix_fallocate", refuse)
        with pytest.raises(StoreFull):
            await lab.put(A)
    assert lab.keeper._promised == 0
    assert lab.keeper.store.index.used == 0
    await lab.put(A)


async def test_the_disk_has_room_made_too(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    await lab.put(A, B, C)
    disk = Disk(lab, total=1000 * SIZE, taken=997 * SIZE - 10)
    monkeypatch.setattr(os, "statvfs", disk)
    os.link(lab.keeper.store.root / A[:3] / A / "content", lab.keeper.store.root.parent / "output")
    disk.linked = SIZE
    await lab.put(D)
    assert lab.there == "acd", "a user's link holds the oldest: deleting it would give nothing back"


@dataclass
class Disk:
    """A disk of a test's size that holds the store and `taken` bytes more."""

    lab: Lab
    total: int
    taken: int
    linked: int = 0

    def __call__(self, path: object) -> "os.statvfs_result":
        free = self.total - self.taken - self.lab.keeper.store.index.used
        return os.statvfs_result((1, 1, self.total, free, free, 0, 0, 0, 0, 255))


async def test_the_disks_thresholds_are_1xs_or_a_share_of_a_smaller_disk(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "statvfs", Disk(lab, total=200 << 30, taken=0))
    lab.rule(young_free=DEFAULT_YOUNG_FREE, full_free=DEFAULT_FULL_FREE)
    _, rules = await lab.keeper._disk()
    assert (rules.young_free, rules.full_free) == (20 << 30, 4 << 30)
    lab.rule(young_free=150 << 30, full_free=140 << 30)
    _, rules = await lab.keeper._disk()
    assert (rules.young_free, rules.full_free) == (150 << 30, 140 << 30), "what somebody has chosen stands"
    monkeypatch.setattr(os, "statvfs", Disk(lab, total=2000 << 30, taken=0))
    lab.rule(young_free=DEFAULT_YOUNG_FREE, full_free=DEFAULT_FULL_FREE)
    _, rules = await lab.keeper._disk()
    assert (rules.young_free, rules.full_free) == (DEFAULT_YOUNG_FREE, DEFAULT_FULL_FREE)


async def test_a_full_disk_is_tidied_until_it_is_not(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    await lab.put(A, B, C, D)
    monkeypatch.setattr(os, "statvfs", Disk(lab, total=100 * SIZE, taken=95 * SIZE))
    lab.rule(full_free=3 * SIZE)
    assert await lab.keeper.tidy() == [A, B]
    assert lab.keeper.removed == {Why.FULL: 2}


# -- keeping ----------------------------------------------------------------------------------------------------------------


async def test_what_is_kept_stays_until_its_time_and_has_a_share_of_the_quota(lab: Lab) -> None:
    lab.rule(quota=4 * SIZE, expire_s=10)
    await lab.put(A, B, C)
    assert await lab.keeper.keep(A, 1000)
    assert await lab.keeper.keep(B, 1000)
    with pytest.raises(KeepRefused, match="--preheat-quota"):
        await lab.keeper.keep(C, 1000)
    assert await lab.keeper.keep(A, 2000), "again is not twice"
    assert not await lab.keeper.keep(D, 1000)
    fill = await lab.keeper.fill()
    assert (fill.used, fill.quota, fill.kept) == (3 * SIZE, 4 * SIZE, 2 * SIZE)
    lab.clock.at += 500
    assert await lab.keeper.tidy() == [C]
    assert await lab.keeper.keep(B, 0)
    assert await lab.keeper.tidy() == [B]
    lab.clock.at += 2000
    assert await lab.keeper.tidy() == [A]


async def test_an_operator_deletes_what_is_kept_but_not_what_is_in_use(lab: Lab) -> None:
    await lab.put(A, B)
    await lab.keeper.keep(A, 1000)
    lab.users.busy = {B}
    assert await lab.keeper.drop(A)
    assert not await lab.keeper.drop(B)
    assert not await lab.keeper.drop(C)
    assert lab.there == "b"


async def test_room_that_is_asked_for_is_made_from_the_oldest(lab: Lab) -> None:
    await lab.put(A, B, C, D)
    await lab.keeper.keep(A, 1000)
    lab.users.busy = {D}
    left = {Stays.KEPT: (1, SIZE), Stays.IN_USE: (1, SIZE)}
    assert await lab.keeper.collect(SIZE + 1) == Collected(2, 2 * SIZE, left)
    assert lab.there == "ad"
    assert await lab.keeper.collect(0) == Collected(0, 0, left)
    lab.users.busy = set()
    lab.rule(expire_s=1)
    lab.clock.at += 10
    assert await lab.keeper.collect(0) == Collected(1, SIZE, {Stays.KEPT: (1, SIZE)})
    assert lab.there == "a"
    use = lab.keeper.use()
    assert (use.used, use.kept, use.stored, use.quota) == (SIZE, SIZE, 1, 0)
    assert {why: gone for why, gone in use.evicted.items() if gone != (0, 0)} == {
        "asked": (2, 2 * SIZE),
        "expired": (1, SIZE),
    }
    assert use.evicted.keys() == {"room", "expired", "quota", "full", "young", "asked"}


async def test_what_a_user_has_linked_is_left_and_said(lab: Lab, tmp_path: Path) -> None:
    await lab.put(A)
    (path,) = (each for each in lab.keeper.store.root.glob("???/*/*") if each.stat().st_size >= LAYOUT.length)
    os.link(path, tmp_path / "linked")
    assert await lab.keeper.collect(1 << 40) == Collected(0, 0, {Stays.LINKED: (1, SIZE)})


async def test_what_is_open_is_purged_at_the_end_and_what_is_kept_is_not(lab: Lab) -> None:
    await lab.put(A, B, C, D)
    lab.users.uses = {A: 0.0, B: 0.0, C: 0.0}
    lab.users.served = {A: lab.clock.now()}
    lab.users.busy = {B}
    await lab.keeper.keep(C, 1000)
    assert await lab.keeper.purge() == [A]
    assert lab.there == "bcd"


async def test_the_last_uses_outlive_the_process(lab: Lab) -> None:
    await lab.put(A, B)
    lab.clock.at = 5e9  # later than the machine's clock, which has written the files
    lab.users.uses = {A: lab.clock.now() - 5}
    await lab.keeper.close()
    again = Store(lab.keeper.store.root, clock=lab.clock).index.get(A)
    assert again is not None
    assert again.used_at == lab.clock.wall() - 5


async def test_without_anybody_who_uses_them_contents_are_tidied_too(lab: Lab) -> None:
    lab.keeper.holder = None
    await lab.put(A)
    lab.rule(expire_s=1)
    lab.clock.at += 5
    assert await lab.keeper.purge() == []
    assert await lab.keeper.tidy() == [A]


async def test_one_that_is_just_being_opened_is_waited_for_and_holds_up_no_other(lab: Lab) -> None:
    await lab.put(A, B, C)
    lab.rule(expire_s=1)
    lab.clock.at += 10
    async with lab.keeper.files._turn(B):
        tidying = asyncio.ensure_future(lab.keeper.tidy())
        await until(lambda: lab.keeper.store.tasks() == [B], "the others are deleted")
        assert not tidying.done()
        lab.users.busy = {B}
    assert await tidying == [A, C]
    assert lab.there == "b"
