"""A file's stamp changes with each write, and with another file in its place."""

import os
from pathlib import Path

from worker_peer.host.stamps import Stamps, stamp_of


def test_a_stamp_changes_with_a_write_and_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert stamp_of(str(path)) is None
    path.write_bytes(b"one")
    os.utime(path, ns=(5, 5))
    first = stamp_of(str(path))
    assert first == stamp_of(str(path))
    assert first is not None
    assert first[1:] == (3, 5)
    path.write_bytes(b"two")
    assert stamp_of(str(path)) != first
    os.utime(path, ns=(5, 5))
    assert stamp_of(str(path)) == first, "who sets the time back hides; what is served is verified block by block all the same"
    other = tmp_path / "other"
    other.write_bytes(b"one")
    os.utime(other, ns=(5, 5))
    os.replace(other, path)
    assert stamp_of(str(path)) != first


def test_what_is_noted_holds_until_somebody_touches_it_or_too_many_are(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"one")
    stamps, stamp = Stamps(2), stamp_of(str(path))
    assert stamp is not None
    assert not stamps.holds("a")
    assert not stamps.is_other("a", str(path), stamp)
    stamps.note("a", str(path), stamp)
    assert stamps.holds("a")
    assert not stamps.is_other("a", str(path), stamp)
    os.utime(path, ns=(5, 5))
    assert not stamps.holds("a")
    later = stamp_of(str(path))
    assert later is not None
    assert stamps.is_other("a", str(path), later)
    for task in ("a", "b", "c"):
        stamps.note(task, str(path), later)
    assert [stamps.holds(task) for task in ("a", "b", "c")] == [False, True, True]
