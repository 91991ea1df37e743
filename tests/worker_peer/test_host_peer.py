"""dfget starts the host's peer where none runs, and says why it cannot. (What it says to a running one: test_control.py.)"""

import sys
from pathlib import Path

import pytest

from worker_peer import host_peer
from worker_peer.host_peer import NoHostPeer, connect_or_start


def instead_of_python(monkeypatch: pytest.MonkeyPatch, folder: Path, script: str) -> None:
    """`dfget server` is this shell script."""
    program = folder / "program"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))


def test_a_home_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NoHostPeer, match=r"file cannot be used: .*: choose another --home"):
        connect_or_start(tmp_path / "file", [])


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo first >&2; echo 'dfget server: no room' >&2; exit 1", "`dfget server` did not start: dfget server: no room"),
        ("exit 1", "`dfget server` did not start: it said nothing"),
        ("echo hello; exit 0", "`dfget server` did not start: it said nothing"),
    ],
)
def test_a_server_that_ends_at_once_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, words: str) -> None:
    instead_of_python(monkeypatch, tmp_path, script)
    with pytest.raises(NoHostPeer) as caught:
        connect_or_start(tmp_path / "home", [])
    assert str(caught.value) == words


def test_a_server_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_peer, "_START_S", 0.3)
    instead_of_python(monkeypatch, tmp_path, "exec sleep 60")
    with pytest.raises(NoHostPeer, match="it said nothing"):
        connect_or_start(tmp_path / "home", [])


def test_the_server_gets_its_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    instead_of_python(monkeypatch, tmp_path, 'echo "$@" >&2; exit 1')
    with pytest.raises(NoHostPeer) as caught:
        connect_or_start(tmp_path / "home", ["--node", "10.0.0.10:8002"])
    assert f"-m worker_peer.cli server --home {tmp_path / 'home'} --node 10.0.0.10:8002" in str(caught.value)
