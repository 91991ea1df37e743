"""Parents that vanish, fall silent or send too slowly, limits that hold, and hints that lead to another holder."""

import zmq

from tests.worker_peer.parts import LOOPBACK, Node, Nodes, RawChild, Sample, sample, until
from wire.errors import ErrorCode
from wire.framing import from_frames, to_frames
from wire.messages import Blocks, GetBlocks, Have, NoBlocks, PieceFailure
from worker_peer.core.fetching import Done, Lost
from worker_peer.core.serving import PARKED_S


def lost(content: Sample, piece: int, parent: str, failure: PieceFailure, lease: int = 1) -> Lost:
    return Lost(content.task, lease, piece, parent, failure)


# -- parents that go --------------------------------------------------------------------------------------------------------


async def test_a_parent_that_vanishes_is_noticed_without_any_time_passing(nodes: Nodes) -> None:
    content = sample(2 * 4096)
    source, child = nodes.scripted("source"), nodes.node("child")
    child.share(content)
    child.fetch(content, source, 0, 1)
    source.give(*(await source.request()), content)
    await child.told.until(Done, 0)
    source.close()
    assert await child.told.until(Lost, 2) == [
        lost(content, 0, "source", PieceFailure.GONE),
        lost(content, 1, "source", PieceFailure.GONE),
    ]
    assert child.clock.at == 1000.0
    await until(lambda: child.exchange.leases() == set(), "no lease in work")


async def test_a_port_that_nobody_listens_at_is_noticed_without_any_time_passing(nodes: Nodes) -> None:
    content = sample(4096)
    source, child = nodes.scripted("source"), nodes.node("child")
    endpoint = source.endpoint
    source.close()
    child.share(content)
    child.exchange.fetch(content.task, 1, "source", endpoint, "", content.wanted(0))
    assert await child.told.until(Lost) == [lost(content, 0, "source", PieceFailure.GONE)]


async def test_a_parent_that_comes_back_elsewhere_is_asked_there(nodes: Nodes) -> None:
    content = sample(2 * 4096)
    old, child, new = nodes.scripted("same name"), nodes.node("child"), nodes.node("same name")
    child.share(content)
    new.share(content, 0, 1)
    await new.settled()
    child.fetch(content, old, 0)
    await old.request()
    child.fetch(content, new, 1, lease=2)
    assert await child.told.until(Lost) == [lost(content, 0, "same name", PieceFailure.GONE)]
    (done,) = await child.told.until(Done)
    assert (done.piece, done.lease) == (1, 2)


async def test_a_parent_that_never_answers_stalls_when_its_time_is_over(nodes: Nodes) -> None:
    content = sample(4096)
    source, child = nodes.scripted("source"), nodes.node("child")
    child.share(content)
    child.fetch(content, source, 0)
    for _ in range(4):
        await source.request()
    await child.pass_time(9.9)
    assert child.told.events == []
    await child.pass_time(0.5)
    assert await child.told.until(Lost) == [lost(content, 0, "source", PieceFailure.STALLED)]


async def test_a_stalled_parents_piece_comes_from_the_next_lease(nodes: Nodes) -> None:
    content = sample(4096)
    source, parent, child = nodes.scripted("source"), nodes.node("parent"), nodes.node("child")
    parent.share(content, 0)
    file = child.share(content)
    child.fetch(content, source, 0)
    identity, request = await source.request()
    await child.pass_time(10.0)
    await child.told.until(Lost)
    child.fetch(content, parent, 0, lease=2)
    (done,) = await child.told.until(Done)
    assert (done.parent, done.lease) == ("parent", 2)
    assert bytes(file.read(0, 4096)) == content.data
    # The connection is gone with the verdict: what it says now reaches nobody.
    source.give(identity, request, content)
    await child.settled()
    assert child.exchange.refused == {}


async def test_an_idle_connection_is_closed_and_made_again(nodes: Nodes) -> None:
    content = sample(2 * 4096)
    parent, child = nodes.node("parent"), nodes.node("child")
    parent.share(content, 0, 1)
    child.share(content)
    await parent.settled()
    child.fetch(content, parent, 0)
    await child.told.until(Done)
    await child.pass_time(29.0)
    links = child.exchange._fetcher._links
    assert list(links) == ["parent"]
    await child.pass_time(2.5)
    await until(lambda: not links, "the connection is closed")
    assert child.exchange.received_bytes == {}, "its bytes are forgotten with it"
    child.fetch(content, parent, 1)
    await child.told.until(Done, 2)


async def test_a_request_parked_for_too_long_is_refused(nodes: Nodes) -> None:
    content = sample(4096)
    source, child = nodes.scripted("source"), nodes.node("child")
    child.share(content)
    child.fetch(content, source, 0)
    identity, request = await source.request()
    stranger = RawChild(nodes.context, child.endpoint)
    stranger.ask(content, 0, 3)
    stranger.ask(content, 0, request.first)
    source.give(identity, request, content)
    assert isinstance((await stranger.answer()).message, Blocks)
    await child.pass_time(PARKED_S)
    assert (await stranger.answer()).message == NoBlocks(task=content.task, piece=0, code=ErrorCode.BLOCKS_MISSING)
    stranger.close()


# -- hints ------------------------------------------------------------------------------------------------------------------


async def hinted(nodes: Nodes, content: Sample) -> tuple[Node, Node]:
    """A child that fetches piece 0 from a silent parent, and has been told that `holder` has it too."""
    source, holder, child = nodes.scripted("source"), nodes.node("holder"), nodes.node("child")
    holder.share(content, 0, 1)
    child.share(content)
    await holder.settled()
    child.fetch(content, holder, 1)
    await child.told.until(Done)
    child.fetch(content, source, 0, lease=2)
    await source.request()
    assert await source.listening.get() == b"\1" + content.task.encode()
    source.hint(content.task, Have(task="0" * 64, peer="holder", pieces=(0,)))  # of a task that is not here
    source.hint(content.task, Have(task=content.task, peer="holder", pieces=(0,)))
    hints = child.exchange._fetcher._hints
    await until(lambda: hints.holders(content.task, 0), "the hint has been heard")
    assert len(hints) == 1
    return holder, child


async def test_a_piece_that_stalls_is_asked_of_who_said_to_have_it(nodes: Nodes) -> None:
    content = sample(2 * 4096)
    holder, child = await hinted(nodes, content)
    await child.pass_time(10.0)
    await child.told.until(Done, 2)
    done = child.told.of(Done)[1]
    assert (done.piece, done.parent, done.lease) == (0, "holder", 2)
    assert child.told.of(Lost) == []
    await holder.settled()
    assert holder.exchange.sent_bytes == len(content.data)


async def test_who_lied_about_a_piece_refuses_it_and_it_is_lost(nodes: Nodes) -> None:
    content = sample(2 * 4096)
    holder, child = await hinted(nodes, content)
    holder.exchange.unshare(content.task)
    await holder.settled()
    await child.pass_time(10.0)
    assert await child.told.until(Lost) == [lost(content, 0, "holder", PieceFailure.REFUSED, lease=2)]


async def test_pieces_are_told_to_who_listens_together_once_a_second(nodes: Nodes) -> None:
    content, probe = sample(5 * 4096), sample(0)
    probe.task = "9" * 64
    parent = nodes.node("parent")
    subscriber = nodes.context.socket(zmq.SUB)
    subscriber.setsockopt(zmq.LINGER, 0)
    subscriber.setsockopt(zmq.RCVTIMEO, 20_000)
    subscriber.connect(parent.hint_endpoint)
    for task in (content.task, probe.task):
        subscriber.subscribe(task.encode())
    parent.share(probe, 0)
    # Nobody is told when a subscription has arrived: the probe is told again until it is heard.
    while not subscriber.poll(10):
        parent.exchange.piece_available(probe.task, 0)
        await parent.pass_time(1.5)
    parent.share(content, 0)
    for piece in (3, 1, 4):
        parent.exchange.piece_available(content.task, piece)
    await parent.pass_time(1.5)
    message = None
    while not isinstance(message, Have) or message.task == probe.task:
        topic, *frames = subscriber.recv_multipart()
        message = from_frames(frames).message
    assert topic == content.task.encode()
    assert message == Have(task=content.task, peer="parent", pieces=(0, 3, 1, 4))
    subscriber.close()


# -- limits -----------------------------------------------------------------------------------------------------------------

RATE = 1 << 20
BLOCK = 1 << 14
#: A request passes whole and its bytes are owed afterwards: so much may be ahead, with the bucket's twentieth of a second.
PIECE = 1 << 16
AHEAD_S = PIECE / RATE + 0.05


async def seconds_of(child: Node, other: Node, pieces: int) -> float:
    """Turn both clocks by small steps until so many pieces are done; never more may have come than the limit allows."""
    begun = child.clock.at
    while len(child.told.of(Done)) < pieces:
        for node in (child, other):
            await node.pass_time(0.01)
        came = sum(child.exchange.received_bytes.values())
        assert came <= RATE * (child.clock.at - begun + AHEAD_S) + 1
    return child.clock.at - begun


async def test_a_downloads_limit_holds_and_can_be_raised(nodes: Nodes) -> None:
    content = sample(RATE, PIECE, BLOCK)
    parent, child = nodes.node("parent"), nodes.node("child")
    parent.share(content, *range(16))
    file = child.share(content, rate=RATE)
    child.fetch(content, parent, *range(8))
    assert await seconds_of(child, parent, 8) >= 0.5 - AHEAD_S
    child.own_limits[content.task].set_rate(0, child.clock.now())
    child.exchange.limits_changed()
    child.fetch(content, parent, *range(8, 16), lease=2)
    at = child.clock.at
    await child.told.until(Done, 16)
    assert child.clock.at == at
    assert bytes(file.read(0, RATE)) == content.data


async def test_the_hosts_limit_holds_over_all_downloads(nodes: Nodes) -> None:
    one, two = sample(RATE // 2, PIECE, BLOCK), sample(RATE // 2 - 1, PIECE, BLOCK)
    two.task = "8" * 64
    parent, child = nodes.node("parent"), nodes.node("child", total_rate=RATE)
    for content in (one, two):
        parent.share(content, *range(8))
        child.share(content)
        child.fetch(content, parent, *range(4))
    assert await seconds_of(child, parent, 8) >= 0.5 - AHEAD_S
    child.limits.set_total(0, child.clock.now())
    child.exchange.limits_changed()
    for content in (one, two):
        child.fetch(content, parent, *range(4, 8), lease=2)
    await child.told.until(Done, 16)


async def test_the_upload_limit_holds(nodes: Nodes) -> None:
    content = sample(RATE // 2, PIECE, BLOCK)
    parent, child = nodes.node("parent", upload_rate=RATE), nodes.node("child")
    parent.share(content, *range(8))
    child.share(content)
    child.fetch(content, parent, *range(8))
    assert await seconds_of(child, parent, 8) >= 0.5 - AHEAD_S


async def test_a_slow_child_does_not_keep_another_waiting(nodes: Nodes) -> None:
    content = sample(RATE, PIECE, BLOCK)
    parent, child = nodes.node("parent"), nodes.node("child")
    parent.share(content, *range(16))
    child.share(content)
    sleeper = nodes.context.socket(zmq.DEALER)  # asks for a lot, and reads nothing
    sleeper.setsockopt(zmq.LINGER, 0)
    sleeper.setsockopt(zmq.RCVHWM, 1)
    sleeper.connect(f"tcp://{LOOPBACK}:{parent.exchange.data_port}")
    for piece in range(16):
        sleeper.send_multipart(to_frames(GetBlocks(task=content.task, piece=piece, first=0, count=4)))
    await parent.settled()
    child.fetch(content, parent, *range(16))
    await child.told.until(Done, 16)
    sleeper.close()
