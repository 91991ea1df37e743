"""Blocks move between exchanges: all of them right, none twice, and nothing that a stranger sends does harm."""

import pytest

from tests.worker_peer.parts import LOOPBACK, Node, Nodes, RawChild, Sample, sample, until
from wire.bitmap import PieceSet
from wire.errors import ErrorCode
from wire.framing import MAGIC, MAX_FRAME_BYTES, to_frames
from wire.messages import Alive, Blocks, NoBlocks, PieceFailure
from worker_peer.core.fetching import Done, Lost
from worker_peer.exchange import BlocksStored, StoreBroke
from worker_peer.host.store import StoreFull


def everything(content: Sample) -> range:
    return range(content.layout.piece_count)


def lost(content: Sample, piece: int, parent: str, failure: PieceFailure, lease: int = 1) -> Lost:
    return Lost(content.task, lease, piece, parent, failure)


async def pair(nodes: Nodes, content: Sample, *pieces: int) -> tuple[Node, Node]:
    """A parent with these pieces, and a child with none."""
    parent, child = nodes.node("parent"), nodes.node("child")
    parent.share(content, *pieces)
    child.share(content)
    await parent.settled()
    return parent, child


# -- blocks move ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [0, 1, 1023, 1024, 1025, 4096, 4097, 3 * 4096, 10 * 4096 + 17])
async def test_every_byte_arrives_and_is_counted_on_both_sides(nodes: Nodes, length: int) -> None:
    content = sample(length)
    parent, child = nodes.node("parent"), nodes.node("child")
    parent.share(content, *everything(content))
    file = child.share(content)
    await parent.settled()
    child.fetch(content, parent, *everything(content), lease=3)
    done = await child.told.until(Done, content.layout.piece_count)
    assert {(each.task, each.lease, each.piece, each.parent) for each in done} == {
        (content.task, 3, piece, "parent") for piece in everything(content)
    }
    assert all(each.digests == content.digests(each.piece) for each in done)
    assert bytes(file.read(0, length)) == content.data
    assert file.have.is_full
    await parent.settled()
    assert child.exchange.received_bytes == {"parent": length}
    assert parent.exchange.sent_bytes == length
    stored = [(each.piece, each.first + number) for each in child.told.of(BlocksStored) for number in range(each.count)]
    assert sorted(stored) == [(piece, block) for piece in everything(content) for block in content.layout.blocks_of(piece)]
    assert parent.exchange.refused == child.exchange.refused == {}
    assert parent.exchange.served_at == {content.task: parent.clock.at}


async def test_what_a_child_has_it_serves(nodes: Nodes) -> None:
    content = sample(5 * 4096)
    parent, child = await pair(nodes, content, *everything(content))
    grandchild = nodes.node("grandchild")
    file = grandchild.share(content)
    child.fetch(content, parent, 1, 3)
    await child.told.until(Done, 2)
    child.exchange.unshare("0" * 64)  # not its task: nothing happens
    grandchild.fetch(content, child, 1, 3)
    await grandchild.told.until(Done, 2)
    await child.settled()
    assert parent.exchange.sent_bytes == child.exchange.sent_bytes == 2 * 4096
    assert file.have == PieceSet.of(5, [1, 3])
    assert bytes(file.read(4096, 4096)) == content.piece(1)


async def test_a_piece_that_came_another_way_is_served(nodes: Nodes) -> None:
    content = sample(2 * 4096)
    parent, child = nodes.node("parent"), nodes.node("child")
    file = parent.share(content)
    child.share(content)
    child.fetch(content, parent, 0)
    assert await child.told.until(Lost) == [lost(content, 0, "parent", PieceFailure.REFUSED)]
    file.write(0, content.piece(0))
    file.commit(0, content.digests(0))
    parent.exchange.piece_available(content.task, 0)
    await parent.settled()
    child.fetch(content, parent, 0, lease=2)
    (done,) = await child.told.until(Done)
    assert done.lease == 2


async def test_blocks_are_passed_on_before_their_piece_is_whole(nodes: Nodes) -> None:
    content = sample(4096)
    source, child, grandchild = nodes.scripted("source"), nodes.node("child"), nodes.node("grandchild")
    child.share(content)
    grandchild.share(content)
    child.fetch(content, source, 0)
    requests = [await source.request() for _ in range(4)]
    grandchild.fetch(content, child, 0)
    source.give(*requests[1], content)
    (early,) = await grandchild.told.until(BlocksStored)
    assert (early.piece, early.first, early.count) == (0, 1, 1)
    assert child.told.of(Done) == []
    for request in (requests[0], requests[2], requests[3]):
        source.give(*request, content)
    await grandchild.told.until(Done)
    await child.settled()
    assert child.exchange.sent_bytes == 4096
    assert grandchild.exchange.received_bytes == {"child": 4096}


async def test_leases_in_work_are_known(nodes: Nodes) -> None:
    content = sample(2 * 1024, 1024)
    source, child = nodes.scripted("source"), nodes.node("child")
    child.share(content)
    child.fetch(content, source, 0, lease=5)
    child.fetch(content, source, 1, lease=6)
    await until(lambda: child.exchange.leases() == {5, 6}, "both leases in work")
    source.give(*(await source.request()), content)
    await child.told.until(Done)
    await until(lambda: child.exchange.leases() == {6}, "one lease in work")
    child.exchange.stop_fetching(content.task)
    await until(lambda: child.exchange.leases() == set(), "no lease in work")


async def test_blocks_are_told_only_to_who_follows_them(nodes: Nodes) -> None:
    content = sample(2 * 4096)
    parent, child = nodes.node("parent"), nodes.node("child")
    parent.share(content, 0, 1)
    file = content.file(child.store)
    child.exchange.share(content.task, file, PieceSet(2))
    child.fetch(content, parent, 0)
    await child.told.until(Done)
    assert child.told.of(BlocksStored) == []
    child.exchange.follow_blocks(content.task)
    child.fetch(content, parent, 1)
    await child.told.until(Done, 2)
    assert {each.piece for each in child.told.of(BlocksStored)} == {1}


# -- what must not be believed ----------------------------------------------------------------------------------------------


async def test_wrong_bytes_are_refused_and_the_rest_is_taken(nodes: Nodes) -> None:
    content = sample(3 * 4096)
    parent, child = nodes.node("parent"), nodes.node("child")
    spoilt = Sample(layout=content.layout, data=bytes(reversed(content.data[:4096])) + content.data[4096:])
    parent.share(spoilt, *everything(content))
    file = child.share(content)
    await parent.settled()
    child.fetch(content, parent, *everything(content))
    assert await child.told.until(Lost) == [lost(content, 0, "parent", PieceFailure.DIGEST)]
    await child.told.until(Done, 2)
    assert child.exchange.refused["wrong_digest"] == 1
    await child.settled()
    assert file.have == PieceSet.of(3, [1, 2])
    assert bytes(file.read(0, 4096)) == bytes(4096), "wrong bytes were written"
    grandchild = nodes.node("grandchild")
    grandchild.share(content)
    grandchild.fetch(content, child, 0)
    assert await grandchild.told.until(Lost) == [lost(content, 0, "child", PieceFailure.REFUSED)]


async def test_one_flipped_bit_in_the_last_block_is_seen(nodes: Nodes) -> None:
    content = sample(4096 + 1)
    source, child = nodes.scripted("source"), nodes.node("child")
    child.share(content)
    child.fetch(content, source, 1)
    identity, _ = await source.request()
    head = Blocks(task=content.task, piece=1, first=0, count=1)
    source.send(identity, head, bytes([content.data[-1] ^ 1]))
    assert await child.told.until(Lost) == [lost(content, 1, "source", PieceFailure.DIGEST)]
    assert child.told.of(BlocksStored) == []


async def test_blocks_that_nobody_asked_for_are_counted_and_not_stored(nodes: Nodes) -> None:
    content = sample(2 * 4096)
    source, child = nodes.scripted("source"), nodes.node("child")
    file = child.share(content)
    child.fetch(content, source, 0)
    identity, request = await source.request()
    unasked = content.run(1, 0, 1)
    source.send(identity, Blocks(task=content.task, piece=1, first=0, count=1), unasked)
    source.send(identity, Blocks(task="0" * 64, piece=0, first=0, count=1), unasked)
    source.send(identity, Blocks(task=content.task, piece=0, first=0, count=2), content.run(0, 0, 1))
    source.send(identity, Blocks(task=content.task, piece=0, first=0, count=1), content.run(0, 0, 1)[:-1])
    source.give(identity, request, content)
    source.give(identity, request, content)
    await until(lambda: child.exchange.refused.get("not_asked_for") == 5, "five refusals")
    assert child.told.of(BlocksStored) == [BlocksStored(content.task, 0, 0, 1)]
    assert bytes(file.read(4096, 4096)) == bytes(4096)


GOOD_HEAD = to_frames(Alive())[0]
GARBAGE: list[tuple[str, list[bytes]]] = [
    ("wrong_frame_count", [b"a", b"b", b"c"]),
    ("short_head", [b"DMSF"]),
    ("short_head", [b""]),
    ("bad_magic", [b"GET / HTTP/1.1\r\n\r\n"]),
    ("major_mismatch", [MAGIC + bytes([9, 9, 0, 0, 0, 0, 0, 0])]),
    ("unknown_kind", [MAGIC + bytes([1, 250, 0, 0, 0, 0, 0, 0])]),
    ("body_too_large", [MAGIC + bytes([1, 9, 0, 0, 255, 255, 255, 255])]),
    ("body_length_mismatch", [MAGIC + bytes([1, 9, 0, 0, 0, 0, 0, 9])]),
    ("bad_encoding", [MAGIC + bytes([1, 9, 0, 0, 0, 0, 0, 1]) + b"\xc1"]),
    ("bad_compression", [MAGIC + bytes([1, 9, 1, 0, 0, 0, 0, 5]) + b"\x00\x00\x01\x00\xff"]),
    ("missing_field", [MAGIC + bytes([1, 32, 0, 0, 0, 0, 0, 1]) + b"\x80"]),
    ("unexpected_payload", [bytes(GOOD_HEAD), b"payload"]),
    ("unexpected_kind", [bytes(GOOD_HEAD)]),
]


@pytest.mark.parametrize(("reason", "frames"), GARBAGE)
async def test_garbage_at_the_serving_socket_is_counted_and_harms_nobody(nodes: Nodes, reason: str, frames: list[bytes]) -> None:
    content = sample(4096)
    parent, child = await pair(nodes, content, 0)
    stranger = RawChild(nodes.context, parent.endpoint)
    stranger.say(*frames)
    await until(lambda: parent.exchange.refused == {reason: 1}, reason)
    child.fetch(content, parent, 0)
    await child.told.until(Done)
    stranger.ask(content, 0, 1, 2)
    answer = await stranger.answer()
    assert answer.message == Blocks(task=content.task, piece=0, first=1, count=2)
    assert answer.payload is not None
    assert bytes(answer.payload) == content.run(0, 1, 2)
    stranger.close()


@pytest.mark.parametrize(("reason", "frames"), GARBAGE)
async def test_garbage_from_a_parent_is_counted_and_its_blocks_are_still_taken(
    nodes: Nodes, reason: str, frames: list[bytes]
) -> None:
    content = sample(1024, 1024)
    source, child = nodes.scripted("source"), nodes.node("child")
    child.share(content)
    child.fetch(content, source, 0)
    identity, request = await source.request()
    source.send_raw(identity, list(frames))
    source.give(identity, request, content)
    await child.told.until(Done)
    assert child.exchange.refused == {reason: 1}


async def test_garbage_among_the_hints_is_counted(nodes: Nodes) -> None:
    content = sample(1024, 1024)
    source, child = nodes.scripted("source"), nodes.node("child")
    child.share(content)
    child.fetch(content, source, 0)
    assert await source.listening.get() == b"\1" + content.task.encode()
    source._publisher.send([content.task.encode(), b"nonsense of sixteen bytes"])
    source.hint(content.task, Alive())
    await until(lambda: child.exchange.refused == {"bad_magic": 1}, "one refusal")
    source.give(*(await source.request()), content)
    await child.told.until(Done)


async def test_a_frame_longer_than_any_may_be_ends_its_own_connection_only(nodes: Nodes) -> None:
    content = sample(4096)
    parent, child = await pair(nodes, content, 0)
    stranger = RawChild(nodes.context, parent.endpoint)
    stranger.say(bytes(MAX_FRAME_BYTES + 1))
    child.fetch(content, parent, 0)
    await child.told.until(Done)
    assert parent.exchange.refused == {}
    stranger.close()


@pytest.mark.parametrize(("piece", "first", "count"), [(1, 0, 1), (0, 4, 1), (0, 3, 2), (0, 0, 65536), (1048575, 0, 1)])
async def test_blocks_that_cannot_be_are_refused(nodes: Nodes, piece: int, first: int, count: int) -> None:
    content = sample(4096)
    parent, _ = await pair(nodes, content, 0)
    stranger = RawChild(nodes.context, parent.endpoint)
    stranger.ask(content, piece, first, count)
    answer = await stranger.answer()
    assert answer.message == NoBlocks(task=content.task, piece=piece, code=ErrorCode.BLOCKS_MISSING)
    stranger.close()


async def test_a_task_that_is_not_here_is_refused(nodes: Nodes) -> None:
    content = sample(4096)
    parent, child = nodes.node("parent"), nodes.node("child")
    child.share(content)
    child.fetch(content, parent, 0)
    assert await child.told.until(Lost) == [lost(content, 0, "parent", PieceFailure.REFUSED)]


@pytest.mark.parametrize("endpoint", ["", "nonsense", "tcp://127.0.0.1", "tcp://127.0.0.1:99999", "ftp://127.0.0.1:21"])
async def test_an_endpoint_that_cannot_be_one_costs_its_own_pieces_only(nodes: Nodes, endpoint: str) -> None:
    content = sample(2 * 4096)
    parent, child = await pair(nodes, content, 0, 1)
    child.exchange.fetch(content.task, 9, "liar", endpoint, endpoint, content.wanted(0))
    assert await child.told.until(Lost) == [lost(content, 0, "liar", PieceFailure.GONE, lease=9)]
    child.exchange.fetch(content.task, 2, "parent", parent.endpoint, endpoint, content.wanted(0, 1))
    await child.told.until(Done, 2)


async def test_a_lease_for_a_piece_that_is_here_fetches_nothing(nodes: Nodes) -> None:
    content = sample(2 * 4096)
    source, child = nodes.scripted("source"), nodes.node("child")
    file = child.share(content, 0)
    child.fetch(content, source, 0, 1)
    for number in range(4):
        identity, request = await source.request()
        assert (request.piece, request.first) == (1, number)
        source.give(identity, request, content)
    await child.told.until(Done)
    assert file.have.is_full
    assert child.told.of(StoreBroke) == []


# -- contents that break or go ----------------------------------------------------------------------------------------------


async def test_a_hard_linked_content_that_its_user_edits_is_served_no_more(nodes: Nodes) -> None:
    content = sample(3 * 4096)
    parent, child = nodes.node("parent"), nodes.node("child")
    file = parent.share(content, *everything(content))
    child_file = child.share(content)
    parent.exchange.mark_linked(content.task)
    await parent.settled()
    child.fetch(content, parent, 0)
    await child.told.until(Done)
    output = file.path.with_name("output")
    output.hardlink_to(file.path)
    with output.open("ab") as edited:
        edited.write(b"the user's own words")
    child.fetch(content, parent, 1, 2, lease=2)
    assert await child.told.until(Lost, 2) == [
        lost(content, 1, "parent", PieceFailure.REFUSED, lease=2),
        lost(content, 2, "parent", PieceFailure.REFUSED, lease=2),
    ]
    (broke,) = await parent.told.until(StoreBroke)
    assert (broke.task, broke.full) == (content.task, False)
    assert "written to" in broke.message
    assert child_file.have == PieceSet.of(3, [0])
    assert parent.exchange.sent_bytes == 4096


async def test_a_content_that_goes_is_refused_to_those_who_wait_for_it(nodes: Nodes) -> None:
    content = sample(4096)
    source, child, grandchild = nodes.scripted("source"), nodes.node("child"), nodes.node("grandchild")
    child.share(content)
    grandchild.share(content)
    child.fetch(content, source, 0)
    identity, request = await source.request()
    grandchild.fetch(content, child, 0)
    source.give(identity, request, content)
    await grandchild.told.until(BlocksStored)  # so its other three requests are parked
    child.exchange.unshare(content.task)
    assert await grandchild.told.until(Lost) == [lost(content, 0, "child", PieceFailure.REFUSED)]


async def test_a_request_whose_turn_comes_after_the_content_went_is_answered(nodes: Nodes) -> None:
    content = sample(4 * 4096)
    parent = nodes.node("parent", upload_rate=1)
    parent.share(content, *everything(content))
    stranger = RawChild(nodes.context, parent.endpoint)
    for piece in (0, 1):
        stranger.ask(content, piece, 0, 4)
    assert isinstance((await stranger.answer()).message, Blocks)  # now the limit's debt is hours
    parent.exchange.unshare(content.task)
    await parent.pass_time(24 * 3600.0)
    assert (await stranger.answer()).message == NoBlocks(task=content.task, piece=1, code=ErrorCode.TASK_UNKNOWN)
    stranger.close()


async def test_a_store_that_is_full_ends_the_task_with_that_word(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    content = sample(4096)
    parent, child = nodes.node("parent"), nodes.node("child")
    parent.share(content, 0)
    file = child.share(content)

    def write(offset: int, view: memoryview) -> None:
        raise StoreFull(file.path, 4096, 0)

    monkeypatch.setattr(file, "write", write)
    await parent.settled()
    child.fetch(content, parent, 0)
    (broke,) = await child.told.until(StoreBroke)
    assert (broke.task, broke.full) == (content.task, True)
    assert child.told.of(Done) == []
    assert len(file.have) == 0


async def test_files_are_closed_when_they_are_not_shared_any_more(nodes: Nodes) -> None:
    content = sample(4096)
    node = nodes.node("node")
    file = node.share(content, 0)
    node.exchange.unshare(content.task)
    await node.settled()
    with pytest.raises(ValueError, match="closed"):
        file.read(0, 1)
    other = node.share(content, 0)
    await node.exchange.close()
    with pytest.raises(ValueError, match="closed"):
        other.read(0, 1)
    await node.exchange.close()


async def test_a_port_that_is_taken_is_named(nodes: Nodes) -> None:
    first = nodes.node("first")
    with pytest.raises(OSError, match=rf"{LOOPBACK}:{first.exchange.data_port}.*choose another port"):
        type(first.exchange)(
            nodes.context,
            peer_id="second",
            bind_ip=LOOPBACK,
            port=first.exchange.data_port,
            clock=first.clock,
            loop=first.exchange._loop,
            on_events=first.told,
            limits=first.limits,
        )
