"""A quota under three times as much: never exceeded, nobody who runs is hurt, the least recently used go first."""

import asyncio
import hashlib
import random

import pytest

from scripts.benchmark.quota import allocated, evicted, watching
from scripts.demonstration.swarm import Download, PeerHost, Supernode
from tests.support.source_server import Page, SourceServer
from tests.support.swarm import LoopbackSwarm, running_swarm, wait_until
from wire.ids import task_id
from wire.pieces import layout_for
from worker_peer.host.store import Store

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]
MIB = 1 << 20
QUOTA = 64 * MIB
LENGTH = 8 * MIB
COUNT = 24


def content_of(number: int) -> bytes:
    """Always the same for a number."""
    return random.Random(number).randbytes(LENGTH)


async def pulled(swarm: LoopbackSwarm, host: PeerHost, supernode: Supernode, url: str, wanted: bytes) -> Download:
    """A dfget that has ended well, without going to the source by itself."""
    download = swarm.parts.download(host, supernode, url, "--notbs")
    assert await asyncio.to_thread(download.process.wait, 60.0) == 0, download.process.story()
    assert hashlib.sha256(download.output.read_bytes()).digest() == hashlib.sha256(wanted).digest()
    download.output.unlink()
    return download


async def test_a_quota_holds_under_three_times_as_much_and_no_running_task_is_hurt() -> None:
    with running_swarm(2, supernode=("--cache-quota", "64MB"), peers=("--cache-quota", "64MB")) as swarm:
        seed_folder = swarm.supernode_home / "repo" / "data"
        folders = [seed_folder, *(peer.home / "data" for peer in swarm.peers)]
        async with SourceServer() as source:
            # Not silent for long, and not at its end before the others have come and gone.
            slow = Page(body=content_of(99), etag='"99"', rate=32 << 10)
            source.pages["/slow"] = slow
            with watching(folders) as watchers:
                held = swarm.parts.download(swarm.peers[0], swarm.supernode, source.url("/slow"), "--notbs")
                await asyncio.to_thread(wait_until, lambda: allocated(folders[1]) >= LENGTH, "the slow one has begun")
                tasks = []
                for number in range(COUNT):
                    content = content_of(number)
                    url = source.url(f"/{number}")
                    source.pages[f"/{number}"] = Page(body=content, etag=f'"{number}"')
                    tasks.append(task_id(url)[:16])
                    await asyncio.gather(*(pulled(swarm, peer, swarm.supernode, url, content) for peer in swarm.peers))
                assert held.process.is_running
                slow.rate = 0
                assert await asyncio.to_thread(held.process.wait, 60.0) == 0, held.process.story()
                assert held.output.read_bytes() == slow.body
            assert source.body_bytes == (COUNT + 1) * LENGTH, "each was read once: what was evicted was not needed again"
        piece = layout_for(LENGTH).piece_length
        for watcher in watchers:
            assert watcher.looks > 100
            assert LENGTH < watcher.most <= QUOTA + piece, watcher.folder
        logs = [swarm.supernode_home / "repo" / "logs" / "dfseed.log", *(peer.log for peer in swarm.peers)]
        for folder, log in zip(folders, logs, strict=True):
            gone = evicted(log)
            assert len(gone) >= COUNT - 8
            # The least recently used first: one that was served a moment ago is passed over, and goes soon after.
            assert all(abs(tasks.index(task) - place) <= 2 for place, task in enumerate(gone)), (gone, tasks)
            left = {task[:16] for task in Store(folder).tasks()}
            assert left >= set(tasks) - set(gone)
            assert tasks[-1] in left


async def test_what_is_larger_than_the_quota_is_refused_in_words_and_had_from_the_source() -> None:
    with running_swarm(1, supernode=("--cache-quota", "8MB")) as swarm:
        async with SourceServer() as source:
            source.pages["/large"] = Page(body=content_of(1))
            url = source.url("/large")
            refused = swarm.parts.download(swarm.peers[0], swarm.supernode, url, "--notbs")
            assert await asyncio.to_thread(refused.process.wait, 60.0) != 0
            assert "of the cache quota of 8388608 bytes" in refused.process.output()
            assert "raise it (--cache-quota)" in refused.process.output()
            direct = swarm.parts.download(swarm.peers[0], swarm.supernode, url)
            assert await asyncio.to_thread(direct.process.wait, 60.0) == 0, direct.process.story()
            assert direct.output.read_bytes() == content_of(1)
            assert allocated(swarm.supernode_home / "repo" / "data") == 0
