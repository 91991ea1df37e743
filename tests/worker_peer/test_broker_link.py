"""The link to a supernode: found over HTTP, greeted, kept alive, missed at once, found again."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest
import zmq

from tests.worker_peer.parts import FakeClock, until
from tests.worker_peer.scripted_supernode import ScriptedSupernode
from wire.errors import ErrorCode
from wire.messages import Alive, Hello, Leave, LeaveReason, Message, NotKnown, Refused, Role, Task, TaskState
from wire.version import PROTOCOL
from worker_peer.broker_link import BrokerLink, LinkHandlers
from worker_peer.host.background import Background
from worker_peer.supernodes import Supernodes

TASK = "a" * 64
NEWS = Task(task=TASK, state=TaskState.PROBING)
LEAVE = Leave(task=TASK, reason=LeaveReason.CANCELLED)


@dataclass(kw_only=True)
class Peer:
    """What a link belongs to."""

    context: zmq.Context[zmq.Socket[bytes]]
    background: Background
    clock: FakeClock = field(default_factory=FakeClock)
    ups: list[str] = field(default_factory=list)
    downs: list[str] = field(default_factory=list)
    heard: list[Message] = field(default_factory=list)

    def hello(self) -> Hello:
        return Hello(protocol=PROTOCOL, peer="10.0.0.1-1-1.000", role=Role.PEER)

    def supernodes(self) -> Supernodes:
        handlers = LinkHandlers(
            on_up=lambda link: self.ups.append(link.node),
            on_down=lambda link: self.downs.append(link.node),
            on_message=lambda _, message: self.heard.append(message),
            alive=lambda: Alive(leases=(3,), received=(1, 2, 3, 4), sent=5),
        )
        return Supernodes(context=self.context, hello=self.hello, handlers=handlers, clock=self.clock, background=self.background)


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    """A peer without supernodes."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    made = Peer(context=context, background=Background())
    yield made
    await made.background.close()
    context.destroy(linger=0)


@pytest.fixture
async def supernode(peer: Peer) -> AsyncIterator[ScriptedSupernode]:
    """A supernode that welcomes."""
    async with ScriptedSupernode(peer.context) as made:
        yield made


@pytest.fixture
async def supernodes(peer: Peer) -> AsyncIterator[Supernodes]:
    """The peer's links, closed at the end."""
    made = peer.supernodes()
    yield made
    made.close()


async def is_up(link: BrokerLink) -> None:
    await until(lambda: link.is_up, f"{link.node} is up")


async def test_a_supernode_says_how_often_and_asks_when_it_doubts(
    peer: Peer, supernode: ScriptedSupernode, supernodes: Supernodes
) -> None:
    link = supernodes.link(supernode.node)
    await is_up(link)
    await until(lambda: len(supernode.alive) >= 1, "the first word of life")
    supernode.say(Alive(every_s=1000.0))
    supernode.say(NEWS)
    await until(lambda: NEWS in peer.heard, "both have come")
    # The wait that has begun is of the old length; after it only what is asked for is said.
    supernode.say(Alive(answer=True))
    count = len(supernode.alive)
    await until(lambda: len(supernode.alive) > count, "an answer")
    assert peer.downs == []


async def test_a_supernode_is_greeted_and_told_that_the_peer_is_alive(
    peer: Peer, supernode: ScriptedSupernode, supernodes: Supernodes
) -> None:
    link = supernodes.link(supernode.node)
    assert not link.send(LEAVE)
    assert await supernode.hears(Hello) == peer.hello()
    await is_up(link)
    assert (peer.ups, link.supernode_run, link.failed_at) == ([supernode.node], "run-1", None)
    assert link.decided.is_set()
    await until(lambda: len(supernode.alive) >= 3, "three words of life")
    assert supernode.alive[0] == Alive(leases=(3,), received=(1, 2, 3, 4), sent=5)
    assert link.send(LEAVE)
    assert await supernode.hears(Leave) == LEAVE


async def test_what_a_supernode_says_is_passed_on_in_order(
    peer: Peer, supernode: ScriptedSupernode, supernodes: Supernodes
) -> None:
    await is_up(supernodes.link(supernode.node))
    supernode.say(NEWS)
    supernode.say(Alive())
    supernode.say_raw([b"nonsense"])
    supernode.say(LEAVE)
    await until(lambda: len(peer.heard) == 2, "two messages")
    assert peer.heard == [NEWS, LEAVE]
    assert peer.downs == []


async def test_a_supernode_that_has_forgotten_the_peer_is_greeted_again(
    peer: Peer, supernode: ScriptedSupernode, supernodes: Supernodes
) -> None:
    link = supernodes.link(supernode.node)
    await is_up(link)
    await supernode.hears(Hello)
    supernode.run_id = "run-2"
    supernode.say(NotKnown())
    await supernode.hears(Hello)
    await until(lambda: len(peer.ups) == 2, "up again, so that all is registered again")
    assert (link.supernode_run, peer.downs) == ("run-2", [])


async def test_a_supernode_that_hangs_up_is_missed_at_once_and_found_again(
    peer: Peer, supernode: ScriptedSupernode, supernodes: Supernodes
) -> None:
    link = supernodes.link(supernode.node)
    await is_up(link)
    port = int(supernode.node.rpartition(":")[2])
    await supernode.close()
    await until(lambda: peer.downs, "the supernode is missed")
    assert (link.is_up, link.failed_at) == (False, peer.clock.at)
    assert not link.send(LEAVE)
    await supernode.start(port)
    await is_up(link)
    assert peer.ups == [supernode.node] * 2
    assert link.failed_at is None


async def test_a_supernode_that_falls_silent_is_given_up_after_its_time(
    peer: Peer, supernode: ScriptedSupernode, supernodes: Supernodes, caplog: pytest.LogCaptureFixture
) -> None:
    link = supernodes.link(supernode.node)
    await is_up(link)
    supernode.welcomes = False
    # An answer that was on its way when it fell silent must arrive before the clock moves: it would count as heard later.
    count = len(supernode.alive)
    await until(lambda: len(supernode.alive) > count + 2, "what was on its way has arrived")
    peer.clock.at += 4.9
    count = len(supernode.alive)
    await until(lambda: len(supernode.alive) > count + 1, "it is still spoken to")
    assert peer.downs == []
    with caplog.at_level(logging.WARNING):
        peer.clock.at += 0.2
        await until(lambda: peer.downs, "it is given up")
    assert "is silent" in caplog.text


async def refused(supernode: ScriptedSupernode) -> None:
    supernode.welcomes = False
    await supernode.hears(Hello)
    supernode.say(Refused(code=ErrorCode.MAJOR_MISMATCH, message="run the same release on both ends"))


def document(body: bytes, status: int = 200) -> Callable[[ScriptedSupernode], None]:
    def prepare(supernode: ScriptedSupernode) -> None:
        supernode.document, supernode.status = body, status

    return prepare


def silent(supernode: ScriptedSupernode) -> None:
    supernode.welcomes = False


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        pytest.param(document(b"{}"), "names no broker", id="no broker"),
        pytest.param(document(b'{"broker": 8003}'), "names no broker", id="a number"),
        pytest.param(document(b"[]"), "not a cluster document", id="a list"),
        pytest.param(document(b"<html>"), "/cluster", id="no JSON"),
        pytest.param(document(b"no", 500), "500", id="an error"),
        pytest.param(document(b'{"broker": "nonsense"}'), "Invalid argument", id="an endpoint that is none"),
        pytest.param(silent, "its broker does not answer", id="a broker that says nothing"),
    ],
)
async def test_what_is_no_supernode_is_named_once_and_tried_again(
    peer: Peer,
    supernode: ScriptedSupernode,
    supernodes: Supernodes,
    caplog: pytest.LogCaptureFixture,
    prepare: Callable[[ScriptedSupernode], None],
    words: str,
) -> None:
    prepare(supernode)
    with caplog.at_level(logging.WARNING):
        link = supernodes.link(supernode.node)
        await until(lambda: supernode.http_requests >= 2, "it is tried again")
    assert link.decided.is_set()
    assert (peer.ups, peer.downs, link.is_up) == ([], [], False)
    assert link.failed_at == peer.clock.at
    assert [words in record.message for record in caplog.records if "cannot be reached" in record.message] == [True]
    supernode.document, supernode.status, supernode.welcomes = b"", 200, True
    await is_up(link)


async def test_a_supernode_that_refuses_is_not_waited_for(
    peer: Peer, supernode: ScriptedSupernode, supernodes: Supernodes, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        link = supernodes.link(supernode.node)
        await refused(supernode)
        await asyncio.wait_for(link.decided.wait(), 20)
    assert (link.is_up, peer.ups) == (False, [])
    assert "run the same release on both ends" in caplog.text


async def test_a_port_that_nobody_listens_at_is_known_at_once(peer: Peer, supernodes: Supernodes) -> None:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    node = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()
    await server.wait_closed()
    link = supernodes.link(node)
    await asyncio.wait_for(link.decided.wait(), 0.5)
    assert link.failed_at is not None


# -- the choice among several ---------------------------------------------------------------------------------------------


async def test_the_first_that_is_up_is_chosen_else_the_first_not_found_dead(
    peer: Peer, supernode: ScriptedSupernode, supernodes: Supernodes
) -> None:
    async with ScriptedSupernode(peer.context) as second:
        supernode.status = 500
        nodes = (supernode.node, second.node)
        first = supernodes.choose(nodes)
        assert first is not None
        assert first.node == supernode.node  # nothing is known of either
        await is_up(supernodes.link(second.node))
        assert supernodes.choose(nodes) is supernodes.link(second.node)
        supernode.status = 200
        await is_up(first)
        assert supernodes.choose(nodes) is first
        assert supernodes.choose(()) is None
        assert sorted(link.node for link in supernodes) == sorted(nodes)


async def test_none_is_chosen_where_all_are_dead(peer: Peer, supernode: ScriptedSupernode, supernodes: Supernodes) -> None:
    supernode.status = 500
    link = supernodes.link(supernode.node)
    await asyncio.wait_for(link.decided.wait(), 20)
    assert supernodes.choose((supernode.node,)) is None
    assert supernodes.link(supernode.node) is link


async def test_closing_hangs_up(peer: Peer, supernode: ScriptedSupernode, supernodes: Supernodes) -> None:
    link = supernodes.link(supernode.node)
    await is_up(link)
    supernodes.close()
    assert not link.send(LEAVE)
    await until(lambda: len(peer.background) == 0, "its task has ended")
    assert peer.downs == []
