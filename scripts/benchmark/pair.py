"""`bench pair`: one uncapped parent to one child, against a bare TCP copy and against nginx and curl, in the same run."""

import re
import socket
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from scripts.benchmark.content import make_content
from scripts.benchmark.nginx import start_nginx
from scripts.demonstration.content import sha256_of
from scripts.demonstration.processes import Processes
from scripts.demonstration.swarm import LOOPBACK, Supernode, Swarm, program
from wire.messages import Download, Finished
from worker_peer.host_peer import HostPeer

_GIB = 1 << 30


@dataclass(slots=True, kw_only=True)
class PairResult:
    """Medians. CPU in seconds per GiB of both ends together; speed in GiB per second."""

    ok: bool
    cpu_s_per_gib: float
    raw_cpu_s_per_gib: float
    curl_cpu_s_per_gib: float
    cpu_over_raw: float
    cpu_over_curl: float
    gib_per_s: float
    raw_gib_per_s: float
    curl_gib_per_s: float


def run_pair(size: int, runs: int) -> PairResult:
    """`runs` rounds of all three, one after the other."""
    rounds: list[dict[str, tuple[float, float]]] = []
    ok = True
    # Not in memory: reserving space on tmpfs costs 0.3 CPU-seconds per GiB that no disk asks for.
    with tempfile.TemporaryDirectory(prefix="bench") as name, Processes(Path(name)) as processes:
        folder = Path(name)
        digest = make_content(folder / "files" / "content", size)
        port = _free_port()
        nginx = start_nginx(processes, list, folder, LOOPBACK, port)
        swarm = Swarm(processes, folder)
        supernode = swarm.start_supernode()
        url = f"http://{LOOPBACK}:{port}/content"
        _fetch(processes, folder, supernode, url, 0)  # now the seed has it
        for number in range(1, runs + 1):
            swarm_cpu, swarm_s, path = _fetch(processes, folder, supernode, url, number)
            ok = ok and sha256_of(path) == digest
            path.unlink()
            raw = _raw(processes, folder, size, number)
            curl = _curl(processes, folder, url, nginx.process.pid, number)
            rounds.append({"swarm": (swarm_cpu, swarm_s), "raw": raw, "curl": curl})
            told = {
                key: f"{cpu * _GIB / size:.3f} CPU-s/GiB, {size / _GIB / s:.2f} GiB/s" for key, (cpu, s) in rounds[-1].items()
            }
            print(f"round {number}: {told}", flush=True)
    gib = size / _GIB

    def cpu(key: str) -> float:
        return statistics.median(each[key][0] for each in rounds) / gib

    def speed(key: str) -> float:
        return gib / statistics.median(each[key][1] for each in rounds)

    return PairResult(
        ok=ok,
        cpu_s_per_gib=round(cpu("swarm"), 3),
        raw_cpu_s_per_gib=round(cpu("raw"), 3),
        curl_cpu_s_per_gib=round(cpu("curl"), 3),
        cpu_over_raw=round(statistics.median(each["swarm"][0] / each["raw"][0] for each in rounds), 3),
        cpu_over_curl=round(statistics.median(each["swarm"][0] / each["curl"][0] for each in rounds), 3),
        gib_per_s=round(speed("swarm"), 3),
        raw_gib_per_s=round(speed("raw"), 3),
        curl_gib_per_s=round(speed("curl"), 3),
    )


def _free_port() -> int:
    with socket.create_server((LOOPBACK, 0)) as probe:
        return int(probe.getsockname()[1])


def _fetch(processes: Processes, folder: Path, supernode: Supernode, url: str, number: int) -> tuple[float, float, Path]:
    """A new peer fetches what the seed has. (CPU seconds of seed and peer while it ran, seconds, the file)."""
    home = folder / f"h{number}"
    words = [program("dfget"), "server", "--home", str(home), "--node", supernode.node, "--ip", LOOPBACK]
    peer = processes.start(f"pair-{number}", [*words, "--port", "0", "--alivetime", "0s", "--expiretime", "0s"])
    peer.wait_for("server port is")
    ends = [psutil.Process(peer.pid), *_seeds(supernode)]
    client = HostPeer(home)
    try:
        before, began_at = _cpu(ends), time.monotonic()
        for message in client.download(Download(url=url, supernodes=(supernode.node,)), began_at + 600):
            if isinstance(message, Finished):
                if message.code is not None:
                    raise RuntimeError(message.message)
                result = (_cpu(ends) - before, time.monotonic() - began_at, Path(message.path))
    finally:
        client.close()
    peer.stop()
    return result


def _seeds(supernode: Supernode) -> list[psutil.Process]:
    return [child for child in psutil.Process(supernode.process.pid).children() if "--seed" in child.cmdline()]


def _cpu(ends: list[psutil.Process]) -> float:
    return sum(times.user + times.system for times in (end.cpu_times() for end in ends))


def _raw(processes: Processes, folder: Path, size: int, number: int) -> tuple[float, float]:
    port, module = _free_port(), [sys.executable, "-m", "scripts.benchmark.raw_copy"]
    sender = processes.start(f"raw-send-{number}", [*module, "send", str(folder / "files" / "content"), str(port)])
    sender.wait_for("ready")
    began_at = time.monotonic()
    output = folder / f"raw-{number}"
    receiver = processes.start(f"raw-receive-{number}", [*module, "receive", str(output), str(port), str(size)])
    receiver.wait(600)
    seconds = time.monotonic() - began_at
    sender.wait(10)
    output.unlink()
    found = [float(match[1]) for end in (sender, receiver) if (match := re.search(r"cpu ([\d.]+)", end.output()))]
    return sum(found), seconds


def _curl(processes: Processes, folder: Path, url: str, nginx_pid: int, number: int) -> tuple[float, float]:
    nginx = psutil.Process(nginx_pid)
    before, began_at = _cpu([nginx]), time.monotonic()
    output = folder / f"curl-{number}"
    # time's format: user and system seconds of the child alone.
    curl = processes.start(f"curl-{number}", ["bash", "-c", f"TIMEFORMAT='cpu %U %S'; time curl -sf -o {output} {url}"])
    if curl.wait(600) != 0:
        raise RuntimeError(curl.story())
    seconds = time.monotonic() - began_at
    output.unlink()
    found = re.search(r"cpu ([\d.]+) ([\d.]+)", curl.output())
    assert found is not None
    return _cpu([nginx]) - before + float(found[1]) + float(found[2]), seconds
