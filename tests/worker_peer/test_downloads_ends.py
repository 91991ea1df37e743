"""Downloads of a whole peer whose supernode goes, comes back, forgets; and contents that nobody uses any more."""

import asyncio
import time
from pathlib import Path

import pytest

from tests.support.source_server import Page, SourceServer
from tests.worker_peer.parts import Nodes, sample, until
from tests.worker_peer.scripted_supernode import ScriptedSupernode
from tests.worker_peer.whole_peer import REQUEST, Lab, begin, by_origin, open_lab, read_all, request_for, url_content
from wire.bitmap import PieceSet
from wire.errors import ErrorCode
from wire.messages import Drop, Hello, Leave, LeaveReason, NotKnown, Register, Task, TaskState
from worker_peer.api import DownloadFailed

# -- supernodes that go and come --------------------------------------------------------------------------------------------


async def test_a_supernode_that_has_forgotten_hears_what_is_here(lab: Lab) -> None:
    content = url_content()
    opening = await begin(lab)
    lab.tell(content)
    reader = await opening
    lab.lease(content, lab.parent(content, 1, 4), 1, 4)
    await lab.reported(2)
    lab.supernode.say(NotKnown())
    register = await lab.registered()
    assert (register.have, register.length, register.piece_length) == (
        PieceSet.of(6, [1, 4]).to_bytes(),
        len(content.data),
        4096,
    )
    await reader.close()


@pytest.mark.parametrize("ranges", [True, False])
async def test_without_a_supernode_the_rest_comes_from_the_source(nodes: Nodes, tmp_path: Path, ranges: bool) -> None:
    async with SourceServer() as source, open_lab(nodes, tmp_path) as lab:
        content = sample(5 * 4096 + 100)
        request = request_for(source.url("/file?Signature=secret"))
        content.task = request.task
        source.pages["/file"] = Page(body=content.data, ranges=ranges)
        opening = lab.peer._background.spawn(lab.peer.open(request), "open")
        await lab.registered()
        lab.tell(content)
        reader = await opening
        lab.lease(content, lab.parent(content, 0, 3), 0, 3)
        await lab.reported(2)
        await lab.supernode.close()
        assert await asyncio.wait_for(read_all(reader), 20) == content.data
        assert by_origin(reader, peer=2 * 4096, source=len(content.data) - 2 * 4096)
        assert source.body_bytes == len(content.data)  # without a digest what is here is compared, not trusted
        assert reader.digest == content.sha256
        await reader.close()


@pytest.mark.parametrize(("own", "hosts"), [(400_000, 0), (0, 400_000), (400_000, 1 << 30)])
async def test_limits_hold_on_the_way_back_to_source(nodes: Nodes, tmp_path: Path, own: int, hosts: int) -> None:
    async with SourceServer() as source, open_lab(nodes, tmp_path, total_rate=hosts) as lab:
        content = sample(400_000)
        request = request_for(source.url("/file?Signature=secret"), rate=own)
        content.task = request.task
        source.pages["/file"] = Page(body=content.data)
        opening = lab.peer._background.spawn(lab.peer.open(request), "open")
        await lab.registered()
        lab.tell(content)
        reader = await opening
        began_at = time.monotonic()
        await lab.supernode.close()
        assert await asyncio.wait_for(read_all(reader), 20) == content.data
        # A second's bytes, less the burst; without a limit it takes a third of a second.
        assert time.monotonic() - began_at >= 0.95
        assert by_origin(reader, source=len(content.data))
        await reader.close()


async def test_a_source_that_gives_something_else_is_no_way_out(nodes: Nodes, tmp_path: Path) -> None:
    async with SourceServer() as source, open_lab(nodes, tmp_path) as lab:
        content = sample(5 * 4096)
        request = request_for(source.url("/file"), digest=content.sha256)
        content.task = request.task
        source.pages["/file"] = Page(body=bytes(5 * 4096))
        opening = lab.peer._background.spawn(lab.peer.open(request), "open")
        await lab.registered()
        lab.tell(content)
        reader = await opening
        await lab.supernode.close()
        with pytest.raises(DownloadFailed) as caught:
            await asyncio.wait_for(reader.whole(), 20)
        assert caught.value.code is ErrorCode.DIGEST_MISMATCH
        await until(lambda: lab.peer.store.tasks() == [], "it is deleted")
        await reader.close()


async def test_downloads_move_to_the_next_supernode(nodes: Nodes, tmp_path: Path) -> None:
    async with ScriptedSupernode(nodes.context) as first, ScriptedSupernode(nodes.context) as second:
        both = (first.node, second.node)
        async with open_lab(nodes, tmp_path, supernodes=both, back_to_source_after_s=60.0) as lab:
            content = url_content()
            for supernode in (first, second):
                await supernode.hears(Hello)
                await until(lambda: lab.peer.supernodes.link(supernode.node).is_up, "it is up")  # noqa: B023  awaited here
            opening = lab.peer._background.spawn(lab.peer.open(REQUEST), "open")
            lab.supernode = first
            await lab.hears(Register)
            lab.tell(content)
            reader = await opening
            assert reader.supernode == first.node
            lab.lease(content, lab.parent(content, 0), 0)
            await lab.reported(1)
            await first.close()
            lab.supernode = second
            register = await lab.hears(Register)
            assert register.have == PieceSet.of(6, [0]).to_bytes()
            assert reader.supernode == second.node
            lab.tell(content, cached=True)
            lab.lease(content, lab.parent(content, *range(6), name="another"), *range(1, 6))
            assert await read_all(reader) == content.data
            await reader.close()


# -- contents that nobody uses ----------------------------------------------------------------------------------------------


async def test_a_content_that_nobody_uses_is_deleted_and_one_in_use_is_not(lab: Lab) -> None:
    content = url_content()
    reader = await lab.complete(content, REQUEST, lab.parent(content, *range(6)))
    assert await lab.peer.purge() == []
    assert lab.peer.store.tasks() == [content.task]
    await reader.close()
    assert await lab.peer.keeper.tidy() == []
    assert await lab.peer.purge() == [content.task]
    leave = await lab.hears(Leave)
    assert leave.reason is LeaveReason.EVICTED
    assert lab.peer.store.tasks() == []
    await lab.peer.purge()


async def test_a_dropped_content_is_deleted_unless_somebody_reads_it(lab: Lab) -> None:
    content = url_content()
    reader = await lab.complete(content, REQUEST, lab.parent(content, *range(6)))
    lab.supernode.say(Drop(task=content.task))
    lab.supernode.say(NotKnown())
    await lab.registered()  # so the DROP has been read, and the content is still offered
    assert lab.peer.store.tasks() == [content.task]
    await reader.close()
    lab.supernode.say(Drop(task=content.task))
    leave = await lab.hears(Leave)
    assert leave.reason is LeaveReason.EVICTED
    await until(lambda: lab.peer.store.tasks() == [], "it is deleted")


@pytest.mark.parametrize("higher", [1 << 30, 0])
async def test_a_rate_holds_and_a_higher_one_is_taken_over(nodes: Nodes, tmp_path: Path, higher: int) -> None:
    async with open_lab(nodes, tmp_path) as lab:
        content = url_content(3 * 4096)
        parent = lab.parent(content, 0, 1, 2)
        opening = lab.peer._background.spawn(lab.peer.open(request_for(rate=1)), "open")
        await lab.registered()
        lab.tell(content, cached=True)
        reader = await opening
        lab.lease(content, parent, 0, 1, 2)
        await until(lambda: lab.peer.exchange.received_bytes.get(parent.name), "the first block passes")
        await (await lab.peer.open(request_for(rate=1))).close()
        second = await lab.peer.open(request_for(rate=higher))
        # The debt of the first block is paid at the new rate: what would take an hour takes no time.
        assert await asyncio.wait_for(read_all(second), 20) == content.data
        await reader.close()
        await second.close()


async def test_a_reader_of_one_that_failed_ends_nothing_when_it_leaves_at_last(lab: Lab) -> None:
    """Another one has begun the task again meanwhile: whoever still holds the failed one has nothing to do with it."""
    content = url_content()
    opening = await begin(lab)
    lab.tell(content)
    late = await opening
    gone = Task(task=content.task, state=TaskState.DEAD, code=ErrorCode.SOURCE_NOT_FOUND, status=404, message="gone")
    lab.supernode.say(gone)
    assert (await lab.hears(Leave)).reason is LeaveReason.FAILED
    opening = await begin(lab)
    await late.close()
    assert lab.peer.downloads.tasks == [content.task]
    lab.tell(content, cached=True)
    lab.lease(content, lab.parent(content, *range(6)), *range(6))
    reader = await opening
    assert await read_all(reader) == content.data
    await reader.close()
