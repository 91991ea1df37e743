"""What is cached of a URL, and its source: asked once for all who ask at once, given only if it is still the same."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from scripts.demonstration.swarm import LOOPBACK
from tests.support.source_server import Page, SourceServer
from tests.support.swarm import LoopbackSwarm, running_swarm, short_directory
from worker_peer.api import DownloadRequest
from worker_peer.app import PeerProcess, open_peer
from worker_peer.config import PeerConfig

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]
LENGTH = 3 << 20
BODY, OTHER = random.Random(1).randbytes(LENGTH), random.Random(2).randbytes(LENGTH)
#: Longer than what is told counts as fresh, here and at the supernode.
STALE_S = 2.2


@asynccontextmanager
async def two_peers(swarm: LoopbackSwarm) -> AsyncIterator[list[PeerProcess]]:
    """Peers of this process, of the swarm's supernode."""
    with short_directory() as folder:
        configs = [
            PeerConfig(home=folder / name, supernodes=(swarm.supernode.node,), ip=LOOPBACK, control_socket=False)
            for name in ("one", "two")
        ]
        peers = [await open_peer(config) for config in configs]
        try:
            yield peers
        finally:
            for peer in peers:
                await peer.close()


async def pulled(peer: PeerProcess, url: str) -> bytes:
    """A content, through the swarm."""
    reader = await peer.open(DownloadRequest(url=url, filters=("signature",)))
    try:
        return await asyncio.to_thread(Path(await reader.whole()).read_bytes)
    finally:
        await reader.close()


async def twenty(peers: list[PeerProcess], url: str) -> list[bytes]:
    """Twenty at once, each with a signature of its own."""
    return await asyncio.gather(*(pulled(peers[number % 2], f"{url}?signature={number}") for number in range(20)))


def conditional(source: SourceServer) -> list[str | None]:
    """What each request asked for by ETag."""
    return [asked.header("If-None-Match") for asked in source.requests]


async def test_an_unchanged_source_is_asked_once_for_twenty_and_sends_nothing() -> None:
    with running_swarm(0) as swarm:
        async with SourceServer() as source, two_peers(swarm) as peers:
            source.pages["/file"] = Page(body=BODY, etag='"one"')
            assert await twenty(peers, source.url("/file")) == [BODY] * 20
            assert conditional(source) == [None]
            # Asked again at once, it is fresh.
            assert await pulled(peers[0], source.url("/file")) == BODY
            for checks in (1, 2):
                await asyncio.sleep(STALE_S)  # time itself is what is tested: what was told grows old
                assert await twenty(peers, source.url("/file")) == [BODY] * 20
                assert conditional(source) == [None] + ['"one"'] * checks
            assert source.body_bytes == LENGTH


async def test_a_changed_source_is_read_once_and_nobody_gets_what_it_was() -> None:
    with running_swarm(0) as swarm:
        async with SourceServer() as source, two_peers(swarm) as peers:
            source.pages["/file"] = Page(body=BODY, etag='"one"')
            assert await twenty(peers, source.url("/file")) == [BODY] * 20
            source.pages["/file"] = Page(body=OTHER, etag='"two"')
            await asyncio.sleep(STALE_S)
            assert await twenty(peers, source.url("/file")) == [OTHER] * 20
            assert conditional(source) == [None, '"one"', None]
            # The conditional request's answer was let go: how much of it was on its way, nobody can say.
            assert source.requests[2].body_bytes == LENGTH


async def test_a_source_without_validators_is_read_anew_once_for_all() -> None:
    with running_swarm(0) as swarm:
        async with SourceServer() as source, two_peers(swarm) as peers:
            source.pages["/file"] = Page(body=BODY)
            assert await twenty(peers, source.url("/file")) == [BODY] * 20
            await asyncio.sleep(STALE_S)
            source.pages["/file"] = Page(body=OTHER)
            assert await twenty(peers, source.url("/file")) == [OTHER] * 20
            assert conditional(source) == [None, None]
            assert source.body_bytes == 2 * LENGTH


async def test_the_validator_outlives_the_supernode() -> None:
    with running_swarm(0) as swarm:
        async with SourceServer() as source:
            source.pages["/file"] = Page(body=BODY, etag='"one"')
            async with two_peers(swarm) as peers:
                assert await pulled(peers[0], source.url("/file?signature=1")) == BODY
            await asyncio.to_thread(swarm.supernode.process.stop)
            notes = list((swarm.supernode_home / "repo" / "data").glob("???/*/notes"))
            assert len(notes) == 1
            assert "signature" not in notes[0].read_text()
            again = swarm.parts.start_supernode()
            with short_directory() as folder:
                peer = await open_peer(PeerConfig(home=folder, supernodes=(again.node,), ip=LOOPBACK, control_socket=False))
                assert await pulled(peer, source.url("/file?signature=2")) == BODY
                await peer.close()
            assert conditional(source) == [None, '"one"']
            assert source.body_bytes == LENGTH
