"""A content that a user was given as a hard link: his file stays his, and nothing wrong is served."""

import os
from pathlib import Path

import pytest

from tests.worker_peer.host.stored import CONTENT, LAYOUT, TASK, filled
from worker_peer.host.store import ContentChanged, Store


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
