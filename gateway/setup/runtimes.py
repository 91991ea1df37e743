"""The running daemons that setup has to do with: what dockerd is and says, how it is told to read again, who restarts it.

Blocking, with short deadlines. In another root than / nothing runs, unless a socket or a process is named.
"""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gateway.core.setup.plan import Facts, Mode, Refused, Runtime

_PATIENCE_S: Final = 5.0
_TAKES_OVER_WITHIN_S: Final = 10.0
_POLL_S: Final = 0.1
_COMMAND_S: Final = 120.0
_MAX_ANSWER_BYTES: Final = 4 << 20
_DOCKER_SOCKET: Final = "/var/run/docker.sock"
_DOCKER_PID: Final = "/var/run/docker.pid"


def parse_version(text: str) -> tuple[int, int] | None:
    """Of `20.10.24+dfsg1`, `v2.0.1` and what stands around them; None: there is none."""
    found = re.search(r"(?<![\w.])v?(\d+)\.(\d+)", text) or re.fullmatch(r"v?(\d+)()", text)
    return (int(found[1]), int(found[2] or 0)) if found else None


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("docker", timeout=_PATIENCE_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_PATIENCE_S)
        self.sock.connect(str(self._path))


@dataclass(frozen=True, slots=True, kw_only=True)
class Dockerd:
    """A dockerd, whether it runs or not."""

    socket: Path | None
    pid_file: Path | None

    @property
    def pid(self) -> int | None:
        """None: none runs."""
        if self.pid_file is None:
            return None
        try:
            pid = int(self.pid_file.read_text())
            # A number in a file may be another process's by now.
            return pid if Path(f"/proc/{pid}/comm").read_text().strip() == "dockerd" else None
        except (OSError, ValueError):
            return None

    def ask(self, path: str) -> dict[str, Any] | None:
        """Its API. None: it does not answer."""
        if self.socket is None:
            return None
        connection = _UnixConnection(self.socket)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            told = json.loads(answer.read(_MAX_ANSWER_BYTES))
            return told if answer.status == 200 and isinstance(told, dict) else None
        except (OSError, http.client.HTTPException, ValueError):
            return None
        finally:
            connection.close()

    def flags(self) -> frozenset[str]:
        """Long flags that it was started with."""
        pid = self.pid
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace").split("\0") if pid else []
        except OSError:
            return frozenset()
        return frozenset(word[2:].partition("=")[0] for word in words if word.startswith("--"))

    def environment(self) -> dict[str, str]:
        """What it was started with. Empty: it does not run, or is not this user's to look at."""
        pid = self.pid
        try:
            lines = Path(f"/proc/{pid}/environ").read_bytes().decode("utf-8", "replace").split("\0") if pid else []
        except OSError:
            return {}
        pairs = (line.partition("=") for line in lines if "=" in line)
        return {name: value for name, _, value in pairs}

    def reload(self) -> bool:
        """Tell it to read its settings again. False: none runs. Raises OSError."""
        pid = self.pid
        if pid is None:
            return False
        os.kill(pid, signal.SIGHUP)
        return True

    def uses(self, url: str, mode: Mode) -> bool | None:
        """Whether it goes by a mirror or proxy just now. None: it does not say."""
        info = self.ask("/info")
        return url in _used(info, mode) if info is not None else None

    def has_taken_over(self, url: str, mode: Mode, *, wanted: bool) -> bool | None:
        """Whether it uses a mirror or proxy (or, not `wanted`, no longer does). Waits a while. None: it does not say."""
        deadline = time.monotonic() + _TAKES_OVER_WITHIN_S
        while (used := self.uses(url, mode)) is not None:
            if used is wanted:
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_S)
        return None


def _used(info: dict[str, Any], mode: Mode) -> set[str]:
    if mode is Mode.PROXY:
        found = [info.get("HttpProxy"), info.get("HttpsProxy")]
    else:
        found = (info.get("RegistryConfig") or {}).get("Mirrors") or []
    return {str(each).rstrip("/") for each in found if each}


def dockerd_of(root: Path, named_socket: str, named_pid_file: str) -> Dockerd:
    """The one of a root, or the one that is named."""
    here = root == Path("/")
    return Dockerd(
        socket=Path(named_socket) if named_socket else Path(_DOCKER_SOCKET) if here else None,
        pid_file=Path(named_pid_file) if named_pid_file else Path(_DOCKER_PID) if here else None,
    )


def facts_of(runtime: Runtime, root: Path, dockerd: Dockerd, named_version: str) -> Facts:
    """Raises Refused."""
    here = root == Path("/")
    version = parse_version(named_version) if named_version else None
    if named_version and version is None:
        raise Refused(f"--runtime-version {named_version!r} is no version: 26.1 is one")
    started_with: frozenset[str] = frozenset()
    proxies: frozenset[str] = frozenset()
    if runtime is Runtime.DOCKER:
        started_with = dockerd.flags()
        told_proxies = dockerd.environment().items()
        proxies = frozenset(value for name, value in told_proxies if name.upper() in ("HTTP_PROXY", "HTTPS_PROXY") and value)
        told = dockerd.ask("/version") if version is None else None
        version = version or (parse_version(str(told.get("Version", ""))) if told is not None else None)
    if version is None and here and runtime is not Runtime.PODMAN:
        version = _version_by_program("dockerd" if runtime is Runtime.DOCKER else "containerd")
    return Facts(
        version=version,
        has_systemd=(root / "run/systemd/system").is_dir() if here else (root / "lib/systemd/system").is_dir(),
        started_with=started_with,
        proxies=proxies,
        user_home=str(Path.home()) if runtime is Runtime.PODMAN and here and os.geteuid() != 0 else "",
    )


def _version_by_program(name: str) -> tuple[int, int] | None:
    try:
        done = subprocess.run([name, "--version"], capture_output=True, text=True, timeout=_PATIENCE_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return parse_version(done.stdout)


def run_commands(commands: tuple[tuple[str, ...], ...]) -> list[str]:
    """Run each. Returns what went wrong, in words."""
    wrong = []
    for command in commands:
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_COMMAND_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            wrong.append(f"{' '.join(command)}: {error}")
            continue
        if done.returncode != 0:
            wrong.append(f"{' '.join(command)}: exit code {done.returncode}: {done.stderr.strip()[-300:]}")
    return wrong


def restart_commands(unit: str) -> tuple[tuple[str, ...], ...]:
    """What restarts a daemon under systemd."""
    return ("systemctl", "daemon-reload"), ("systemctl", "restart", unit)
