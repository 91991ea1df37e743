"""`supernode cache` against a real swarm: what is where, kept, deleted, made room for; by digest, URL and first digits."""

import asyncio
import hashlib
import json
import random
import re
import urllib.request
from collections.abc import AsyncIterator
from typing import Any

import pytest

from scripts.demonstration.swarm import program
from tests.support.jobs_client import JobsClient
from tests.support.source_server import Page, SourceServer
from tests.support.swarm import LoopbackSwarm, running_swarm
from wire.ids import task_id

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]
MIB = 1 << 20
BODY = random.Random(5).randbytes(2 * MIB)
DIGEST = "sha256:" + hashlib.sha256(BODY).hexdigest()


class Lab:
    """A swarm of two peers, and a source."""

    def __init__(self, swarm: LoopbackSwarm, source: SourceServer) -> None:
        self.swarm = swarm
        self.source = source
        self.client = JobsClient(node=swarm.supernode.node)
        self._commands = 0

    async def pull(self, path: str, peer: int = 0) -> str:
        """A dfget; the task's id."""
        url = self.source.url(path)
        download = self.swarm.parts.download(self.swarm.peers[peer], self.swarm.supernode, url, "--notbs")
        assert await asyncio.to_thread(download.process.wait, 60.0) == 0, download.process.story()
        return download.report().task

    async def says(self, *words: str) -> tuple[int, str]:
        """`supernode cache ...`: its exit code, and what it prints."""
        self._commands += 1
        command = [program("supernode"), "cache", *words, "--supernode", self.swarm.supernode.node]
        process = self.swarm.processes.start(f"cache-{self._commands}", command)
        code = await asyncio.to_thread(process.wait, 60.0)
        return code, process.output()

    async def cache(self, query: str = "") -> Any:
        """GET /cache."""
        status, told = await asyncio.to_thread(self.client.ask, "GET", f"/cache{query}")
        assert status == 200, told
        return told

    def metrics(self) -> str:
        """The supernode's /metrics. Blocking."""
        with urllib.request.urlopen(f"http://{self.swarm.supernode.node}/metrics") as answer:
            return str(answer.read(), "utf-8")

    async def roles(self, task: str) -> list[str]:
        """Who has a content."""
        found = [each for each in (await self.cache())["contents"] if each["task"] == task]
        return sorted(host["role"] for each in found for host in each["hosts"])


@pytest.fixture
async def lab() -> AsyncIterator[Lab]:
    """Two contents pulled by one of two peers: one by its URL, one by its digest."""
    with running_swarm(2, supernode=("--cache-quota", "64MB"), peers=("--expiretime", "1h")) as swarm:
        async with SourceServer() as source:
            source.pages["/file"] = Page(body=random.Random(6).randbytes(MIB), etag='"1"')
            source.pages[f"/v2/team/app/blobs/{DIGEST}"] = Page(body=BODY)
            yield Lab(swarm, source)


async def test_what_is_where_is_listed_and_paged(lab: Lab) -> None:
    by_url, by_digest = await lab.pull("/file?Signature=secret"), await lab.pull(f"/v2/team/app/blobs/{DIGEST}")
    told = await lab.cache()
    assert [each["task"] for each in told["contents"]] == sorted([by_url, by_digest])
    assert told["next"] is None
    assert "secret" not in json.dumps(told)
    assert sorted(host["role"] for host in told["hosts"]) == ["peer", "peer", "seed"]
    (seed,) = (host for host in told["hosts"] if host["role"] == "seed")
    assert seed["quota"] == 64 * MIB
    assert 3 * MIB < seed["used"] < 3 * MIB + 100_000
    assert seed["free"] > 0
    content = next(each for each in told["contents"] if each["task"] == by_digest)
    assert (content["length"], content["url"]) == (2 * MIB, lab.source.url(f"/v2/team/app/blobs/{DIGEST}"))
    assert sorted(host["role"] for host in content["hosts"]) == ["peer", "seed"]
    assert all(host["unused_s"] < 60 and host["kept_s"] == 0 for host in content["hosts"])
    first = await lab.cache("?limit=1")
    assert first["next"] == first["contents"][0]["task"] == min(by_url, by_digest)
    second = await lab.cache(f"?limit=1&after={first['next']}")
    assert [each["task"] for each in second["contents"]] == [max(by_url, by_digest)]
    assert len((await lab.cache("?host=seed"))["hosts"]) == 1
    code, text = await lab.says("ls")
    assert code == 0
    lines = text.splitlines()
    assert lines[0].split() == ["TASK", "LENGTH", "HOSTS", "LAST", "USED", "KEPT", "FOR", "URL"]
    assert [line.split()[0] for line in lines[1:3]] == sorted([by_url[:12], by_digest[:12]])
    assert "2.0 MiB" in text
    assert "64.0 MiB" in text
    assert "secret" not in text
    assert len({line.index("http://") for line in lines[1:3]}) == 1, "columns stand below each other"
    code, text = await lab.says("ls", by_url[:8], "--json")
    assert [each["task"] for each in json.loads(text)["contents"]] == [by_url]


async def test_a_content_is_kept_by_any_of_its_names_and_room_is_made_from_the_others(lab: Lab) -> None:
    by_url, by_digest = await lab.pull("/file?Signature=secret"), await lab.pull(f"/v2/team/app/blobs/{DIGEST}")
    for name in (DIGEST, by_digest, by_digest[:10], lab.source.url(f"/v2/other/name/blobs/{DIGEST}")):
        code, text = await lab.says("pin", name, "--keep", "2h")
        assert code == 0, text
        assert f"task {by_digest[:12]} is kept for 2h0m0s" in text
    told = await lab.cache(f"?task={by_digest}")
    kept = {host["role"]: host["kept_s"] for host in told["contents"][0]["hosts"]}
    assert 7100 < kept["seed"] <= 7200
    assert kept["peer"] == 0, "without --host it is kept on the seed"
    # All that may go goes, once it has not been served for a moment.
    async with asyncio.timeout(20):
        while await lab.roles(by_url) != ["peer"]:
            code, text = await lab.says("gc", "--free", "60GB")
            assert code == 0, text
    assert text.splitlines()[0] == "1 content deleted, 1.0 MiB"
    assert text.splitlines()[1:] == ["1 content left, 2.0 MiB: kept (supernode cache pin TASK --keep 0s lets them go)"]
    metrics = await asyncio.to_thread(lab.metrics)
    figures = dict(re.findall(r'^dragonfly_supernode_cache_(\w+)\{(?:reason="asked",)?seed="[\d.:]+"\} (\S+)', metrics, re.M))
    assert figures["contents"] == "1.0"
    assert figures["bytes"] == figures["kept_bytes"]
    assert (float(figures["quota_bytes"]), figures["evicted_total"]) == (64 * MIB, "1.0")
    code, text = await lab.says("pin", DIGEST, "--keep", "0s")
    assert (code, text.strip()) == (0, f"task {by_digest[:12]} is as any other content now")
    async with asyncio.timeout(20):
        while await lab.roles(by_digest) != ["peer"]:
            await lab.says("gc", "--free=60GB", "--host", "seed")
    # What the seed has evicted comes from the peer that has it whole, and not from the source again.
    asked = lab.source.body_bytes
    assert await lab.pull(f"/v2/team/app/blobs/{DIGEST}", peer=1) == by_digest
    assert lab.source.body_bytes == asked


async def test_a_content_is_deleted_everywhere_and_read_again_when_somebody_wants_it(lab: Lab) -> None:
    by_digest = await lab.pull(f"/v2/team/app/blobs/{DIGEST}")
    await lab.pull(f"/v2/team/app/blobs/{DIGEST}", peer=1)
    code, text = await lab.says("rm", DIGEST)
    assert (code, text.strip()) == (0, f"task {by_digest[:12]} is deleted")
    assert await lab.roles(by_digest) == []
    code, text = await lab.says("rm", DIGEST)
    assert (code, text.strip()) == (1, f"Error: task {by_digest[:16]} is on none of 3 hosts: there is nothing to delete")
    assert lab.source.body_bytes == 2 * MIB
    await lab.pull(f"/v2/team/app/blobs/{DIGEST}")
    assert await lab.roles(by_digest) == ["peer", "seed"]
    assert lab.source.body_bytes == 4 * MIB
    code, text = await lab.says("rm", by_digest[:9], "--host", "seed")
    assert code == 0, text
    assert await lab.roles(by_digest) == ["peer"]


async def test_what_cannot_be_done_is_said_in_words(lab: Lab) -> None:
    for words, told in (
        (("pin", "abcdef"), "no host has a content whose task begins with abcdef"),
        (("pin", "a" * 64), "is not on this host: preheat it first"),
        (("rm",), "name a digest, a URL, or the first digits"),
        (("rm", "no such"), "'no such' is no digest"),
        (("ls", "--host", "nowhere"), "no host nowhere is here"),
        (("gc", "--free", "lots"), "free: 'lots' is no size"),
        (("pin", "a" * 64, "--keep", "99d"), "keep must be from 0"),
    ):
        code, text = await lab.says(*words)
        assert code == 1, text
        assert told in text
    command = [program("supernode"), "cache", "ls", "--supernode", "127.0.0.1:1"]
    process = lab.swarm.processes.start("nobody", command)
    assert await asyncio.to_thread(process.wait, 60.0) == 1
    assert "127.0.0.1:1 gives no answer" in process.output()
    for method, path, document in (
        ("GET", "/cache?limit=0", None),
        ("GET", "/cache?task=zz-", None),
        ("GET", "/cache?task=ab", None),
        ("POST", "/cache/gc", {"free": -1}),
        ("POST", "/cache/gc", [1]),
    ):
        status, answer = await asyncio.to_thread(lab.client.ask, method, path, document)
        assert status == (200 if path.endswith("=ab") else 400), answer


async def test_a_pin_beyond_its_share_is_refused_in_words() -> None:
    with running_swarm(1, supernode=("--cache-quota", "3MB", "--preheat-quota", "50")) as swarm:
        async with SourceServer() as source:
            source.pages[f"/v2/team/app/blobs/{DIGEST}"] = Page(body=BODY)
            lab = Lab(swarm, source)
            await lab.pull(f"/v2/team/app/blobs/{DIGEST}")
            assert task_id("", digest=DIGEST)
            code, text = await lab.says("pin", DIGEST)
            assert code == 1
            assert "raise --preheat-quota or --cache-quota, or unpin others" in text
