"""What one registry guards, another one's yes does not open: real processes, and a registry of the attacker's own."""

import hashlib
import http.client
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from scripts.demonstration.swarm import LOOPBACK, Swarm, program
from tests.support.processes import Processes, running_processes
from tests.support.swarm import short_directory

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

_SECRET = random.Random(7).randbytes(3_000_000)
_DIGEST = f"sha256:{hashlib.sha256(_SECRET).hexdigest()}"
_PATH = f"/v2/team/app/blobs/{_DIGEST}"


@dataclass(kw_only=True)
class Registry:
    """One that has some bytes and says yes."""

    data: bytes
    token: str = ""
    #: (method, Range) of what was let in.
    asked: list[tuple[str, str]] = field(default_factory=list)
    port: int = 0

    def gets(self) -> list[str]:
        """Ranges of its GETs."""
        return [wanted for method, wanted in self.asked if method == "GET"]


@contextmanager
def _registry(data: bytes, token: str = "") -> Iterator[Registry]:
    made = Registry(data=data, token=token)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if made.token and self.headers.get("Authorization") != made.token:
                self.send_response(401)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            wanted = self.headers.get("Range") or ""
            made.asked.append((self.command, wanted))
            start, stop = 0, len(made.data)
            if wanted:
                start, stop = (int(each) for each in wanted.removeprefix("bytes=").split("-"))
                stop += 1
            self.send_response(206 if wanted else 200)
            self.send_header("Content-Length", str(stop - start))
            if wanted:
                self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(made.data)}")
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(made.data[start:stop])

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
    made.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


@dataclass(kw_only=True)
class Gateways:
    """One swarm's dfdaemons, by name."""

    processes: Processes
    directory: Path
    node: str
    starts: int = 0

    def start(self, name: str) -> int:
        """Its port. A second time: with what it has on its disk."""
        config = self.directory / f"{name}.yml"
        config.write_text(
            f"port: 0\nlocalIP: {LOOPBACK}\nworkHome: {self.directory / name}\nsupernodes: ['{self.node}']\n"
            "proxies: [{regx: blobs/sha256}]\n"
        )
        self.starts += 1
        self.running = self.processes.start(f"{name}-{self.starts}", [program("dfdaemon"), "--config", str(config)])
        return int(self.running.wait_for(r"dfdaemon ready: http://127\.0\.0\.1:(\d+)")[1])


def _get(gateway: int, registry: Registry, token: str = "") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(LOOPBACK, gateway, timeout=60)
    headers = {"Authorization": token} if token else {}
    connection.request("GET", f"http://{LOOPBACK}:{registry.port}{_PATH}", headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body


def test_a_registry_of_ones_own_opens_nothing_that_another_one_guards() -> None:
    lies = random.Random(8).randbytes(len(_SECRET))
    with (
        short_directory() as directory,
        running_processes(directory) as processes,
        _registry(_SECRET, "Bearer alice") as private,
        _registry(lies) as evil,
        _registry(_SECRET) as mirror,
    ):
        swarm = Swarm(processes, directory)
        gateways = Gateways(processes=processes, directory=directory, node=swarm.start_supernode().node)
        first = gateways.start("a")
        to_restart = gateways.running
        second, third = gateways.start("b"), gateways.start("c")
        # The usual case: no registry is asked for more than once, whichever host asks.
        for gateway in (first, second, first):
            assert _get(gateway, private, "Bearer alice") == (200, _SECRET)
        assert private.gets() == [""]
        # From where it is, from where it never was, and again.
        for gateway in (first, second, third, third):
            assert _get(gateway, evil) == (200, lies)
        # Others that really have it cost them some bytes, once.
        for _ in range(2):
            assert _get(third, mirror) == (200, _SECRET)
        (shown,) = mirror.gets()
        start, stop = (int(each) for each in shown.removeprefix("bytes=").split("-"))
        assert stop - start + 1 == 4096
        # What this process has forgotten, the swarm knows.
        to_restart.popen.terminate()
        to_restart.popen.wait(20)
        first = gateways.start("a")
        assert _get(first, evil) == (200, lies)
        assert _get(first, private, "Bearer alice") == (200, _SECRET)
        assert private.gets() == [""]
