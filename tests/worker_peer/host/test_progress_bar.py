"""The progress bar: one line on a terminal, nothing elsewhere."""

import io
import os
import sys

import pytest

from wire.pieces import MIB
from worker_peer.host import progress_bar
from worker_peer.host.progress_bar import ProgressBar


class Terminal(io.StringIO):
    """What a terminal would see."""

    def __init__(self, *, is_terminal: bool) -> None:
        super().__init__()
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        """See TextIO."""
        return self._is_terminal

    def fileno(self) -> int:
        """No descriptor: its width is not known."""
        raise OSError


class Time:
    """The clock that the bar looks at."""

    at = 100.0

    def monotonic(self) -> float:
        """Seconds."""
        return self.at


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Time:
    """Time that a test turns."""
    made = Time()
    monkeypatch.setattr(progress_bar, "time", made)
    return made


def shown(terminal: Terminal) -> str:
    """The line as it stands now."""
    return terminal.getvalue().rpartition("\r\x1b[K")[2]


def on(monkeypatch: pytest.MonkeyPatch, *, is_terminal: bool) -> Terminal:
    terminal = Terminal(is_terminal=is_terminal)
    monkeypatch.setattr(sys, "stderr", terminal)
    return terminal


def test_a_terminal_sees_how_far_it_is(monkeypatch: pytest.MonkeyPatch, clock: Time) -> None:
    terminal = on(monkeypatch, is_terminal=True)
    with ProgressBar(always=False) as bar:
        clock.at += 2.0
        bar.show(5 * MIB, 20 * MIB)
        line = shown(terminal)
        assert " 25% of 20.0 MiB" in line
        assert "2.5 MiB/s" in line
        assert "6 s left" in line
        assert line.startswith("[" + 7 * "#" + 23 * "." + "]")
        clock.at += 0.2
        bar.show(20 * MIB, 20 * MIB)
        assert "100% of 20.0 MiB" in shown(terminal)
        assert "left" not in shown(terminal)
    assert shown(terminal) == ""


def test_a_length_that_is_not_known_yet_is_waited_for(monkeypatch: pytest.MonkeyPatch, clock: Time) -> None:
    terminal = on(monkeypatch, is_terminal=True)
    bar = ProgressBar(always=False)
    bar.show(0, None)
    assert "waiting for the source" in shown(terminal)
    clock.at += 1
    bar.show(0, 0)
    assert "%" not in shown(terminal)


def test_it_is_not_drawn_more_often_than_eyes_see(monkeypatch: pytest.MonkeyPatch, clock: Time) -> None:
    terminal = on(monkeypatch, is_terminal=True)
    bar = ProgressBar(always=False)
    clock.at += 1
    bar.show(1 * MIB, 10 * MIB)
    clock.at += 0.05
    bar.show(2 * MIB, 10 * MIB)
    assert " 10% " in shown(terminal)
    clock.at += 0.06
    bar.show(3 * MIB, 10 * MIB)
    assert " 30% " in shown(terminal)


@pytest.mark.parametrize("always", [True, False])
def test_a_file_sees_nothing_unless_it_is_asked_for(monkeypatch: pytest.MonkeyPatch, clock: Time, always: bool) -> None:
    terminal = on(monkeypatch, is_terminal=False)
    with ProgressBar(always=always) as bar:
        bar.show(1, 2)
        assert bool(terminal.getvalue()) is always
    if not always:
        assert terminal.getvalue() == ""


def test_a_line_is_never_wider_than_the_terminal(monkeypatch: pytest.MonkeyPatch, clock: Time) -> None:
    terminal = on(monkeypatch, is_terminal=True)
    for columns in (20, 60, 200):
        monkeypatch.setattr(Terminal, "fileno", lambda _: 2)
        monkeypatch.setattr(os, "get_terminal_size", lambda _, columns=columns: os.terminal_size((columns, 24)))
        clock.at += 1
        ProgressBar(always=False).show(123 * MIB, 456789 * MIB)
        assert 40 < len(shown(terminal)) < max(60, columns)
