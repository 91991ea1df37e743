"""A swarm on loopback for tests: a supernode, peers, a source of a folder; and words to look at what happened in it."""

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from scripts.demonstration.swarm import PeerHost, Supernode, Swarm
from tests.support.processes import Processes, running_processes

_PIECE_LINE: Final = "downloading piece:"
_POLL_S: Final = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopbackSwarm:
    """A running swarm."""

    processes: Processes
    parts: Swarm
    supernode: Supernode
    peers: list[PeerHost]
    directory: Path

    @property
    def supernode_home(self) -> Path:
        """Its folder."""
        return self.directory / "supernode"


@contextmanager
def short_directory() -> Iterator[Path]:
    """A folder that is removed afterwards. pytest's own have paths too long for the unix sockets in them."""
    path = Path(tempfile.mkdtemp(prefix="dl-"))
    try:
        yield path
    finally:
        shutil.rmtree(path)


@contextmanager
def loopback_swarm(peers: int, *peer_options: str) -> Iterator[LoopbackSwarm]:
    """A supernode and `peers` running peers. Fails where something is left running at the end."""
    with running_swarm(peers, peers=peer_options) as swarm:
        yield swarm


@contextmanager
def running_swarm(count: int, *, supernode: tuple[str, ...] = (), peers: tuple[str, ...] = ()) -> Iterator[LoopbackSwarm]:
    """The same, with flags for the supernode and for the `count` peers."""
    with short_directory() as directory, running_processes(directory) as processes:
        parts = Swarm(processes, directory)
        started = parts.start_supernode(*supernode)
        hosts = parts.start_peers(count, started, *peers)
        yield LoopbackSwarm(processes=processes, parts=parts, supernode=started, peers=hosts, directory=directory)


def piece_lines(log: Path) -> list[dict[str, Any]]:
    """The `downloading piece` lines of a dfclient.log, as their objects."""
    if not log.exists():
        return []
    lines = [line for line in log.read_text().splitlines() if _PIECE_LINE in line]
    return [json.loads(line.partition(_PIECE_LINE)[2]) for line in lines]


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = 30.0) -> None:
    """Return as soon as `condition` holds. Fails when it does not in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
        time.sleep(_POLL_S)
