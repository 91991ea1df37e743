"""`bench small`: how soon a small file is here, with the host's peer running, on a 100 Mbit/s link; against curl."""

import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from scripts.benchmark.content import make_content
from scripts.benchmark.lab import LabHost, lab
from scripts.benchmark.nginx import start_nginx
from scripts.demonstration.content import sha256_of
from scripts.demonstration.processes import Processes
from scripts.demonstration.swarm import program
from wire.messages import Download, Finished
from worker_peer.host_peer import HostPeer

_SIZES = {"1k": 1 << 10, "64k": 64 << 10, "1m": 1 << 20}


@dataclass(slots=True, kw_only=True)
class SmallResult:
    """Medians in milliseconds by size: through the swarm when nobody has it, when the seed has it, and by curl."""

    ok: bool
    cold_ms: dict[str, float]
    cached_ms: dict[str, float]
    curl_ms: dict[str, float]
    cold_over_curl: dict[str, float]


def run_small(rate: int, runs: int) -> SmallResult:
    """`runs` files of each size."""
    cold: dict[str, list[float]] = {name: [] for name in _SIZES}
    cached: dict[str, list[float]] = {name: [] for name in _SIZES}
    curl: dict[str, list[float]] = {name: [] for name in _SIZES}
    ok = True
    rates = dict.fromkeys(("source", "supernode", "first", "second"), rate)
    with tempfile.TemporaryDirectory(prefix="bench") as name, lab(rates) as hosts, Processes(Path(name)) as processes:
        folder = Path(name)
        start_nginx(processes, hosts["source"].command, folder, hosts["source"].address)
        node = _start(processes, hosts, folder)
        first, second = HostPeer(folder / "first"), HostPeer(folder / "second")
        for number in range(-1, runs):
            for label, size in _SIZES.items():
                path = folder / "files" / f"{label}-{number}"
                digest = make_content(path, size)
                url = f"http://{hosts['source'].address}/{path.name}"
                seconds = [_curl(hosts["first"], folder, url), *(_ask(peer, node, url, digest) for peer in (first, second))]
                ok = ok and None not in seconds
                if number < 0 or None in seconds:
                    continue  # the first round warms up: connections, imports
                for column, value in zip((curl, cold, cached), seconds, strict=True):
                    column[label].append((value or 0.0) * 1000)
        first.close()
        second.close()
    medians = [{label: round(statistics.median(values), 2) for label, values in each.items()} for each in (cold, cached, curl)]
    ratios = {
        label: round(statistics.median(a / b for a, b in zip(cold[label], curl[label], strict=True)), 3) for label in _SIZES
    }
    return SmallResult(ok=ok, cold_ms=medians[0], cached_ms=medians[1], curl_ms=medians[2], cold_over_curl=ratios)


def _start(processes: Processes, hosts: dict[str, LabHost], folder: Path) -> str:
    supernode = hosts["supernode"]
    words = [program("supernode"), "--home-dir", str(folder / "sn"), "--advertise-ip", supernode.address]
    processes.start("supernode", supernode.command(words)).wait_for("supernode ready")
    node = f"{supernode.address}:8002"
    for name in ("first", "second"):
        words = [program("dfget"), "server", "--home", str(folder / name), "--node", node, "--ip", hosts[name].address]
        peer = processes.start(name, hosts[name].command([*words, "--alivetime", "0s"]))
        peer.wait_for("server port is")
    return node


def _ask(peer: HostPeer, node: str, url: str, digest: str) -> float | None:
    """Seconds until the peer has it; None: it failed, or is wrong."""
    began_at = time.monotonic()
    for message in peer.download(Download(url=url, supernodes=(node,)), began_at + 60):
        if isinstance(message, Finished):
            seconds = time.monotonic() - began_at
            right = message.code is None and sha256_of(Path(message.path)) == digest
            peer.placed(message.task, linked=False)
            return seconds if right else None
    return None


def _curl(host: LabHost, folder: Path, url: str) -> float:
    """Seconds that curl says to have taken: its start not included."""
    return float(host.run(["curl", "-sf", "-o", str(folder / "curl.out"), "-w", "%{time_total}", url]))
