"""`bench yield`: what a host's other traffic gets of its link while the swarm fetches, with linkrate and without.

One peer behind a capped link, a seed and a web server that are not capped. The peer fetches alone, then a curl of the
same host fetches too, as fast as it can, then the peer is alone again. Rates are of content, second by second.
"""

import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from scripts.benchmark.content import make_content
from scripts.benchmark.lab import PAYLOAD_SHARE, LabHost, lab
from scripts.benchmark.nginx import start_nginx
from scripts.demonstration.processes import Processes
from scripts.demonstration.swarm import program
from wire.messages import Download, Progress
from worker_peer.host_peer import HostPeer

_BEFORE_S: Final = 8.0
_TOGETHER_S: Final = 12.0
_AFTER_S: Final = 8.0
_MODES: Final = ("off", "stated", "auto")


@dataclass(slots=True, kw_only=True)
class YieldResult:
    """By mode, shares of what the link carries; seconds from curl's start and end until the peer is below 0.2, above 0.7."""

    ok: bool
    link_mbit: float
    alone: dict[str, float] = field(default_factory=dict)
    beside_curl: dict[str, float] = field(default_factory=dict)
    curl: dict[str, float] = field(default_factory=dict)
    yields_within_s: dict[str, float | None] = field(default_factory=dict)
    recovers_within_s: dict[str, float | None] = field(default_factory=dict)


class _Fetching:
    """One download, and how far it was when."""

    def __init__(self, peer: HostPeer, url: str, node: str) -> None:
        self.seen: list[tuple[float, int]] = []
        self.ends = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(peer, url, node), daemon=True)
        self._thread.start()

    def _run(self, peer: HostPeer, url: str, node: str) -> None:
        for message in peer.download(Download(url=url, supernodes=(node,)), time.monotonic() + 120):
            if isinstance(message, Progress):
                self.seen.append((time.monotonic(), sum(message.received)))
            if self.ends.is_set():
                peer.cancel()
                return

    def close(self) -> None:
        """Cancel it."""
        self.ends.set()
        self._thread.join(10)

    def rate(self, start: float, stop: float) -> float:
        """Bytes per second between two times."""
        inside = [(at, size) for at, size in self.seen if start <= at <= stop]
        return (inside[-1][1] - inside[0][1]) / (inside[-1][0] - inside[0][0]) if len(inside) > 1 else 0.0

    def first(self, start: float, stop: float, *, below: float = 1e18, above: float = 0.0) -> float | None:
        """Seconds after `start` until a second begins whose rate is so, and 1.5 s later too: not just for want of a piece."""
        at = start
        while at + 2.5 <= stop:
            if all(above <= self.rate(since, since + 1.0) < below for since in (at, at + 1.5)):
                return round(at - start, 2)
            at += 0.1
        return None


def run_yield(rate: int) -> YieldResult:
    """`rate`: bits per second of the peer's link."""
    carries = rate / 8 * PAYLOAD_SHARE
    result = YieldResult(ok=True, link_mbit=rate / 1e6)
    with (
        tempfile.TemporaryDirectory(prefix="bench") as name,
        lab({"source": 0, "supernode": 0, "peer": rate}) as hosts,
        Processes(Path(name)) as processes,
    ):
        folder, source, supernode = Path(name), hosts["source"], hosts["supernode"]
        start_nginx(processes, source.command, folder, source.address)
        size = int(rate / 8 * (_BEFORE_S + _TOGETHER_S + _AFTER_S + 5))
        for mode in (*_MODES, "curl"):
            make_content(folder / "files" / mode, size)
        words = [program("supernode"), "--home-dir", str(folder / "sn"), "--advertise-ip", supernode.address]
        processes.start("supernode", supernode.command(words)).wait_for("supernode ready")
        for mode in _MODES:
            _measure(result, mode, rate, carries, folder, hosts, processes)
    return result


def _measure(
    result: YieldResult, mode: str, rate: int, carries: float, folder: Path, hosts: dict[str, LabHost], processes: Processes
) -> None:
    source, node, host = hosts["source"].address, f"{hosts['supernode'].address}:8002", hosts["peer"]
    words = [program("dfget"), "server", "--home", str(folder / mode), "--node", node, "--ip", host.address, "--alivetime", "0s"]
    words += {"off": [], "stated": ["--linkrate", f"{rate // 1000}kbit"], "auto": ["--linkrate", "auto"]}[mode]
    process = processes.start(mode, host.command(words))
    process.wait_for("server port is")
    peer = HostPeer(folder / mode)
    fetching = _Fetching(peer, f"http://{source}/{mode}", node)
    time.sleep(_BEFORE_S)
    begins = time.monotonic()
    limit = ["curl", "-s", "-o", "/dev/null", "-m", str(_TOGETHER_S), "-w", "%{size_download}", f"http://{source}/curl"]
    curl = subprocess.run(host.command(limit), capture_output=True, text=True, check=False)
    ends = time.monotonic()
    time.sleep(_AFTER_S)
    stops = time.monotonic()
    fetching.close()
    peer.close()
    process.stop()
    shares = {
        "alone": fetching.rate(begins - 4.0, begins),
        "beside_curl": fetching.rate(begins + 3.0, ends),
        "curl": int(curl.stdout or 0) / (ends - begins),
    }
    for name, value in shares.items():
        getattr(result, name)[mode] = round(value / carries, 3)
    result.yields_within_s[mode] = fetching.first(begins, ends, below=0.2 * carries)
    result.recovers_within_s[mode] = fetching.first(ends, stops, above=0.7 * carries)
    result.ok = result.ok and shares["alone"] > 0 and shares["curl"] > 0
