"""Ten seconds of a limit are ten seconds' bytes, within 2 %: blocks received and served, and bodies read from sources.

Real sockets in virtual time: the clock is turned once all bytes that the limits have let pass have come.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.source_server import Page, SourceServer
from tests.worker_peer.parts import FakeClock, Node, Nodes, Sample, open_nodes, sample, until
from wire.bitmap import PieceSet
from wire.pieces import PieceLayout
from worker_peer.api import DownloadRequest
from worker_peer.back_to_source import read_missing
from worker_peer.host import source
from worker_peer.host.limits import Limit, TokenBucket
from worker_peer.host.source import SourceReader, SourceRequest
from worker_peer.host.store import Store
from worker_peer.host_limits import FairLimit

RATE = 2 << 20
SECONDS = 10.0
STEP_S = 0.02
PIECE = 1 << 18
BLOCK = 1 << 15


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[Nodes]:
    """Exchanges, each with a clock to turn."""
    async with open_nodes(tmp_path) as made:
        yield made


def big(task: str, seconds: float = SECONDS + 1) -> Sample:
    """More than the limit lets pass."""
    made = sample(int(RATE * seconds) // PIECE * PIECE, PIECE, BLOCK)
    made.task = task * 64
    return made


def counted(limit: FairLimit, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """All that the limit has let pass so far."""
    passed = Counter[str]()
    ask = limit.ask

    def heard(who: str, size: int, now: float) -> float:
        wait = ask(who, size, now)
        if wait == 0:
            passed["bytes"] += size
        return wait

    monkeypatch.setattr(limit, "ask", heard)
    return lambda: passed["bytes"]


async def ten_seconds(nodes: list[Node], child: Node, passed: Callable[[], int]) -> int:
    """Bytes that the child has received when both clocks have been turned by so much."""
    for _ in range(round(SECONDS / STEP_S)):
        await until(lambda: child.exchange.received_in_all == passed(), "all that may pass has come")
        for node in nodes:
            node.clock.at += STEP_S
        for node in (*nodes, *nodes):
            await node.settled()
    return child.exchange.received_in_all


@pytest.mark.parametrize("which", ["--locallimit", "--totallimit"])
async def test_what_is_received(nodes: Nodes, which: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content = big("7")
    parent, child = nodes.node("parent"), nodes.node("child", total_rate=RATE if which == "--totallimit" else 0)
    passed = counted(child.limits.down, monkeypatch)
    parent.share(content, *range(content.layout.piece_count))
    child.share(content, rate=RATE if which == "--locallimit" else 0)
    child.fetch(content, parent, *range(content.layout.piece_count))
    assert await ten_seconds([parent, child], child, passed) == pytest.approx(RATE * SECONDS, rel=0.02)


async def test_what_several_downloads_receive_in_equal_shares(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = [big(name, 5.0) for name in "789"]
    child = nodes.node("child", total_rate=RATE)
    passed = counted(child.limits.down, monkeypatch)
    parents = [nodes.node(f"parent-{number}") for number in range(4)]
    # One of them has two parents, which must not give it twice as much.
    for content, parent, half in ((contents[0], parents[0], 0), (contents[0], parents[3], 1)):
        count = content.layout.piece_count // 2
        parent.share(content, *range(half * count, (half + 1) * count))
    for content, parent in zip(contents[1:], parents[1:3], strict=True):
        parent.share(content, *range(content.layout.piece_count))
    for content in contents:
        child.share(content)
    half = contents[0].layout.piece_count // 2
    child.fetch(contents[0], parents[0], *range(half), lease=1)
    child.fetch(contents[0], parents[3], *range(half, 2 * half), lease=2)
    child.fetch(contents[1], parents[1], *range(2 * half), lease=3)
    child.fetch(contents[2], parents[2], *range(2 * half), lease=4)
    total = await ten_seconds([*parents, child], child, passed)
    assert total == pytest.approx(RATE * SECONDS, rel=0.02)
    by_parent = child.exchange.received_bytes
    shares = [by_parent["parent-0"] + by_parent["parent-3"], by_parent["parent-1"], by_parent["parent-2"]]
    assert sum(shares) == total
    for share in shares:
        assert share == pytest.approx(total / 3, rel=0.05), shares


async def test_what_is_served(nodes: Nodes) -> None:
    content = big("7")
    parent, child = nodes.node("parent", upload_rate=RATE), nodes.node("child")
    parent.share(content, *range(content.layout.piece_count))
    child.share(content)
    child.fetch(content, parent, *range(content.layout.piece_count))
    assert await ten_seconds([parent, child], child, lambda: parent.exchange.sent_bytes) == pytest.approx(
        RATE * SECONDS, rel=0.02
    )


# -- sources ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    """A clock that every wait for a limit turns."""
    made = FakeClock()

    async def turn(seconds: float) -> None:
        made.at += seconds

    class Sleeping:
        """What source.py has of asyncio, but for its sleep."""

        sleep = staticmethod(turn)

        def __getattr__(self, name: str) -> object:
            return getattr(asyncio, name)

    monkeypatch.setattr(source, "asyncio", Sleeping())
    return made


@pytest.mark.parametrize("shared", [True, False], ids=["all bodies' limit", "this body's limit"])
@pytest.mark.parametrize("make", [TokenBucket, FairLimit])
async def test_what_is_read_from_a_source(clock: FakeClock, make: Callable[[int], Limit], shared: bool) -> None:
    data = random.Random(1).randbytes(int(RATE * SECONDS))
    reader = SourceReader(limits=(make(RATE), TokenBucket(0)) if shared else (), clock=clock, user_agent="x")
    async with SourceServer() as server:
        server.pages["/file"] = Page(body=data)
        began_at = clock.now()
        body = await reader.open(SourceRequest(url=server.url("/file")), limit=None if shared else make(RATE), who="t")
        came = 0
        async for chunk in body.chunks():
            came += len(chunk)
            # At no moment more than the limit and its burst, the twentieth of a second.
            assert came <= RATE * (clock.now() - began_at + 0.05) + 1
        assert came == len(data)
        assert clock.now() - began_at == pytest.approx(SECONDS, rel=0.02)
        await body.close()
    await reader.close()


async def test_what_is_read_back_to_source(clock: FakeClock, tmp_path: Path) -> None:
    data = random.Random(2).randbytes(int(RATE * SECONDS))
    content = Sample(layout=PieceLayout(len(data), PIECE, BLOCK), data=data)
    own, host = TokenBucket(RATE), FairLimit(2 * RATE)
    reader = SourceReader(limits=(host,), clock=clock, user_agent="x")
    with ThreadPoolExecutor(1) as executor:
        async with SourceServer() as server:
            server.pages["/file"] = Page(body=data)
            request = DownloadRequest(url=server.url("/file"))
            file = content.file(Store(tmp_path))
            missing = PieceSet(content.layout.piece_count).missing()
            began_at = clock.now()
            outcome = await read_missing(
                request, file, missing, content.sha256, source=reader, limit=own, executor=executor, on_pieces=lambda _: None
            )
            assert outcome.digest == content.sha256
            assert clock.now() - began_at == pytest.approx(SECONDS, rel=0.02)
            file.close()
    await reader.close()
