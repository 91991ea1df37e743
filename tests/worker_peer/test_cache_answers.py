"""What a peer and a seed answer about their stores, asked by a scripted supernode."""

import asyncio
import os
from pathlib import Path

import pytest

from tests.support.source_server import Page, SourceServer
from tests.worker_peer.parts import Nodes, Sample, sample, until
from tests.worker_peer.whole_peer import REQUEST, Lab, open_lab, request_for, url_content
from wire.messages import CacheList, CachePage, Collect, Drop, Fetch, Hello, Keep, Leave, LeaveReason, Message, Role, Seeded
from worker_peer import cache_answers
from worker_peer.host.store import Store
from worker_peer.host.store_index import size_on_disk


def stored(folder: Path, count: int) -> list[Sample]:
    """Contents of an earlier run, the first one oldest. Their tasks are in order."""
    made = []
    for number in range(count):
        content = sample(4096 + number)
        content.task = f"{number + 1:x}" * 64
        store = Store(folder / "home" / "data")
        file = store.create(content.task, content.layout, url=f"http://user:s3cret@h/{number}?Signature=s3cret")
        file.close()
        for path in (folder / "home" / "data" / content.task[:3] / content.task).iterdir():
            os.utime(path, (1e9 + number, 1e9 + number))
        made.append(content)
    return made


async def asks(lab: Lab, question: Message) -> CachePage:
    """The answer to a question; what else is said meanwhile is passed over."""
    lab.supernode.say(question)
    async with asyncio.timeout(20):
        while True:
            _, message = await lab.supernode.said.get()
            if isinstance(message, CachePage):
                return message


async def test_the_store_is_told_in_pages_by_task_without_secrets(nodes: Nodes, tmp_path: Path) -> None:
    contents = stored(tmp_path, 3)
    async with open_lab(nodes, tmp_path, expire_s=0.0, cache_quota=1 << 30) as lab:
        await lab.hears(Hello)
        page = await asks(lab, CacheList(number=7, limit=2))
        assert (page.number, page.more, page.quota) == (7, True, 1 << 30)
        assert [row[0] for row in page.contents] == [content.task for content in contents[:2]]
        task, length, size, unused_s, kept_s, in_use, url = page.contents[1]
        assert (task, length, kept_s, in_use, url) == (contents[1].task, 4097, 0.0, False, "http://h/1?...")
        assert unused_s == 1e6, "as much as can be said"
        assert 4097 < size <= size_on_disk(contents[1].layout)
        assert page.used == lab.peer.store.index.used
        assert page.free > 0
        rest = await asks(lab, CacheList(number=8, after=contents[1].task))
        assert ([row[0] for row in rest.contents], rest.more) == ([contents[2].task], False)


async def test_a_content_is_kept_and_a_pin_beyond_its_share_refused(nodes: Nodes, tmp_path: Path) -> None:
    contents = stored(tmp_path, 2)
    size = size_on_disk(contents[1].layout)
    async with open_lab(nodes, tmp_path, expire_s=0.0, cache_quota=4 * size, kept_percent=30) as lab:
        await lab.hears(Hello)
        page = await asks(lab, Keep(number=1, task=contents[0].task, keep_s=100.0))
        assert [row[0] for row in page.contents] == [contents[0].task]
        assert 90 < page.contents[0][4] <= 100
        assert 0 < page.kept <= size
        page = await asks(lab, Keep(number=2, task=contents[1].task, keep_s=100.0))
        assert page.contents == ()
        assert "raise --preheat-quota" in page.refused
        page = await asks(lab, Keep(number=3, task="f" * 64, keep_s=100.0))
        assert (page.contents, page.refused) == ((), "")
        page = await asks(lab, Keep(number=4, task=contents[0].task, keep_s=0.0))
        assert (page.contents[0][4], page.kept) == (0.0, 0)


async def test_room_is_made_when_it_is_asked_for(nodes: Nodes, tmp_path: Path) -> None:
    contents = stored(tmp_path, 3)
    async with open_lab(nodes, tmp_path, expire_s=0.0) as lab:
        await lab.hears(Hello)
        page = await asks(lab, Collect(number=1))
        assert (page.removed, page.removed_bytes) == (0, 0)
        assert (page.stored, page.left) == (3, ())
        await asks(lab, Keep(number=3, task=contents[1].task, keep_s=100.0))
        page = await asks(lab, Collect(number=2, free=1))
        assert page.removed == 1
        assert page.removed_bytes > 4096
        assert (page.stored, page.left) == (2, (("kept", 1, page.kept),))
        assert {why: gone for why, *gone in page.evicted}["asked"] == [1, page.removed_bytes]
        assert lab.peer.store.tasks() == [content.task for content in contents[1:]]


async def test_more_questions_than_wait_are_refused_with_the_next_step(
    nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_answers, "_MOST_WAITING", 3)
    async with open_lab(nodes, tmp_path) as lab:
        await lab.hears(Hello)
        async with lab.peer.answers._turn:
            for number in range(4):
                lab.supernode.say(CacheList(number=number))
            refused = await lab.hears(CachePage)
        assert (refused.number, "ask again" in refused.refused) == (3, True)
        answers = [await lab.hears(CachePage) for _ in range(3)]
        assert [(each.number, each.refused) for each in answers] == [(0, ""), (1, ""), (2, "")]
        assert (await asks(lab, CacheList(number=4))).refused == ""


async def test_what_nobody_has_open_is_dropped_and_what_is_read_is_not(nodes: Nodes, tmp_path: Path) -> None:
    (old,) = stored(tmp_path, 1)
    async with open_lab(nodes, tmp_path, expire_s=0.0) as lab:
        await lab.hears(Hello)
        content = url_content()
        reader = await lab.complete(content, REQUEST, lab.parent(content, *range(6)))
        for task in (old.task, content.task):
            lab.supernode.say(Drop(task=task))
        page = await asks(lab, CacheList(number=1))
        assert [(row[0], row[5]) for row in page.contents] == [(content.task, True)]
        await reader.close()
        lab.supernode.say(Drop(task=content.task))
        assert (await asks(lab, CacheList(number=2))).contents == ()


async def test_a_content_of_a_url_is_asked_for_anew_when_it_has_grown_old(nodes: Nodes, tmp_path: Path) -> None:
    async with open_lab(nodes, tmp_path, fresh_s=-1.0) as lab:
        await lab.hears(Hello)
        content = url_content()
        reader = await lab.complete(content, REQUEST, lab.parent(content, *range(6)))
        await reader.close()
        opening = lab.peer._background.spawn(lab.peer.open(request_for()), "open")
        assert (await lab.hears(Leave)).reason is LeaveReason.EVICTED
        await until(lambda: not lab.supernode.said.empty(), "it registers again")
        assert not opening.done()
        lab.tell(content, cached=True)
        again = await opening
        await again.whole()
        assert again.received.total == len(content.data)
        assert lab.peer.store.tasks() == [content.task], "what is stored is right still: nothing was fetched again"
        await again.close()


# -- the seed ---------------------------------------------------------------------------------------------------------------


async def test_a_seed_takes_back_what_it_has_evicted_and_reads_it_again_when_asked(nodes: Nodes, tmp_path: Path) -> None:
    first, second = sample(300_000), sample(300_001)
    first.task, second.task = "1" * 64, "2" * 64
    quota = 500_000
    async with SourceServer() as source, open_lab(nodes, tmp_path, role=Role.SEED, expire_s=0.0, cache_quota=quota) as lab:
        await lab.hears(Hello)
        source.pages |= {f"/{each.task}": Page(body=each.data) for each in (first, second)}

        async def fetched(content: Sample) -> list[Message]:
            lab.supernode.say(Fetch(task=content.task, url=source.url(f"/{content.task}"), digest=content.sha256))
            said: list[Message] = []
            async with asyncio.timeout(20):
                while not said or getattr(said[-1], "digest", None) is None:
                    said.append((await lab.supernode.said.get())[1])
            return said

        assert all(isinstance(each, Seeded) for each in await fetched(first))
        words = await fetched(second)
        assert words[0] == Leave(task=first.task, reason=LeaveReason.EVICTED)
        assert lab.peer.store.tasks() == [second.task]
        assert lab.peer.store.index.used <= quota
        assert (await fetched(first))[0] == Leave(task=second.task, reason=LeaveReason.EVICTED)
        assert source.body_bytes == 2 * len(first.data) + len(second.data)
        lab.supernode.say(Drop(task=first.task))
        assert await lab.hears(Leave) == Leave(task=first.task, reason=LeaveReason.EVICTED)
        await until(lambda: lab.peer.store.tasks() == [], "it is deleted")
