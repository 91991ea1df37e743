"""`bench store`: what a store of ten thousand contents costs: its start, a tidying, an eviction, a page of its list."""

import asyncio
import hashlib
import random
import tempfile
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from scripts.demonstration.processes import Processes
from scripts.demonstration.swarm import LOOPBACK, program
from wire.pieces import layout_for
from worker_peer.cache_keeper import CacheKeeper
from worker_peer.core.eviction import Rules
from worker_peer.host.clock import SystemClock
from worker_peer.host.digests import block_digest
from worker_peer.host.store import Store

_SIZE = 4096


@dataclass(slots=True, kw_only=True)
class StoreResult:
    """Seconds, but for `contents`."""

    ok: bool
    contents: int
    #: Of the folder alone; of a seed's whole process, until it serves; the same of an empty one.
    index_s: float
    seed_start_s: float
    empty_start_s: float
    #: A tidying that has nothing to delete, one that deletes a tenth, and room for one content in a full store.
    idle_pass_s: float
    tenth_pass_s: float
    room_s: float


def run_store(contents: int) -> StoreResult:
    """So many contents of one block."""
    with tempfile.TemporaryDirectory(prefix="bench") as name, Processes(Path(name)) as processes:
        folder = Path(name)
        (folder / "seed").mkdir()
        _fill(folder / "seed" / "data", contents)
        empty_s = _start(processes, folder, "empty")
        start_s = _start(processes, folder, "seed")
        begun = time.perf_counter()
        store = Store(folder / "seed" / "data")
        index_s = time.perf_counter() - begun
        idle_s, tenth_s, room_s, left = asyncio.run(_passes(store))
    return StoreResult(
        ok=left == contents - contents // 10,
        contents=contents,
        index_s=round(index_s, 3),
        seed_start_s=round(start_s, 3),
        empty_start_s=round(empty_s, 3),
        idle_pass_s=round(idle_s, 3),
        tenth_pass_s=round(tenth_s, 3),
        room_s=round(room_s, 4),
    )


def _fill(root: Path, contents: int) -> None:
    store, layout = Store(root), layout_for(_SIZE)
    data = random.Random(1).randbytes(_SIZE)
    digest, whole = block_digest(data), "sha256:" + hashlib.sha256(data).hexdigest()
    for number in range(contents):
        file = store.create(hashlib.sha256(str(number).encode()).hexdigest(), layout, url=f"http://registry.example/{number}")
        file.write(0, data)
        file.commit(0, digest)
        file.finish(whole)
        file.close()


def _start(processes: Processes, folder: Path, name: str) -> float:
    """Seconds until a seed of this home serves."""
    begun = time.perf_counter()
    command = [program("dfget"), "server", "--seed", "--home", str(folder / name), "--ip", LOOPBACK, "--node", f"{LOOPBACK}:1"]
    process = processes.start(name, [*command, "--alivetime", "0s", "--expiretime", "0s"])
    process.wait_for(r"dfget uploader server port is \d+")
    taken = time.perf_counter() - begun
    process.stop()
    return taken


async def _passes(store: Store) -> tuple[float, float, float, int]:
    with ThreadPoolExecutor(8) as executor:
        keeper = CacheKeeper(store, rules=Rules(expire_s=1e9), clock=SystemClock(), executor=executor)
        idle = await _timed(keeper.tidy)
        count = len(store.index)
        keeper.rules = Rules(quota=store.index.used * 9 // 10)
        tenth = await _timed(keeper.tidy)
        left = len(store.index)

        async def one_more() -> None:
            (await keeper.files.create(f"{count:064x}", layout_for(_SIZE), content_type="")).close()

        return idle, tenth, await _timed(one_more), left


async def _timed(work: Callable[[], Awaitable[object]]) -> float:
    begun = time.perf_counter()
    await work()
    return time.perf_counter() - begun
