"""The store from the loop: never two things at once for one task, as many as there are threads for several."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.worker_peer.parts import Sample, sample, until
from wire.bitmap import PieceSet
from worker_peer.host.background import Background
from worker_peer.host.store import Store, StoreFull
from worker_peer.task_files import TaskFiles

OTHER = "8" * 64


class Gate:
    """Stands in front of one of the store's methods: shows who is in, and lets nobody through before it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
        self.entered: list[str] = []
        self.left: list[str] = []
        self._go_on = threading.Event()
        original: Callable[..., Any] = getattr(Store, method)

        def slow(store: Store, task: str, *rest: Any, **more: Any) -> Any:
            self.entered.append(task)
            assert self._go_on.wait(20)
            self.left.append(task)
            return original(store, task, *rest, **more)

        monkeypatch.setattr(Store, method, slow)

    def open(self) -> None:
        """Let everybody through."""
        self._go_on.set()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """What is on the disk."""
    return Store(tmp_path / "store")


@pytest.fixture
async def files(store: Store) -> AsyncIterator[TaskFiles]:
    """The same from the loop, with threads enough."""
    with ThreadPoolExecutor(4) as executor:
        yield TaskFiles(store, executor)


@pytest.fixture
async def background() -> AsyncIterator[Background]:
    """What runs beside a test."""
    made = Background()
    yield made
    await made.close()


def left(store: Store, task: str = "7" * 64, *pieces: int) -> Sample:
    """A content of which these pieces are stored."""
    content = sample(3 * 4096)
    content.task = task
    content.file(store, pieces).close()
    return content


async def test_a_file_is_made_finished_opened_and_removed(files: TaskFiles, store: Store) -> None:
    content = sample(2 * 4096)
    assert await files.open(content.task) is None
    file = await files.create(content.task, content.layout, "a/b")
    for piece in range(2):
        file.write(piece * 4096, content.piece(piece))
        file.commit(piece, content.digests(piece))
    await files.finish(file, content.sha256)
    file.close()
    again = await files.open(content.task)
    assert again is not None
    assert (again.digest, again.content_type, again.have.is_full) == (content.sha256, "a/b", True)
    assert bytes(again.read(0, 2 * 4096)) == content.data
    again.close()
    await files.remove(content.task)
    assert store.tasks() == []
    assert files._turns == {}


async def test_a_new_file_replaces_what_was_there(files: TaskFiles, store: Store) -> None:
    content = left(store, "7" * 64, 0, 1, 2)
    file = await files.create(content.task, content.layout, "")
    assert file.have == PieceSet(3)
    assert bytes(file.read(0, 4096)) == bytes(4096)
    file.close()


async def test_a_content_that_was_told_with_its_task_is_written_at_once_if_it_is_the_one_meant(files: TaskFiles) -> None:
    content = sample(2 * 4096 + 1)
    file = await files.create(content.task, content.layout, "", content.data, content.sha256)
    assert file.have.is_full
    assert bytes(file.read(0, len(content.data))) == content.data
    assert [file.digests(piece) for piece in range(3)] == [content.digests(piece) for piece in range(3)]
    file.close()
    for wrong, digest in ((content.data[:-1] + b"?", content.sha256), (content.data, "sha256:" + "0" * 64), (b"", "")):
        file = await files.create(content.task, content.layout, "", wrong, digest)
        assert file.have == PieceSet(3)
        file.close()


async def test_what_the_store_raises_is_raised_and_the_next_has_its_turn(
    files: TaskFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = sample(4096)
    with monkeypatch.context() as patched:
        patched.setattr(Store, "free_bytes", lambda _: 5)
        with pytest.raises(StoreFull):
            await files.create(content.task, content.layout, "")
    with pytest.raises(ValueError, match="no task id"):
        await files.open("x")
    (await files.create(content.task, content.layout, "")).close()
    assert files._turns == {}


async def test_what_is_being_removed_is_opened_only_when_it_is_gone(
    files: TaskFiles, store: Store, background: Background, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = left(store, "7" * 64, 0)
    left(store, OTHER, 0)
    gate = Gate(monkeypatch, "remove")
    removing = background.spawn(files.remove(content.task), "remove")
    await until(lambda: gate.entered, "it is being removed")
    opening = background.spawn(files.open(content.task), "open")
    creating = background.spawn(files.create(content.task, content.layout, ""), "create")
    # Another task's turn is its own: it comes and goes meanwhile.
    other = await files.open(OTHER)
    assert other is not None
    other.close()
    assert not opening.done()
    gate.open()
    await removing
    assert await opening is None
    file = await creating
    assert file.have == PieceSet(3)
    file.close()
    assert store.tasks() == [content.task, OTHER]
    assert files._turns == {}


async def test_tasks_do_not_wait_for_each_other(
    files: TaskFiles, store: Store, background: Background, monkeypatch: pytest.MonkeyPatch
) -> None:
    for task in ("7" * 64, OTHER):
        left(store, task)
    gate = Gate(monkeypatch, "remove")
    removing = [background.spawn(files.remove(task), "remove") for task in ("7" * 64, OTHER)]
    await until(lambda: sorted(gate.entered) == ["7" * 64, OTHER], "both are being removed at the same time")
    gate.open()
    await asyncio.gather(*removing)
    assert store.tasks() == []


async def test_a_turn_that_is_given_up_ends_only_when_its_thread_does(
    files: TaskFiles, store: Store, background: Background, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = left(store, "7" * 64, 0)
    gate = Gate(monkeypatch, "remove")
    removing = background.spawn(files.remove(content.task), "remove")
    await until(lambda: gate.entered, "it is being removed")
    opening = background.spawn(files.open(content.task), "open")
    removing.cancel()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not opening.done(), "the thread still removes it"
    gate.open()
    assert await opening is None
    assert removing.cancelled()
    assert gate.left[0] == content.task
    assert files._turns == {}


async def test_who_gives_up_while_waiting_takes_nobodys_turn(
    files: TaskFiles, store: Store, background: Background, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = left(store, "7" * 64, 0)
    gate = Gate(monkeypatch, "remove")
    removing = background.spawn(files.remove(content.task), "remove")
    await until(lambda: gate.entered, "it is being removed")
    waiting = [background.spawn(files.open(content.task), "open") for _ in range(2)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.wait([waiting[0]])
    assert not waiting[1].done()
    gate.open()
    assert await waiting[1] is None
    await removing
    assert files._turns == {}
