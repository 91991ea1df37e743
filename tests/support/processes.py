"""Real processes for tests: the demonstration's, plus the promise that a test leaves nothing running."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from scripts.demonstration.processes import Processes, ProcessFailed, RunningProcess

__all__ = ["REPOSITORY", "ProcessFailed", "Processes", "RunningProcess", "running_processes"]

REPOSITORY: Final = Path(__file__).resolve().parents[2]


@contextmanager
def running_processes(directory: Path) -> Iterator[Processes]:
    """Processes that all end with the context. Fails where one does not obey SIGTERM, or an orphan stays alive."""
    with Processes(directory) as processes:
        yield processes
        problems = processes.end_all()
        assert not problems, "\n".join(problems)
