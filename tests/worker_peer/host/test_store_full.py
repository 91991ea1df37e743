"""A full disk is told in words, and harms nothing that is there."""

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.worker_peer.host.stored import CONTENT, TASK, digests_of, filled, put
from wire.pieces import MIB, PieceLayout, layout_for
from worker_peer.host.store import Store, StoreFull


@pytest.fixture
def file_size_limit() -> Iterator[int]:
    """This process may write no file beyond 64 KiB for a while: the kernel's EFBIG stands for a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    limit = 64 << 10
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_content_larger_than_the_disk_is_refused_at_once(store: Store, tmp_path: Path) -> None:
    layout = PieceLayout(1 << 43, 16 * MIB, MIB // 4)
    with pytest.raises(StoreFull) as caught:
        store.create(TASK, layout)
    assert caught.value.needed == 1 << 43
    assert 0 < caught.value.free < 1 << 43
    assert str(tmp_path) in str(caught.value)
    assert store.tasks() == []


def test_no_room_while_reserving_leaves_nothing_behind(store: Store, tmp_path: Path, file_size_limit: int) -> None:
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(StoreFull, match=r"has no room: 1000000 bytes are needed, \d+ are free; free some"):
        store.create(TASK, layout_for(1_000_000))
    assert set(os.listdir("/proc/self/fd")) == before
    assert [path for path in (tmp_path / "store").rglob("*") if path.is_file()] == []


def test_no_room_for_a_write(store: Store) -> None:
    file = store.create(TASK, layout_for(MIB))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(StoreFull):
            file.write(0, bytes(MIB))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    file.close()


def test_no_room_in_the_journal_keeps_it_readable(store: Store) -> None:
    layout = PieceLayout(8 << 20, MIB, 1024)
    content = bytes(8 << 20)
    file = store.create(TASK, layout)
    put(file, range(1), content)
    journal = file.path.with_name("journal")
    size = journal.stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 1000, before[1]))
    try:
        with pytest.raises(StoreFull):
            file.commit(1, digests_of(content, layout, 1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert journal.stat().st_size == size
    assert list(file.have) == [0]
    put(file, range(1, 3), content)
    file.close()
    again = store.open(TASK)
    assert again is not None
    assert list(again.have) == [0, 1, 2]
    again.close()


def test_a_file_system_that_cannot_reserve(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(fd: int, offset: int, length: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    file = filled(store)
    assert file.path.read_bytes() == CONTENT
    file.close()
