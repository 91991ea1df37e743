"""What a reader of a whole peer's content waits for, and from whom its bytes came, with real sockets and a real exchange."""

import asyncio
from pathlib import Path

from tests.worker_peer.parts import Nodes, sample, until
from tests.worker_peer.whole_peer import REQUEST, open_lab, read_all, url_content
from wire.messages import Origin, Task, TaskState
from worker_peer.api import Cause, DataPlane, Waits
from worker_peer.core.fetching import Done

_SEED, _PEER = "cdnnode:10.0.0.9", "10.0.0.2-1-1.000"


async def test_a_reader_is_told_each_thing_that_it_waits_for_and_who_gave_what(nodes: Nodes, tmp_path: Path) -> None:
    content, turns = url_content(), list[Cause | None]()
    waits = Waits(lambda cause, now: turns.append(cause))
    async with open_lab(nodes, tmp_path) as lab:
        opening = lab.peer._background.spawn(lab.peer.open(REQUEST, waits), "open")
        await lab.registered()
        await until(lambda: waits.cause is Cause.SUPERNODE, "its answer")
        lab.supernode.say(Task(task=content.task, state=TaskState.PROBING))
        await until(lambda: waits.cause is Cause.SEED_OPENS, "the seed has asked the source")
        lab.tell(content)
        reader = await asyncio.wait_for(opening, 20)
        assert waits.cause is None
        reading = lab.peer._background.spawn(read_all(reader), "read")
        await until(lambda: waits.cause is Cause.SEED_READS, "nobody has anything")
        lab.lease(content, lab.parent(content, 0, 1, name=_SEED), 0, 1)
        await lab.reported(2)
        await until(lambda: waits.cause is Cause.SEED_READS, "the third piece")
        late = await lab.peer.open(REQUEST)
        lab.lease(content, lab.parent(content, 2, 3, 4, 5, name=_PEER), 2, 3, 4, 5)
        await lab.reported(4)
        await until(lambda: waits.cause is Cause.SEED_READS, "the seed's last word")
        lab.tell(content, cached=True)
        assert await asyncio.wait_for(reading, 20) == content.data
        whole = len(content.data)
        assert reader.given_by(0, whole) == {(Origin.SEED, _SEED): 8192, (Origin.PEER, _PEER): whole - 8192}
        assert reader.given_by(4000, 8200) == {(Origin.SEED, _SEED): 4192, (Origin.PEER, _PEER): 8}
        # Who came when two pieces were here has those from this host's disk.
        assert await read_all(late) == content.data
        assert late.given_by(0, whole) == {(Origin.DISK, ""): 8192, (Origin.PEER, _PEER): whole - 8192}
        await late.close()
        await reader.close()
        again = await lab.peer.open(REQUEST, Waits())
        assert await read_all(again) == content.data
        assert again.given_by(0, whole) == {(Origin.DISK, ""): whole}
        await again.close()
    assert {Cause.SUPERNODE, Cause.SEED_OPENS, Cause.STORE, Cause.SEED_READS, Cause.SEED, Cause.PEERS} <= set(turns)
    assert turns[-1] is None
    assert set(waits.seconds) <= set(Cause)
    assert all(spent >= 0 for spent in waits.seconds.values())


async def test_a_reader_that_gives_up_waits_for_nothing_any_more(nodes: Nodes, tmp_path: Path) -> None:
    waits = Waits()
    async with open_lab(nodes, tmp_path) as lab:
        opening = lab.peer._background.spawn(lab.peer.open(REQUEST, waits), "open")
        await lab.registered()
        opening.cancel()
        await asyncio.wait({opening})
        assert waits.cause is None
        assert waits.seconds[Cause.SUPERNODE] > 0


async def test_the_data_plane_says_how_busy_it_is_and_what_it_refused(nodes: Nodes) -> None:
    content = sample(1024, 1024)
    source, middle, child = nodes.scripted("source"), nodes.node("middle"), nodes.node("child")
    middle.share(content)
    child.share(content)
    middle.fetch(content, source, 0)
    identity, request = await source.request()
    assert middle.exchange.data_plane() == DataPlane(fetching=1)
    # What is on its way there is waited for there.
    child.fetch(content, middle, 0)
    await until(lambda: middle.exchange.data_plane().serving == 1, "the child's request")
    source.send_raw(identity, [b"nonsense"])
    source.give(identity, request, content)
    await child.told.until(Done)
    await until(lambda: middle.exchange.data_plane().serving == 0, "the child has it")
    await until(lambda: middle.exchange.data_plane().sent_bytes == 1024, "it is counted")
    plane = middle.exchange.data_plane()
    assert plane.fetching == 0
    assert sum(plane.refused.values()) == 1
