"""What stands around a peer's parts in tests: a clock to turn, a content with its digests, exchanges, and a parent by script."""

import asyncio
import hashlib
import random
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zmq

from wire.bitmap import PieceSet
from wire.framing import Frame, Received, from_frames, to_frames
from wire.messages import Blocks, GetBlocks, Message
from wire.pieces import PieceLayout
from worker_peer.exchange import Exchange, ExchangeEvent
from worker_peer.host.digests import block_digest
from worker_peer.host.limits import TokenBucket
from worker_peer.host.loop_socket import LoopSocket, Sent
from worker_peer.host.store import Store, TaskFile
from worker_peer.host_limits import HostLimits

LOOPBACK = "127.0.0.1"
_WAIT_S = 20.0


class FakeClock:
    """Time that passes only when a test says so."""

    def __init__(self, at: float = 1000.0) -> None:
        self.at = at

    def now(self) -> float:
        """See Clock."""
        return self.at

    def wall(self) -> float:
        """See Clock."""
        return 1.7e9 + self.at


async def until(condition: Callable[[], Any], what: str) -> None:
    """Return as soon as `condition` holds: for what other threads and processes count. Fails when it does not in time."""
    deadline = time.monotonic() + _WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {_WAIT_S:g} s: {what}"
        await asyncio.sleep(0.005)


def bytes_of(path: Path | str) -> bytes:
    """What a file holds."""
    return Path(path).read_bytes()


@dataclass(kw_only=True)
class Sample:
    """A content as it should be: bytes and digests, cut into pieces."""

    layout: PieceLayout
    data: bytes
    task: str = "7" * 64

    def piece(self, piece: int) -> bytes:
        """A piece's bytes."""
        start, size = self.layout.piece_span(piece)
        return self.data[start : start + size]

    def run(self, piece: int, first: int, count: int) -> bytes:
        """The bytes of consecutive blocks."""
        start, size = self.layout.run_span(piece, first, count)
        return self.data[start : start + size]

    def digests(self, piece: int) -> bytes:
        """The digests of a piece's blocks."""
        return b"".join(block_digest(self.run(piece, block, 1)) for block in self.layout.blocks_of(piece))

    def wanted(self, *pieces: int) -> list[tuple[int, bytes]]:
        """Pieces with their digests, as the exchange fetches them."""
        return [(piece, self.digests(piece)) for piece in pieces]

    @property
    def sha256(self) -> str:
        """The whole content's digest."""
        return "sha256:" + hashlib.sha256(self.data).hexdigest()

    def file(self, store: Store, pieces: Iterable[int] = ()) -> TaskFile:
        """A file of this content that has these pieces."""
        file = store.create(self.task, self.layout)
        for piece in pieces:
            file.write(self.layout.piece_span(piece)[0], self.piece(piece))
            file.commit(piece, self.digests(piece))
        return file


def sample(length: int, piece_length: int = 4096, block_length: int = 1024) -> Sample:
    """Random bytes, always the same for a length."""
    return Sample(layout=PieceLayout(length, piece_length, block_length), data=random.Random(length).randbytes(length))


@dataclass
class Told:
    """Events of an exchange, as they come."""

    events: list[ExchangeEvent] = field(default_factory=list)
    _came: asyncio.Event = field(default_factory=asyncio.Event)

    def __call__(self, events: list[ExchangeEvent]) -> None:
        self.events.extend(events)
        self._came.set()

    def of(self, kind: type) -> list[Any]:
        """Those of one kind."""
        return [event for event in self.events if isinstance(event, kind)]

    async def until(self, kind: type, count: int = 1) -> list[Any]:
        """Wait until so many of a kind have come; these."""
        async with asyncio.timeout(_WAIT_S):
            while len(self.of(kind)) < count:
                self._came.clear()
                await self._came.wait()
        return self.of(kind)


@dataclass(kw_only=True)
class Node:
    """An exchange with its store, clock and events."""

    name: str
    exchange: Exchange
    store: Store
    clock: FakeClock
    told: Told
    limits: HostLimits
    #: Of each download.
    own_limits: dict[str, TokenBucket] = field(default_factory=dict)

    @property
    def endpoint(self) -> str:
        """Where it serves blocks."""
        return f"tcp://{LOOPBACK}:{self.exchange.data_port}"

    @property
    def hint_endpoint(self) -> str:
        """Where it tells hints."""
        return f"tcp://{LOOPBACK}:{self.exchange.hint_port}"

    def share(self, content: Sample, *pieces: int, rate: int = 0) -> TaskFile:
        """Have these pieces, and take the others. The exchange closes the file."""
        file = content.file(self.store, pieces)
        limit = self.own_limits[content.task] = TokenBucket(rate)
        self.exchange.share(content.task, file, PieceSet.of(content.layout.piece_count, pieces), limit=limit)
        self.exchange.follow_blocks(content.task)
        return file

    def fetch(self, content: Sample, parent: "Node | ScriptedParent", *pieces: int, lease: int = 1) -> None:
        """Fetch from a parent."""
        wanted = content.wanted(*pieces)
        self.exchange.fetch(content.task, lease, parent.name, parent.endpoint, parent.hint_endpoint, wanted)

    async def settled(self) -> None:
        """Wait until every command so far has been carried out by the thread."""
        done = asyncio.Event()
        loop = asyncio.get_running_loop()

        def tell() -> None:
            loop.call_soon_threadsafe(done.set)

        self.exchange._do(tell)
        await asyncio.wait_for(done.wait(), _WAIT_S)

    async def pass_time(self, seconds: float) -> None:
        """Turn the clock once all commands have been carried out, and have the exchange look at it."""
        await self.settled()
        self.clock.at += seconds
        await self.settled()
        await self.settled()


class Nodes:
    """Makes exchanges that share one ZeroMQ context."""

    def __init__(self, folder: Path) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._folder = folder
        self._nodes: list[Node] = []
        self._scripted: list[ScriptedParent] = []

    def node(self, name: str, *, total_rate: int = 0, upload_rate: int = 0) -> Node:
        """An exchange of its own store and clock."""
        told, clock, limits = Told(), FakeClock(), HostLimits(total_rate=total_rate, upload_rate=upload_rate)
        exchange = Exchange(
            self.context,
            peer_id=name,
            bind_ip=LOOPBACK,
            port=0,
            clock=clock,
            loop=asyncio.get_running_loop(),
            on_events=told,
            limits=limits,
        )
        made = Node(name=name, exchange=exchange, store=Store(self._folder / name), clock=clock, told=told, limits=limits)
        self._nodes.append(made)
        return made

    def scripted(self, name: str) -> "ScriptedParent":
        """A parent that does what the test does with it."""
        made = ScriptedParent(self.context, name)
        self._scripted.append(made)
        return made

    async def close(self) -> None:
        """End all of it."""
        for parent in self._scripted:
            parent.close()
        for node in self._nodes:
            await node.exchange.close()
        self.context.destroy(linger=0)


@asynccontextmanager
async def open_nodes(folder: Path) -> AsyncIterator[Nodes]:
    """Nodes that end with the context."""
    nodes = Nodes(folder)
    try:
        yield nodes
    finally:
        await nodes.close()


class ScriptedParent:
    """A bare ROUTER, and an XPUB that shows who listens."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], name: str) -> None:
        self.name = name
        self.asked: asyncio.Queue[tuple[bytes, GetBlocks]] = asyncio.Queue()
        self.listening: asyncio.Queue[bytes] = asyncio.Queue()
        router, publisher = context.socket(zmq.ROUTER), context.socket(zmq.XPUB)
        for socket in (router, publisher):
            socket.setsockopt(zmq.LINGER, 0)
            socket.bind(f"tcp://{LOOPBACK}:*")
        self.endpoint = router.getsockopt_string(zmq.LAST_ENDPOINT)
        self.hint_endpoint = publisher.getsockopt_string(zmq.LAST_ENDPOINT)
        self._router = LoopSocket(router, self._received)
        self._publisher = LoopSocket(publisher, lambda frames: self.listening.put_nowait(frames[0]))

    def _received(self, frames: list[bytes]) -> None:
        child, *rest = frames
        message = from_frames(rest).message
        assert isinstance(message, GetBlocks)
        self.asked.put_nowait((child, message))

    async def request(self) -> tuple[bytes, GetBlocks]:
        """The next request: who asks, and for what."""
        return await asyncio.wait_for(self.asked.get(), _WAIT_S)

    def send(self, child: bytes, message: Message, payload: bytes | None = None) -> None:
        """Say something to a child."""
        assert self._router.send([child, *to_frames(message, payload)]) is Sent.YES

    def send_raw(self, child: bytes, frames: list[Frame]) -> None:
        """Say what is no message, perhaps."""
        assert self._router.send([child, *frames]) is Sent.YES

    def give(self, child: bytes, request: GetBlocks, content: Sample) -> None:
        """Answer a request well."""
        head = Blocks(task=request.task, piece=request.piece, first=request.first, count=request.count)
        self.send(child, head, content.run(request.piece, request.first, request.count))

    def hint(self, topic: str, message: Message) -> None:
        """Tell whoever listens."""
        assert self._publisher.send([topic.encode(), *to_frames(message)]) is Sent.YES

    def close(self) -> None:
        """Vanish."""
        self._router.close()
        self._publisher.close()


class RawChild:
    """A bare DEALER that asks what it likes."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str) -> None:
        self.answers: asyncio.Queue[Received] = asyncio.Queue()
        dealer = context.socket(zmq.DEALER)
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.connect(endpoint)
        self._dealer = LoopSocket(dealer, lambda frames: self.answers.put_nowait(from_frames(frames)))

    def say(self, *frames: Frame) -> None:
        """Send frames."""
        assert self._dealer.send(frames) is Sent.YES

    def ask(self, content: Sample, piece: int, first: int, count: int = 1) -> None:
        """Send a request."""
        self.say(*to_frames(GetBlocks(task=content.task, piece=piece, first=first, count=count)))

    async def answer(self) -> Received:
        """The next answer."""
        return await asyncio.wait_for(self.answers.get(), _WAIT_S)

    def close(self) -> None:
        """Hang up."""
        self._dealer.close()
