"""A home has one owner: who comes second is told whose it is, and it is free when its owner ends, however that is."""

import errno
import fcntl
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from broker.home import owned

OWNS_IT = (
    "import sys, pathlib, broker.home\nwith broker.home.owned(pathlib.Path(sys.argv[1])): print('owned', flush=True); input()"
)


def test_a_home_is_made_and_free_again_afterwards(tmp_path: Path) -> None:
    home = tmp_path / "new" / "home"
    for _ in range(2):
        with owned(home):
            assert (home / "supernode.lock").read_text() == f"{os.getpid()}\n"


def test_a_second_owner_is_told_who_the_first_is_and_leaves_its_number(tmp_path: Path) -> None:
    with owned(tmp_path):
        for _ in range(2):
            with pytest.raises(OSError, match=rf"{tmp_path} \(process {os.getpid()}\).*--home-dir"), owned(tmp_path):
                pytest.fail("it is another's")


def test_a_home_is_free_when_its_owner_is_killed(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OWNS_IT, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "owned\n"
        with pytest.raises(OSError, match=f"process {owner.pid}"), owned(tmp_path):
            pytest.fail("it is another's")
        owner.send_signal(signal.SIGKILL)
        owner.wait()
    with owned(tmp_path):
        assert (tmp_path / "supernode.lock").read_text() == f"{os.getpid()}\n"


def test_a_file_system_without_locks_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_locks(file: object, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with caplog.at_level(logging.WARNING), owned(tmp_path):
        assert "cannot be locked (No locks available)" in caplog.text
