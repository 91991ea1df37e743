"""The store resumes after a kill with what is right, and never hands out what is not."""

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.worker_peer.host.stored import CONTENT, DIGEST, LAYOUT, TASK, filled, put
from worker_peer.host.store import Store


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
from tests.worker_peer.host.stored import CONTENT, LAYOUT, TASK, digests_of
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
