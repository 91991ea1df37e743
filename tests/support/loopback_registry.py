"""Debian's docker-registry on loopback, with a front that writes down what leaves it; open, with a password, or with tokens.

The image is pushed past the guard, to a second registry over the same storage.
"""

import os
import socket
import sys
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.support.access_log import Access, read_accesses
from tests.support.certs import KeyPair, self_signed
from tests.support.guarded_registry import Auth, passwords_file
from tests.support.multi_image import Pusher
from tests.support.processes import REPOSITORY, Processes
from tests.support.token_server import ISSUER, SERVICE

LOOPBACK = "127.0.0.1"
NAME = "localhost"
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_PORTS = iter(range(20_000 + 500 * (_WORKER % 20), 20_500 + 500 * (_WORKER % 20)))


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopbackRegistry:
    """It runs."""

    #: `http(s)://host:port`.
    root: str
    log: Path
    pusher: Pusher
    #: Its certificate authority, where it speaks TLS.
    certificate: KeyPair | None = None

    def gets(self, digest: str) -> list[Access]:
        """GETs of a content by its digest that were answered with it."""
        found = [each for each in read_accesses(self.log) if each.method == "GET" and each.status in (200, 206)]
        return [each for each in found if each.path.endswith(digest)]


def free_port() -> int:
    """A port that is free now, and that nobody gets who does not ask for it: below those that the kernel gives away.

    Each of pytest's workers has a range of its own, and no port of it is named twice.
    """
    for port in _PORTS:
        with closing(socket.socket()) as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((LOOPBACK, port))
            return port
    raise AssertionError("no port of this worker's range is free")


def start_loopback_registry(
    processes: Processes, directory: Path, *, auth: Auth = Auth.NONE, tls: bool = False
) -> LoopbackRegistry:
    """Ready when this returns."""
    name = f"registry-{auth.value}-{'tls' if tls else 'plain'}"
    folder = directory / name
    folder.mkdir()
    pair = self_signed(folder, NAME) if tls or auth is Auth.TOKEN else None
    guard = ""
    if auth is Auth.BASIC:
        guard = f"auth: {{htpasswd: {{realm: test, path: '{passwords_file(folder)}'}}}}"
    elif auth is Auth.TOKEN:
        assert pair is not None
        port = free_port()
        words = ["tests.support.token_server", "--listen", f"{LOOPBACK}:{port}", *_tls(pair), "--may", "alice:secret="]
        _module(processes, f"{name}-tokens", words, "tokens ready")
        guard = (
            f"auth: {{token: {{realm: 'https://{NAME}:{port}/token', service: {SERVICE}, issuer: {ISSUER}, "
            f"rootcertbundle: '{pair.certificate}'}}}}"
        )
    guarded = _registry(processes, f"{name}-guarded", folder, guard)
    opened = _registry(processes, f"{name}-open", folder, "")
    front = free_port()
    words = ["tests.support.registry_front", "--listen", f"{LOOPBACK}:{front}", "--upstream", f"{LOOPBACK}:{guarded}"]
    words += ["--bucket", "none", "--log", str(folder / "front.jsonl"), *(_tls(pair) if tls and pair is not None else [])]
    _module(processes, f"{name}-front", words, "front ready")
    return LoopbackRegistry(
        root=f"{'https' if tls else 'http'}://{NAME}:{front}",
        log=folder / "front.jsonl",
        pusher=Pusher(f"http://{LOOPBACK}:{opened}"),
        certificate=pair,
    )


def _registry(processes: Processes, name: str, folder: Path, guard: str) -> int:
    config = folder / f"{name}.yml"
    config.write_text(
        f"version: 0.1\nlog: {{level: info}}\nhttp: {{addr: '{LOOPBACK}:0', secret: test}}\n{guard}\nstorage: {{filesystem: "
        f"{{rootdirectory: '{folder / 'storage'}'}}, maintenance: {{uploadpurging: {{enabled: false}}}}}}\n"
    )
    started = processes.start(name, ["docker-registry", "serve", str(config)])
    return int(started.wait_for(r"listening on [\d.]+:(\d+)")[1])


def _module(processes: Processes, name: str, words: list[str], ready: str) -> None:
    processes.start(name, [sys.executable, "-m", *words], directory=REPOSITORY).wait_for(ready)


def _tls(pair: KeyPair) -> list[str]:
    return ["--certificate", str(pair.certificate), "--key", str(pair.key)]
