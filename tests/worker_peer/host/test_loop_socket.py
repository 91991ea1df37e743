"""A socket on the loop: every message arrives in its order, a bad one silences nothing, and sending says what became of it."""

import asyncio
import logging
from collections.abc import Callable, Iterator

import pytest
import zmq

from worker_peer.host.loop_socket import LoopSocket, Sent

MORE_THAN_A_BATCH = 700
_WAIT_S = 20.0


class Frames:
    """What a socket has given, for a test to wait for."""

    def __init__(self) -> None:
        self.all: list[list[bytes]] = []
        self._came = asyncio.Event()

    def __call__(self, frames: list[bytes]) -> None:
        self.all.append(frames)
        self._came.set()

    async def until(self, count: int) -> list[list[bytes]]:
        """So many have come."""
        async with asyncio.timeout(_WAIT_S):
            while len(self.all) < count:
                self._came.clear()
                await self._came.wait()
        return self.all


@pytest.fixture
def make() -> Iterator[Callable[..., "zmq.Socket[bytes]"]]:
    """Makes sockets that end with the test."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()

    sockets = []

    def made(kind: int, **options: int) -> "zmq.Socket[bytes]":
        socket = context.socket(kind)
        sockets.append(socket)
        socket.setsockopt(zmq.LINGER, 0)
        for name, value in options.items():
            socket.setsockopt(getattr(zmq, name), value)
        return socket

    yield made
    for socket in sockets:
        socket.close(0)
    context.term()


def bound(socket: "zmq.Socket[bytes]") -> str:
    """Its endpoint."""
    socket.bind("tcp://127.0.0.1:*")
    return socket.getsockopt_string(zmq.LAST_ENDPOINT)


async def test_more_than_a_batch_arrives_in_its_order(make: Callable[..., "zmq.Socket[bytes]"]) -> None:
    router, dealer, came = make(zmq.ROUTER), make(zmq.DEALER, SNDHWM=0), Frames()
    endpoint, receiving = bound(router), LoopSocket(router, came)
    dealer.connect(endpoint)
    sending = LoopSocket(dealer, Frames())
    sent = [b"%d" % number for number in range(MORE_THAN_A_BATCH)]
    assert {sending.send([each]) for each in sent} == {Sent.YES}
    assert [frames[1] for frames in await came.until(MORE_THAN_A_BATCH)] == sent
    sending.close()
    receiving.close()


async def test_what_waits_in_the_socket_already_is_read(make: Callable[..., "zmq.Socket[bytes]"]) -> None:
    """The descriptor is edge-triggered: its edge came before anybody looked."""
    router, dealer, came = make(zmq.ROUTER), make(zmq.DEALER), Frames()
    dealer.connect(bound(router))
    dealer.send(b"early")
    assert await asyncio.to_thread(router.poll, 10_000)
    receiving = LoopSocket(router, came)
    assert [frames[1] for frames in await came.until(1)] == [b"early"]
    receiving.close()


async def test_a_message_that_is_handled_wrongly_does_not_silence_the_socket(
    make: Callable[..., "zmq.Socket[bytes]"], caplog: pytest.LogCaptureFixture
) -> None:
    router, dealer, came = make(zmq.ROUTER), make(zmq.DEALER), Frames()

    def handle(frames: list[bytes]) -> None:
        if frames[1] == b"bad":
            raise RuntimeError("a bug")
        came(frames)

    endpoint, receiving = bound(router), LoopSocket(router, handle)
    dealer.connect(endpoint)
    for each in (b"bad", b"good"):
        dealer.send(each)
    assert [frames[1] for frames in await came.until(1)] == [b"good"]
    (record,) = [each for each in caplog.records if each.levelno >= logging.ERROR]
    assert record.getMessage() == "a message could not be handled"
    receiving.close()


async def test_sending_says_what_became_of_the_message(make: Callable[..., "zmq.Socket[bytes]"]) -> None:
    dealer = make(zmq.DEALER, SNDHWM=1)
    endpoint = bound(make(zmq.PAIR))  # a port where nobody will ever read
    dealer.connect(endpoint)
    sending = LoopSocket(dealer, Frames())
    told = [sending.send([b"x"]) for _ in range(3)]
    assert told[0] is Sent.YES
    assert told[-1] is Sent.FULL
    router = LoopSocket(make(zmq.ROUTER, ROUTER_MANDATORY=1), Frames())
    assert router.send([b"nobody", b"x"]) is Sent.UNREACHABLE
    for socket in (sending, router):
        socket.close()
        socket.close()
        assert socket.send([b"nobody", b"x"]) is Sent.UNREACHABLE


async def test_a_socket_that_is_closed_in_the_middle_gives_nothing_more(make: Callable[..., "zmq.Socket[bytes]"]) -> None:
    router, dealer = make(zmq.ROUTER), make(zmq.DEALER)
    came: list[bytes] = []
    closed = asyncio.Event()

    def handle(frames: list[bytes]) -> None:
        came.append(frames[1])
        receiving.close()
        closed.set()

    dealer.connect(bound(router))
    for each in (b"first", b"second"):
        dealer.send(each)
    receiving = LoopSocket(router, handle)
    await asyncio.wait_for(closed.wait(), _WAIT_S)
    receiving._drain()  # what was scheduled before it was closed comes after
    assert came == [b"first"]
