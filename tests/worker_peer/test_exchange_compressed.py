"""Blocks on slow ways: compressed where they shrink and the child would have them so, and never believed unverified."""

import dataclasses

import lz4.block
import pytest

from tests.worker_peer.parts import Nodes, RawChild, Sample, sample, until
from wire.framing import to_frames
from wire.messages import Blocks, GetBlocks, PieceFailure
from worker_peer.core.fetching import Done, Lost


def text(length: int = 4 * 4096) -> Sample:
    """A content that shrinks a lot."""
    made = sample(length)
    return dataclasses.replace(made, data=(b"the quick brown fox " * length)[:length])


def ask(child: RawChild, content: Sample, piece: int, *, lz4: bool) -> None:
    child.say(*to_frames(GetBlocks(task=content.task, piece=piece, first=0, count=4, lz4=lz4)))


async def test_a_parent_compresses_what_shrinks_for_whom_would_have_it_so(nodes: Nodes) -> None:
    content = text()
    parent = nodes.node("parent")
    parent.share(content, 0, 1)
    child = RawChild(nodes.context, parent.endpoint)
    ask(child, content, 0, lz4=True)
    answer = await child.answer()
    assert isinstance(answer.message, Blocks)
    assert answer.payload is not None
    assert answer.message.inflated == 4096
    assert len(answer.payload) < 400
    assert lz4.block.decompress(answer.payload, uncompressed_size=4096) == content.piece(0)
    ask(child, content, 1, lz4=False)
    plain = await child.answer()
    assert plain.message == Blocks(task=content.task, piece=1, first=0, count=4)
    assert plain.payload is not None
    assert bytes(plain.payload) == content.piece(1)
    await until(lambda: parent.exchange.sent_bytes == 2 * 4096, "both are counted as the content's bytes")
    child.close()


async def test_a_parent_sends_what_does_not_shrink_as_it_is(nodes: Nodes) -> None:
    content = sample(4 * 4096)
    parent = nodes.node("parent")
    parent.share(content, 0, 1, 2, 3)
    child = RawChild(nodes.context, parent.endpoint)
    for piece in range(4):
        ask(child, content, piece, lz4=True)
        answer = await child.answer()
        assert answer.message == Blocks(task=content.task, piece=piece, first=0, count=4)
    child.close()


async def test_a_child_asks_for_it_once_it_knows_the_way_to_be_slow_and_takes_it(nodes: Nodes) -> None:
    content = text()
    source, child = nodes.scripted("source"), nodes.node("child")
    file = child.share(content)
    child.fetch(content, source, 0, 1, 2, 3)
    asked = [await source.request() for _ in range(4)]
    assert not any(request.lz4 for _, request in asked), "nothing is known of the way yet"
    await child.pass_time(1.0)
    while len(asked) or len(child.told.of(Done)) < 4:
        identity, request = asked.pop(0) if asked else await source.request()
        run = content.run(request.piece, request.first, request.count)
        head = Blocks(task=request.task, piece=request.piece, first=request.first, count=request.count, inflated=len(run))
        source.send(identity, head, lz4.block.compress(run, store_size=False))
        if request.piece == 3 and request.first + request.count == 4:
            assert request.lz4
            break
    await child.told.until(Done, 4)
    assert bytes(file.read(0, len(content.data))) == content.data
    assert child.exchange.refused == {}


@pytest.mark.parametrize(
    ("payload", "inflated"),
    [
        (lz4.block.compress(text().piece(0)[:1023], store_size=False), 1024),
        (lz4.block.compress(text().piece(0)[:1025], store_size=False), 1024),
        (lz4.block.compress(b"x" * 1024, store_size=False), 1024),
        (b"no lz4 block at all", 1024),
        (b"", 1024),
    ],
)
async def test_what_does_not_inflate_to_the_block_is_a_wrong_block(nodes: Nodes, payload: bytes, inflated: int) -> None:
    content = text(1024)
    source, child = nodes.scripted("source"), nodes.node("child")
    file = child.share(content)
    child.fetch(content, source, 0)
    identity, request = await source.request()
    head = Blocks(task=request.task, piece=0, first=0, count=1, inflated=inflated)
    source.send(identity, head, payload)
    assert await child.told.until(Lost) == [Lost(content.task, 1, 0, "source", PieceFailure.DIGEST)]
    assert child.exchange.refused == {"wrong_digest": 1}
    assert bytes(file.read(0, 1024)) == bytes(1024), "nothing of it was stored"


async def test_a_content_of_another_length_was_not_asked_for(nodes: Nodes) -> None:
    content = text(1024)
    source, child = nodes.scripted("source"), nodes.node("child")
    child.share(content)
    child.fetch(content, source, 0)
    identity, request = await source.request()
    bomb = lz4.block.compress(bytes(1 << 24), store_size=False)
    source.send(identity, Blocks(task=request.task, piece=0, first=0, count=1, inflated=1 << 24), bomb)
    await until(lambda: child.exchange.refused, "a refusal")
    assert child.exchange.refused == {"not_asked_for": 1}


async def test_limits_are_of_what_travels(nodes: Nodes) -> None:
    content = text(64 * 4096)
    parent, child = nodes.node("parent", upload_rate=4096), nodes.node("child", total_rate=4096)
    parent.share(content, *range(64))
    child.share(content)
    child.fetch(content, parent, *range(64))
    # The parent's second block is late, whatever the threads do meanwhile: so the child knows that the way is slow.
    for _ in range(5):
        await child.pass_time(0.1)
    while len(child.told.of(Done)) < 64:
        for node in (parent, child):
            await node.pass_time(0.1)
        await until(lambda: parent.exchange.sent_on_wire == child.exchange.received_in_all, "what was sent is here")
        assert child.clock.at < 1200.0
    sent, received = parent.exchange.sent_on_wire, child.exchange.received_in_all
    assert sent == received < len(content.data) / 2
    assert parent.exchange.sent_bytes == sum(child.exchange.received_bytes.values()) == len(content.data)
    # A second's bytes as they are would take a minute.
    assert received / 4096 - 2 <= child.clock.at - 1000.0 < len(content.data) / 4096
