"""`bench first-byte`: how much later a blob's first byte comes through the gateway than straight from its source.

nginx, a supernode and a dfdaemon on loopback. Each run takes a new blob: straight, cold (nobody has it, and the source is
asked whether this client may have it), and warm (this host has it), each on a connection of its own.
"""

import hashlib
import os
import random
import re
import socket
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from scripts.benchmark.nginx import start_nginx
from scripts.demonstration.processes import Processes
from scripts.demonstration.swarm import LOOPBACK, Swarm, program


@dataclass(slots=True, kw_only=True)
class FirstByteResult:
    """Medians in milliseconds from the request to the first byte of its body, and how much later than straight."""

    ok: bool
    straight_ms: float
    cold_ms: float
    warm_ms: float
    cold_added_ms: float
    cold_added_worst_ms: float
    warm_added_ms: float


def run_first_byte(size: int, runs: int) -> FirstByteResult:
    """`runs` blobs of `size` bytes."""
    ways: list[list[float]] = [[], [], []]
    ok = True
    with tempfile.TemporaryDirectory(prefix="bench") as name, Processes(Path(name)) as processes:
        folder = Path(name)
        with socket.create_server((LOOPBACK, 0)) as free:
            port = int(free.getsockname()[1])
        (folder / "files").mkdir()
        start_nginx(processes, list, folder, LOOPBACK, port)
        gateway = _start_gateway(processes, folder)
        for number in range(-1, runs):
            path, digest = _new_blob(folder, size, number)
            url = f"http://{LOOPBACK}:{port}{path}"
            seconds = []
            for to, target in ((port, path), (gateway, url), (gateway, url)):
                took, found = _ask(to, target, f"{LOOPBACK}:{port}")
                ok = ok and found == digest
                seconds.append(took)
            if number < 0:
                continue  # the first round warms up: connections, imports
            for column, value in zip(ways, seconds, strict=True):
                column.append(value * 1000)
    straight, cold, warm = ways
    later = [a - b for a, b in zip(cold, straight, strict=True)]
    return FirstByteResult(
        ok=ok,
        straight_ms=round(statistics.median(straight), 2),
        cold_ms=round(statistics.median(cold), 2),
        warm_ms=round(statistics.median(warm), 2),
        cold_added_ms=round(statistics.median(later), 2),
        cold_added_worst_ms=round(max(later), 2),
        warm_added_ms=round(statistics.median(a - b for a, b in zip(warm, straight, strict=True)), 2),
    )


def _start_gateway(processes: Processes, folder: Path) -> int:
    """The port of a dfdaemon of a swarm of one."""
    supernode = Swarm(processes, folder).start_supernode()
    config = folder / "dfdaemon.yml"
    config.write_text(
        f"port: 0\nlocalIP: {LOOPBACK}\nworkHome: {folder / 'home'}\nsupernodes: ['{supernode.node}']\n"
        "proxies: [{regx: blobs/sha256}]\n"
    )
    started = processes.start("dfdaemon", [program("dfdaemon"), "--config", str(config)])
    return int(started.wait_for(r"dfdaemon ready: http://127\.0\.0\.1:(\d+)")[1])


def _new_blob(folder: Path, size: int, number: int) -> tuple[str, str]:
    """The path and the digest of a blob that nobody has seen."""
    data = random.Random(f"{os.getpid()}/{number}").randbytes(size)
    digest = hashlib.sha256(data).hexdigest()
    path = f"/v2/bench/app/blobs/sha256:{digest}"
    file = Path(f"{folder}/files{path}")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return path, digest


def _ask(port: int, target: str, host: str) -> tuple[float, str]:
    """Seconds until the body's first byte, and the digest of all of it."""
    with socket.create_connection((LOOPBACK, port), timeout=60) as connection:
        began_at = time.perf_counter()
        connection.sendall(f"GET {target} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer t\r\n\r\n".encode())
        head = b""
        while b"\r\n\r\n" not in head or head.endswith(b"\r\n\r\n"):
            part = connection.recv(1 << 16)
            if not part:
                return time.perf_counter() - began_at, ""
            head += part
        seconds = time.perf_counter() - began_at
        fields, _, body = head.partition(b"\r\n\r\n")
        found = re.search(rb"(?i)content-length: (\d+)", fields)
        left = int(found[1]) - len(body) if found else 0
        digest = hashlib.sha256(body)
        while left > 0 and (part := connection.recv(1 << 20)):
            digest.update(part)
            left -= len(part)
    return seconds, digest.hexdigest()
