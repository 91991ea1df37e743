"""`bench broker`: one real `supernode` process under the control traffic of thousands of peers of a flash crowd.

**The traffic.** `peers` daemons are connected, as they are on hosts where a daemon runs all day, and say ALIVE as often as the
broker tells them to. Then a `wave` of them wants the same content (or `active` different ones) within `crowd_s`, as when
one image is rolled out (a Kubernetes roll-out takes a quarter of the hosts at a time by default, `maxUnavailable`): each
REGISTERs once, at a moment of its own. From then on the traffic follows from the links: a peer gets what the broker leases
to it, a piece takes as long as its parent's uplink, shared with the parent's other children, needs for it (half to double
the usual rate), is not there before its parent has it, and is reported once, at once, as real peers do. In steady state
that makes crowd x rate / piece size reports a second, each answered by a lease: 2,800 for a quarter of 15,000 hosts at
100 Mbit/s and 4 GiB (pieces of 16 MiB). Only the payload does not exist. `known` tasks that nobody fetches just now are
there besides.

**The processes.** The broker is the real command on its own CPU; one or several driver processes on the other CPUs play the
peers, each by a real DEALER of its own (scripts/benchmark/broker_peers.py, which says how a driver's own lateness is
kept out of the answer times). An answer's time is from a REGISTER to its TASK, from a REPORT to the LEASE that tops up the
lease it names, and from an ALIVE to its answer.
"""

import json
import math
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

import psutil

from scripts.benchmark.broker_peers import ALIVE, REGISTERED, REPORTED, Traffic, is_in_wave
from scripts.benchmark.broker_table import SwarmTable
from scripts.demonstration.processes import Processes, RunningProcess
from scripts.demonstration.swarm import LOOPBACK, get_text, program
from wire.pieces import layout_for

_MIB: Final = 1 << 20
#: A DEALER takes its connection and a wake-up descriptor; some are needed for the rest of a process.
_FILES_PER_PEER: Final = 2
_OTHER_FILES: Final = 300
#: Peers of one driver, where files would allow more.
_PEERS_PER_DRIVER: Final = 8000
_CONNECT_PER_S: Final = 2000.0
_IDLE_S: Final = 5.0


class NotEnoughFiles(Exception):
    """The machine does not let a process open as many files as the peers need."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerPlan:
    """What is to be measured. Rates in bits, sizes in bytes, times in seconds."""

    peers: int
    size: int
    rate: int
    seed_rate: int
    crowd_s: float
    wave: float
    seconds: float
    active: int
    known: int


@dataclass(slots=True, kw_only=True)
class BrokerResult:
    """What it came to. `*_ms` are answer times over all answers; `raw_p99_ms` is with the drivers' lateness."""

    ok: bool
    p50_ms: float
    p99_ms: float
    max_ms: float
    raw_p99_ms: float
    messages_per_s: float
    rss_mib: float
    peers: int
    cpu_share: float
    idle_cpu_share: float
    cpu_us_per_message: float
    pieces_per_s: float
    #: p50, p99 of each kind of answer, and how many there were.
    answers: dict[str, list[float]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    #: p99 of how long a driver did not look at its sockets, and the CPU share of the busiest one.
    driver_blind_p99_ms: float = 0.0
    driver_cpu_share: float = 0.0
    problems: list[str] = field(default_factory=list)


def run_broker(plan: BrokerPlan) -> BrokerResult:
    """One run. Raises NotEnoughFiles where this machine cannot hold so many connections."""
    shares = _shares(plan.peers)
    with tempfile.TemporaryDirectory(prefix="bench") as name, Processes(Path(name)) as processes:
        folder = Path(name)
        ports = ["--port", "0", "--broker-port", "0", "--download-port", "0", "--no-seed"]
        command = [program("supernode"), *ports, "--home-dir", str(folder / "sn"), "--advertise-ip", LOOPBACK]
        broker = processes.start("supernode", [*_on_cpus(first=True), *command])
        found = broker.wait_for(r"supernode ready: http://(\S+:\d+), broker tcp://\S+:(\d+),")
        return _Run(plan, folder, broker, node=found[1], port=int(found[2]), shares=shares).measure()


def _shares(peers: int) -> list[int]:
    """How many peers each driver plays."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and peers + _OTHER_FILES > hard:
        raise NotEnoughFiles(
            f"the broker needs {peers + _OTHER_FILES} open files for {peers} peers, and this machine allows a process {hard}: "
            f"raise the hard limit (ulimit -Hn, LimitNOFILE), or ask for --peers {hard - _OTHER_FILES} at most"
        )
    most = _PEERS_PER_DRIVER
    if hard != resource.RLIM_INFINITY:
        most = max(1, min(most, (hard - _OTHER_FILES) // _FILES_PER_PEER))
    drivers = math.ceil(peers / most)
    return [peers // drivers + (number < peers % drivers) for number in range(drivers)]


def _on_cpus(*, first: bool) -> list[str]:
    """A prefix for a command: the broker on the first of our CPUs, the drivers on the others."""
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2 or shutil.which("taskset") is None:
        return []
    return ["taskset", "--cpu-list", ",".join(map(str, cpus[:1] if first else cpus[1:]))]


class _Run:
    """The broker is up; the drivers are not."""

    def __init__(
        self, plan: BrokerPlan, folder: Path, broker: RunningProcess, *, node: str, port: int, shares: Sequence[int]
    ) -> None:
        self._plan = plan
        self._folder = folder
        self._broker = psutil.Process(broker.pid)
        self._story = broker
        self._node = node
        pieces = layout_for(plan.size).piece_count
        table = folder / "table"
        SwarmTable.make(table, rows=plan.peers + plan.active, pieces=pieces, drivers=len(shares))
        self._drivers = [
            self._start(
                Traffic(
                    driver=number,
                    drivers=len(shares),
                    peers=plan.peers,
                    first=sum(shares[:number]),
                    last=sum(shares[: number + 1]),
                    port=port,
                    active=plan.active,
                    known=plan.known,
                    size=plan.size,
                    rate=plan.rate / 8,
                    seed_rate=plan.seed_rate / 8,
                    hello_per_s=_CONNECT_PER_S / len(shares),
                    crowd_s=plan.crowd_s,
                    wave=plan.wave,
                    table=str(table),
                    result=str(self._result(number)),
                )
            )
            for number in range(len(shares))
        ]

    def _result(self, driver: int) -> Path:
        return self._folder / f"driver-{driver}"

    def _start(self, traffic: Traffic) -> "subprocess.Popen[str]":
        command = [*_on_cpus(first=False), sys.executable, "-m", "scripts.benchmark.broker_peers", json.dumps(asdict(traffic))]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def measure(self) -> BrokerResult:
        """All phases."""
        try:
            for driver in self._drivers:
                assert driver.stdout is not None
                if driver.stdout.readline().strip() != "connected":
                    raise RuntimeError(f"a driver has ended before its peers were welcomed\n{self._story.story()}")
            idle_from, idle_cpu = time.monotonic(), self._cpu()
            time.sleep(min(_IDLE_S, self._plan.seconds))
            idle_share = (self._cpu() - idle_cpu) / (time.monotonic() - idle_from)
            before, cpu_before, began_at = self._metrics(), self._cpu(), time.monotonic()
            drivers_cpu = [self._cpu_of(driver.pid) for driver in self._drivers]
            self._command("go")
            time.sleep(self._plan.seconds)
            seconds, cpu = time.monotonic() - began_at, self._cpu() - cpu_before
            driver_share = max(
                (self._cpu_of(driver.pid) - then) / seconds for driver, then in zip(self._drivers, drivers_cpu, strict=True)
            )
            after = self._metrics()
            self._command("stop")
            for driver in self._drivers:
                driver.wait(60)
        finally:
            for driver in self._drivers:
                driver.kill()
                driver.wait()
        return self._result_of(before, after, seconds=seconds, cpu=cpu, idle_share=idle_share, driver_share=driver_share)

    def _command(self, word: str) -> None:
        for driver in self._drivers:
            assert driver.stdin is not None
            driver.stdin.write(word + "\n")
            driver.stdin.flush()

    def _cpu(self) -> float:
        return self._cpu_of(self._broker.pid)

    def _cpu_of(self, pid: int) -> float:
        times = psutil.Process(pid).cpu_times()
        return float(times.user + times.system)

    def _metrics(self) -> dict[str, float]:
        text = get_text(f"http://{self._node}/metrics", timeout_s=60)
        found = re.findall(r"^dragonfly_supernode_(\S+) (\S+)$", text, re.MULTILINE)
        return {name: float(value) for name, value in found}

    def _peak_rss(self) -> float:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{self._broker.pid}/status").read_text())
        assert found is not None
        return int(found[1]) / 1024

    def _samples(self, name: str) -> "array[float]":
        values = array("f")
        for number in range(len(self._drivers)):
            path = Path(f"{self._result(number)}.{name}")
            with path.open("rb") as file:
                values.fromfile(file, path.stat().st_size // values.itemsize)
        return values

    def _result_of(
        self,
        before: dict[str, float],
        after: dict[str, float],
        *,
        seconds: float,
        cpu: float,
        idle_share: float,
        driver_share: float,
    ) -> BrokerResult:
        counts: dict[str, int] = {}
        for number in range(len(self._drivers)):
            for key, value in json.loads(Path(f"{self._result(number)}.json").read_text()).items():
                counts[key] = counts.get(key, 0) + int(value)
        each = {kind: sorted(self._samples(kind)) for kind in (REGISTERED, REPORTED, ALIVE)}
        every = sorted(value for values in each.values() for value in values)
        raw = sorted(value for kind in each for value in self._samples(f"{kind}.raw"))
        handled = sum(
            after[f'messages_total{{direction="{way}"}}'] - before[f'messages_total{{direction="{way}"}}']
            for way in ("in", "out")
        )
        problems = self._problems(after, counts)
        return BrokerResult(
            ok=not problems,
            p50_ms=_ms(every, 0.5),
            p99_ms=_ms(every, 0.99),
            max_ms=_ms(every, 1.0),
            raw_p99_ms=_ms(raw, 0.99),
            messages_per_s=round(handled / seconds, 1),
            rss_mib=round(self._peak_rss(), 1),
            peers=self._plan.peers,
            cpu_share=round(cpu / seconds, 3),
            idle_cpu_share=round(idle_share, 3),
            cpu_us_per_message=round(1e6 * cpu / max(1.0, handled), 1),
            pieces_per_s=round(counts["reported"] / seconds, 1),
            answers={kind: [_ms(values, 0.5), _ms(values, 0.99), len(values)] for kind, values in each.items()},
            counts=counts,
            driver_blind_p99_ms=_ms(sorted(self._samples("blind")), 0.99),
            driver_cpu_share=round(driver_share, 3),
            problems=problems,
        )

    def _crowd(self) -> int:
        return sum(is_in_wave(row, self._plan.wave) for row in range(self._plan.peers))

    def _problems(self, after: dict[str, float], counts: dict[str, int]) -> list[str]:
        """What must be so for the figures to mean anything."""
        lost = after["gc_peers_total"]
        refused = sum(value for name, value in after.items() if name.startswith("refused_frames_total"))
        expected = {
            "peers welcomed, with the seed": (counts["welcomed"], self._plan.peers + 1),
            "registrations answered": (counts["registered"], self._crowd()),
            "peers held for lost": (lost, 0),
            "messages dropped": (after['messages_total{direction="dropped"}'], 0),
            "frames refused": (refused, 0),
            "peers told that they are not known": (counts["not_known"], 0),
            "pieces that did not come": (sum(v for k, v in after.items() if k.startswith("pieces_failed_total")), 0),
        }
        return [f"{what}: {found:g}, not {wanted}" for what, (found, wanted) in expected.items() if found != wanted]


def _ms(ordered: Sequence[float], share: float) -> float:
    return round(1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))], 2) if ordered else math.nan
