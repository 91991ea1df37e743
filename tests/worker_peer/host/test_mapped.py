"""Views of a file's pages: right bytes, good after everything else is gone, and an error where the disk gives none."""

import os
from pathlib import Path

import pytest

from tests.worker_peer.host.stored import CONTENT, LAYOUT, TASK, filled, put
from worker_peer.host.mapped import MappedContent
from worker_peer.host.store import Store

BYTES = bytes(range(256)) * 100


@pytest.fixture
def mapped(tmp_path: Path) -> MappedContent:
    path = tmp_path / "content"
    path.write_bytes(BYTES)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return MappedContent(descriptor, len(BYTES))
    finally:
        os.close(descriptor)


@pytest.mark.parametrize(("offset", "size"), [(0, len(BYTES)), (0, 0), (4095, 2), (4096, 4096), (25_599, 1), (25_600, 0)])
def test_a_view_has_the_file_s_bytes_without_its_descriptor(mapped: MappedContent, offset: int, size: int) -> None:
    view = mapped.view(offset, size)
    assert view == BYTES[offset : offset + size]
    assert view.readonly


def test_what_was_cut_off_is_an_error_not_a_signal(tmp_path: Path) -> None:
    path = tmp_path / "content"
    path.write_bytes(BYTES)
    with path.open("rb") as file:
        mapped = MappedContent(file.fileno(), len(BYTES))
    os.truncate(path, 4096)
    assert mapped.view(0, 4096) == BYTES[:4096]
    with pytest.raises(OSError, match="bytes 16384 to 20480 cannot be read from the disk"):
        mapped.view(16384, 4096)


def test_a_seed_s_store_reads_what_is_written_meanwhile_and_views_outlive_the_file(tmp_path: Path) -> None:
    store = Store(tmp_path / "store", maps=True)
    file = store.create(TASK, LAYOUT)
    before = file.read(4096, 4096)
    assert bytes(before) == bytes(4096)
    put(file, range(LAYOUT.piece_count))
    assert before == CONTENT[4096:8192]
    whole = file.read(0, LAYOUT.length)
    file.close()
    store.remove(TASK)
    assert whole == CONTENT
    with pytest.raises(ValueError, match="is closed"):
        file.read(0, 1)


def test_a_linked_file_is_never_mapped(tmp_path: Path) -> None:
    """Whoever has the link may cut it off at any moment."""
    store = Store(tmp_path / "store", maps=True)
    file = filled(store)
    file.mark_linked()
    view = file.read(0, LAYOUT.length)
    os.link(file.path, tmp_path / "output")
    file.close()
    again = Store(tmp_path / "store", maps=True).open(TASK)
    assert again is not None
    second = again.read(0, LAYOUT.length)
    os.truncate(tmp_path / "output", 0)
    assert view == second == CONTENT
    again.close()
