"""Contents whose files are closed while nobody uses them: right bytes all the same, few descriptors, nothing changed unseen."""

import os
import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.worker_peer.host.stored import CONTENT, DIGEST, LAYOUT, digests_of, put
from worker_peer.host import store as store_module
from worker_peer.host.store import ContentChanged, Store, TaskFile

#: A mapped content: its file, its journal, and the mapping's own.
EACH = 3


def task(number: int) -> str:
    """A task's id."""
    return f"{number:064x}"


def descriptors(root: Path) -> int:
    """Those of this process that lead into the store."""
    count = 0
    for entry in os.scandir("/proc/self/fd"):
        try:
            count += os.readlink(entry.path).startswith(str(root))
        except OSError:
            continue
    return count


def filled(store: Store, number: int) -> TaskFile:
    file = store.create(task(number), LAYOUT)
    put(file, range(LAYOUT.piece_count))
    file.finish(DIGEST)
    return file


@pytest.fixture(params=[False, True], ids=["read", "mapped"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """One that leaves three contents open."""
    monkeypatch.setattr(store_module, "_MOST_OPEN", 3)
    return Store(tmp_path / "store", maps=request.param)


def test_only_so_many_have_their_files_open_and_all_give_their_bytes(store: Store, tmp_path: Path) -> None:
    files = [filled(store, number) for number in range(20)]
    assert len(store.open_files) == 3
    assert descriptors(tmp_path) <= 3 * EACH
    for file in files * 2:
        assert bytes(file.read(0, LAYOUT.length)) == CONTENT
        assert file.have.is_full
        assert file.digests(3) == digests_of(CONTENT, LAYOUT, 3)
        assert descriptors(tmp_path) <= 4 * EACH
    for file in files:
        file.close()
        file.close()
    assert len(store.open_files) == 0
    assert descriptors(tmp_path) == 0


def test_the_least_recently_used_rest(store: Store) -> None:
    files = [filled(store, number) for number in range(3)]
    files[0].read(0, 1)
    files.append(filled(store, 3))
    assert list(store.open_files._open) == [files[2], files[0], files[3]]
    assert [file.rest() for file in files] == [True, False, True, True], "the second one rests already"
    assert len(store.open_files) == 0


def test_a_content_that_rested_takes_the_rest_of_its_pieces_and_its_end(store: Store, tmp_path: Path) -> None:
    file = store.create(task(1), LAYOUT)
    for piece in range(LAYOUT.piece_count):
        put(file, [piece])  # type: ignore[arg-type]
        assert file.rest()
    assert descriptors(tmp_path) == 0
    file.finish(DIGEST)
    file.rest()
    file.close()
    again = Store(tmp_path / "store").open(task(1))
    assert again is not None
    assert again.have.is_full
    assert again.digest == DIGEST
    again.close()


def touched(path: Path) -> None:
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))


def rewritten(path: Path) -> None:
    stat = path.stat()
    path.write_bytes(bytes(LAYOUT.length))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1000))


def replaced(path: Path) -> None:
    stat = path.stat()
    path.rename(path.with_name("before"))
    path.write_bytes(CONTENT)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@pytest.mark.parametrize("harm", [touched, rewritten, replaced, lambda path: os.truncate(path, 5)])
def test_what_was_changed_while_it_rested_is_not_given(store: Store, tmp_path: Path, harm: Callable[[Path], None]) -> None:
    file = filled(store, 1)
    file.rest()
    harm(file.path)
    for _ in range(2):
        with pytest.raises(ContentChanged, match="while nobody used it"):
            file.read(0, 10)
    with pytest.raises(ContentChanged):
        file.mark_linked()
    assert descriptors(tmp_path) == 0
    file.close()


def test_what_was_removed_while_it_rested_is_an_error(store: Store, tmp_path: Path) -> None:
    file = filled(store, 1)
    file.rest()
    store.remove(file.task)
    with pytest.raises(FileNotFoundError):
        file.read(0, 10)
    assert descriptors(tmp_path) == 0
    file.close()
    with pytest.raises(ValueError, match="is closed"):
        file.read(0, 10)


def test_a_view_outlives_its_files_rest(store: Store) -> None:
    file = filled(store, 1)
    view = file.read(100, 1000)
    assert file.rest()
    assert bytes(view) == CONTENT[100:1100]
    file.close()
    assert bytes(view) == CONTENT[100:1100]


def test_a_linked_content_is_still_looked_at_after_its_rest(store: Store, tmp_path: Path) -> None:
    file = filled(store, 1)
    file.mark_linked()
    os.link(file.path, tmp_path / "output")
    assert file.rest()
    assert bytes(file.read(0, LAYOUT.length)) == CONTENT
    rewritten(tmp_path / "output")
    with pytest.raises(ContentChanged):
        file.read(0, 10)
    file.close()


def test_many_threads_and_few_files(store: Store, tmp_path: Path) -> None:
    files = [filled(store, number) for number in range(12)]
    wrong: list[object] = []

    def read(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(300):
            file, at = rng.choice(files), rng.randrange(LAYOUT.length - 100)
            try:
                if bytes(file.read(at, 100)) != CONTENT[at : at + 100]:
                    wrong.append((file.task, at))
            except (OSError, ValueError) as error:
                wrong.append(error)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    files[0].read(0, 1)
    assert descriptors(tmp_path) <= (3 + 6) * EACH
    for file in files:
        file.close()
    assert descriptors(tmp_path) == 0
