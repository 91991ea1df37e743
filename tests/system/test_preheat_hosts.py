"""Preheat jobs with hosts in their scope: real supernode, seed, hosts and source; what each host has is read from its store."""

import asyncio
import hashlib
import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import pytest

from scripts.demonstration.processes import RunningProcess
from scripts.demonstration.swarm import PeerHost, Supernode, program
from tests.support.source_server import SourceServer
from tests.support.swarm import LoopbackSwarm, loopback_swarm, piece_lines, wait_until
from tests.system.test_warming import MIB, Blob, blob_at, ended

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]
#: For what a fetch by `urllib` needs no proxy.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Jobs:
    """The API of jobs of one supernode."""

    def __init__(self, supernode: Supernode) -> None:
        self._base = f"http://{supernode.node}/jobs"

    def ask(self, blob: Blob, **more: Any) -> int:
        """POST /jobs. The job's number."""
        body = json.dumps({"type": "file", "url": blob.url, **more}).encode()
        with _OPENER.open(urllib.request.Request(self._base, data=body, method="POST"), timeout=10) as answer:
            assert answer.status == 201
            return int(json.load(answer)["id"])

    def job(self, number: int) -> dict[str, Any]:
        """GET /jobs/<number>."""
        with _OPENER.open(f"{self._base}/{number}", timeout=10) as answer:
            told: dict[str, Any] = json.load(answer)
        return told

    async def ended(self, number: int, timeout_s: float = 60.0) -> dict[str, Any]:
        """The job at its end."""
        last: dict[str, Any] = {}

        def has_ended() -> bool:
            last.update(self.job(number))
            return last["finished_at"] is not None

        try:
            await asyncio.to_thread(wait_until, has_ended, "the job ends", timeout_s)
        except AssertionError as error:
            raise AssertionError(f"{error}: {json.dumps(last, indent=1)}") from None
        return last


@contextmanager
def connected_swarm(peers: int) -> Iterator[LoopbackSwarm]:
    """A supernode and hosts that are all connected to it: a job is for those that are there when it comes."""
    with loopback_swarm(peers) as swarm:
        wait_until(lambda: len([each for each in peer_ids(swarm) if not each.startswith("cdnnode:")]) == peers, "all are there")
        yield swarm


@pytest.fixture
def three() -> Iterator[LoopbackSwarm]:
    """A supernode and three hosts."""
    with connected_swarm(3) as swarm:
        yield swarm


def peer_ids(swarm: LoopbackSwarm) -> list[str]:
    """Who is connected."""
    with _OPENER.open(f"http://{swarm.supernode.node}/api/v1/peers", timeout=10) as answer:
        return [str(each["id"]) for each in json.load(answer)["peers"]]


def peer_id(swarm: LoopbackSwarm, host: PeerHost) -> str:
    """The id of a host's peer, by its process."""
    assert host.server is not None
    return next(each for each in peer_ids(swarm) if f"-{host.server.pid}-" in each)


def rows(job: dict[str, Any]) -> dict[str, tuple[str, int]]:
    """State and bytes by host: `seed`, or the peer's id."""
    return {row["host"]: (row["state"], row["verified_bytes"]) for row in job["rows"]}


async def test_a_job_for_all_hosts_has_it_on_each_and_asks_the_source_once(three: LoopbackSwarm) -> None:
    async with SourceServer() as source:
        blob = blob_at(source, 24 * MIB + 7)
        jobs = Jobs(three.supernode)
        job = await jobs.ended(await asyncio.to_thread(jobs.ask, blob, scope="all"))
        assert (job["state"], job["error"]) == ("SUCCESS", ""), job
        length = len(blob.content)
        assert set(rows(job).values()) == {("DONE", length)}
        assert len(job["rows"]) == 4
        assert source.body_bytes == length
        assert all(blob.stored(host.home) for host in three.peers)
        assert blob.stored(three.directory / "supernode" / "repo")
        for row in job["rows"]:
            if row["host"] != "seed":
                assert row["received_bytes"]["source"] == 0
                assert sum(row["received_bytes"].values()) == length
        # With scope all a pull takes no byte from anywhere but the host's own disk.
        pieces = [len(piece_lines(host.log)) for host in three.peers]
        downloads = [three.parts.download(host, three.supernode, blob.url) for host in three.peers]
        for download in downloads:
            assert await ended(download) == 0, download.process.story()
            assert hashlib.sha256(download.output.read_bytes()).hexdigest() == blob.digest[7:]
        assert [len(piece_lines(host.log)) for host in three.peers] == pieces, "a piece was fetched again"
        assert source.body_bytes == length


async def test_a_host_that_is_killed_in_the_middle_makes_the_job_partial_with_its_name(three: LoopbackSwarm) -> None:
    async with SourceServer() as source:
        blob = blob_at(source, 24 * MIB, holds_after=12 * MIB)
        jobs = Jobs(three.supernode)
        number = await asyncio.to_thread(jobs.ask, blob, scope="all")
        logs = [host.log for host in three.peers]
        await asyncio.to_thread(wait_until, lambda: all(len(piece_lines(log)) >= 5 for log in logs), "each has some of it")
        victim, *others = three.peers
        assert victim.server is not None
        pid = victim.server.pid
        victim.server.kill()
        next(iter(source.pages.values())).go_on.set()
        job = await jobs.ended(number, 90.0)
        assert job["state"] == "PARTIAL", job
        lost = [row for row in job["rows"] if row["state"] != "DONE"]
        assert [row["state"] for row in lost] == ["LOST"]
        assert f"-{pid}-" in lost[0]["host"]
        assert lost[0]["error"]
        assert lost[0]["host"] in job["error"] or lost[0]["name"] in job["error"], job["error"]
        assert all(blob.stored(host.home) for host in others)
        assert source.body_bytes == len(blob.content)


async def test_the_supernode_dies_in_the_middle_and_the_job_ends_truthfully_without_reading_anything_twice() -> None:
    async with SourceServer() as source:
        blob = blob_at(source, 24 * MIB, holds_after=12 * MIB)
        with connected_swarm(2) as swarm:
            jobs = Jobs(swarm.supernode)
            number = await asyncio.to_thread(jobs.ask, blob, scope="all")
            logs = [host.log for host in swarm.peers]
            await asyncio.to_thread(wait_until, lambda: all(len(piece_lines(log)) >= 5 for log in logs), "each has some of it")
            host, _, port = swarm.supernode.node.rpartition(":")
            seeds = psutil.Process(swarm.supernode.process.pid).children()
            swarm.supernode.process.kill()
            await asyncio.to_thread(psutil.wait_procs, seeds, 10)
            next(iter(source.pages.values())).go_on.set()
            again = await asyncio.to_thread(restarted, swarm, int(port))
            assert again.node == f"{host}:{port}"
            job = await Jobs(again).ended(number, 90.0)
            # No credential was lost with it, and its hosts live: nothing stands in the way.
            assert job["state"] == "SUCCESS", job
            assert set(rows(job).values()) == {("DONE", len(blob.content))}
            assert all(blob.stored(host.home) for host in swarm.peers)
            # What was on its way to the one that died is lost, not what was verified.
            assert source.body_bytes <= len(blob.content) + 8 * MIB


def restarted(swarm: LoopbackSwarm, port: int) -> Supernode:
    """The supernode of the same home and HTTP port."""
    return swarm.parts.start_supernode("--port", str(port))


async def test_two_hosts_preheat_while_four_others_pull_and_the_source_is_asked_once_for_each_blob() -> None:
    async with SourceServer() as source:
        blobs = [blob_at(source, 3 * MIB + number, number) for number in range(3)]
        with connected_swarm(6) as swarm:
            jobs = Jobs(swarm.supernode)
            preheated, pullers = swarm.peers[:2], swarm.peers[2:]
            ids = [peer_id(swarm, host) for host in preheated]
            numbers = [await asyncio.to_thread(jobs.ask, blob, hosts=ids) for blob in blobs]
            downloads = [(swarm.parts.download(host, swarm.supernode, blob.url), blob) for blob in blobs for host in pullers]
            for download, blob in downloads:
                assert await ended(download) == 0, download.process.story()
                assert hashlib.sha256(download.output.read_bytes()).hexdigest() == blob.digest[7:]
            for number in numbers:
                job = await jobs.ended(number)
                assert job["state"] == "SUCCESS", job
            assert len(source.requests) == len(blobs)
            assert source.body_bytes == sum(len(blob.content) for blob in blobs)
            assert all(blob.stored(host.home) for host in preheated for blob in blobs)


def start_dfdaemon(swarm: LoopbackSwarm, name: str) -> tuple[RunningProcess, str]:
    """A host with dfdaemon, always with the same store; and its proxy's address. Returns when it takes requests."""
    config = swarm.directory / "dfdaemon.yml"
    config.write_text(
        f"port: 0\nlocalIP: 127.0.0.1\nworkHome: {swarm.directory / 'home'}\nsupernodes: ['{swarm.supernode.node}']\n"
        "proxies: [{regx: blobs/sha256}]\n"
    )
    process = swarm.processes.start(name, [program("dfdaemon"), "--config", str(config)])
    return process, process.wait_for(r"dfdaemon ready: (http://127\.0\.0\.1:\d+)")[1]


def pulled(url: str, proxy: str) -> bytes:
    """What a client gets through a proxy."""
    with urllib.request.build_opener(urllib.request.ProxyHandler({"http": proxy})).open(url, timeout=60) as answer:
        body: bytes = answer.read()
    return body


async def test_a_dfdaemon_that_restarts_offers_what_was_preheated_and_gives_it_from_its_disk() -> None:
    async with SourceServer() as source:
        blob = blob_at(source, 8 * MIB + 1)
        with loopback_swarm(0) as swarm:
            process, _ = await asyncio.to_thread(start_dfdaemon, swarm, "dfdaemon")
            await asyncio.to_thread(wait_until, lambda: len(peer_ids(swarm)) == 2, "it is there, and the seed")
            jobs = Jobs(swarm.supernode)
            job = await jobs.ended(await asyncio.to_thread(jobs.ask, blob, scope="all"))
            assert job["state"] == "SUCCESS", job
            await asyncio.to_thread(process.stop)
            _, proxy = await asyncio.to_thread(start_dfdaemon, swarm, "dfdaemon-again")

            def is_offered() -> bool:
                with _OPENER.open(f"http://{swarm.supernode.node}/api/v1/peers", timeout=10) as answer:
                    return any(blob.task in each["tasks"] for each in json.load(answer)["peers"] if each["role"] == "peer")

            await asyncio.to_thread(wait_until, is_offered, "it offers it again")
            lines = len(piece_lines(swarm.directory / "home" / "logs" / "dfclient.log"))
            assert lines > 0
            assert await asyncio.to_thread(pulled, blob.url, proxy) == blob.content
            assert len(piece_lines(swarm.directory / "home" / "logs" / "dfclient.log")) == lines, "a piece was fetched again"
            # Whether the client may have it is asked of the registry, in a few bytes.
            assert source.body_bytes <= len(blob.content) + 1024
