"""scripts/demo as a user runs it: its report, its exit code, and that nothing is left behind."""

import hashlib
import json
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import REPOSITORY, Processes, RunningProcess, running_processes
from tests.support.swarm import short_directory

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]
MIB = 1 << 20


@pytest.fixture
def scratch() -> Iterator[Path]:
    """The folder where the demonstration makes its own."""
    with short_directory() as directory:
        yield directory


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    with running_processes(tmp_path) as started:
        yield started


def start_demo(processes: Processes, scratch: Path, *words: str) -> RunningProcess:
    """The demonstration by the python that runs the tests: the same code as ./scripts/demo, without making .venv."""
    environment: Mapping[str, str] = {"TMPDIR": str(scratch), "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-m", "scripts.demonstration", *words]
    return processes.start("demo", command, directory=scratch, environment=environment)


def report_of(demo: RunningProcess) -> dict[str, Any]:
    """The last line, which --json makes an object."""
    told: dict[str, Any] = json.loads(demo.output().splitlines()[-1])
    return told


def assert_nothing_left(processes: Processes, scratch: Path) -> None:
    assert list(scratch.iterdir()) == []
    assert processes.left_behind() == []


def test_all_copies_are_right_and_every_byte_is_accounted_for(processes: Processes, scratch: Path) -> None:
    size = 20 * MIB
    demo = start_demo(processes, scratch, "--peers", "3", "--size", "20M", "--json")
    assert demo.wait() == 0, demo.output()
    report = report_of(demo)
    assert report["ok"] is True
    assert report["peers"] == 3
    assert report["bytes"] == 3 * size
    assert len(report["seconds"]) == 3
    assert all(seconds > 0 for seconds in report["seconds"])
    assert size <= report["source_bytes"] <= 1.01 * size
    assert report["seed_bytes"] + report["peer_bytes"] == 3 * size
    assert report["peer_bytes"] > 0
    assert "OK: all 3 copies have the source's sha256" in demo.output()
    assert_nothing_left(processes, scratch)


def test_a_url_of_the_user_is_compared_with_what_it_gives_directly(processes: Processes, scratch: Path, tmp_path: Path) -> None:
    content = bytes(range(256)) * 4096 + b"tail"
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "file").write_bytes(content)
    source = processes.start(
        "source", [sys.executable, "-m", "scripts.demonstration.source", "--root", str(tmp_path / "root")], directory=REPOSITORY
    )
    url = source.wait_for(r"source ready: (\S+)")[1] + "/file?Signature=secret"
    demo = start_demo(processes, scratch, "--peers", "2", "--url", url, "--json")
    assert demo.wait() == 0, demo.output()
    report = report_of(demo)
    assert report["sha256"] == hashlib.sha256(content).hexdigest()
    assert report["bytes"] == 2 * len(content)
    # The direct reading is not the swarm's.
    assert report["source_bytes"] == len(content)
    assert "secret" not in demo.output()
    assert processes.left_behind() == []
    assert list(scratch.iterdir()) == []


def test_a_source_that_answers_404_is_told_before_anything_starts(processes: Processes, scratch: Path, tmp_path: Path) -> None:
    source = processes.start(
        "source", [sys.executable, "-m", "scripts.demonstration.source", "--root", str(tmp_path)], directory=REPOSITORY
    )
    url = source.wait_for(r"source ready: (\S+)")[1] + "/nothing"
    demo = start_demo(processes, scratch, "--url", url, "--json")
    assert demo.wait() == 1
    assert report_of(demo)["ok"] is False
    assert "the source answers 404" in demo.output()
    assert_nothing_left(processes, scratch)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_an_interrupted_demonstration_cleans_up(processes: Processes, scratch: Path, number: signal.Signals) -> None:
    demo = start_demo(processes, scratch, "--peers", "2", "--size", "256M")
    demo.wait_for("downloading on 2 peers")
    os.kill(demo.pid, number)
    assert demo.wait(30) == 130, demo.output()
    assert_nothing_left(processes, scratch)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--peers", "0"], "'0' is not a number of peers"),
        (["--peers", "many"], "'many' is not a number of peers"),
        (["--size", "64X"], "'64X' is not a size"),
        (["--size", "1.5G"], "'1.5G' is not a size"),
        (["--url", "ftp://example.org/x"], "is not an http or https URL"),
        (["--url", "http://127.0.0.1/x", "--size", "1M"], "not allowed with"),
        (["--pears", "3"], "unrecognized arguments: --pears 3"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_bad_arguments_are_named(processes: Processes, scratch: Path, words: list[str], told: str) -> None:
    demo = start_demo(processes, scratch, *words)
    assert demo.wait() == 2
    assert told in demo.output()
    assert_nothing_left(processes, scratch)


def test_a_file_that_the_disk_cannot_hold_is_refused_with_words(processes: Processes, scratch: Path) -> None:
    demo = start_demo(processes, scratch, "--size", "900000G")
    assert demo.wait() == 1
    assert "take a smaller --size" in demo.output()
    assert_nothing_left(processes, scratch)
