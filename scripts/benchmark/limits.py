"""`bench limits`: each limit on each way, against what came in the time that it took. Real processes on loopback, and nginx.

A content is as large as its limit lets pass in the time. The clock runs from the first bytes that are here to the last:
1.0 is exact, more is too much. Samples are 0.2 s apart, which is as much of ten seconds as it can be wrong by.
"""

import asyncio
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from scripts.benchmark.content import make_content
from scripts.benchmark.nginx import start_nginx
from scripts.demonstration.processes import Processes
from scripts.demonstration.swarm import LOOPBACK, PeerHost, Supernode, Swarm
from wire.messages import Download, Finished, Origin, Progress
from worker_peer.direct import download_directly
from worker_peer.host_peer import HostPeer

_PORT: Final = 18193
_DEADLINE_S: Final = 300.0


@dataclass(slots=True, kw_only=True)
class LimitsResult:
    """By way: bytes per second that came, over the limit. `shares`: of two downloads at once, the one's bytes over the other's
    while both went on."""

    ok: bool
    rate: int
    over_limit: dict[str, float] = field(default_factory=dict)
    shares: float = 0.0


@dataclass(slots=True)
class _Sample:
    at: float
    received: tuple[int, ...]

    @property
    def total(self) -> int:
        """Bytes of all origins."""
        return sum(self.received)


def run_limits(rate: int, seconds: float) -> LimitsResult:
    """`rate` in bytes per second."""
    with tempfile.TemporaryDirectory(prefix="bench") as name, Processes(Path(name)) as processes:
        bench = _Bench(Path(name), processes, rate, seconds)
        for way in (bench.local, bench.total, bench.served, bench.sources, bench.back_to_source, bench.straight):
            bench.measure(way)
        return bench.result


class _Bench:
    def __init__(self, folder: Path, processes: Processes, rate: int, seconds: float) -> None:
        self.result = LimitsResult(ok=True, rate=rate)
        self._folder = folder
        self._rate = rate
        self._size = int(rate * seconds)
        self._processes = processes
        self._worlds = self._contents = 0
        start_nginx(processes, list, folder, LOOPBACK, _PORT)

    def measure(self, way: Callable[[], float]) -> None:
        """Bytes per second of a way, over its limit."""
        self.result.over_limit[way.__name__] = round(way() / self._rate, 4)

    def _world(self, *options: str, peer: tuple[str, ...] = ()) -> tuple[Supernode, PeerHost]:
        """A supernode and a peer of their own."""
        self._worlds += 1
        directory = self._folder / f"w{self._worlds}"
        directory.mkdir()
        swarm = Swarm(self._processes, directory)
        supernode = swarm.start_supernode(*options)
        (host,) = swarm.start_peers(1, supernode, *peer)
        return supernode, host

    def _url(self, size: int) -> str:
        self._contents += 1
        name = str(self._contents)
        make_content(self._folder / "files" / name, size)
        return f"http://{LOOPBACK}:{_PORT}/{name}"

    def _samples(
        self, world: tuple[Supernode, PeerHost], size: int, *, rate: int = 0, on_begun: Callable[[], None] = lambda: None
    ) -> list[_Sample]:
        """What was here when, from the first bytes on."""
        peer = HostPeer(world[1].home)
        asked = Download(url=self._url(size), supernodes=(world[0].node,), rate=rate)
        samples: list[_Sample] = []
        for message in peer.download(asked, time.monotonic() + _DEADLINE_S):
            if message.received and sum(message.received):
                samples.append(_Sample(time.monotonic(), message.received))
            if isinstance(message, Progress) and message.length is not None:
                on_begun()
            if isinstance(message, Finished):
                self.result.ok = self.result.ok and message.code is None
        peer.close()
        return samples

    def local(self) -> float:
        """--locallimit, from the seed."""
        return _rate(self._samples(self._world(), self._size, rate=self._rate))

    def total(self) -> float:
        """--totallimit, two downloads."""
        world = self._world(peer=("--totallimit", str(self._rate)))
        found: list[list[_Sample]] = []
        threads = [threading.Thread(target=lambda: found.append(self._samples(world, self._size // 2))) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        one, two = found
        both = min(one[-2].at, two[-2].at)
        had = [max(each.total for each in samples if each.at <= both) for samples in (one, two)]
        self.result.shares = round(had[0] / had[1], 3)
        begun_at = min(one[0].at, two[0].at)
        return (one[-1].total + two[-1].total - one[0].total - two[0].total) / (max(one[-1].at, two[-1].at) - begun_at)

    def served(self) -> float:
        """--seed-bandwidth."""
        return _rate(self._samples(self._world("--seed-bandwidth", str(self._rate)), self._size))

    def sources(self) -> float:
        """--max-bandwidth."""
        return _rate(self._samples(self._world("--max-bandwidth", str(self._rate)), self._size))

    def back_to_source(self) -> float:
        """--locallimit, when the supernode has gone."""
        world = self._world()
        samples = self._samples(world, self._size, rate=self._rate, on_begun=world[0].process.kill)
        # The last one waits for the content's digest.
        source = [_Sample(each.at, (each.received[Origin.SOURCE],)) for each in samples if each.received[Origin.SOURCE]]
        return _rate([each for each in source if each.total < source[-1].total])

    def straight(self) -> float:
        """--pattern source --locallimit."""
        import aiohttp  # noqa: F401 - which takes longer to load than a limit may be wrong by

        url, output = self._url(self._size), self._folder / "straight"
        began_at = time.monotonic()
        work = download_directly(
            url=url,
            headers=(),
            byte_range=None,
            insecure=False,
            certificates=(),
            digest=None,
            md5=None,
            rate=self._rate,
            output=output,
        )
        length, _ = asyncio.run(work)
        return length / (time.monotonic() - began_at)


def _rate(samples: list[_Sample]) -> float:
    return (samples[-1].total - samples[0].total) / (samples[-1].at - samples[0].at)
