"""A host's swarm makes room for a curl on the same capped link, and takes the link again when that has gone.

Network namespaces, a shaped link, real processes. Asserted are the limits that the gateway tells, not how fast it went.
"""

import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from scripts.benchmark.content import make_content
from scripts.benchmark.lab import LabHost, lab
from scripts.benchmark.nginx import start_nginx
from scripts.demonstration.processes import Processes
from scripts.demonstration.swarm import program
from tests.support.swarm import wait_until
from wire.messages import Download
from worker_peer.host_peer import HostPeer

pytestmark = [pytest.mark.docker, pytest.mark.timeout(180)]

LINK_BITS = 24_000_000
LINK = LINK_BITS // 8
FLOOR = 100_000
_FIGURE = re.compile(r'^dragonfly_dfdaemon_link_(\w+)_bytes_per_second\{direction="down"\} (\S+)$', re.MULTILINE)


def figures(host: LabHost) -> dict[str, float]:
    """limit, own, other and capacity of the way down, as /metrics has them."""
    return {name: float(value) for name, value in _FIGURE.findall(host.run(["curl", "-sf", "http://127.0.0.1:65001/metrics"]))}


@contextmanager
def fetching(home: Path, url: str, node: str) -> Iterator[None]:
    """The peer of this home fetches, until the context ends."""
    ends = threading.Event()

    def fetch() -> None:
        peer = HostPeer(home)
        for _ in peer.download(Download(url=url, supernodes=(node,)), time.monotonic() + 150):
            if ends.is_set():
                peer.cancel()
                break
        peer.close()

    thread = threading.Thread(target=fetch)
    thread.start()
    try:
        yield
    finally:
        ends.set()
        thread.join(20)


def test_the_swarm_makes_room_and_comes_back() -> None:
    with (
        tempfile.TemporaryDirectory(prefix="dl-") as name,
        lab({"source": 0, "supernode": 0, "peer": LINK_BITS}) as hosts,
        Processes(Path(name)) as processes,
    ):
        folder, peer = Path(name), hosts["peer"]
        start_nginx(processes, hosts["source"].command, folder, hosts["source"].address)
        source = f"http://{hosts['source'].address}"
        for file in ("swarm", "curl"):
            make_content(folder / "files" / file, 75 * LINK)
        words = [program("supernode"), "--home-dir", str(folder / "sn"), "--advertise-ip", hosts["supernode"].address]
        processes.start("supernode", hosts["supernode"].command(words)).wait_for("supernode ready")
        node = f"{hosts['supernode'].address}:8002"
        config = folder / "dfdaemon.yml"
        config.write_text(f"workHome: {folder}/peer\nlocalIP: {peer.address}\nsupernodes: [{node}]\nlinkrate: 24mbit\n")
        words = [program("dfdaemon"), "--config", str(config), "--minrate", str(FLOOR)]
        processes.start("dfdaemon", peer.command(words)).wait_for("dfdaemon ready")

        def until(holds: Callable[[dict[str, float]], bool], what: str) -> dict[str, float]:
            wait_until(lambda: holds(figures(peer)), what)
            return figures(peer)

        with fetching(folder / "peer", f"{source}/swarm", node):
            alone = until(lambda seen: seen["own"] > 0.5 * LINK, "the swarm has most of the link")
            assert alone["capacity"] == LINK
            assert alone["limit"] <= 0.9 * LINK
            curl = processes.start("curl", peer.command(["curl", "-s", "-o", str(folder / "got"), f"{source}/curl"]))
            until(lambda seen: seen["limit"] <= 0.15 * LINK and seen["other"] >= 0.6 * LINK, "the swarm has made room")
            assert min(figures(peer)["limit"] for _ in range(20)) >= FLOOR, "and is never starved"
            before = (folder / "got").stat().st_size
            curl.kill()
            assert before > 0
            until(lambda seen: seen["limit"] >= 0.7 * LINK and seen["own"] > 0.5 * LINK, "the swarm has the link again")
