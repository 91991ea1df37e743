"""The whole supernode: in this process without its seed, and as a command with it; ports that are taken, and violent ends."""

import asyncio
import gc
import json
import logging
import os
import re
import signal
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest
from tornado.httpclient import AsyncHTTPClient

from broker.app import CannotStart, Supernode, log_file, run
from broker.config import SupernodeConfig
from broker.home import owned
from scripts.demonstration.swarm import Supernode as SupernodeProcess
from scripts.demonstration.swarm import get_text, program
from tests.support.processes import Processes, running_processes
from tests.support.swarm import short_directory, wait_until

PORTS = ["--port", "0", "--broker-port", "0", "--download-port", "0", "--advertise-ip", "127.0.0.1"]


#: tornado.netutil.bind_sockets leaves the socket that it cannot bind to the garbage collector.
unclosed_by_tornado = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")


def config(home: Path, *, http_port: int = 0, broker_port: int = 0, ip: str = "127.0.0.1") -> SupernodeConfig:
    return SupernodeConfig(
        home=home, http_port=http_port, broker_port=broker_port, download_port=0, advertise_ip=ip, with_seed=False, version="1"
    )


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port on which somebody listens."""
    with closing(socket.socket()) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]


async def get(url: str) -> str:
    return (await AsyncHTTPClient().fetch(url)).body.decode()


async def test_it_serves_on_the_ports_that_it_found(tmp_path: Path) -> None:
    supernode = Supernode(config(tmp_path))
    try:
        await supernode.ready()
        base = f"http://127.0.0.1:{supernode.http_port}"
        assert await get(base + "/_ping") == "OK"
        document = json.loads(await get(base + "/api/v1/cluster"))
        assert document["broker"] == f"tcp://127.0.0.1:{supernode.router.port}"
        assert document["supernode"].startswith("127.0.0.1-")
        assert json.loads(await get(base + "/version"))["Version"] == "1"
        assert "seed_restarts" not in await get(base + "/metrics")
    finally:
        await supernode.close()


async def test_every_run_has_an_id_of_its_own(tmp_path: Path) -> None:
    names = set()
    for _ in range(2):
        supernode = Supernode(config(tmp_path))
        document = json.loads(await get(f"http://127.0.0.1:{supernode.http_port}/cluster"))
        names.add(document["supernode"])
        await supernode.close()
    assert len(names) == 2


async def test_on_ipv6_loopback(tmp_path: Path) -> None:
    supernode = Supernode(config(tmp_path, ip="::1"))
    try:
        document = json.loads(await get(f"http://[::1]:{supernode.http_port}/cluster"))
        assert document["broker"] == f"tcp://[::1]:{supernode.router.port}"
    finally:
        await supernode.close()


@unclosed_by_tornado
async def test_ports_that_are_taken_are_named_and_leave_nothing_open(tmp_path: Path, taken_port: int) -> None:
    gc.collect()
    before = psutil.Process().num_fds()
    with pytest.raises(CannotStart, match=f"{taken_port}.*choose another --port"):
        Supernode(config(tmp_path, http_port=taken_port))
    with pytest.raises(CannotStart, match=f"{taken_port}.*choose another --broker-port"):
        Supernode(config(tmp_path, broker_port=taken_port))
    gc.collect()
    assert psutil.Process().num_fds() == before


async def test_run_ends_well_at_sigterm(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    home = tmp_path / "new" / "home"
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]

    class EndsIt(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "this cluster is open" in record.getMessage():
                os.kill(os.getpid(), signal.SIGTERM)

    handler = EndsIt()
    logging.getLogger("supernode").addHandler(handler)
    try:
        async with asyncio.timeout(20):
            code = await run(config(home))
    finally:
        logging.getLogger("supernode").removeHandler(handler)
    loop = asyncio.get_running_loop()
    for number, former in zip((signal.SIGTERM, signal.SIGINT), handlers, strict=True):
        loop.remove_signal_handler(number)
        signal.signal(number, former)
    assert code == 0
    line = capsys.readouterr().out
    assert line.startswith("supernode ready: http://127.0.0.1:")
    assert line.endswith("seed none\n")
    assert "this cluster is open" in caplog.text
    assert home.is_dir()


@unclosed_by_tornado
async def test_run_says_what_it_cannot_have(tmp_path: Path, taken_port: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert await run(config(tmp_path, http_port=taken_port)) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("supernode: HTTP cannot listen on port")
    (tmp_path / "file").write_text("in the way")
    assert await run(config(tmp_path / "file")) == 1
    assert "file" in capsys.readouterr().err


async def test_a_second_supernode_on_the_same_home_ends_with_1_and_says_whose_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with owned(tmp_path):
        assert await run(config(tmp_path)) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith(f"supernode: another supernode uses {tmp_path} (process {os.getpid()}): end it, or")


# With its seed, as a command ---------------------------------------------------------------------------------------------


@pytest.fixture
def processes() -> Iterator[tuple[Processes, Path]]:
    """Processes that have all ended afterwards, and a folder."""
    with short_directory() as directory, running_processes(directory) as running:
        yield running, directory


def start(processes: tuple[Processes, Path], *arguments: str, name: str = "supernode") -> SupernodeProcess:
    running, directory = processes
    process = running.start(name, [program("supernode"), *PORTS, "--home-dir", str(directory / name), *arguments])
    return SupernodeProcess(process=process, node=process.wait_for(r"supernode ready: http://(\S+:\d+),")[1])


def peers(supernode: SupernodeProcess) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = json.loads(get_text(f"http://{supernode.node}/peers"))["peers"]
    return told


def metrics(supernode: SupernodeProcess) -> str:
    return get_text(f"http://{supernode.node}/metrics")


def seeds(supernode: SupernodeProcess) -> list[str]:
    """The ids of its seeds."""
    return [peer["id"] for peer in peers(supernode) if peer["role"] == "seed"]


def seed_process(supernode: SupernodeProcess) -> psutil.Process:
    (child,) = psutil.Process(supernode.process.pid).children()
    return child


@pytest.mark.system
def test_the_command_starts_everything_and_ends_everything(processes: tuple[Processes, Path]) -> None:
    supernode = start(processes)
    wait_until(lambda: len(seeds(supernode)) == 1, "the seed has said hello")
    assert seeds(supernode)[0].startswith("cdnnode:")
    found = supernode.process.wait_for(r"broker tcp://127\.0\.0\.1:(\d+), seed tcp://127\.0\.0\.1:(\d+)$")
    for port in found.groups():
        socket.create_connection(("127.0.0.1", int(port)), timeout=5).close()
    seed = seed_process(supernode)
    assert supernode.process.stop() == 0
    assert not seed.is_running()
    home = processes[1] / "supernode"
    log = log_file(config(home)).read_text()
    assert "supernode ready" in log
    assert "the seed serves pieces on port" in log
    assert (home / "repo").is_dir()


@pytest.mark.system
def test_a_seed_that_is_killed_comes_back(processes: tuple[Processes, Path]) -> None:
    supernode = start(processes)
    wait_until(lambda: len(seeds(supernode)) == 1, "the seed has said hello")
    first = seed_process(supernode)
    endpoint = peers(supernode)[0]["endpoint"]
    first.kill()

    def joined() -> float:
        found = re.search(r"^dragonfly_supernode_peers_joined_total (\S+)$", metrics(supernode), re.MULTILINE)
        assert found
        return float(found[1])

    wait_until(lambda: joined() == 2, "another seed has said hello")
    assert [peer["endpoint"] for peer in peers(supernode)] == [endpoint], "where peers know it"
    assert seed_process(supernode).pid != first.pid
    assert "dragonfly_supernode_seed_restarts_total 1.0" in metrics(supernode)


@pytest.mark.system
def test_a_seed_ends_when_its_supernode_is_killed(processes: tuple[Processes, Path]) -> None:
    supernode = start(processes)
    seed = seed_process(supernode)
    supernode.process.kill()
    wait_until(lambda: not seed.is_running(), "the seed has ended too")


@pytest.mark.system
@pytest.mark.parametrize("flag", ["--port", "--broker-port", "--download-port"])
def test_a_port_that_is_taken_ends_it_with_words(processes: tuple[Processes, Path], taken_port: int, flag: str) -> None:
    running, directory = processes
    process = running.start("supernode", [program("supernode"), *PORTS, "--home-dir", str(directory), flag, str(taken_port)])
    assert process.wait(60) == 1, process.story()
    assert f"another {flag}" in process.output()
    assert "Traceback" not in process.output()


@pytest.mark.docker
@pytest.mark.system
def test_as_the_first_process_of_a_container_it_keeps_its_seed(processes: tuple[Processes, Path]) -> None:
    running, directory = processes
    alone = ["unshare", "--pid", "--fork", "--kill-child", program("supernode"), *PORTS, "--home-dir", str(directory / "home")]
    process = running.start("supernode", alone)
    supernode = SupernodeProcess(process=process, node=process.wait_for(r"supernode ready: http://(\S+:\d+),")[1])
    wait_until(lambda: len(seeds(supernode)) == 1, "the seed has said hello")
    process.kill()
