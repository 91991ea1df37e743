"""A registry, a supernode and a gateway as real processes on loopback, and a client that pulls an image through them."""

import http.client
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from scripts.demonstration.swarm import LOOPBACK, Supernode, Swarm, program
from tests.support.guarded_registry import passwords_file
from tests.support.image import Image, make_and_push
from tests.support.processes import Processes, RunningProcess, running_processes
from tests.support.requirements import PROGRAM_PATH
from tests.support.slow_front import SlowFront, slow_front
from tests.support.swarm import short_directory

MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulled:
    """One answer."""

    status: int
    trace: str
    body: bytes


@dataclass(kw_only=True)
class Gateway:
    """One dfdaemon, with a home of its own."""

    world: "WhyWorld"
    name: str
    node: str
    process: RunningProcess | None = None
    port: int = 0
    settings: str = ""

    @property
    def config(self) -> Path:
        """Its file."""
        return self.world.directory / f"{self.name}.yml"

    @property
    def home(self) -> Path:
        """Its workHome."""
        return self.world.directory / self.name

    def start(self) -> None:
        """Ready when this returns. After a first time: on the same port."""
        self.config.write_text(
            f"port: {self.port}\nlocalIP: {LOOPBACK}\nworkHome: {self.home}\nsupernodes: ['{self.node}']\n"
            f"proxies: [{{regx: blobs/sha256}}]\n{self.settings}"
        )
        self.world.starts += 1
        command = [program("dfdaemon"), "--config", str(self.config)]
        self.process = self.world.processes.start(f"{self.name}-{self.world.starts}", command)
        self.port = int(self.process.wait_for(r"dfdaemon ready: http://127\.0\.0\.1:(\d+)")[1])
        self.config.write_text(self.config.read_text().replace("port: 0\n", f"port: {self.port}\n"))

    def get(self, path: str, headers: Mapping[str, str] = {}, *, bytes_per_s: int = 0, wait: bool = True) -> Pulled:
        """A GET of the registry through the proxy. `bytes_per_s`: the client takes no more."""
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=60)
        if bytes_per_s:
            # Small buffers: what the kernel takes for the client would not have to wait.
            own = socket.socket()
            own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
            own.connect((LOOPBACK, self.port))
            connection.sock = own
        try:
            place = f"{LOOPBACK}:{self.world.front.port}"
            connection.request("GET", f"http://{place}{path}", headers={"Host": place, "User-Agent": "test/1 x", **headers})
            answer = connection.getresponse()
            trace = answer.getheader("X-Damselfly-Trace") or ""
            body = b""
            while chunk := answer.read(65536):
                body += chunk
                if bytes_per_s:
                    time.sleep(len(chunk) / bytes_per_s)
            return Pulled(status=answer.status, trace=trace, body=body)
        finally:
            connection.close()

    def pull(self, image: Image, reference: str, **how: Any) -> list[Pulled]:
        """Manifest and blobs, one after the other."""
        name, _, tag = reference.rpartition(":")
        answers = [self.get(f"/v2/{name}/manifests/{tag}", {"Accept": MANIFEST})]
        return answers + [self.get(f"/v2/{name}/blobs/{digest}", **how) for digest in image.blobs]

    def why(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the command."""
        command = [program("dfdaemon"), "why", "--config", str(self.config), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    def explained(self, question: str) -> dict[str, Any]:
        """Its answer, which must be one."""
        done = self.why("--json", question)
        assert done.returncode == 0, done.stdout + done.stderr
        told: dict[str, Any] = json.loads(done.stdout)
        check(told)
        return told

    def metrics(self) -> str:
        """All figures."""
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=10)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        return text

    def log(self) -> str:
        """What it has logged."""
        return (self.home / "logs" / "dfdaemon.log").read_text()


def check(told: Mapping[str, Any]) -> None:
    """What holds for every answer: the parts make up the whole, of the time and of the bytes."""
    for each in (told, *told["requests"]):
        assert abs(sum(each["phases"].values()) - each["seconds"]) < 1e-5, each
        assert sum(given["bytes"] for given in each["from"]) == each["bytes"], each
    assert told["dominant"] == max(told["phases"], key=lambda phase: told["phases"][phase])


@dataclass(kw_only=True)
class WhyWorld:
    """All that runs."""

    processes: Processes
    directory: Path
    front: SlowFront
    registry: int
    swarm: Swarm
    starts: int = 0
    gateways: list[Gateway] = field(default_factory=list)

    def push(self, reference: str, layers: list[int]) -> Image:
        """An image of random layers, straight to the registry."""
        return make_and_push(reference, layers, f"http://{LOOPBACK}:{self.registry}/{reference}")

    def gateway(self, node: str, *, settings: str = "") -> Gateway:
        """One more host."""
        made = Gateway(world=self, name=f"host{len(self.gateways) + 1}", node=node, settings=settings)
        self.gateways.append(made)
        made.start()
        return made

    def supernode(self) -> Supernode:
        """A real one."""
        return self.swarm.start_supernode()

    def name(self, reference: str) -> str:
        """An image as its client calls it."""
        return f"{LOOPBACK}:{self.front.port}/{reference}"


@contextmanager
def why_world(*, guarded: bool = False) -> Iterator[WhyWorld]:
    """`guarded`: only guarded_registry.USER may read."""
    with short_directory() as directory, running_processes(directory) as processes:
        port = _start_registry(processes, directory, "open", "")
        read = port
        if guarded:
            auth = f"auth: {{htpasswd: {{realm: test, path: '{passwords_file(directory)}'}}}}\n"
            read = _start_registry(processes, directory, "guarded", auth)
        with slow_front(read) as front:
            swarm = Swarm(processes, directory)
            yield WhyWorld(processes=processes, directory=directory, front=front, registry=port, swarm=swarm)


def _start_registry(processes: Processes, directory: Path, name: str, auth: str) -> int:
    with socket.create_server((LOOPBACK, 0)) as free:
        port = int(free.getsockname()[1])
    config = directory / f"{name}-registry.yml"
    config.write_text(
        f"version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: '{directory / 'blobs'}'}}}}\n"
        f"http: {{addr: '{LOOPBACK}:{port}', secret: test}}\n{auth}"
    )
    registry = shutil.which("docker-registry", path=PROGRAM_PATH)
    assert registry is not None
    processes.start(f"{name}-registry", [registry, "serve", str(config)]).wait_for("listening on")
    return port
