"""Real processes of one run: each in a session of its own, its output in a file, ended by its id and never by a name.

Every process inherits a mark in its environment, so that whatever it leaves behind (a supernode's seed, the server that
dfget leaves) is found and ended too. Used by scripts/demo and by the system tests; it knows no command of ours.
"""

import os
import re
import signal
import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import psutil

_MARK: Final = "DAMSELFLY_RUN"
_POLL_S: Final = 0.02
#: Proxy settings of the caller's shell would send the loopback's requests elsewhere.
_PROXY_VARIABLES: Final = {"http_proxy", "https_proxy", "all_proxy", "no_proxy"}


class ProcessFailed(Exception):
    """A process ended, or was not ready, when it should not have been. The text holds the end of its output."""


class RunningProcess:
    """One process that we started."""

    def __init__(self, name: str, popen: subprocess.Popen[bytes], output: Path) -> None:
        self.name = name
        self.popen = popen
        self.output_path = output

    @property
    def pid(self) -> int:
        """Its process id, and that of its group and session."""
        return self.popen.pid

    @property
    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return self.popen.poll() is None

    def output(self) -> str:
        """All that it has printed so far, on stdout and stderr."""
        return self.output_path.read_text(errors="replace")

    def story(self) -> str:
        """Its name, its state and the end of its output, for an error's text."""
        state = "running" if self.is_running else f"exit code {self.popen.returncode}"
        tail = "\n".join(f"  | {line}" for line in self.output().splitlines()[-25:])
        return f"{self.name} ({state}):\n{tail or '  | (no output)'}"

    def wait_for(self, pattern: str, timeout_s: float = 30.0) -> re.Match[str]:
        """The first line of its output that `pattern` is found in.

        Raises ProcessFailed when it ends, or `timeout_s` passes, without such a line.
        """
        expression = re.compile(pattern)
        deadline = time.monotonic() + timeout_s
        while True:
            ended = not self.is_running
            for line in self.output().splitlines():
                if found := expression.search(line):
                    return found
            if ended:
                raise ProcessFailed(f"{self.name} ended before it printed {pattern!r}\n{self.story()}")
            if time.monotonic() > deadline:
                raise ProcessFailed(f"{self.name} did not print {pattern!r} within {timeout_s:g} s\n{self.story()}")
            time.sleep(_POLL_S)

    def wait(self, timeout_s: float = 120.0) -> int:
        """Its exit code. Raises ProcessFailed when it still runs after `timeout_s`."""
        try:
            return self.popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise ProcessFailed(f"{self.name} still runs after {timeout_s:g} s\n{self.story()}") from None

    def pause(self) -> None:
        """A moment between two looks at what it does."""
        time.sleep(_POLL_S)

    def terminate(self) -> None:
        """Ask it to end (SIGTERM), without waiting."""
        if self.is_running:
            self.popen.send_signal(signal.SIGTERM)

    def stop(self, timeout_s: float = 10.0) -> int:
        """Ask it to end and wait; its exit code. Raises ProcessFailed when it does not obey."""
        self.terminate()
        return self.wait(timeout_s)

    def kill(self) -> None:
        """SIGKILL, to it alone, and wait until it is gone."""
        self.popen.kill()
        self.popen.wait()


class Processes:
    """All processes of one run, as a context: whatever way it is left, none of them is alive afterwards."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._mark = f"{os.getpid()}-{uuid.uuid4().hex}"
        self._started: list[RunningProcess] = []

    def start(
        self, name: str, command: Sequence[str], *, directory: Path | None = None, environment: Mapping[str, str] | None = None
    ) -> RunningProcess:
        """Start `command` under a `name` that is unique in this run. Raises OSError where it cannot be executed."""
        output = self._directory / f"{name}.out"
        settings = {key: value for key, value in os.environ.items() if key.lower() not in _PROXY_VARIABLES}
        settings |= {"PYTHONUNBUFFERED": "1", _MARK: self._mark, **(environment or {})}
        with output.open("wb") as sink:
            popen = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, cwd=directory, env=settings, start_new_session=True
            )
        process = RunningProcess(name, popen, output)
        self._started.append(process)
        return process

    def left_behind(self) -> list[psutil.Process]:
        """Living processes that descend from ours, but are not those that we started ourselves."""
        ours = {process.pid for process in self._started}
        found = []
        for process in psutil.process_iter():
            try:
                is_marked = process.pid not in ours and process.environ().get(_MARK) == self._mark
                if is_marked and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def family(self) -> list[psutil.Process]:
        """Every living process of this run: those that were started, and what descends from them."""
        found = self.left_behind()
        for process in self._started:
            if process.is_running:
                found.append(psutil.Process(process.pid))
        return found

    def end_all(self, timeout_s: float = 10.0) -> list[str]:
        """End every process, the last started first; a description of each that had to be killed or was left behind."""
        running = [process for process in reversed(self._started) if process.is_running]
        for process in running:
            process.terminate()
        deadline = time.monotonic() + timeout_s
        stubborn = [process for process in running if not _ends_by(process, deadline)]
        described = [f"did not end on SIGTERM: {process.story()}" for process in stubborn]
        for process in stubborn:
            process.kill()
        # A parent's end takes a moment to reach its children.
        while (left := self.left_behind()) and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        for orphan in left:
            described.append(f"left behind: {_command_of(orphan)}")
            _kill(orphan)
        self._started.clear()
        return described

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.end_all()


def _ends_by(process: RunningProcess, deadline: float) -> bool:
    try:
        process.wait(max(0.0, deadline - time.monotonic()))
    except ProcessFailed:
        return False
    return True


def _command_of(process: psutil.Process) -> str:
    try:
        return f"{process.pid} {' '.join(process.cmdline())[:200]}"
    except psutil.Error:
        return str(process.pid)


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()
        process.wait(5)
    except psutil.Error:
        return
