"""The store gives back what was put in, resumes after a kill, and never hands out what is not right."""

import hashlib
import itertools
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from wire.bitmap import PieceSet
from wire.pieces import MIB, PieceLayout, layout_for
from worker_peer.host.digests import block_digest
from worker_peer.host.store import ContentChanged, Store, StoreFull, TaskFile

TASK = "0a" * 32
LAYOUT = PieceLayout(10 * 4096 + 123, 4096, 1024)
CONTENT = bytes(itertools.islice(itertools.cycle(range(251)), LAYOUT.length))
DIGEST = "sha256:" + hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def file_size_limit() -> Iterator[int]:
    """This process may write no file beyond 64 KiB for a while: the kernel's EFBIG stands for a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    limit = 64 << 10
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def digests_of(content: bytes, layout: PieceLayout, piece: int) -> bytes:
    spans = (layout.block_span(piece, block) for block in layout.blocks_of(piece))
    return b"".join(block_digest(content[start : start + size]) for start, size in spans)


def put(file: TaskFile, pieces: Iterator[int] | range, content: bytes = CONTENT) -> None:
    for piece in pieces:
        start, size = file.layout.piece_span(piece)
        file.write(start, memoryview(content)[start : start + size])
        file.commit(piece, digests_of(content, file.layout, piece))


def filled(store: Store) -> TaskFile:
    file = store.create(TASK, LAYOUT, url="https://user:s3cret@h/p?Signature=s3cret", content_type="text/plain")
    put(file, range(LAYOUT.piece_count))
    file.finish(DIGEST)
    return file


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


# Resuming


def test_a_resumed_content_has_its_pieces_and_takes_the_rest(store: Store) -> None:
    file = store.create(TASK, LAYOUT)
    put(file, range(0, 11, 2))
    file.close()
    again = store.open(TASK)
    assert again is not None
    assert list(again.have) == [0, 2, 4, 6, 8, 10]
    assert again.layout == LAYOUT
    assert again.digest is None
    put(again, range(1, 11, 2))
    again.finish(DIGEST)
    again.close()
    last = store.open(TASK)
    assert last is not None
    assert bytes(last.read(0, LAYOUT.length)) == CONTENT
    assert last.digest == DIGEST
    last.close()


@pytest.mark.parametrize("cut", [1, 7, 9, 60])
def test_a_torn_tail_is_cut_off_and_written_over(store: Store, cut: int) -> None:
    file = store.create(TASK, LAYOUT)
    put(file, range(3))
    file.close()
    journal = file.path.with_name("journal")
    os.truncate(journal, journal.stat().st_size - cut)
    again = store.open(TASK)
    assert again is not None
    assert list(again.have) == [0, 1]
    put(again, range(2, 5))
    again.close()
    last = store.open(TASK)
    assert last is not None
    assert list(last.have) == [0, 1, 2, 3, 4]
    last.close()


def test_a_piece_that_is_not_what_the_journal_says_is_dropped(store: Store) -> None:
    file = filled(store)
    file.close()
    with file.path.open("r+b") as content:
        content.seek(4096 * 5 + 4095)
        content.write(bytes([CONTENT[4096 * 5 + 4095] ^ 1]))
    again = store.open(TASK)
    assert again is not None
    assert list(again.have.missing()) == [5]
    assert again.digest is None
    put(again, range(5, 6))
    again.finish(DIGEST)
    assert again.have.is_full
    again.close()


@pytest.mark.parametrize("harm", ["no journal", "empty journal", "garbage", "other task", "short", "long", "no content"])
def test_what_cannot_be_read_is_removed(store: Store, tmp_path: Path, harm: str) -> None:
    file = filled(store)
    file.close()
    journal = file.path.with_name("journal")
    match harm:
        case "no journal":
            journal.unlink()
        case "empty journal":
            os.truncate(journal, 0)
        case "garbage":
            journal.write_bytes(os.urandom(100))
        case "other task":
            other = store.create("b" * 64, LAYOUT)
            other.close()
            journal.write_bytes(other.path.with_name("journal").read_bytes())
            store.remove("b" * 64)
        case "short" | "long":
            os.truncate(file.path, LAYOUT.length + (1 if harm == "long" else -1))
        case "no content":
            file.path.unlink()
    assert store.open(TASK) is None
    assert [path for path in (tmp_path / "store").rglob("*") if path.is_file()] == []


def test_too_many_open_files_cost_no_content(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(store).close()
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    probe = os.open("/dev/null", os.O_RDONLY)
    os.close(probe)
    resource.setrlimit(resource.RLIMIT_NOFILE, (probe, before[1]))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            store.open(TASK)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    again = store.open(TASK)
    assert again is not None
    assert again.have.is_full
    again.close()


_WRITER = """
import sys
from pathlib import Path
from tests.worker_peer.host.test_store import CONTENT, LAYOUT, TASK, digests_of
from worker_peer.host.store import Store
file = Store(Path(sys.argv[1])).create(TASK, LAYOUT)
for piece in range(LAYOUT.piece_count):
    start, size = LAYOUT.piece_span(piece)
    file.write(start, CONTENT[start : start + size])
    if piece == 7:
        print("seven", flush=True)
        sys.stdin.read()
    file.commit(piece, digests_of(CONTENT, LAYOUT, piece))
"""


@pytest.mark.system
def test_after_kill_9_every_committed_piece_is_there(store: Store, tmp_path: Path, repository: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(tmp_path / "store")],
        cwd=repository,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"seven\n"
        process.kill()
    assert process.returncode == -signal.SIGKILL
    again = store.open(TASK)
    assert again is not None
    assert list(again.have) == [0, 1, 2, 3, 4, 5, 6]
    for piece in again.have:
        start, size = LAYOUT.piece_span(piece)
        assert bytes(again.read(start, size)) == CONTENT[start : start + size]
    again.close()


# Full disks


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


# Hard links


def test_an_edited_hard_link_is_noticed_before_it_is_served(store: Store, tmp_path: Path) -> None:
    file = filled(store)
    file.mark_linked()
    os.link(file.path, tmp_path / "output")
    assert bytes(file.read(0, 10)) == CONTENT[:10]
    before = (tmp_path / "output").stat()
    with (tmp_path / "output").open("r+b") as output:
        output.write(b"X")
    with pytest.raises(ContentChanged, match="fetch it again"):
        file.read(0, 10)
    # Setting the time back does not make it right again.
    os.utime(tmp_path / "output", ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(ContentChanged):
        file.read(0, 10)
    file.close()


def test_a_cut_off_hard_link_is_noticed_even_unmarked(store: Store, tmp_path: Path) -> None:
    file = filled(store)
    os.link(file.path, tmp_path / "output")
    os.truncate(tmp_path / "output", 100)
    with pytest.raises(ContentChanged, match="cut off after 100 bytes"):
        file.read(0, LAYOUT.length)
    file.close()


def test_deleting_or_renaming_the_hard_link_harms_nothing(store: Store, tmp_path: Path) -> None:
    file = filled(store)
    file.mark_linked()
    os.link(file.path, tmp_path / "output")
    (tmp_path / "output").rename(tmp_path / "moved")
    (tmp_path / "moved").chmod(0o600)
    (tmp_path / "moved").unlink()
    assert bytes(file.read(0, LAYOUT.length)) == CONTENT
    file.close()


def test_a_linked_content_is_still_watched_after_a_restart(store: Store, tmp_path: Path) -> None:
    file = filled(store)
    os.link(file.path, tmp_path / "output")
    file.close()
    again = store.open(TASK)
    assert again is not None
    assert bytes(again.read(0, 10)) == CONTENT[:10]
    with pytest.raises(ValueError, match="linked"):
        again.write(0, b"x")
    os.utime(tmp_path / "output", ns=(1, 1))
    with pytest.raises(ContentChanged):
        again.read(0, 10)
    again.close()


def test_an_edited_hard_link_is_given_up_not_repaired(store: Store, tmp_path: Path) -> None:
    file = filled(store)
    os.link(file.path, tmp_path / "output")
    file.close()
    with (tmp_path / "output").open("r+b") as output:
        output.write(b"my own words")
    assert store.open(TASK) is None
    assert (tmp_path / "output").read_bytes() == b"my own words" + CONTENT[12:]
    assert store.tasks() == []


# Threads


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
