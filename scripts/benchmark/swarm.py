"""`bench swarm`: N real peers, a source and a supernode behind capped links; the last peer against what physics allows."""

import json
import math
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from scripts.benchmark.content import make_content
from scripts.benchmark.lab import PAYLOAD_SHARE, LabHost, lab
from scripts.benchmark.nginx import start_nginx
from scripts.demonstration.content import sha256_of
from scripts.demonstration.processes import Processes, RunningProcess
from scripts.demonstration.swarm import program
from wire.messages import Download, Finished, Origin
from worker_peer.host_peer import HostPeer

_PIECES_PORT = 8001
_HTTP_PORT = 8002
_BROKER_PORT = 8003


@dataclass(frozen=True, slots=True, kw_only=True)
class SwarmPlan:
    """What is to be run. Rates in bits per second of the link, size in bytes."""

    peers: int
    peer_rate: int
    source_rate: int
    size: int
    runs: int
    plain: bool
    shrinks: bool = False


@dataclass(slots=True, kw_only=True)
class SwarmResult:
    """One run."""

    ok: bool
    #: None where links are not capped: there is no bound then.
    t_min: float | None
    last: float
    ratio: float | None
    mean: float
    source_egress: float
    seed_egress: float
    peer_share: float
    cpu_s_per_gib: float
    peak_rss_mib: float
    plain_last: float | None = None
    speedup: float | None = None


def ideal_seconds(plan: SwarmPlan) -> float | None:
    """None where a link is not capped; else T_min = max(F/us, F/d, N F/(us + sum u)) (Kumar and Ross, 2006), on TCP payload."""
    peer, source = plan.peer_rate / 8 * PAYLOAD_SHARE, plan.source_rate / 8 * PAYLOAD_SHARE
    if not peer or not source:
        return None
    size, peers = plan.size, plan.peers
    return max(size / source, size / peer, peers * size / (source + peers * peer))


def run_swarm(plan: SwarmPlan) -> SwarmResult:
    """All runs; figures are the medians, `ok` only if every output of every run was right."""
    results = [_run_once(plan) for _ in range(plan.runs)]
    for result in results:
        print("run:", json.dumps({key: value for key, value in asdict(result).items() if value is not None}), flush=True)
    return _median(results)


def _median(results: list[SwarmResult]) -> SwarmResult:
    values: dict[str, Any] = {}
    for name in SwarmResult.__dataclass_fields__:
        column = [getattr(result, name) for result in results]
        known = [value for value in column if value is not None]
        values[name] = round(statistics.median(known), 4) if known else None
    values["ok"] = all(result.ok for result in results)
    return SwarmResult(**values)


@contextmanager
def _stage(plan: SwarmPlan) -> Iterator[tuple[dict[str, LabHost], Processes, Path]]:
    rates = {"source": plan.source_rate, "supernode": plan.source_rate}
    rates |= {f"peer-{number}": plan.peer_rate for number in range(plan.peers)}
    base = "/dev/shm" if Path("/dev/shm").is_dir() else None  # the disk of a shared machine is not what is measured
    with (
        tempfile.TemporaryDirectory(prefix="bench", dir=base) as folder,
        lab(rates) as hosts,
        Processes(Path(folder)) as processes,
    ):
        yield hosts, processes, Path(folder)


def _run_once(plan: SwarmPlan) -> SwarmResult:
    with _stage(plan) as (hosts, processes, folder):
        digest = make_content(folder / "files" / "content", plan.size, shrinks=plan.shrinks)
        nginx = start_nginx(processes, hosts["source"].command, folder, hosts["source"].address)
        peers = _start_swarm(plan, hosts, processes, folder)
        url = f"http://{hosts['source'].address}/content"
        cpu_before = _cpu_by_role(processes)
        times, finished = _download_everywhere(plan, hosts, folder, url)
        cpu_by_role = {role: spent - cpu_before.get(role, 0.0) for role, spent in _cpu_by_role(processes).items()}
        print("CPU seconds:", ", ".join(f"{role} {spent:.2f}" for role, spent in sorted(cpu_by_role.items())), flush=True)
        cpu = sum(cpu_by_role.values())
        rss = max(_peak_rss(peer) for peer in peers)
        for number, each in enumerate(finished):
            if each is None or each.code is not None:
                told = each.message if each is not None else "no answer"
                print(f"peer-{number} has not got it: {told}", file=sys.stderr, flush=True)
        ok = all(each is not None and each.code is None and sha256_of(Path(each.path)) == digest for each in finished)
        last = max(times)
        t_min = ideal_seconds(plan)
        whole = [each for each in finished if each is not None and each.code is None]
        received = [sum(each.received[origin] for each in whole) for origin in Origin]
        result = SwarmResult(
            ok=ok,
            t_min=t_min,
            last=last,
            ratio=last / t_min if t_min is not None else None,
            mean=statistics.mean(times),
            source_egress=nginx.body_bytes() / plan.size,
            seed_egress=received[Origin.SEED] / plan.size,
            peer_share=received[Origin.PEER] / max(1, sum(received)),
            cpu_s_per_gib=cpu / (plan.peers * plan.size / (1 << 30)),
            peak_rss_mib=rss / (1 << 20),
        )
        if plan.plain:
            result.plain_last = _plain(plan, hosts, processes, folder, url)
            result.speedup = result.plain_last / last
        return result


def _start_swarm(plan: SwarmPlan, hosts: dict[str, LabHost], processes: Processes, folder: Path) -> list[RunningProcess]:
    supernode = hosts["supernode"]
    ports = ["--port", str(_HTTP_PORT), "--broker-port", str(_BROKER_PORT), "--download-port", str(_PIECES_PORT)]
    home = ["--home-dir", str(folder / "sn"), "--advertise-ip", supernode.address]
    processes.start("supernode", supernode.command([program("supernode"), *ports, *home])).wait_for("supernode ready")
    node = f"{supernode.address}:{_HTTP_PORT}"
    started = []
    for number in range(plan.peers):
        host = hosts[f"peer-{number}"]
        words = [program("dfget"), "server", "--home", str(folder / f"p{number}"), "--node", node, "--ip", host.address]
        words += ["--port", "0", "--alivetime", "0s", "--expiretime", "0s"]
        started.append(processes.start(f"peer-{number}", host.command(words)))
    for peer in started:
        peer.wait_for("server port is", 30 + 3 * plan.peers)
    return started


def _download_everywhere(
    plan: SwarmPlan, hosts: dict[str, LabHost], folder: Path, url: str
) -> tuple[list[float], list[Finished | None]]:
    """Ask every peer at one moment; seconds until each has all of it, verified."""
    node = f"{hosts['supernode'].address}:{_HTTP_PORT}"
    peers = [HostPeer(folder / f"p{number}") for number in range(plan.peers)]
    times, finished = [math.inf] * plan.peers, [None] * plan.peers  # type: list[float], list[Finished | None]
    begin = threading.Barrier(plan.peers + 1)
    patience = 600.0

    def ask(number: int) -> None:
        begin.wait()
        began_at = time.monotonic()
        for message in peers[number].download(Download(url=url, supernodes=(node,)), began_at + patience):
            if isinstance(message, Finished):
                times[number], finished[number] = time.monotonic() - began_at, message

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(plan.peers)]
    for thread in threads:
        thread.start()
    begin.wait()
    for thread in threads:
        thread.join()
    for peer in peers:
        peer.close()
    return times, finished


def _plain(plan: SwarmPlan, hosts: dict[str, LabHost], processes: Processes, folder: Path, url: str) -> float:
    """The plain way: every host fetches from the source with curl, at one moment. Seconds until the last has it."""
    began_at = time.monotonic()
    curls = [
        processes.start(
            f"curl-{number}",
            hosts[f"peer-{number}"].command(["curl", "-sf", "-o", str(folder / f"plain-{number}"), url]),
        )
        for number in range(plan.peers)
    ]
    last = 0.0
    for curl in curls:
        if curl.wait(3600) != 0:
            raise RuntimeError(curl.story())
        last = time.monotonic() - began_at
    return last


def _cpu_by_role(processes: Processes) -> dict[str, float]:
    """CPU seconds of everything that was started, the source included, by what it is."""
    spent: dict[str, float] = {}
    for process in processes.family():
        try:
            words, times = process.cmdline(), process.cpu_times()
        except psutil.Error:
            continue
        role = "seed" if "--seed" in words else "peers" if "server" in words else "source" if "nginx" in str(words) else "broker"
        for kind, seconds in (("user", times.user), ("system", times.system)):
            spent[f"{role} {kind}"] = spent.get(f"{role} {kind}", 0.0) + seconds
    return spent


def _peak_rss(process: RunningProcess) -> int:
    """VmHWM of a process, in bytes."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0
