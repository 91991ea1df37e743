"""Limits of real processes over loopback: never more bytes than the rate allows for the time that it took.

Only that is asserted: how near below a limit one comes depends on the machine, and is what `scripts/bench limits` prints.
"""

import asyncio
import random
import time
import uuid
from collections.abc import AsyncIterator, Iterator

import pytest

from scripts.demonstration.swarm import Download, Swarm
from tests.support.processes import running_processes
from tests.support.source_server import Page, SourceServer
from tests.support.swarm import short_directory
from tests.worker_peer.parts import bytes_of

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

RATE = 2 << 20
SIZE = 4 << 20
#: The burst of a twentieth of a second, and one request or chunk whose bytes are owed when the last of them has come.
AHEAD_S = 0.05 + (256 << 10) / RATE


@pytest.fixture
def parts() -> Iterator[Swarm]:
    """Starts supernodes and peers."""
    with short_directory() as directory, running_processes(directory) as processes:
        yield Swarm(processes, directory)


@pytest.fixture
async def source() -> AsyncIterator[SourceServer]:
    """A source without a limit of its own."""
    async with SourceServer() as server:
        yield server


def put(source: SourceServer, size: int = SIZE) -> tuple[str, bytes]:
    """A content of its own."""
    path, data = f"/{uuid.uuid4().hex}", random.Random(size).randbytes(size)
    source.pages[path] = Page(body=data)
    return source.url(path), data


async def check(download: Download, data: bytes) -> None:
    """It has come, and is right."""
    assert await asyncio.to_thread(download.process.wait, 60.0) == 0, download.process.story()
    assert bytes_of(download.output) == data


async def test_local_limit_through_the_swarm(parts: Swarm, source: SourceServer) -> None:
    supernode = parts.start_supernode()
    (peer,) = parts.start_peers(1, supernode)
    url, data = put(source)
    download = parts.download(peer, supernode, url, "--locallimit", str(RATE))
    await check(download, data)
    report = download.report()
    assert report.seed_bytes == SIZE
    assert report.seconds >= SIZE / RATE - AHEAD_S


async def test_total_limit_of_two_downloads(parts: Swarm, source: SourceServer) -> None:
    supernode = parts.start_supernode()
    (peer,) = parts.start_peers(1, supernode, "--totallimit", str(RATE))
    contents = [put(source, SIZE // 2), put(source, SIZE // 2 + 1)]
    began_at = time.monotonic()
    downloads = [parts.download(peer, supernode, url) for url, _ in contents]
    for download, (_, data) in zip(downloads, contents, strict=True):
        await check(download, data)
    assert time.monotonic() - began_at >= SIZE / RATE - AHEAD_S


async def test_what_the_seed_serves(parts: Swarm, source: SourceServer) -> None:
    supernode = parts.start_supernode("--seed-bandwidth", str(RATE))
    (peer,) = parts.start_peers(1, supernode)
    url, data = put(source)
    download = parts.download(peer, supernode, url)
    await check(download, data)
    assert download.report().seconds >= SIZE / RATE - AHEAD_S


async def test_what_the_seed_reads_from_sources(parts: Swarm, source: SourceServer) -> None:
    supernode = parts.start_supernode("--max-bandwidth", str(2 * RATE), "--system-bandwidth", str(RATE))
    (peer,) = parts.start_peers(1, supernode)
    url, data = put(source)
    download = parts.download(peer, supernode, url)
    await check(download, data)
    assert source.body_bytes == SIZE
    assert download.report().seconds >= SIZE / RATE - AHEAD_S


@pytest.mark.parametrize("flag", ["--locallimit", "--totallimit"])
async def test_straight_from_the_source(parts: Swarm, source: SourceServer, flag: str) -> None:
    supernode = parts.start_supernode("--no-seed")
    url, data = put(source)
    download = parts.download(parts.bare_host("alone"), supernode, url, "--pattern", "source", flag, str(RATE))
    await check(download, data)
    assert download.report().source_bytes == SIZE
    assert download.report().seconds >= SIZE / RATE - AHEAD_S


async def test_zero_is_not_limited(parts: Swarm, source: SourceServer) -> None:
    supernode = parts.start_supernode("--max-bandwidth", "0", "--system-bandwidth", "20MB", "--seed-bandwidth", "0")
    (peer,) = parts.start_peers(1, supernode, "--totallimit", "0", "--uploadlimit", "0")
    url, data = put(source, 64 << 20)
    await check(parts.download(peer, supernode, url, "-s", "0", "--totallimit", "0", "--minrate", "0"), data)
