"""The seed's process, with small shell scripts in its place: started, watched, started again, ended with its parent."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Protocol

import psutil
import pytest

from broker import seed as seed_module
from broker.config import CacheConfig
from broker.seed import SeedProcess, _end_with
from worker_peer.host.background import Background

pytestmark = pytest.mark.system
READY = "echo dfget uploader server port is 4242"


async def until(condition: Callable[[], bool]) -> None:
    """Return as soon as it holds. Fails when it does not."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  the other side is a process: it sets no event here
            await asyncio.sleep(0.01)


class Watched:
    """A seed process whose program is a script of the test's."""

    def __init__(
        self, home: Path, program: Path, background: Background, *, verbose: bool, port: int, link_rate: str = ""
    ) -> None:
        self.ended = 0
        self.calls = program.with_suffix(".calls")
        self.seed = SeedProcess(
            home=home,
            ip="127.0.0.1",
            port=port,
            supernode="127.0.0.1:8002",
            upload_rate=11,
            source_rate=22,
            link_rate=link_rate,
            cache=CacheConfig(quota=33),
            verbose=verbose,
            background=background,
            on_ended=self._count,
        )

    def _count(self) -> None:
        self.ended += 1

    def commands(self) -> list[str]:
        """The arguments of each start."""
        return self.calls.read_text().splitlines() if self.calls.exists() else []


class Watch(Protocol):
    """`async with watch(script)`: a seed process that runs the script, closed afterwards."""

    def __call__(
        self, script: str, *, verbose: bool = False, port: int = 0, home: Path | None = None, link_rate: str = ""
    ) -> AbstractAsyncContextManager[Watched]: ...


@pytest.fixture
def watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watch:
    """See Watch."""

    @asynccontextmanager
    async def watched(
        script: str, *, verbose: bool = False, port: int = 0, home: Path | None = None, link_rate: str = ""
    ) -> AsyncIterator[Watched]:
        program = tmp_path / "program"
        program.write_text(f'#!/bin/sh\necho "$@" >> {program.with_suffix(".calls")}\n{script}\n')
        program.chmod(0o755)
        monkeypatch.setattr(seed_module, "sys", SimpleNamespace(executable=str(program)))
        background = Background()
        made = Watched(home or tmp_path / "repo", program, background, verbose=verbose, port=port, link_rate=link_rate)
        try:
            yield made
        finally:
            await made.seed.close()
            await background.close()
            assert made.seed.pid is None or not psutil.pid_exists(made.seed.pid)

    return watched


async def test_it_watches_a_link_where_one_is_named(watch: Watch) -> None:
    async with watch(f"{READY}; exec sleep 1000", link_rate="1gbit") as watched:
        await watched.seed.started.wait()
        (command,) = watched.commands()
        assert command.endswith(" --linkrate 1gbit")


async def test_it_starts_and_tells_its_port(watch: Watch, tmp_path: Path) -> None:
    async with watch(f"{READY}; exec sleep 1000") as watched:
        await watched.seed.started.wait()
        assert (watched.seed.port, watched.seed.failure, watched.seed.restarts, watched.ended) == (4242, "", 0, 0)
        (command,) = watched.commands()
        assert command == (
            f"-m worker_peer.cli server --seed --home {tmp_path}/repo --ip 127.0.0.1 --port 0 --node 127.0.0.1:8002"
            " --alivetime 0s --expiretime 0s --uploadlimit 11 --sourcelimit 22"
            " --cache-quota 33 --preheat-quota 50 --young-free 107374182400 --full-free 5368709120"
            " --unused-for 7200.000000s --clean-tenths 1 --tidy-after 6.000000s --tidy-every 15.000000s"
        )
        assert watched.seed.pid is not None
        assert psutil.pid_exists(watched.seed.pid)


async def test_killed_it_is_started_again_on_its_port(watch: Watch, caplog: pytest.LogCaptureFixture) -> None:
    async with watch(f"{READY}; exec sleep 1000", verbose=True) as watched:
        await watched.seed.started.wait()
        first = watched.seed.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await until(lambda: len(watched.commands()) == 2 and watched.seed.pid != first)
        assert (watched.ended, watched.seed.restarts) == (1, 1)
        assert "--port 0 " in watched.commands()[0]
        assert "--port 4242 " in watched.commands()[1], "peers know it by that one"
        assert watched.commands()[1].endswith("--verbose")
        assert f"the seed has ended with {-signal.SIGKILL}" in caplog.text


@pytest.mark.parametrize(
    ("script", "failure"),
    [
        ("echo one >&2; echo the port is taken >&2; exit 3", "the port is taken"),
        ("exit 0", "it said nothing"),
        ("echo something else; echo words >&2; exit 0", "words"),
        ("echo dfget uploader server port is unknown; exec sleep 1000", "invalid literal"),
        ("exec sleep 1000", "it said nothing"),
    ],
)
async def test_what_does_not_start_is_a_failure_in_its_own_words(
    script: str,
    failure: str,
    watch: Watch,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(seed_module, "_START_S", 1.0)
    async with watch(script) as watched:
        await watched.seed.started.wait()
        assert failure in watched.seed.failure
        await until(lambda: watched.ended >= 1)
        assert "the seed cannot start" in caplog.text


async def test_it_is_tried_again_and_again_and_then_runs(watch: Watch, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(seed_module, "_FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(seed_module, "_LONGEST_PAUSE_S", 0.02)
    script = f'[ "$(wc -l < {tmp_path}/program.calls)" -ge 4 ] || exit 1; {READY}; exec sleep 1000'
    async with watch(script) as watched:
        await until(lambda: watched.seed.port == 4242)
        assert (watched.seed.restarts, watched.seed.failure, len(watched.commands())) == (3, "", 4)


async def test_a_home_that_cannot_be_is_a_failure(watch: Watch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    async with watch(READY, home=tmp_path / "file") as watched:
        await watched.seed.started.wait()
        assert "file" in watched.seed.failure
        assert watched.seed.pid is None


async def test_one_that_does_not_obey_is_killed(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seed_module, "_STOP_S", 0.2)
    async with watch(f"trap '' TERM; {READY}; exec sleep 1000") as watched:
        await watched.seed.started.wait()
        pid = watched.seed.pid
        assert pid is not None
        await watched.seed.close()
        assert not psutil.pid_exists(pid)
        await watched.seed.close()


async def test_closed_at_once_it_leaves_nothing(watch: Watch) -> None:
    async with watch(f"{READY}; exec sleep 1000") as watched:
        await watched.seed.close()
        assert watched.seed.pid is None


def test_a_child_whose_parent_has_ended_before_it_could_say_so_ends_at_once() -> None:
    """And process 1 is a parent like any other: in a container that is the supernode itself."""
    command = [sys.executable, "-c", "print('ran')"]
    late = subprocess.run(command, preexec_fn=partial(_end_with, 1), capture_output=True, check=False)
    assert (late.returncode, late.stdout) == (1, b"")
    in_time = subprocess.run(command, preexec_fn=partial(_end_with, os.getpid()), capture_output=True, check=False)
    assert (in_time.returncode, in_time.stdout) == (0, b"ran\n")
