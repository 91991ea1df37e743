"""dfget and the host's peer over a real ipc socket: both ends, and what happens when one of them goes."""

import asyncio
import re
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import zmq

from tests.support.swarm import short_directory
from tests.worker_peer.parts import FakeClock, Sample, sample, until
from wire.bitmap import PieceSet
from wire.errors import ErrorCode
from wire.framing import from_frames, to_frames
from wire.messages import (
    Alive,
    Download,
    Finished,
    Hello,
    Message,
    Origin,
    Placed,
    Progress,
    Refused,
    Role,
    Task,
    TaskState,
    Welcome,
)
from wire.version import PROTOCOL
from worker_peer.api import DownloadFailed, DownloadRequest, Waits
from worker_peer.content import ContentReader, SharedContent
from worker_peer.control import ControlServer
from worker_peer.control_path import control_path
from worker_peer.core.arrival import Arrival
from worker_peer.host.background import Background
from worker_peer.host.store import Store
from worker_peer.host_peer import HostPeer, NoHostPeer

ASK = Download(
    url="https://example.org/file?Signature=secret",
    headers=(("Authorization", "secret"),),
    filters=("Signature",),
    md5="0" * 32,
    identifier="mine",
    byte_range=(5, 9),
    insecure=True,
    certificates=(b"pem",),
    supernodes=("10.0.0.10:8002",),
    caller="test",
    rate=1000,
)


@dataclass(kw_only=True)
class Host:
    """A home whose peer has one content."""

    home: Path
    context: zmq.Context[zmq.Socket[bytes]]
    executor: ThreadPoolExecutor
    background: Background
    content: Sample = field(default_factory=lambda: sample(3 * 4096))
    clock: FakeClock = field(default_factory=FakeClock)
    requests: list[DownloadRequest] = field(default_factory=list)
    rates: list[int] = field(default_factory=list)
    linked: list[int] = field(default_factory=list)
    unread: list[int] = field(default_factory=list)
    failure: DownloadFailed | None = None

    def __post_init__(self) -> None:
        self.shared = SharedContent(self.content.task, self.executor, self.clock)
        self.shared.supernode = "10.0.0.10:8002"
        self.shared.on_linked = lambda: self.linked.append(1)
        self.shared.on_unread = lambda: self.unread.append(1)
        (self.home / "meta").mkdir(parents=True, exist_ok=True)
        self.file = self.content.file(Store(self.home / "data"))
        self.shared.ready(self.file, Arrival(self.content.layout, PieceSet(3)), "")

    async def open(self, request: DownloadRequest, waits: Waits) -> ContentReader:
        """What the control server asks of the peer."""
        self.requests.append(request)
        if self.failure is not None:
            raise self.failure
        return ContentReader(self.shared, waits=waits)

    def server(self) -> ControlServer:
        """The control server of this home."""
        return ControlServer(
            self.context,
            home=self.home,
            peer_id="10.0.0.1-1-1.000",
            open_content=self.open,
            set_total_rate=self.rates.append,
            clock=self.clock,
            background=self.background,
        )

    def comes(self) -> None:
        """All of the content is here."""
        for piece in range(3):
            self.shared.came(piece, Origin.SEED if piece else Origin.PEER)
        self.shared.complete(self.content.sha256)


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    """A home in a short folder: a unix socket's path is short."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    with short_directory() as folder, ThreadPoolExecutor(1) as executor:
        made = Host(home=folder, context=context, executor=executor, background=Background())
        yield made
        await made.background.close()
        made.file.close()
        context.destroy(linger=0)


@pytest.fixture
async def server(host: Host) -> AsyncIterator[ControlServer]:
    """A running control server."""
    made = host.server()
    yield made
    made.close()


def fetch(
    home: Path, ask: Download = ASK, linked: bool | None = True, deadline: float | None = None
) -> list[Progress | Finished]:
    """A dfget: blocking, in a thread of its own."""
    peer = HostPeer(home)
    try:
        heard = list(peer.download(ask, deadline))
        if linked is not None:
            peer.placed(heard[-1].task, linked=linked)
        return heard
    finally:
        peer.close()


async def test_a_content_is_brought_told_about_and_held_until_it_is_placed(
    host: Host, server: ControlServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    fetching = asyncio.ensure_future(asyncio.to_thread(fetch, host.home))
    await until(lambda: host.requests, "the peer is asked")
    assert server.busy == 1
    host.comes()
    heard = await fetching
    assert heard[0] == Progress(task=host.content.task, supernode="10.0.0.10:8002", length=3 * 4096, received=(0, 0, 0, 0))
    finished = heard[-1]
    assert finished == Finished(
        task=host.content.task, path=str(host.file.path), length=3 * 4096, digest=host.content.sha256, received=(0, 8192, 4096, 0)
    )
    await until(lambda: host.unread, "the reader is closed")
    assert host.linked == [1]
    assert server.busy == 0
    (request,) = host.requests
    assert request == DownloadRequest(
        url=ASK.url,
        headers=ASK.headers,
        filters=ASK.filters,
        md5=ASK.md5,
        identifier="mine",
        byte_range=request.byte_range,
        insecure=True,
        certificates=(b"pem",),
        supernodes=ASK.supernodes,
        caller="test",
        rate=1000,
    )
    assert request.byte_range is not None
    assert request.byte_range.header() == "bytes=5-9"
    # It may be here before anybody waits.
    assert re.search(rf"dfget cost:0\.000s task:{request.task} waited for (store:0\.000s|nothing)", caplog.text)
    assert host.rates == []


async def test_a_content_that_is_here_already_is_told_about_too(host: Host, server: ControlServer) -> None:
    host.comes()
    heard = await asyncio.to_thread(fetch, host.home, Download(url="http://h/f", total_rate=77), False)
    assert [type(each) for each in heard] == [Progress, Finished]
    assert isinstance(heard[0], Progress)
    assert heard[0].supernode == "10.0.0.10:8002"
    await until(lambda: host.unread, "the reader is closed")
    assert (host.linked, host.rates) == ([], [77])


async def test_a_failure_comes_with_its_code_status_and_words(host: Host, server: ControlServer) -> None:
    host.failure = DownloadFailed(ErrorCode.SOURCE_NOT_FOUND, "gone: check the URL", status=404)
    (finished,) = await asyncio.to_thread(fetch, host.home, ASK, None)
    assert isinstance(finished, Finished)
    told = (finished.path, finished.code, finished.status, finished.message)
    assert told == ("", ErrorCode.SOURCE_NOT_FOUND, 404, "gone: check the URL")


async def test_a_failure_in_the_middle_is_told_and_the_reader_closed(host: Host, server: ControlServer) -> None:
    fetching = asyncio.ensure_future(asyncio.to_thread(fetch, host.home, ASK, None))
    await until(lambda: host.requests, "the peer is asked")
    host.shared.fail(DownloadFailed(ErrorCode.STORE_FULL, "full"))
    finished = (await fetching)[-1]
    assert isinstance(finished, Finished)
    assert finished.code is ErrorCode.STORE_FULL
    assert host.unread == [1]


async def test_several_dfgets_are_served_at_once(host: Host, server: ControlServer) -> None:
    fetching = [asyncio.ensure_future(asyncio.to_thread(fetch, host.home)) for _ in range(3)]
    await until(lambda: server.busy == 3, "three wait")
    host.comes()
    for heard in await asyncio.gather(*fetching):
        assert isinstance(heard[-1], Finished)
        assert heard[-1].path
    await until(lambda: host.unread == [1], "the last reader is closed")


async def test_a_dfget_that_is_out_of_time_cancels_its_download(host: Host, server: ControlServer) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.to_thread(fetch, host.home, ASK, None, time.monotonic() + 0.1)
    await until(lambda: host.requests and host.unread, "the reader is closed")


async def test_a_dfget_that_cancels_is_given_up(host: Host, server: ControlServer) -> None:
    asked = threading.Event()

    def run() -> None:
        peer = HostPeer(host.home)
        next(peer.download(ASK, None))
        asked.set()
        peer.cancel()
        peer.close()

    await asyncio.to_thread(run)
    assert asked.is_set()
    await until(lambda: host.unread, "the reader is closed")
    assert server.busy == 0


async def test_a_dfget_that_has_fallen_silent_is_given_up_and_one_that_speaks_is_not(host: Host, server: ControlServer) -> None:
    def run() -> None:
        peer = HostPeer(host.home)
        next(peer.download(ASK, None))
        peer.close()  # without a word

    await asyncio.to_thread(run)
    talking = asyncio.ensure_future(asyncio.to_thread(fetch, host.home))
    await until(lambda: server.busy == 2, "both wait")
    host.clock.at += 9.0
    clients = server._clients
    await until(lambda: any(client.heard_at == host.clock.at for client in clients.values()), "one says that it is alive")
    host.clock.at += 2.0
    await until(lambda: len(clients) == 1, "one is given up")
    host.comes()
    assert isinstance((await talking)[-1], Finished)


async def test_a_peer_that_dies_is_noticed(host: Host, server: ControlServer) -> None:
    fetching = asyncio.ensure_future(asyncio.to_thread(fetch, host.home, ASK, None))
    await until(lambda: host.requests, "the peer is asked")
    server.close()
    await host.background.close()
    with pytest.raises(NoHostPeer, match="has died"):
        await asyncio.wait_for(fetching, 10)


async def test_without_a_peer_there_is_none(host: Host) -> None:
    with pytest.raises(NoHostPeer, match=f"no peer runs in {host.home}"):
        await asyncio.to_thread(HostPeer, host.home)
    server = host.server()
    path = control_path(host.home)
    assert path.stat().st_mode & 0o777 == 0o600
    server.close()
    assert not path.exists()
    path.touch()  # what a peer that was killed leaves
    with pytest.raises(NoHostPeer):
        await asyncio.to_thread(HostPeer, host.home)
    host.server().close()


async def test_a_home_has_one_peer(host: Host, server: ControlServer) -> None:
    with pytest.raises(OSError, match=f"another peer of {host.home} is running: use it, or choose another home"):
        host.server()


class Raw:
    """A client that says what it likes."""

    def __init__(self, host: Host) -> None:
        self._socket = host.context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RCVTIMEO, 20_000)
        self._socket.connect(f"ipc://{control_path(host.home)}")

    async def says(self, *frames: bytes | memoryview) -> Message:
        """Send, and the answer."""

        def exchange() -> Message:
            self._socket.send_multipart(frames)
            return from_frames(self._socket.recv_multipart()).message

        return await asyncio.to_thread(exchange)

    async def greets(self) -> Message:
        return await self.says(*to_frames(Hello(protocol=PROTOCOL, peer="dfget-1", role=Role.PEER)))

    async def hears(self) -> Message:
        return from_frames(await asyncio.to_thread(self._socket.recv_multipart)).message

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
async def raw(host: Host, server: ControlServer) -> AsyncIterator[Raw]:
    """A raw client."""
    made = Raw(host)
    yield made
    made.close()


async def test_strangers_are_refused_by_name(host: Host, raw: Raw) -> None:
    for frames, code in (
        ([b"GET / HTTP/1.1"], ErrorCode.BAD_MAGIC),
        ([b"a", b"b", b"c"], ErrorCode.WRONG_FRAME_COUNT),
        (to_frames(ASK), ErrorCode.NOT_GREETED),
        (to_frames(Hello(protocol=(9, 0), peer="old", role=Role.PEER)), ErrorCode.MAJOR_MISMATCH),
        (to_frames(ASK), ErrorCode.NOT_GREETED),
    ):
        answer = await raw.says(*frames)
        assert isinstance(answer, Refused)
        assert answer.code is code
    assert await raw.greets() == Welcome(protocol=PROTOCOL, supernode="10.0.0.1-1-1.000")
    answer = await raw.says(*to_frames(Task(task="a" * 64, state=TaskState.PROBING)))
    assert isinstance(answer, Refused)
    assert answer.code is ErrorCode.UNEXPECTED_KIND
    assert host.requests == []


async def test_a_second_download_of_a_connection_waits_for_its_own_placing(host: Host, raw: Raw, server: ControlServer) -> None:
    host.comes()
    await raw.greets()
    for number in (1, 2):
        assert isinstance(await raw.says(*to_frames(ASK)), Progress)
        assert isinstance(await raw.hears(), Finished)
        assert server.busy == 1
        assert len(host.unread) == number - 1
        raw._socket.send_multipart(to_frames(Placed(task=host.content.task, linked=True)))
        await until(lambda: len(host.unread) >= number, "the reader is closed")  # noqa: B023  awaited here
        await until(lambda: server.busy == 0, "nobody waits")
    assert host.linked == [1, 1]


async def test_a_second_download_while_one_runs_is_not_begun(host: Host, raw: Raw) -> None:
    await raw.greets()
    assert isinstance(await raw.says(*to_frames(ASK)), Progress)
    raw._socket.send_multipart(to_frames(ASK))
    raw._socket.send_multipart(to_frames(Alive()))
    assert isinstance(await raw.hears(), Progress)
    assert len(host.requests) == 1


async def test_what_is_no_peer_of_ours_is_named(host: Host) -> None:
    server = host.server()
    server._socket.close()
    stranger = host.context.socket(zmq.ROUTER)
    stranger.bind(f"ipc://{control_path(host.home)}")
    refusal = Refused(code=ErrorCode.MAJOR_MISMATCH, message="too old")
    answers: list[list[bytes | memoryview]] = [[b"not a message"], to_frames(refusal), to_frames(Alive())]

    def answer() -> None:
        for frames in answers:
            identity, *_ = stranger.recv_multipart()
            stranger.send_multipart([identity, *frames])

    answering = asyncio.ensure_future(asyncio.to_thread(answer))
    for words in ("no peer of ours", "refuses: too old", "does not answer"):
        with pytest.raises(NoHostPeer, match=words):
            await asyncio.to_thread(HostPeer, host.home)
    await answering
    stranger.close(0)
    server.close()
