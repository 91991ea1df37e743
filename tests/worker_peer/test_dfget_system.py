"""dfget and `dfget server` as real processes with a real supernode: resuming, sharing, interrupting, giving up."""

import asyncio
import hashlib
import json
import os
import random
import signal
import uuid
from collections.abc import Callable, Iterator

import psutil
import pytest

from scripts.demonstration.swarm import Download, PeerHost, Supernode, program
from tests.support.processes import RunningProcess
from tests.support.source_server import Page, SourceServer
from tests.support.swarm import LoopbackSwarm, loopback_swarm, piece_lines, wait_until
from wire.pieces import MIB, layout_for

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

LENGTH = 8 * MIB + 11
PIECE = layout_for(LENGTH).piece_length
CONTENT = random.Random(5).randbytes(LENGTH)
#: A peer that dfget leaves behind ends soon, so that the test's end finds nothing running.
BRIEF = ("--alivetime", "1s")


@pytest.fixture(scope="module")
def swarm() -> Iterator[LoopbackSwarm]:
    """A supernode, whose hosts the tests make."""
    with loopback_swarm(0) as made:
        yield made


@pytest.fixture
def host(swarm: LoopbackSwarm) -> PeerHost:
    """A host of its own for a test, where nothing runs."""
    return swarm.parts.bare_host(f"h-{uuid.uuid4().hex[:8]}")


def put(source: SourceServer, **page: object) -> str:
    """The content at a path that was never asked for before; its URL."""
    path = f"/{uuid.uuid4().hex}"
    source.pages[path] = Page(body=CONTENT, etag='"1"', **page)  # type: ignore[arg-type]
    return source.url(path)


def page_of(source: SourceServer, url: str) -> Page:
    """The page behind a URL."""
    return source.pages["/" + url.rpartition("/")[2]]


async def ended(process: RunningProcess, timeout_s: float = 60.0) -> int:
    """Its exit code, while the source of this process goes on serving."""
    return await asyncio.to_thread(process.wait, timeout_s)


async def holds(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition."""
    await asyncio.to_thread(wait_until, condition, what)


def assert_right(download: Download) -> None:
    """The output is the content."""
    assert hashlib.sha256(download.output.read_bytes()).digest() == hashlib.sha256(CONTENT).digest()


def last_line(download: Download) -> str:
    """What dfget said last."""
    return download.process.output().splitlines()[-1]


def servers_of(swarm: LoopbackSwarm, host: PeerHost) -> list[psutil.Process]:
    """Servers that dfgets have left behind on a host."""
    found = []
    for process in swarm.processes.left_behind():
        try:
            command = process.cmdline()
        except psutil.NoSuchProcess:  # it has ended since, perhaps as a zombie
            continue
        if "server" in command and str(host.home) in command:
            found.append(process)
    return found


async def test_a_download_ends_well_and_leaves_a_peer_that_ends_by_itself(swarm: LoopbackSwarm, host: PeerHost) -> None:
    async with SourceServer() as source:
        download = swarm.parts.download(host, swarm.supernode, put(source), *BRIEF)
        assert await ended(download.process) == 0, download.process.story()
        assert source.body_bytes == LENGTH
    assert_right(download)
    lines = download.process.output().splitlines()
    assert lines[-3].endswith(f"connected to node:{swarm.supernode.node}")
    assert lines[-2] == "start download by dragonfly..."
    assert f"length:{LENGTH} reason:0" in lines[-1]
    report = download.report()
    assert (report.seed_bytes, report.source_bytes, report.peer_bytes, report.disk_bytes) == (LENGTH, 0, 0, 0)
    count = layout_for(LENGTH).piece_count
    await holds(lambda: len(piece_lines(host.log)) >= count, "the log is written")
    told = piece_lines(host.log)
    assert len(told) == count
    assert all(each["dstCid"].startswith("cdnnode:") for each in told)
    await holds(lambda: not servers_of(swarm, host), "the peer has ended")
    assert list((host.home / "data").glob("*/*")) == [], "its contents went with it"
    assert not (host.home / "meta" / "peer.sock").exists()
    assert_right(download)


async def test_what_is_verified_is_not_fetched_again_after_kill_9(swarm: LoopbackSwarm, host: PeerHost) -> None:
    async with SourceServer() as source:
        url = put(source, holds_after=LENGTH // 2)
        first = swarm.parts.download(host, swarm.supernode, url, "--notbs", "--alivetime", "1h")
        await holds(lambda: len(piece_lines(host.log)) >= 8, "some pieces are here")
        (server,) = servers_of(swarm, host)
        server.kill()
        assert await ended(first.process) == 1104 % 256
        assert "the host's peer has died" in last_line(first)
        assert not first.output.exists()
        here = len({each["range"] for each in piece_lines(host.log)})
        page_of(source, url).go_on.set()
        second = swarm.parts.download(host, swarm.supernode, url, *BRIEF)
        assert await ended(second.process) == 0, second.process.story()
        assert source.body_bytes == LENGTH
    assert_right(second)
    report = second.report()
    # The last piece in the log may have been on its way into the journal.
    assert report.disk_bytes >= (here - 1) * PIECE
    assert report.disk_bytes + report.seed_bytes == LENGTH
    assert report.source_bytes == report.peer_bytes == 0


async def test_two_dfgets_of_one_home_start_one_server(swarm: LoopbackSwarm, host: PeerHost) -> None:
    async with SourceServer() as source:
        urls = [put(source), put(source), put(source)]
        downloads = [swarm.parts.download(host, swarm.supernode, url, "--alivetime", "3s") for url in urls]
        for download in downloads:
            assert await ended(download.process) == 0, download.process.story()
            assert_right(download)
        assert len(servers_of(swarm, host)) == 1
        assert host.log.read_text().count("welcomes this peer") == 1


async def test_a_second_dfget_finds_the_content_on_this_host(swarm: LoopbackSwarm, host: PeerHost) -> None:
    async with SourceServer() as source:
        url = put(source)
        for number in range(2):
            download = swarm.parts.download(host, swarm.supernode, url, "--alivetime", "2s")
            assert await ended(download.process) == 0, download.process.story()
            assert_right(download)
            assert f"connected to node:{swarm.supernode.node}" in download.process.output(), number
        count = layout_for(LENGTH).piece_count
        await holds(lambda: len(piece_lines(host.log)) >= count, "the log is written")
        assert len(piece_lines(host.log)) == count
        assert source.body_bytes == LENGTH


async def test_ctrl_c_stops_the_download_and_the_next_one_goes_on(swarm: LoopbackSwarm, host: PeerHost) -> None:
    async with SourceServer() as source:
        url = put(source, holds_after=LENGTH // 2)
        first = swarm.parts.download(host, swarm.supernode, url, "--alivetime", "5s")
        await holds(lambda: len(piece_lines(host.log)) >= 4, "some pieces are here")
        first.process.popen.send_signal(signal.SIGINT)
        assert await ended(first.process, 10.0) == 130
        assert last_line(first).startswith("download FAIL(130) ")
        assert "Traceback" not in first.process.output()
        assert not first.output.exists()
        page_of(source, url).go_on.set()
        second = swarm.parts.download(host, swarm.supernode, url, *BRIEF)
        assert await ended(second.process) == 0, second.process.story()
        assert_right(second)
        assert second.report().disk_bytes >= 4 * PIECE
        assert source.body_bytes == LENGTH


async def test_timeout_gives_up_in_time(swarm: LoopbackSwarm, host: PeerHost) -> None:
    async with SourceServer() as source:
        url = put(source, holds_after=LENGTH // 2)
        download = swarm.parts.download(host, swarm.supernode, url, "--notbs", "--timeout", "1s", *BRIEF)
        assert await ended(download.process, 15.0) == 1104 % 256
        assert "reason:1000" in last_line(download)
        assert "it took longer than --timeout 1s" in last_line(download)
        assert not download.output.exists()


NOWHERE = "127.0.0.1:1"


async def test_without_a_supernode_it_comes_from_the_source_unless_forbidden(swarm: LoopbackSwarm, host: PeerHost) -> None:
    nobody = Supernode(process=swarm.supernode.process, node=NOWHERE)
    async with SourceServer() as source:
        url = put(source)
        download = swarm.parts.download(host, nobody, url, *BRIEF)
        assert await ended(download.process) == 0, download.process.story()
        assert_right(download)
        assert "reason:8" in last_line(download)
        assert "no supernode answers" in download.process.output()
        assert download.report().source_bytes == LENGTH
        forbidden = swarm.parts.download(host, nobody, url, "--notbs", *BRIEF)
        assert await ended(forbidden.process) == 1104 % 256
        assert "reason:1008" in last_line(forbidden)
        assert source.body_bytes == LENGTH
        assert not forbidden.output.exists()


async def test_an_output_that_its_user_edits_poisons_nobody(swarm: LoopbackSwarm, host: PeerHost) -> None:
    other = swarm.parts.bare_host(f"h-{uuid.uuid4().hex[:8]}")
    async with SourceServer() as source:
        url = put(source)
        first = swarm.parts.download(host, swarm.supernode, url, "--alivetime", "6s")
        assert await ended(first.process) == 0, first.process.story()
        with first.output.open("r+b") as edited:
            edited.write(b"words of the user's own" * 100_000)
        mine = first.output.read_bytes()
        for where in (other, host):
            download = swarm.parts.download(where, swarm.supernode, url, *BRIEF)
            assert await ended(download.process) == 0, download.process.story()
            assert_right(download)
        assert first.output.read_bytes() == mine
        assert source.body_bytes == LENGTH


def test_a_home_has_one_server_and_sigterm_ends_it_well(swarm: LoopbackSwarm, host: PeerHost) -> None:
    command = [program("dfget"), "server", "--home", str(host.home), "--node", swarm.supernode.node, "--ip", "127.0.0.1"]
    first = swarm.processes.start(f"{host.name}-first", command)
    first.wait_for(r"^dfget uploader server port is \d+$")
    second = swarm.processes.start(f"{host.name}-second", command)
    assert second.wait(10.0) == 1
    assert second.output().strip() == f"dfget server: another peer of {host.home} is running: use it, or choose another home"
    assert (host.home / "meta" / "peer.sock").exists()
    assert first.stop() == 0
    assert not (host.home / "meta" / "peer.sock").exists()


def test_a_server_that_cannot_start_says_why(swarm: LoopbackSwarm, host: PeerHost) -> None:
    taken = swarm.supernode.node.rpartition(":")[2]
    fixed = [program("dfget"), "server", "--node", swarm.supernode.node, "--ip", "127.0.0.1"]
    port = swarm.processes.start(f"{host.name}-port", [*fixed, "--home", str(host.home), "--port", taken])
    assert port.wait(10.0) == 1
    assert f"127.0.0.1:{taken}" in port.output()
    assert "choose another port" in port.output()
    (host.home / "file").touch()
    home = swarm.processes.start(f"{host.name}-home", [*fixed, "--home", str(host.home / "file")])
    assert home.wait(10.0) == 1
    assert "choose another --home" in home.output()
    for process in (port, home):
        assert "Traceback" not in process.output()


async def test_a_server_that_dfget_cannot_start_is_no_obstacle(swarm: LoopbackSwarm, host: PeerHost) -> None:
    taken = swarm.supernode.node.rpartition(":")[2]
    async with SourceServer() as source:
        download = swarm.parts.download(host, swarm.supernode, put(source), "--port", taken)
        assert await ended(download.process) == 0, download.process.story()
        assert_right(download)
        assert "`dfget server` did not start: " in download.process.output()
        assert "choose another port" in download.process.output()
        assert "reason:1" in last_line(download)


def test_json_logs_are_objects(swarm: LoopbackSwarm, host: PeerHost) -> None:
    command = [program("dfget"), "server", "--home", str(host.home), "--node", NOWHERE, "--json-log", "--alivetime", "1s"]
    server = swarm.processes.start(f"{host.name}-json", command, environment={"HOME": os.fspath(host.home)})
    assert server.wait(20.0) == 0
    told = [json.loads(line) for line in host.log.read_text().splitlines()]
    assert any("no work for 1 s: the peer ends" in each["message"] for each in told)
    assert any("cannot be reached" in each["message"] for each in told)
