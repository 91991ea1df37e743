"""A real dockerd of its own on a lab host: its images, its /etc/docker and its mounts are nobody else's.

Needs root and Debian's docker.io. Several run side by side. Its directory must be a short path: a unix socket is in it.
"""

import http.client
import os
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support.netlab import LabHost
from tests.support.processes import Processes, ProcessFailed, RunningProcess
from tests.support.requirements import PROGRAM_PATH

_LONGEST_PATH: Final = 80
_READY_WITHIN_S: Final = 60.0
_POLL_S: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Dockerd:
    """A running dockerd."""

    process: RunningProcess
    directory: Path

    def docker(self, *words: str, timeout_s: float = 180.0) -> str:
        """What `docker WORDS` prints. Fails where its exit code is not 0."""
        settings = {**os.environ, "DOCKER_CONFIG": str(self.directory / "client")}
        command = ["docker", "-H", f"unix://{self.directory}/docker.sock", *words]
        done = subprocess.run(command, env=settings, capture_output=True, text=True, timeout=timeout_s, check=False)
        assert done.returncode == 0, f"docker {' '.join(words)}:\n{done.stdout}{done.stderr}\n{self.process.story()}"
        return done.stdout.strip()

    def pull(self, image: str) -> str:
        """Pull an image; its id."""
        self.docker("pull", "-q", image)
        return self.docker("image", "inspect", "--format", "{{.Id}}", image)


def start_dockerd(
    processes: Processes,
    host: LabHost,
    directory: Path,
    *,
    proxy: str = "",
    mirror: str = "",
    insecure: Sequence[str] = (),
    trusted: Path | None = None,
    configuration: Path | None = None,
    variables: Mapping[str, str] | None = None,
) -> Dockerd:
    """Start one on `host`, ready when this returns.

    `proxy` becomes HTTP_PROXY and HTTPS_PROXY, `insecure` its insecure registries, `trusted` the only certificates that
    it verifies servers by, `configuration` its /etc/docker (else an empty one), `variables` more of its environment.
    """
    assert len(str(directory)) < _LONGEST_PATH, f"too long for a unix socket: {directory}"
    directory.mkdir(parents=True, exist_ok=True)
    if configuration is None:
        configuration = directory / "etc-docker"
        configuration.mkdir()
    # The place that the bind mount covers.
    Path("/etc/docker").mkdir(exist_ok=True)
    # containerd leaves notes in the folder for temporary files.
    environment = {"PATH": PROGRAM_PATH, "TMPDIR": str(directory), **(variables or {})}
    if proxy:
        environment |= {"HTTP_PROXY": proxy, "HTTPS_PROXY": proxy}
    if trusted is not None:
        environment |= {"SSL_CERT_FILE": str(trusted), "SSL_CERT_DIR": "/nonexistent"}
    command = [*_COMMAND, *_folders(directory), *(word for each in insecure for word in ("--insecure-registry", each))]
    if mirror:
        command += ["--registry-mirror", mirror]
    whole = host.command(command, binds={configuration: "/etc/docker"})
    process = processes.start(f"dockerd-{host.name}", whole, environment=environment)
    _wait_until_ready(process, directory / "docker.sock")
    return Dockerd(process=process, directory=directory)


# No bridge and no firewall rules: a test host's network is the lab's.
_COMMAND: Final = [
    "dockerd",
    "--bridge=none",
    "--iptables=false",
    "--ip6tables=false",
    "--ip-forward=false",
    "--ip-masq=false",
    "--exec-opt=native.cgroupdriver=cgroupfs",
    "--storage-driver=overlay2",
]


def _folders(directory: Path) -> list[str]:
    return [
        f"--host=unix://{directory}/docker.sock",
        f"--data-root={directory}/data",
        f"--exec-root={directory}/exec",
        f"--pidfile={directory}/docker.pid",
    ]


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("docker", timeout=5)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _wait_until_ready(process: RunningProcess, path: Path) -> None:
    deadline = time.monotonic() + _READY_WITHIN_S
    while time.monotonic() < deadline:
        if not process.is_running:
            raise ProcessFailed(f"dockerd ended at once\n{process.story()}")
        connection = _UnixConnection(path)
        try:
            connection.request("GET", "/_ping")
            if connection.getresponse().status == 200:
                return
        except OSError:
            time.sleep(_POLL_S)
        finally:
            connection.close()
    raise ProcessFailed(f"dockerd is not ready after {_READY_WITHIN_S:g} s\n{process.story()}")
