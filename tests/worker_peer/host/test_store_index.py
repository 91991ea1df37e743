"""What a store knows of itself without reading a content: sizes, last uses, until when a content is kept."""

import os
from pathlib import Path

import pytest

from tests.worker_peer.host.stored import LAYOUT, TASK, filled
from tests.worker_peer.parts import FakeClock
from wire.pieces import PieceLayout, layout_for
from worker_peer.host.store import Store
from worker_peer.host.store_index import NOTES, StoreIndex, size_on_disk

OTHER = "1b" * 32


def on_disk(root: Path) -> int:
    """Bytes that the file system counts for all contents."""
    return sum(each.lstat().st_blocks * 512 for each in root.glob("???/*/*"))


def test_a_content_is_kept_across_runs_until_it_is_no_longer(store: Store, tmp_path: Path) -> None:
    filled(store).close()
    assert store.kept_until(TASK) == 0
    assert store.keep(TASK, 5e9)
    assert store.kept_until(TASK) == 5e9
    again = Store(tmp_path / "store")
    assert again.kept_until(TASK) == 5e9
    assert again.keep(TASK, 0)
    assert Store(tmp_path / "store").kept_until(TASK) == 0


def test_what_is_not_here_cannot_be_kept(store: Store) -> None:
    assert not store.keep(OTHER, 5e9)
    assert store.kept_until(OTHER) == 0
    with pytest.raises(ValueError):
        store.keep("../" * 20, 5e9)
    assert not store.tasks()


def test_a_content_that_is_fetched_anew_is_kept_as_long_and_a_deleted_one_is_not(store: Store, tmp_path: Path) -> None:
    filled(store).close()
    store.keep(TASK, 5e9)
    store.create(TASK, LAYOUT).close()
    assert store.kept_until(TASK) == 5e9
    assert Store(tmp_path / "store").kept_until(TASK) == 5e9
    store.remove(TASK)
    assert store.kept_until(TASK) == 0
    store.create(TASK, LAYOUT).close()
    assert store.kept_until(TASK) == 0


@pytest.mark.parametrize("harm", [b"", b"{", b"[]", b'{"kept_until": "x", "validator": 4}', b'{"kept_until": NaN}', b"\xff\xfe"])
def test_notes_that_cannot_be_read_say_nothing_and_are_written_over(store: Store, tmp_path: Path, harm: bytes) -> None:
    filled(store).close()
    store.keep(TASK, 5e9)
    (tmp_path / "store" / TASK[:3] / TASK / NOTES).write_bytes(harm)
    again = Store(tmp_path / "store")
    assert again.kept_until(TASK) == 0
    assert again.index.notes(TASK).validator == ""
    assert again.keep(TASK, 6e9)
    assert Store(tmp_path / "store").kept_until(TASK) == 6e9


def test_notes_of_two_kinds_do_not_wipe_each_other(store: Store) -> None:
    filled(store).close()
    store.index.write_notes(TASK, validator='"etag"')
    store.keep(TASK, 5e9)
    assert store.index.notes(TASK).validator == '"etag"'
    assert store.index.notes(TASK).kept_until == 5e9


def test_last_uses_are_written_on_demand_and_outlive_the_process(tmp_path: Path) -> None:
    clock = FakeClock()
    store = Store(tmp_path / "store", clock=clock)
    filled(store).close()
    journal = tmp_path / "store" / TASK[:3] / TASK / "journal"
    os.utime(journal, (1000, 1000))
    os.utime(journal.with_name("content"), (1000, 1000))
    store.index.used_now(TASK, clock.wall() + 77)
    assert journal.stat().st_mtime == 1000
    store.index.write_uses()
    found = Store(tmp_path / "store").index.get(TASK)
    assert found is not None
    assert found.used_at == clock.wall() + 77


def test_an_older_use_does_not_make_a_content_older(store: Store) -> None:
    filled(store).close()
    before = store.index.get(TASK)
    store.index.used_now(TASK, 5.0)
    assert store.index.get(TASK) == before


@pytest.mark.parametrize("length", [0, 1, 4096, 100_000, 3_000_000])
def test_the_size_that_is_counted_is_never_less_than_the_disks(store: Store, tmp_path: Path, length: int) -> None:
    layout = layout_for(length)
    file = store.create(TASK, layout, url="http://h/" + "x" * 600)
    for piece in range(layout.piece_count):
        start, size = layout.piece_span(piece)
        file.write(start, memoryview(bytes(size)))
        file.commit(piece, bytes(32 * layout.block_count(piece)))
    file.close()
    store.keep(TASK, 5e9)
    counted = store.index.used
    assert on_disk(tmp_path / "store") <= counted <= on_disk(tmp_path / "store") + 20_000
    again = StoreIndex(tmp_path / "store")
    assert on_disk(tmp_path / "store") <= again.used <= counted


def test_what_is_created_and_removed_leaves_nothing_counted(store: Store) -> None:
    store.create(TASK, LAYOUT).close()
    store.create(OTHER, PieceLayout(5000, 4096, 1024)).close()
    assert store.index.used == size_on_disk(LAYOUT) + size_on_disk(PieceLayout(5000, 4096, 1024))
    store.create(TASK, LAYOUT).close()
    store.remove(OTHER)
    assert store.index.used == size_on_disk(LAYOUT)
    assert [each.task for each in store.index.all()] == [TASK]
    store.remove(TASK)
    assert store.index.used == 0
    assert len(store.index) == 0


def test_a_strangers_files_are_not_counted(tmp_path: Path) -> None:
    root = tmp_path / "store"
    (root / "abc" / "not-a-task").mkdir(parents=True)
    (root / "abc" / "not-a-task" / "content").write_bytes(b"x")
    (root / "0a0" / TASK).mkdir(parents=True)
    (root / "stray").write_bytes(b"x")
    store = Store(root)
    assert store.index.used == 0
    assert TASK not in store.index


def test_a_content_is_as_old_as_its_last_write_and_half_a_one_is_older_than_any(store: Store, tmp_path: Path) -> None:
    file = filled(store)
    file.close()
    journal = file.path.with_name("journal")
    for content_at, journal_at, used_at in ((100, 300, 300.0), (400, 300, 400.0)):
        os.utime(file.path, (content_at, content_at))
        os.utime(journal, (journal_at, journal_at))
        found = StoreIndex(tmp_path / "store").get(TASK)
        assert found is not None
        assert found.used_at == used_at
    journal.unlink()
    found = StoreIndex(tmp_path / "store").get(TASK)
    assert found is not None
    assert found.used_at == 0.0
