"""`bench quota`: three times as much as a quota is pulled through it; what the disks held meanwhile, and who was hurt.

A real supernode with its seed, real peers, a quota for each; a folder is looked at all the time, as the file system counts
it. One download is slow, and runs while all others come and go.
"""

import contextlib
import random
import re
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scripts.demonstration.processes import Processes
from scripts.demonstration.swarm import PeerHost, Supernode, Swarm
from wire.ids import task_id
from wire.pieces import layout_for

_CONTENT: Final = 64 << 20
_PEERS: Final = 2
_LOOK_S: Final = 0.01
_PULL_S: Final = 300.0


@dataclass(slots=True, kw_only=True)
class QuotaResult:
    """Bytes, but for counts and `seconds`."""

    ok: bool
    quota: int
    pulled: int
    piece: int
    seconds: float
    #: The most that the seed's and a peer's store held at any look, and how often was looked.
    seed_most: int
    peers_most: int
    looks: int
    #: Pulls that failed, the slow one among them; contents evicted for room, by all stores; the farthest that one went from
    #: its turn (least recently used first), in contents.
    failed: int
    evicted: int
    out_of_turn: int


class Watched(threading.Thread):
    """Looks all the time how much a folder takes on the disk; keeps the most."""

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self.folder = folder
        self.most = self.looks = 0
        self.ended = threading.Event()

    def run(self) -> None:
        """Until it has ended."""
        while not self.ended.wait(_LOOK_S):
            self.most = max(self.most, allocated(self.folder))
            self.looks += 1


def allocated(folder: Path) -> int:
    """Bytes that the files below take on the disk, as the file system counts them."""
    total = 0
    try:
        for path in folder.glob("???/*/*"):
            with contextlib.suppress(OSError):
                total += path.lstat().st_blocks * 512
    except OSError:
        return 0  # a folder went while it was looked into: the next look counts
    return total


@contextmanager
def watching(folders: Sequence[Path]) -> Iterator[list[Watched]]:
    """One watcher each."""
    watchers = [Watched(folder) for folder in folders]
    for each in watchers:
        each.start()
    try:
        yield watchers
    finally:
        for each in watchers:
            each.ended.set()
            each.join()


def evicted(log: Path) -> list[str]:
    """The tasks that were deleted for want of room, in order, by their first digits."""
    return re.findall(r"task (\w{16}) deleted, \d+ bytes: its room is needed", log.read_text())


def run_quota(quota: int, times: int = 3) -> QuotaResult:
    """Contents of 64 MiB, `times` the quota of them in all, one after the other by two peers at once."""
    count = quota * times // _CONTENT
    with tempfile.TemporaryDirectory(prefix="bq") as name, Processes(Path(name)) as processes:
        folder = Path(name)
        source = folder / "source"
        source.mkdir()
        for number in range(count):
            (source / str(number)).write_bytes(random.Random(number).randbytes(_CONTENT))
        served = processes.start("source", [sys.executable, "-m", "scripts.demonstration.source", "--root", str(source)])
        root = served.wait_for(r"source ready: (\S+)")[1]
        parts = Swarm(processes, folder)
        supernode = parts.start_supernode("--cache-quota", str(quota))
        peers = parts.start_peers(_PEERS, supernode, "--cache-quota", str(quota))
        seed_folder = folder / "supernode" / "repo" / "data"
        stores = [seed_folder, *(peer.home / "data" for peer in peers)]
        tasks = [task_id(f"{root}/{number}")[:16] for number in range(count)]
        began = time.perf_counter()
        with watching(stores) as watchers:
            slow = parts.download(peers[0], supernode, f"{root}/0", "--notbs", "--locallimit", "1MB")
            failed = sum(_pull_all(parts, supernode, peers, f"{root}/{number}") for number in range(1, count))
            hurt = slow.process.wait(_PULL_S) != 0
        seconds = time.perf_counter() - began
        logs = [folder / "supernode" / "repo" / "logs" / "dfseed.log", *(peer.log for peer in peers)]
        gone = [evicted(log) for log in logs]
    piece = layout_for(_CONTENT).piece_length
    # The slow one is in use throughout, and last served at its end: it has no turn among the others.
    turns = [[tasks.index(task) for task in each if task != tasks[0]] for each in gone]
    late = max((abs(turn - sorted(each)[place]) for each in turns for place, turn in enumerate(each)), default=0)
    most = [each.most for each in watchers]
    return QuotaResult(
        ok=max(most) <= quota + piece and not failed and not hurt and late <= _PEERS,
        quota=quota,
        pulled=count * _CONTENT,
        piece=piece,
        seconds=round(seconds, 1),
        seed_most=most[0],
        peers_most=max(most[1:]),
        looks=min(each.looks for each in watchers),
        failed=failed + hurt,
        evicted=sum(map(len, gone)),
        out_of_turn=late,
    )


def _pull_all(parts: Swarm, supernode: Supernode, peers: Sequence[PeerHost], url: str) -> int:
    """Every peer pulls it, at the same time. How many failed."""
    downloads = [parts.download(peer, supernode, url, "--notbs") for peer in peers]
    codes = [each.process.wait(_PULL_S) for each in downloads]
    for each in downloads:
        each.output.unlink(missing_ok=True)
    return sum(code != 0 for code in codes)
