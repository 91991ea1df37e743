"""A host with a dfdaemon and a root folder of its own, whose settings `dfdaemon setup` writes: for tests with real clients.

What the clients see as /etc/docker, /etc/containerd and /etc/containers is in that folder, and nothing of this machine's.
"""

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scripts.demonstration.swarm import program
from tests.support.client_lab import ADDRESSES, GATEWAY, client_network, start_dfdaemon
from tests.support.guarded_registry import Auth, GuardedRegistries, start_guarded_registries
from tests.support.image import Image
from tests.support.netlab import LabHost
from tests.support.processes import Processes, running_processes
from tests.support.requirements import PROGRAM_PATH
from tests.support.swarm import short_directory

_SWARM_BYTES: Final = 'dragonfly_dfdaemon_sent_bytes_total{verdict="p2p"}'


@dataclass(frozen=True, slots=True, kw_only=True)
class SetupLab:
    """All that runs."""

    directory: Path
    host: LabHost
    registries: GuardedRegistries
    processes: Processes

    @property
    def root(self) -> Path:
        """What stands for the host's root folder."""
        return self.directory / "root"

    def write(self, path: str, text: str) -> Path:
        """A file of the root, as a user has left it."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def setup(self, *words: str) -> tuple[int, str]:
        """`dfdaemon setup WORDS` on the host: its exit code and what it said."""
        own = ["--root", str(self.root), "--config", str(self.directory / "dfdaemon.yml")]
        done = self.run([program("dfdaemon"), "setup", *words, *own])
        return done.returncode, done.stdout + done.stderr

    def run(self, words: list[str], variables: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run a program on the host, with the root's settings."""
        environment = {
            "HOME": str(self.directory / "home"),
            "PATH": PROGRAM_PATH,
            "XDG_RUNTIME_DIR": str(self.directory / "home"),
            "REGISTRY_AUTH_FILE": str(self.directory / "auth.json"),
            "TMPDIR": str(self.directory),
            **(variables or {}),
        }
        here = self.root / "etc/containers"
        binds = {here: "/etc/containers"} if here.is_dir() else {}
        command = self.host.command(words, binds=binds)
        how = {"capture_output": True, "text": True, "timeout": 100, "check": False, "stdin": subprocess.DEVNULL}
        return subprocess.run(command, env=environment, **how)  # type: ignore[call-overload, no-any-return]

    def must(self, words: list[str], variables: Mapping[str, str] | None = None) -> str:
        """As `run`; fails where the exit code is not 0."""
        done = self.run(words, variables)
        assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}{done.stderr}"
        return done.stdout

    def blobs_served(self) -> float:
        """How many bytes the gateway has given out of the swarm."""
        text = self.host.run(["curl", "-sf", f"{GATEWAY}/metrics"])
        found = [line.split()[-1] for line in text.splitlines() if line.startswith(_SWARM_BYTES)]
        return sum(float(each) for each in found)

    def assert_read_once(self, image: Image, repository: str, auth: Auth = Auth.NONE) -> None:
        """Each blob left the registry once: what came later came from this host's peer."""
        for digest, size in image.blobs.items():
            given = [access.body_bytes for access in self.registries.gets(auth, digest, repository)]
            assert given == [size], f"{digest} left the registry: {given}"


@contextmanager
def setup_lab() -> Iterator[SetupLab]:
    """Everything up; all of it ends with the context."""
    with short_directory() as directory, client_network(directory) as hosts, running_processes(directory) as processes:
        registries = start_guarded_registries(processes, directory, hosts["registry"])
        (directory / "supernode").mkdir()
        words = ["--home-dir", str(directory / "supernode"), "--advertise-ip", ADDRESSES["supernode"]]
        supernode = processes.start("supernode", hosts["supernode"].command([program("supernode"), *words]))
        start_dfdaemon(processes, directory, hosts["host"], registries)
        supernode.wait_for("supernode ready")
        (directory / "root").mkdir()
        yield SetupLab(directory=directory, host=hosts["host"], registries=registries, processes=processes)


def variables_of(drop_in: Path) -> dict[str, str]:
    """What a unit's drop-in gives a service, as systemd reads its Environment= lines (systemd.exec(5))."""
    lines = [line.removeprefix("Environment=") for line in drop_in.read_text().splitlines() if line.startswith("Environment=")]
    pairs = [word.strip('"').partition("=") for line in lines for word in line.split()]
    return {name: value for name, _, value in pairs}
