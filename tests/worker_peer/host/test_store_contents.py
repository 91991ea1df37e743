"""The store gives back what was put in, to many threads at once, and takes away what it is told to."""

import hashlib
import os
import shutil
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.worker_peer.host.stored import CONTENT, DIGEST, LAYOUT, TASK, digests_of, filled, put
from wire.bitmap import PieceSet
from wire.pieces import MIB, PieceLayout, layout_for
from worker_peer.host.store import Store


def test_layout_on_disk_and_modes(store: Store, tmp_path: Path) -> None:
    file = store.create(TASK, LAYOUT)
    folder = tmp_path / "store" / TASK[:3] / TASK
    assert sorted(path.name for path in folder.iterdir()) == ["content", "journal"]
    assert file.path == folder / "content"
    assert stat.S_IMODE((tmp_path / "store").stat().st_mode) == 0o700
    found = file.path.stat()
    assert found.st_size == LAYOUT.length
    assert found.st_blocks * 512 >= LAYOUT.length
    file.close()


def test_a_wide_root_is_narrowed(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir(mode=0o755)
    Store(tmp_path / "store")
    assert stat.S_IMODE((tmp_path / "store").stat().st_mode) == 0o700


@pytest.mark.parametrize("length", [0, 1, 1023, 1024, 1025, 4095, 4096, 4097, 12289])
def test_every_length_goes_in_and_comes_out(store: Store, length: int) -> None:
    layout = PieceLayout(length, 4096, 1024)
    content = CONTENT[:length]
    file = store.create(TASK, layout)
    put(file, range(layout.piece_count), content)
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    file.finish(digest)
    assert bytes(file.read(0, length)) == content
    file.close()
    again = store.open(TASK)
    assert again is not None
    assert again.have.is_full
    assert again.digest == digest
    assert again.path.read_bytes() == content
    assert again.digests(0) == digests_of(content, layout, 0)
    again.close()


def test_writes_larger_than_a_slice(store: Store) -> None:
    content = os.urandom(3 * MIB + 5)
    file = store.create(TASK, layout_for(len(content)))
    file.write(0, memoryview(bytearray(content)))
    assert hashlib.sha256(file.read(0, len(content))).digest() == hashlib.sha256(content).digest()
    file.close()


def test_have_is_a_snapshot(store: Store) -> None:
    file = store.create(TASK, LAYOUT)
    before = file.have
    put(file, range(2, 3))
    assert before == PieceSet(LAYOUT.piece_count)
    assert file.have == PieceSet.of(LAYOUT.piece_count, [2])
    with pytest.raises(KeyError):
        file.digests(1)
    file.close()


def test_what_cannot_be_meant_is_refused(store: Store) -> None:
    file = store.create(TASK, LAYOUT)
    for refused in (
        lambda: file.write(LAYOUT.length, b"x"),
        lambda: file.write(-1, b"x"),
        lambda: file.read(0, LAYOUT.length + 1),
        lambda: file.read(-1, 1),
        lambda: file.commit(0, b"short"),
        lambda: file.finish("sha256:no"),
        lambda: file.finish(DIGEST),
        lambda: store.create("../../etc", LAYOUT),
        lambda: store.remove("x"),
        lambda: store.open(TASK.upper()),
    ):
        with pytest.raises(ValueError):
            refused()
    file.close()
    with pytest.raises(ValueError, match="closed"):
        file.read(0, 1)
    file.close()


def test_a_finished_content_is_not_written_to(store: Store) -> None:
    file = filled(store)
    with pytest.raises(ValueError, match="finished"):
        file.write(0, b"x")
    file.close()


def test_nothing_secret_reaches_the_disk(store: Store, tmp_path: Path) -> None:
    filled(store).close()
    for path in (tmp_path / "store").rglob("*"):
        if path.is_file():
            assert b"s3cret" not in path.read_bytes()
    again = store.open(TASK)
    assert again is not None
    assert again.url == "https://h/p?..."
    assert again.content_type == "text/plain"
    again.close()


def test_create_replaces_and_the_old_one_works_on(store: Store) -> None:
    old = filled(store)
    new = store.create(TASK, LAYOUT)
    assert bytes(old.read(0, LAYOUT.length)) == CONTENT
    assert len(new.have) == 0
    assert bytes(new.read(0, 10)) == bytes(10)
    old.close()
    new.close()


def test_remove_unlinks_and_open_files_work_on(store: Store, tmp_path: Path) -> None:
    file = filled(store)
    assert store.tasks() == [TASK]
    store.remove(TASK)
    store.remove(TASK)
    assert store.tasks() == []
    assert store.open(TASK) is None
    assert bytes(file.read(4000, 200)) == CONTENT[4000:4200]
    file.close()
    assert [path for path in (tmp_path / "store").rglob("*") if path.is_file()] == []


def test_tasks_lists_only_tasks(store: Store, tmp_path: Path) -> None:
    other = "f" * 64
    store.create(TASK, LAYOUT).close()
    store.create(other, LAYOUT).close()
    (tmp_path / "store" / "abc" / "stranger").mkdir(parents=True)
    (tmp_path / "store" / "abc" / "stranger" / "content").touch()
    assert store.tasks() == sorted([TASK, other])


def test_free_bytes_is_the_file_systems(store: Store, tmp_path: Path) -> None:
    assert store.free_bytes() == pytest.approx(shutil.disk_usage(tmp_path).free, abs=1 << 30)


def test_many_threads_write_read_and_commit_one_content(store: Store) -> None:
    layout = PieceLayout(64 * 4096, 4096, 1024)
    content = os.urandom(layout.length)
    file = store.create(TASK, layout)

    def move(piece: int) -> None:
        put(file, range(piece, piece + 1), content)
        start, size = layout.piece_span(piece)
        assert bytes(file.read(start, size)) == content[start : start + size]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(move, range(64)))
    assert file.have.is_full
    file.close()
    again = store.open(TASK)
    assert again is not None
    assert again.have.is_full
    assert again.path.read_bytes() == content
    again.close()


def test_close_lets_a_running_read_finish(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    file = filled(store)
    reading, go_on = threading.Event(), threading.Event()
    real = os.pread

    def slow(fd: int, size: int, offset: int) -> bytes:
        reading.set()
        assert go_on.wait(30)
        return real(fd, size, offset)

    monkeypatch.setattr(os, "pread", slow)
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(file.read, 0, LAYOUT.length)
        assert reading.wait(30)
        file.close()
        go_on.set()
        assert bytes(read.result()) == CONTENT
    with pytest.raises(ValueError, match="closed"):
        file.read(0, 1)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(file._content_fd)
