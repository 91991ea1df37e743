"""Whom the seed asks, with real processes: supernode.yml's lists hold for what jobs and hosts have it read, and for redirects."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest

from tests.support.source_server import Page, SourceServer
from tests.support.swarm import LoopbackSwarm, running_swarm, short_directory
from tests.system.test_preheat_hosts import Jobs
from tests.system.test_warming import Blob, blob_at
from wire.errors import ErrorCode
from worker_peer.api import DownloadFailed, DownloadRequest
from worker_peer.app import PeerProcess, open_peer
from worker_peer.config import PeerConfig

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]
LENGTH = 1 << 20
METADATA = "http://169.254.169.254/latest/meta-data/iam"


@contextmanager
def supernode_that_says(text: str) -> Iterator[LoopbackSwarm]:
    """A supernode with this supernode.yml, and its seed."""
    with short_directory() as folder:
        (folder / "supernode.yml").write_text(text)
        with running_swarm(0, supernode=("--config", str(folder / "supernode.yml"))) as swarm:
            yield swarm


@asynccontextmanager
async def a_peer(swarm: LoopbackSwarm) -> AsyncIterator[PeerProcess]:
    """A peer of this process that leaves the source to the seed."""
    with short_directory() as folder:
        peer = await open_peer(PeerConfig(home=folder, supernodes=(swarm.supernode.node,), ip="127.0.0.1", control_socket=False))
        try:
            yield peer
        finally:
            await peer.close()


async def pull(peer: PeerProcess, url: str) -> ErrorCode | None:
    """Through the swarm. Why it failed; None: it came."""
    try:
        reader = await peer.open(DownloadRequest(url=url))
        await reader.whole()
        await reader.close()
        return None
    except DownloadFailed as failure:
        return failure.code


def moved(location: str) -> Page:
    """A redirect."""
    return Page(status=302, headers=(("Location", location),))


def elsewhere(source: SourceServer, other: SourceServer) -> Blob:
    """A file that the other server has, and that the first one sends there for."""
    blob = blob_at(other, LENGTH)
    path = blob.url.removeprefix(other.url(""))
    source.pages[path] = moved(blob.url)
    return Blob(content=blob.content, url=source.url(path))


async def test_a_jobs_blob_is_not_followed_to_a_host_that_is_not_in_preheats_list() -> None:
    async with SourceServer() as source, SourceServer() as other:
        blob = elsewhere(source, other)
        with supernode_that_says(f"preheat:\n  allow: ['127.0.0.1:{source.port}']\n") as swarm:
            jobs = Jobs(swarm.supernode)
            job = await jobs.ended(jobs.ask(blob))
            assert job["state"] == "FAILED"
            assert "preheat.allow" in str(job)
            assert source.requests, "the first one is in the list"
            assert other.requests == []
            async with a_peer(swarm) as peer:
                assert await pull(peer, blob.url) is None, "what hosts pull has its own list"
        with supernode_that_says("preheat:\n  allow: [127.0.0.0/8]\n") as swarm:
            jobs = Jobs(swarm.supernode)
            assert (await jobs.ended(jobs.ask(blob)))["state"] == "SUCCESS"


async def test_nobody_has_the_seed_read_metadata_and_a_list_for_hosts_holds() -> None:
    async with SourceServer() as source, SourceServer() as other:
        source.pages["/metadata"] = moved(METADATA)
        blob = elsewhere(source, other)
        with supernode_that_says("") as swarm:
            jobs = Jobs(swarm.supernode)
            job = await jobs.ended(jobs.ask(Blob(content=b"", url=source.url("/metadata"))))
            assert job["state"] == "FAILED"
            async with a_peer(swarm) as peer:
                for url in (METADATA, source.url("/metadata")):
                    assert await pull(peer, url) is ErrorCode.SOURCE_FORBIDDEN
                assert await pull(peer, blob.url) is None
        with supernode_that_says(f"base:\n  sourceAllow: ['127.0.0.1:{source.port}']\n") as swarm:
            before = len(other.requests)
            async with a_peer(swarm) as peer:
                assert await pull(peer, blob.url) is ErrorCode.SOURCE_FORBIDDEN
            jobs = Jobs(swarm.supernode)
            assert (await jobs.ended(jobs.ask(blob)))["state"] == "FAILED", "where preheat.allow says nothing it holds too"
            assert len(other.requests) == before
