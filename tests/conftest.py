"""What every test may lean on: the run's options, and docker tests that say what they lack instead of being skipped."""

from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.support.requirements import missing_for_docker_tests

# A shared machine may be slow at any moment: what an example costs is nobody's failure, and a hang is the runner's business.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

_DOCKER_CHOSEN = pytest.StashKey[set[str]]()
_DOCKER_RAN = pytest.StashKey[set[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options that scripts/test gives."""
    parser.addoption("--require-docker", action="store_true", help="the run fails if a docker test is skipped or none ran")
    parser.addoption("--docker-note", default="", help="words about left-out docker tests, repeated before the summary")


def pytest_configure(config: pytest.Config) -> None:
    """Begin counting the docker tests that run."""
    config.stash[_DOCKER_RAN] = set()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A docker test on a machine that cannot run it fails: a silent skip would look like a pass."""
    if item.get_closest_marker("docker") is None:
        return
    missing = missing_for_docker_tests()
    if missing:
        pytest.fail(
            f"this machine lacks {', '.join(missing)}; or leave these tests out: scripts/test --without-docker", pytrace=False
        )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Count a docker test whose body ran to its verdict."""
    report = yield
    if report.when == "call" and not report.skipped and item.get_closest_marker("docker") is not None:
        item.config.stash[_DOCKER_RAN].add(item.nodeid)
    return report


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Among several workers: files of docker tests first, those with the most tests before others, then those of real processes.

    A worker takes a whole file at a time (--dist=loadfile). A long one that began last would run alone, long after all else.
    The random order stays within a file, and among the rest.
    """
    if not hasattr(config, "workerinput"):
        return
    marks = {mark: Counter(item.path for item in items if item.get_closest_marker(mark)) for mark in ("docker", "system")}
    items.sort(key=lambda item: (-marks["docker"][item.path], not marks["system"][item.path]))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Note which docker tests were chosen to run."""
    chosen = {item.nodeid for item in session.items if item.get_closest_marker("docker") is not None}
    session.config.stash[_DOCKER_CHOSEN] = chosen


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """A worker has ended: what it told about docker tests counts for the whole run. One that crashed has told nothing."""
    told = getattr(node, "workeroutput", {})
    stash: pytest.Stash = node.config.stash
    stash.setdefault(_DOCKER_CHOSEN, set()).update(told.get("docker_chosen", ()))
    stash[_DOCKER_RAN].update(told.get("docker_ran", ()))


def _docker_verdict(config: pytest.Config) -> str:
    """What --require-docker has against this run; empty: nothing."""
    chosen, ran = config.stash.get(_DOCKER_CHOSEN, set()), config.stash[_DOCKER_RAN]
    if not config.getoption("--require-docker") or (chosen and chosen == ran):
        return ""
    left_out = ", ".join(sorted(chosen - ran)) or "no docker test was chosen"
    return f"only {len(ran)} ran, though --require-docker was given: the run fails ({left_out})"


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """With --require-docker a run without docker tests, or with one left out, is no pass. Of several workers, none sees all."""
    if (told := getattr(session.config, "workeroutput", None)) is not None:
        chosen, ran = session.config.stash.get(_DOCKER_CHOSEN, set()), session.config.stash[_DOCKER_RAN]
        told["docker_chosen"], told["docker_ran"] = sorted(chosen), sorted(ran)
        return
    if exitstatus == pytest.ExitCode.OK and _docker_verdict(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config) -> None:
    """Say once more, where it is read, what did not run."""
    if note := config.getoption("--docker-note"):
        terminalreporter.section("docker tests", sep="!")
        terminalreporter.line(note)
    if config.getoption("--require-docker"):
        terminalreporter.section("docker tests")
        terminalreporter.line(_docker_verdict(config) or f"{len(config.stash[_DOCKER_RAN])} ran")


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout's root."""
    return Path(__file__).resolve().parents[1]
