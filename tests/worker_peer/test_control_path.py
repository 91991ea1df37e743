"""Both ends find the same socket, however deep the home is."""

import os
import tempfile
from pathlib import Path

import pytest

from worker_peer.control_path import control_path


def test_a_usual_home_has_its_socket_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert control_path(Path("/h")) == Path("/h/meta/peer.sock")
    monkeypatch.chdir(tmp_path)
    assert control_path(Path("h")) == (tmp_path / "h" / "meta" / "peer.sock").absolute()


def test_a_deep_home_has_it_in_a_private_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    first, second = control_path(Path("/" + "d" * 100)), control_path(Path("/" + "e" * 100))
    assert first.parent == second.parent == tmp_path / f"damselfly-{os.getuid()}"
    assert first != second
    assert first == control_path(Path("/" + "d" * 100))
    assert len(os.fsencode(first.name)) < 40
    assert first.parent.stat().st_mode & 0o777 == 0o700


def test_bytes_are_counted_and_not_characters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert control_path(Path("/" + "ü" * 60)).parent.parent == tmp_path


def test_somebody_elses_folder_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / f"damselfly-{os.getuid()}").mkdir()
    actual = os.getuid()
    (tmp_path / "damselfly-12345").mkdir()
    monkeypatch.setattr(os, "getuid", lambda: 12345 if actual != 12345 else 54321)
    with pytest.raises(OSError, match="shorter --home"):
        control_path(Path("/" + "d" * 100))
