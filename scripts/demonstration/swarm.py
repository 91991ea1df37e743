"""A supernode and its peers as real processes on loopback, each with a home of its own: starting them and asking them.

Used by scripts/demo and by the system tests. It knows the commands' flags and their ready lines, and nothing of their code.
"""

import json
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scripts.demonstration.processes import Processes, ProcessFailed, RunningProcess

LOOPBACK: Final = "127.0.0.1"
_SOURCE_METRIC: Final = "dragonfly_supernode_source_bytes_total"
# Loopback needs no proxy, whatever the shell's settings say.
_OPENER: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def program(name: str) -> str:
    """The path of one of our commands, beside the python that runs this."""
    return str(Path(sys.prefix, "bin", name))


def get_text(url: str, timeout_s: float = 10.0) -> str:
    """The body that a loopback address answers. Raises OSError."""
    with _OPENER.open(url, timeout=timeout_s) as answer:
        body: bytes = answer.read()
    return body.decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Supernode:
    """A running supernode."""

    process: RunningProcess
    #: `host:port` of its HTTP side: what --node takes.
    node: str

    def source_bytes(self) -> int:
        """Bytes that its seed and its peers have read from sources, by its metrics: a second old. Raises OSError."""
        total = 0.0
        for line in get_text(f"http://{self.node}/metrics").splitlines():
            if line.startswith((_SOURCE_METRIC + " ", _SOURCE_METRIC + "{")):
                total += float(line.rpartition(" ")[2])
        return int(total)


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerHost:
    """One host of the swarm: a home folder, and the `dfget server` that runs on it (None: dfget brings its own)."""

    name: str
    home: Path
    server: RunningProcess | None

    @property
    def log(self) -> Path:
        """Where its transfers write a line per piece."""
        return self.home / "logs" / "dfclient.log"


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadReport:
    """What `dfget --report` wrote: bytes by where they came from, and the content's digest."""

    task: str
    length: int
    seconds: float
    source_bytes: int
    seed_bytes: int
    peer_bytes: int
    disk_bytes: int
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """One dfget at work."""

    host: PeerHost
    process: RunningProcess
    output: Path
    report_path: Path

    def report(self) -> DownloadReport:
        """Its report, after it has ended. Raises ProcessFailed when it wrote none that can be read."""
        try:
            told = json.loads(self.report_path.read_text())
            return DownloadReport(**{field: told[field] for field in DownloadReport.__dataclass_fields__})
        except (OSError, ValueError, KeyError) as error:
            raise ProcessFailed(f"{self.process.name} left no readable report: {error!r}\n{self.process.story()}") from error


class Swarm:
    """Starts the parts of one swarm in `directory` (a short path: unix sockets live below it)."""

    def __init__(self, processes: Processes, directory: Path) -> None:
        self._processes = processes
        self._directory = directory
        self._downloads = 0

    def start_supernode(self, *options: str, name: str = "supernode") -> Supernode:
        """A supernode on free ports, ready when this returns. Raises ProcessFailed."""
        home = self._directory / name
        home.mkdir(exist_ok=True)
        ports = ["--port", "0", "--broker-port", "0", "--download-port", "0"]
        command = [program("supernode"), *ports, "--home-dir", str(home), "--advertise-ip", LOOPBACK, *options]
        process = self._processes.start(name, command)
        found = process.wait_for(r"supernode ready: http://([\w.:\[\]-]+:\d+)")
        return Supernode(process=process, node=found[1])

    def start_peers(self, count: int, supernode: Supernode, *options: str) -> list[PeerHost]:
        """`count` hosts with a running peer each, all ready when this returns. Raises ProcessFailed."""
        hosts = [self._start_peer(f"peer-{number}", supernode, options) for number in range(1, count + 1)]
        for host in hosts:
            if host.server is not None:
                host.server.wait_for(r"dfget uploader server port is \d+", timeout_s=30.0 + 2.0 * count)
        return hosts

    def _start_peer(self, name: str, supernode: Supernode, options: tuple[str, ...]) -> PeerHost:
        host = self.bare_host(name)
        # Without a lifetime: the run ends it.
        fixed = ["--home", str(host.home), "--node", supernode.node, "--ip", LOOPBACK, "--port", "0", "--alivetime", "0s"]
        server = self._processes.start(name, [program("dfget"), "server", *fixed, *options])
        return PeerHost(name=name, home=host.home, server=server)

    def bare_host(self, name: str) -> PeerHost:
        """A host where nothing runs yet."""
        home = self._directory / name
        home.mkdir(exist_ok=True)
        return PeerHost(name=name, home=home, server=None)

    def download(
        self,
        host: PeerHost,
        supernode: Supernode,
        url: str,
        *options: str,
        output: Path | None = None,
        prefix: tuple[str, ...] = (),
    ) -> Download:
        """Start a dfget on `host`. `prefix` is a command that runs it (in a namespace of its own, say)."""
        self._downloads += 1
        name = f"dfget-{self._downloads}-{host.name}"
        output = output or host.home / f"output-{self._downloads}"
        report = self._directory / f"{name}.json"
        fixed = ["-u", url, "-o", str(output), "--node", supernode.node, "--home", str(host.home), "--ip", LOOPBACK]
        command = [*prefix, program("dfget"), *fixed, "--report", str(report), *options]
        process = self._processes.start(name, command)
        return Download(host=host, process=process, output=output, report_path=report)
