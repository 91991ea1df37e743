"""Hosts that are told to have contents ready: a real supernode and seed, real peers as processes, a real source that counts.

The supernode runs in this process, so that a test may stand for a preheat job: it wants tasks, and hears what becomes of them.
"""

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from broker.app import Supernode
from broker.config import SupernodeConfig
from broker.core.effects import PeerMoved, PeerWarmed, TaskMoved
from broker.core.events import TaskWanted, WarmWanted
from scripts.demonstration import swarm as parts
from scripts.demonstration.swarm import Download, PeerHost, Swarm
from tests.support.processes import Processes, RunningProcess, running_processes
from tests.support.source_server import Page, SourceServer
from tests.support.swarm import piece_lines, short_directory
from wire.ids import task_id
from wire.messages import Origin, Register, Role, TaskState, Warm, Warmed

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]
LOOPBACK, MIB = "127.0.0.1", 1 << 20
_WAIT_S = 90.0


@dataclass(kw_only=True)
class Job:
    """What stands for a preheat job: one supernode's hosts, and what they say."""

    supernode: Supernode
    swarm: Swarm
    processes: Processes
    directory: Path
    told: list[Warmed] = field(default_factory=list)
    last: dict[tuple[str, str], Warmed] = field(default_factory=dict)
    cached: dict[str, TaskMoved] = field(default_factory=dict)
    gone: list[PeerMoved] = field(default_factory=list)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def hear(self, news: TaskMoved | PeerWarmed | PeerMoved) -> None:
        """What the supernode's router tells whoever runs jobs."""
        match news:
            case PeerWarmed():
                self.told.append(news.message)
                self.last[news.peer, news.message.task] = news.message
            case TaskMoved():
                self.cached[news.task] = news
            case PeerMoved() if not news.here:
                self.gone.append(news)
        self._news.set()

    async def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait for news until a condition holds."""
        async with asyncio.timeout(_WAIT_S):
            while not condition():
                self._news.clear()
                try:
                    await asyncio.wait_for(self._news.wait(), 0.2)
                except TimeoutError:
                    continue
        assert condition(), what

    @property
    def node(self) -> parts.Supernode:
        """For dfget."""
        return parts.Supernode(process=cast("RunningProcess", None), node=f"{LOOPBACK}:{self.supernode.http_port}")

    @property
    def peers(self) -> dict[str, str]:
        """Peers that are here, by their data port."""
        records = self.supernode.router.scheduler.state.peers.values()
        return {each.data_endpoint.rpartition(":")[2]: each.peer for each in records if each.role is Role.PEER}

    @property
    def seed(self) -> str:
        """The seed's id."""
        records = self.supernode.router.scheduler.state.peers.values()
        return next(each.peer for each in records if each.role is Role.SEED)

    async def hosts(self, count: int, *options: str) -> dict[str, PeerHost]:
        """So many hosts, with the ids of their peers."""
        started = await asyncio.to_thread(self.swarm.start_peers, count, self.node, *options)
        ports = {host.server.wait_for(r"server port is (\d+)")[1]: host for host in started if host.server is not None}
        await self.until(lambda: ports.keys() <= self.peers.keys(), "every host is here")
        return {self.peers[port]: host for port, host in ports.items()}

    def wants(self, blob: "Blob", *peers: str, **more: float) -> None:
        """The seed is to have it, and these peers."""
        self.supernode.router.handle(TaskWanted(spec=Register(task=blob.task, url=blob.url, digest=blob.digest)))
        for peer in peers:
            warm = Warm(task=blob.task, job="job-1", url=blob.url, digest=blob.digest, **more)  # type: ignore[arg-type]
            self.supernode.router.handle(WarmWanted(peer=peer, message=warm))

    def is_done(self, peer: str, blob: "Blob") -> bool:
        """Whether the peer has said so, with the right digest and length."""
        told = self.last.get((peer, blob.task))
        assert told is None or told.code is None, told
        if told is None or not told.done:
            return False
        assert (told.verified, told.length, told.digest) == (len(blob.content), len(blob.content), blob.digest)
        return True


@dataclass(frozen=True, kw_only=True)
class Blob:
    """A content at the source, named by its digest."""

    content: bytes
    url: str

    @property
    def digest(self) -> str:
        return "sha256:" + hashlib.sha256(self.content).hexdigest()

    @property
    def task(self) -> str:
        return task_id(self.url, digest=self.digest)

    def stored(self, home: Path) -> bool:
        """Whether a store holds exactly this content."""
        path = home / "data" / self.task[:3] / self.task / "content"
        return path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == self.digest[7:]


def blob_at(source: SourceServer, length: int, number: int = 0, **page: object) -> Blob:
    """Put a content there."""
    content = random.Random(length + number).randbytes(length)
    digest = hashlib.sha256(content).hexdigest()
    path = f"/v2/library/app/blobs/sha256:{digest}"
    source.pages[path] = Page(body=content, etag='"1"', **page)  # type: ignore[arg-type]
    return Blob(content=content, url=source.url(path))


@asynccontextmanager
async def preheating() -> AsyncIterator[Job]:
    """A supernode with its seed."""
    with short_directory() as directory, running_processes(directory) as processes:
        config = SupernodeConfig(
            home=directory / "supernode", http_port=0, broker_port=0, download_port=0, advertise_ip=LOOPBACK, version="test"
        )
        (directory / "supernode").mkdir()
        supernode = Supernode(config)
        job = Job(supernode=supernode, swarm=Swarm(processes, directory), processes=processes, directory=directory)
        supernode.router.on_news = job.hear
        try:
            await supernode.ready()
            yield job
        finally:
            await supernode.close()


async def ended(download: Download) -> int:
    """Its exit code, while this process goes on serving."""
    return await asyncio.to_thread(download.process.wait, _WAIT_S)


async def test_three_hosts_and_the_seed_have_it_and_the_source_was_asked_once() -> None:
    async with SourceServer() as source, preheating() as job:
        hosts = await job.hosts(3)
        blob = blob_at(source, 24 * MIB + 7)
        job.wants(blob, *hosts, keep_s=3600.0)
        await job.until(lambda: job.cached[blob.task].state is TaskState.CACHED, "the seed has it")
        job.wants(blob, job.seed)
        await job.until(lambda: all(job.is_done(peer, blob) for peer in (*hosts, job.seed)), "all of them have it")
        assert source.body_bytes == len(blob.content)
        assert len(source.requests) == 1
        for peer, host in hosts.items():
            assert blob.stored(host.home)
            received = job.last[peer, blob.task].received
            assert received[Origin.SOURCE] == received[Origin.DISK] == 0
            assert sum(received) == len(blob.content)
        assert blob.stored(job.directory / "supernode" / "repo")
        # What is ready is given from the disk: not one byte of it moves.
        (download,) = [job.swarm.download(host, job.node, blob.url) for host in list(hosts.values())[:1]]
        assert await ended(download) == 0, download.process.story()
        report = download.report()
        assert (report.disk_bytes + report.peer_bytes + report.seed_bytes, report.source_bytes) == (len(blob.content), 0)
        assert source.body_bytes == len(blob.content)


async def test_a_host_that_is_killed_in_the_middle_is_known_by_name_and_the_others_have_it() -> None:
    async with SourceServer() as source, preheating() as job:
        hosts = await job.hosts(3)
        blob = blob_at(source, 24 * MIB, holds_after=12 * MIB)
        job.wants(blob, *hosts)
        victim, *others = hosts
        await job.until(lambda: all(len(piece_lines(host.log)) >= 5 for host in hosts.values()), "each has some of it")
        server = hosts[victim].server
        assert server is not None
        server.kill()
        await job.until(lambda: job.gone, "it is missed")
        assert [each.peer for each in job.gone] == [victim]
        assert job.gone[0].why
        next(iter(source.pages.values())).go_on.set()
        await job.until(lambda: all(job.is_done(peer, blob) for peer in others), "the others have it")
        assert not job.is_done(victim, blob)
        assert all(blob.stored(hosts[peer].home) for peer in others)
        assert source.body_bytes == len(blob.content)


async def test_two_hosts_preheat_while_four_pull_and_the_source_is_asked_once_for_each_blob() -> None:
    async with SourceServer() as source, preheating() as job:
        hosts = await job.hosts(6)
        blobs = [blob_at(source, 3 * MIB + number, number) for number in range(4)]
        (one, two), pullers = list(hosts)[:2], list(hosts.values())[2:]
        for blob in blobs:
            job.wants(blob, one, two, keep_s=60.0)
        downloads = [job.swarm.download(host, job.node, blob.url) for blob in blobs for host in pullers]
        for download in downloads:
            assert await ended(download) == 0, download.process.story()
        await job.until(lambda: all(job.is_done(peer, blob) for peer in (one, two) for blob in blobs), "both have all")
        assert len(source.requests) == len(blobs)
        assert source.body_bytes == sum(len(blob.content) for blob in blobs)
        for download, blob in zip(downloads, (blob for blob in blobs for _ in pullers), strict=True):
            assert hashlib.sha256(download.output.read_bytes()).hexdigest() == blob.digest[7:]
        assert all(blob.stored(hosts[peer].home) for peer in (one, two) for blob in blobs)


async def test_the_seed_dies_in_the_middle_and_what_is_verified_is_read_by_nobody_again() -> None:
    async with SourceServer() as source, preheating() as job:
        hosts = await job.hosts(2)
        blob = blob_at(source, 24 * MIB, holds_after=12 * MIB)
        job.wants(blob, *hosts)
        await job.until(lambda: all(len(piece_lines(host.log)) >= 5 for host in hosts.values()), "each has some of it")
        seed = job.supernode.seed
        assert seed is not None
        assert seed._process is not None
        before = seed.pid
        seed._process.kill()
        await job.until(lambda: seed.pid != before and any(each.peer.startswith("cdnnode:") for each in job.gone), "another one")
        next(iter(source.pages.values())).go_on.set()
        await job.until(lambda: all(job.is_done(peer, blob) for peer in hosts), "both have it")
        assert all(blob.stored(host.home) for host in hosts.values())
        # What was on its way to the one that died is lost: a piece that was not whole, and what its sockets held.
        assert source.body_bytes <= len(blob.content) + 8 * MIB
        assert [asked.header("Range") is not None for asked in source.requests] == [False, True]


async def test_a_host_that_restarts_has_it_still_and_offers_it_again() -> None:
    async with SourceServer() as source, preheating() as job:
        hosts = await job.hosts(1)
        blob = blob_at(source, 8 * MIB)
        (peer,), (host,) = hosts, hosts.values()
        job.wants(blob, peer, keep_s=3600.0)
        await job.until(lambda: job.is_done(peer, blob), "it has it")
        assert host.server is not None
        await asyncio.to_thread(host.server.stop)
        await job.until(lambda: job.gone, "it is gone")
        (again,) = await job.hosts(1)
        members = job.supernode.router.scheduler.state.tasks[blob.task].members
        await job.until(lambda: again in members, "it offers it again")
        job.wants(blob, again, keep_s=3600.0)
        await job.until(lambda: job.is_done(again, blob), "it has proven it again")
        assert job.last[again, blob.task].received == (0, 0, 0, len(blob.content))
        assert source.body_bytes == len(blob.content)
