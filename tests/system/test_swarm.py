"""Whole swarms of real processes on loopback: sizes, bad sources, bad outputs, and processes that die in the middle."""

import asyncio
import hashlib
import random
import signal
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from scripts.demonstration.content import make_random_file, sha256_of
from scripts.demonstration.swarm import Download, PeerHost, get_text
from tests.support.processes import REPOSITORY
from tests.support.source_server import Page, SourceServer
from tests.support.swarm import LoopbackSwarm, loopback_swarm, piece_lines, wait_until
from wire.messages import MAX_SMALL_CONTENT_BYTES
from wire.pieces import layout_for
from worker_peer.api import DownloadRequest

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]
MIB = 1 << 20
BLOCK = layout_for(0).block_length
#: The shortest content whose pieces hold more than one block, in whole pieces.
LONG_PIECES = 65 * MIB


@pytest.fixture(scope="module")
def pair() -> Iterator[LoopbackSwarm]:
    """A supernode and two peers for tests that hurt none of them."""
    with loopback_swarm(2) as swarm:
        yield swarm


def new_path() -> str:
    """A path that no other test asks for: ports come again, and a URL that was seen before is a task that is here."""
    return f"/{uuid.uuid4().hex}"


def random_bytes(length: int) -> bytes:
    """Always the same for a length."""
    return random.Random(length).randbytes(length)


def start(swarm: LoopbackSwarm, url: str, *options: str, peers: list[PeerHost] | None = None) -> list[Download]:
    """A dfget on each peer, at the same time."""
    return [swarm.parts.download(peer, swarm.supernode, url, *options) for peer in peers or swarm.peers]


def lines_of(peer: PeerHost, task: str) -> list[dict[str, Any]]:
    """A task's lines in the peer's log, once there are any: lines of other tests may still be on their way there too."""
    wait_until(lambda: any(line["taskID"] == task for line in piece_lines(peer.log)), f"a line of {task}")
    return [line for line in piece_lines(peer.log) if line["taskID"] == task]


def metric(swarm: LoopbackSwarm, name: str) -> float:
    """One of the supernode's numbers."""
    lines = get_text(f"http://{swarm.supernode.node}/metrics").splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith(f"{name} ")))


async def ended(download: Download, timeout_s: float = 60.0) -> int:
    """Its exit code, while this test's server goes on serving."""
    return await asyncio.to_thread(download.process.wait, timeout_s)


async def until_pieces(peers: list[PeerHost], count: int) -> None:
    """Until each of these peers has logged so many pieces."""
    logs = [peer.log for peer in peers]

    def all_have() -> bool:
        return all(len(piece_lines(log)) >= count for log in logs)

    await asyncio.to_thread(wait_until, all_have, f"{count} pieces on each of {len(peers)} peers")


def assert_output(download: Download, content: bytes) -> None:
    """The file is there, and whole."""
    got = download.output.read_bytes()
    assert len(got) == len(content)
    assert hashlib.sha256(got).digest() == hashlib.sha256(content).digest()


def assert_failed_with_words(download: Download, code: int, *words: str) -> None:
    """It failed as 1.x does, said why, left no file, and told no secret."""
    told = download.process.output()
    assert code not in (0, -signal.SIGKILL), told
    assert "download FAIL(" in told.splitlines()[-1], told
    for word in words:
        assert word in told, told
    assert not download.output.exists()
    assert "secret" not in told, told


def test_eight_peers_at_once_read_the_source_once_and_mostly_from_each_other(tmp_path: Path) -> None:
    length = 200 * MIB
    reference = make_random_file(tmp_path / "file", length)
    with loopback_swarm(8) as swarm:
        command = [sys.executable, "-m", "scripts.demonstration.source", "--root", str(tmp_path)]
        address = swarm.processes.start("source", command, directory=REPOSITORY).wait_for(r"source ready: (\S+)")[1]
        begun = time.monotonic()
        downloads = start(swarm, f"{address}/file")
        assert time.monotonic() - begun < 1.0
        for download in downloads:
            assert download.process.wait() == 0, download.process.story()
            assert sha256_of(download.output) == reference.sha256
        counted = int(get_text(f"{address}/__count").partition('"body_bytes": ')[2].rstrip("}"))
        assert length <= counted <= 1.01 * length
        from_peers = sum(download.report().peer_bytes for download in downloads)
        assert from_peers > 8 * length / 2, [download.report() for download in downloads]


def test_a_gibibyte_arrives_whole(pair: LoopbackSwarm, tmp_path: Path) -> None:
    reference = make_random_file(tmp_path / "file", 1024 * MIB)
    command = [sys.executable, "-m", "scripts.demonstration.source", "--root", str(tmp_path)]
    source = pair.processes.start("source", command, directory=REPOSITORY)
    for download in start(pair, source.wait_for(r"source ready: (\S+)")[1] + "/file"):
        assert download.process.wait() == 0, download.process.story()
        assert download.output.stat().st_size == reference.length
        assert sha256_of(download.output) == reference.sha256
        download.output.unlink()
    source.stop()


@pytest.mark.parametrize("length", [1, MAX_SMALL_CONTENT_BYTES])
async def test_a_small_content_is_in_the_supernodes_answer(pair: LoopbackSwarm, length: int) -> None:
    content = random_bytes(length)
    path = new_path()
    async with SourceServer() as source:
        source.pages[path] = Page(body=content)
        granted = "dragonfly_supernode_leases_granted_total"
        before = metric(pair, granted)
        for peer in pair.peers:
            (download,) = start(pair, source.url(path), peers=[peer])
            assert await ended(download) == 0, download.process.story()
            assert_output(download, content)
            (line,) = await asyncio.to_thread(lines_of, peer, DownloadRequest(url=source.url(path)).task)
            assert line["dstCid"].startswith("cdnnode:")
        assert metric(pair, granted) == before, "somebody was sent to a parent"
        assert source.body_bytes == length


@pytest.mark.parametrize(
    "length",
    [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK - 1, 2 * BLOCK + 1, LONG_PIECES - 1, LONG_PIECES, LONG_PIECES + 1],
)
async def test_any_length_arrives_whole(pair: LoopbackSwarm, length: int) -> None:
    content = random_bytes(length)
    path = new_path()
    async with SourceServer() as source:
        source.pages[path] = Page(body=content, etag='"1"')
        downloads = start(pair, source.url(path))
        for download in downloads:
            assert await ended(download) == 0, download.process.story()
            assert_output(download, content)
            report = download.report()
            assert report.length == length
            assert report.digest == "sha256:" + hashlib.sha256(content).hexdigest()
            assert report.source_bytes + report.seed_bytes + report.peer_bytes + report.disk_bytes == length
        assert source.body_bytes == length


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(Page(with_length=False, ranges=False), id="no-content-length"),
        pytest.param(Page(chunked=True, ranges=False), id="chunked"),
        pytest.param(Page(ranges=False), id="no-ranges"),
        pytest.param(Page(dies_after=3 * MIB, deaths=1, etag='"1"'), id="dies-once-half-way"),
        pytest.param(Page(dies_after=3 * MIB, deaths=1, ranges=False), id="dies-once-and-cannot-resume"),
    ],
)
async def test_a_difficult_source_still_gives_the_right_bytes(pair: LoopbackSwarm, page: Page) -> None:
    page.body = random_bytes(6 * MIB + 5)
    path = new_path()
    async with SourceServer() as source:
        source.pages[path] = page
        for download in start(pair, source.url(path)):
            assert await ended(download) == 0, download.process.story()
            assert_output(download, page.body)


async def test_a_source_that_always_dies_half_way_is_an_error(pair: LoopbackSwarm) -> None:
    path = new_path()
    async with SourceServer() as source:
        source.pages[path] = Page(body=random_bytes(2 * MIB), dies_after=MIB, ranges=False)
        for download in start(pair, source.url(f"{path}?Signature=secret")):
            assert_failed_with_words(download, await ended(download))


@pytest.mark.parametrize("status", [401, 403, 404, 500])
async def test_a_refusing_source_is_an_error_that_names_its_answer(pair: LoopbackSwarm, status: int) -> None:
    path = new_path()
    async with SourceServer() as source:
        source.pages[path] = Page(status=status, body=b"no")
        for download in start(pair, source.url(f"{path}?Signature=secret")):
            assert_failed_with_words(download, await ended(download), str(status))


async def test_a_source_that_nobody_listens_at_is_an_error(pair: LoopbackSwarm) -> None:
    async with SourceServer() as source:
        url = source.url("/file?Signature=secret")
    for download in start(pair, url):
        assert_failed_with_words(download, await ended(download))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_to_another_host_is_followed_without_credentials(pair: LoopbackSwarm, status: int) -> None:
    content = random_bytes(MIB + status)
    path = new_path()
    async with SourceServer() as first, SourceServer() as second:
        # Another port is another origin, and so is another name.
        location = second.url("/real", host="localhost")
        first.pages[path] = Page(status=status, headers=(("Location", location),))
        second.pages["/real"] = Page(body=content)
        for download in start(pair, first.url(path), "--header", "Authorization:Bearer secret", "--header", "X-Kept:yes"):
            assert await ended(download) == 0, download.process.story()
            assert_output(download, content)
        assert {asked.header("Authorization") for asked in first.requests} == {"Bearer secret"}
        assert {asked.header("Authorization") for asked in second.requests} == {None}
        assert {asked.header("X-Kept") for asked in second.requests} == {"yes"}
        assert second.body_bytes == len(content)


async def test_an_output_that_cannot_be_made_is_an_error_that_names_it(pair: LoopbackSwarm, tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_bytes(b"in the way")
    path = new_path()
    async with SourceServer() as source:
        source.pages[path] = Page(body=b"content")
        # /proc takes no new file, from root neither.
        for output, word in ((tmp_path, "folder"), (in_the_way / "below", "file"), (Path("/proc/new/file"), "/proc/new")):
            download = pair.parts.download(pair.peers[0], pair.supernode, source.url(path), output=output)
            code = await ended(download)
            told = download.process.output()
            assert code != 0, told
            assert word in told
            assert "Traceback" not in told
    assert in_the_way.read_bytes() == b"in the way"


def on_small_disk(folder: Path, size: str) -> tuple[str, ...]:
    """A command's prefix: it sees a disk of `size` at `folder`, which goes when the command ends."""
    script = f'mount -t tmpfs -o size={size} small "{folder}" && exec "$@"'
    return ("unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh")


@pytest.mark.docker
async def test_an_output_on_a_full_disk_is_an_error_that_says_so(pair: LoopbackSwarm, tmp_path: Path) -> None:
    path = new_path()
    async with SourceServer() as source:
        source.pages[path] = Page(body=random_bytes(4 * MIB + 3))
        peer = pair.peers[0]
        prefix = on_small_disk(tmp_path, "1m")
        download = pair.parts.download(peer, pair.supernode, source.url(path), output=tmp_path / "output", prefix=prefix)
        code = await ended(download)
        told = download.process.output()
        assert code != 0, told
        assert str(tmp_path / "output") in told
        assert any(word in told for word in ("space", "full", "free")), told
        assert "Traceback" not in told
        # The peer itself is not hurt.
        (again,) = start(pair, source.url(path), peers=[peer])
        assert await ended(again) == 0, again.process.story()
        assert_output(again, random_bytes(4 * MIB + 3))


@pytest.mark.docker
async def test_a_store_on_a_full_disk_ends_right_or_says_so() -> None:
    content = random_bytes(12 * MIB + 1)
    path = new_path()
    async with SourceServer() as source:
        source.pages[path] = Page(body=content)
        with loopback_swarm(0) as swarm:
            host = swarm.parts.bare_host("cramped")
            # The output is elsewhere: only the store's disk is small.
            output = swarm.directory / "output"
            prefix = on_small_disk(host.home, "3m")
            download = swarm.parts.download(
                host, swarm.supernode, source.url(path), "--alivetime", "1s", output=output, prefix=prefix
            )
            code = await ended(download)
            told = download.process.output()
            if code == 0:
                assert_output(download, content)
            else:
                assert any(word in told for word in ("space", "full", "free")), told
                assert not output.exists()
            assert "Traceback" not in told


async def test_peers_survive_the_sudden_death_of_one_of_them() -> None:
    content = random_bytes(24 * MIB + 7)
    path = new_path()
    async with SourceServer() as source:
        page = source.pages[path] = Page(body=content, etag='"1"', holds_after=12 * MIB)
        with loopback_swarm(4) as swarm:
            downloads = start(swarm, source.url(path))
            await until_pieces(swarm.peers, 5)
            victim, *others = downloads
            assert victim.host.server is not None
            victim.host.server.kill()
            assert all(download.process.is_running for download in others)
            page.go_on.set()
            for download in others:
                assert await ended(download) == 0, download.process.story()
                assert_output(download, content)
            # Its own dfget has lost the peer that it used: it may find another way, but neither hang nor lie.
            if await ended(victim) == 0:
                assert_output(victim, content)
            else:
                assert not victim.output.exists()


async def test_peers_survive_the_sudden_death_of_the_supernode() -> None:
    content = random_bytes(24 * MIB + 7)
    path = new_path()
    async with SourceServer() as source:
        page = source.pages[path] = Page(body=content, etag='"1"', holds_after=12 * MIB)
        with loopback_swarm(4) as swarm:
            downloads = start(swarm, source.url(path))
            await until_pieces(swarm.peers, 5)
            swarm.supernode.process.kill()
            assert all(download.process.is_running for download in downloads)
            page.go_on.set()
            for download in downloads:
                assert await ended(download, 90.0) == 0, download.process.story()
                assert_output(download, content)


async def test_peers_survive_the_sudden_death_of_the_seed() -> None:
    content = random_bytes(24 * MIB + 7)
    path = new_path()
    async with SourceServer() as source:
        page = source.pages[path] = Page(body=content, etag='"1"', holds_after=12 * MIB)
        with loopback_swarm(4) as swarm:
            downloads = start(swarm, source.url(path))
            await until_pieces(swarm.peers, 5)
            (seed,) = psutil.Process(swarm.supernode.process.pid).children()
            seed.kill()
            page.go_on.set()
            for download in downloads:
                assert await ended(download, 90.0) == 0, download.process.story()
                assert_output(download, content)
