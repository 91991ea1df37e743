"""The seed reads each source once, tells what it has as it comes, and lets nothing wrong be called whole."""

import hashlib
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support.source_server import Page, SourceServer
from tests.worker_peer.parts import FakeClock, Node, Nodes, Sample, bytes_of, sample, until
from wire.errors import ErrorCode
from wire.messages import MAX_PIECES_PER_MESSAGE, MAX_SMALL_CONTENT_BYTES, Drop, Fetch, Message, NotKnown, Seeded, SeedFailed
from wire.pieces import MIB, PieceLayout, layout_for
from worker_peer.cache_keeper import CacheKeeper
from worker_peer.core.eviction import Rules
from worker_peer.core.fetching import Done, Lost
from worker_peer.exchange import StoreBroke
from worker_peer.host.background import Background
from worker_peer.host.clock import SystemClock
from worker_peer.host.source import SourceReader
from worker_peer.host.store import Store
from worker_peer.seed_files import SeedFiles
from worker_peer.seed_source import SeedSource
from worker_peer.seeding import Seeding

#: Bytes of a piece of a content as short as those here.
PIECE = layout_for(0).piece_length


def content_of(length: int) -> Sample:
    """Random bytes in the pieces that a supernode would choose."""
    layout = layout_for(length)
    assert layout.piece_length == PIECE
    return sample(length, layout.piece_length, layout.block_length)


@dataclass
class Words:
    """The link to the supernode: keeps what is said."""

    said: list[Message] = field(default_factory=list)

    def send(self, message: Message) -> bool:
        self.said.append(message)
        return True

    async def ended(self, count: int = 1) -> Seeded | SeedFailed:
        """The last word on a task, when so many have been said."""
        await until(lambda: len(self.lasts) >= count, "the last word")
        return self.lasts[count - 1]

    @property
    def lasts(self) -> list[Seeded | SeedFailed]:
        """Last words."""
        return [
            each for each in self.said if isinstance(each, SeedFailed) or (isinstance(each, Seeded) and each.digest is not None)
        ]

    @property
    def pieces(self) -> list[int]:
        """Every piece that was told."""
        return [piece for each in self.said if isinstance(each, Seeded) for piece in each.pieces]


@dataclass(kw_only=True)
class Seed:
    """A seed's parts, and its source."""

    node: Node
    server: SourceServer
    seeding: Seeding
    words: Words
    folder: Path
    background: Background
    executor: ThreadPoolExecutor

    def source(self, content: Sample, path: str = "/file", **page: Any) -> Page:
        """Put the content at its source."""
        self.server.pages[path] = Page(body=content.data, **page)
        return self.server.pages[path]

    def asked(self, content: Sample, path: str = "/file?Signature=secret", **fetch: Any) -> None:
        """FETCH comes."""
        message = Fetch(task=content.task, url=self.server.url(path), **fetch)
        self.seeding.message(self.words, message)  # type: ignore[arg-type]


def seeding_of(
    node: Node,
    folder: Path,
    reader: SourceReader,
    background: Background,
    executor: ThreadPoolExecutor,
    rules: Rules | None = None,
) -> Seeding:
    clock = SystemClock()
    keeper = CacheKeeper(Store(folder / "data"), rules=rules or Rules(), clock=clock, executor=executor)
    keeper.holder = seeding = Seeding(
        files=SeedFiles(keeper=keeper, exchange=node.exchange, executor=executor),
        source=SeedSource(reader, keeper=keeper, spool=folder / "spool", executor=executor),
        clock=clock,
        background=background,
        executor=executor,
    )
    return seeding


@pytest.fixture
async def seed(nodes: Nodes, tmp_path: Path) -> AsyncIterator[Seed]:
    """A seed that has nothing yet."""
    (tmp_path / "spool").mkdir()
    background = Background()
    with ThreadPoolExecutor(2) as executor:
        async with SourceServer() as server:
            reader = SourceReader(clock=FakeClock(), user_agent="test")
            node = nodes.node("cdnnode:127.0.0.1")
            seeding = seeding_of(node, tmp_path, reader, background, executor)
            more = {"background": background, "executor": executor}
            yield Seed(node=node, server=server, seeding=seeding, words=Words(), folder=tmp_path, **more)  # type: ignore[arg-type]
            await background.close()
            await reader.close()


async def assert_served(seed: Seed, nodes: Nodes, content: Sample) -> None:
    """A child gets all of it from the seed, byte for byte."""
    child = nodes.node(f"child-{len(seed.words.said)}")
    file = child.share(content)
    child.fetch(content, seed.node, *range(content.layout.piece_count))
    await child.told.until(Done, content.layout.piece_count)
    assert bytes(file.read(0, len(content.data))) == content.data


@pytest.mark.parametrize("length", [0, MAX_SMALL_CONTENT_BYTES + 1, PIECE, PIECE + 1, 3 * PIECE + 5])
async def test_a_source_is_read_once_and_told_as_it_comes(seed: Seed, nodes: Nodes, length: int) -> None:
    content = content_of(length)
    seed.source(content, content_type="text/plain")
    seed.asked(content)
    last = await seed.words.ended()
    assert isinstance(last, Seeded)
    assert (last.digest, last.length, last.source_bytes) == (content.sha256, length, length)
    first = seed.words.said[0]
    assert isinstance(first, Seeded)
    assert (first.length, first.piece_length, first.content_type, first.pieces) == (length, PIECE, "text/plain", ())
    assert seed.words.pieces == list(range(content.layout.piece_count))
    told = b"".join(each.digests for each in seed.words.said if isinstance(each, Seeded))
    assert told == b"".join(content.digests(piece) for piece in range(content.layout.piece_count))
    assert seed.server.body_bytes == seed.seeding.source_bytes == length
    await assert_served(seed, nodes, content)


@pytest.mark.parametrize("length", [1, MAX_SMALL_CONTENT_BYTES])
async def test_a_small_content_is_told_whole_in_one_message_and_served_besides(seed: Seed, nodes: Nodes, length: int) -> None:
    content = content_of(length)
    seed.source(content, content_type="text/plain")
    seed.asked(content)
    last = await seed.words.ended()
    assert [last] == seed.words.said
    assert isinstance(last, Seeded)
    assert (last.content, last.digest, last.pieces) == (content.data, content.sha256, (0,))
    assert (last.length, last.content_type, last.digests) == (length, "text/plain", content.digests(0))
    await until(lambda: not seed.seeding._running, "the reading has ended")
    seed.asked(content, digest=content.sha256)
    again = await seed.words.ended(2)
    assert isinstance(again, Seeded)
    assert (again.content, seed.server.body_bytes) == (content.data, length)
    await assert_served(seed, nodes, content)


async def test_pieces_are_served_while_the_source_still_sends(seed: Seed, nodes: Nodes) -> None:
    content = content_of(4 * PIECE)
    page = seed.source(content, holds_after=2 * PIECE)
    seed.asked(content)
    await until(lambda: seed.words.pieces == [0, 1], "two pieces are told")
    child = nodes.node("child")
    child.share(content)
    child.fetch(content, seed.node, 0, 1)
    await child.told.until(Done, 2)
    assert seed.words.lasts == []
    page.go_on.set()
    await seed.words.ended()


async def test_a_second_fetch_while_one_runs_reads_nothing_twice(seed: Seed) -> None:
    content = content_of(2 * PIECE)
    page = seed.source(content, holds_after=PIECE)
    seed.asked(content)
    await until(lambda: seed.words.pieces == [0], "a piece is told")
    again = Words()
    seed.seeding.message(again, Fetch(task=content.task, url=seed.server.url("/file")))  # type: ignore[arg-type]
    assert again.pieces == [0], "a supernode that asks anew has forgotten what it was told"
    page.go_on.set()
    last = await again.ended()
    assert isinstance(last, Seeded)
    assert last.digest == content.sha256
    assert again.pieces == [0, 1]
    assert len(seed.server.requests) == 1
    assert seed.server.body_bytes == 2 * PIECE


async def test_a_content_under_its_digest_is_told_again_without_the_source(seed: Seed) -> None:
    content = content_of(3 * PIECE)
    seed.source(content)
    for count in (1, 2):
        seed.asked(content, digest=content.sha256)
        last = await seed.words.ended(count)
        assert isinstance(last, Seeded)
        assert last.digest == content.sha256
    assert seed.words.pieces == [0, 1, 2] * 2
    assert len(seed.server.requests) == 1


async def test_more_pieces_than_a_message_names_are_told_in_several(seed: Seed) -> None:
    content = content_of((MAX_PIECES_PER_MESSAGE - 1) * PIECE)
    content.data += bytes(PIECE * 2)
    content = Sample(layout=PieceLayout(len(content.data), PIECE, PIECE), data=content.data)
    # 257 pieces of the smallest kind: the supernode would take larger ones, so the store is filled by hand.
    store = Store(seed.folder / "data")
    file = content.file(store, range(content.layout.piece_count))
    file.finish(content.sha256)
    file.close()
    seed.asked(content, digest=content.sha256)
    last = await seed.words.ended()
    assert isinstance(last, Seeded)
    batches = [len(each.pieces) for each in seed.words.said if isinstance(each, Seeded)]
    assert batches == [MAX_PIECES_PER_MESSAGE, 1]
    assert seed.server.requests == []


# -- difficult sources ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [{"chunked": True}, {"with_length": False}])
async def test_a_source_without_a_length_is_spooled_and_counted_once(seed: Seed, nodes: Nodes, page: dict[str, Any]) -> None:
    content = content_of(2 * PIECE + 9)
    seed.source(content, ranges=False, **page)
    seed.asked(content)
    last = await seed.words.ended()
    assert isinstance(last, Seeded)
    assert (last.digest, last.source_bytes) == (content.sha256, len(content.data))
    await until(lambda: not list((seed.folder / "spool").iterdir()), "the spooled body is deleted")
    await assert_served(seed, nodes, content)


async def test_a_spooled_source_that_dies_is_counted_once_and_read_again(seed: Seed) -> None:
    content = content_of(2 * PIECE)
    seed.source(content, ranges=False, chunked=True, dies_after=PIECE, deaths=1)
    seed.asked(content)
    last = await seed.words.ended()
    assert isinstance(last, Seeded)
    assert last.digest == content.sha256
    # What was on its way when the connection died may not have come.
    assert 2 * PIECE <= last.source_bytes <= seed.server.body_bytes
    await until(lambda: not list((seed.folder / "spool").iterdir()), "the spooled body is deleted")


def cut(seed: Seed, page: Page) -> None:
    """The connection that the page holds dies now; the next one is served to its end."""
    page.holds_after = None
    for writer in list(seed.server._serving.values()):
        writer.transport.abort()
    page.go_on.set()


async def test_a_source_that_dies_is_asked_for_the_rest(seed: Seed) -> None:
    content = content_of(4 * PIECE)
    page = seed.source(content, etag='"1"', holds_after=2 * PIECE + 100)
    seed.asked(content, md5=hashlib.md5(content.data).hexdigest())
    await until(lambda: seed.words.pieces == [0, 1], "two pieces are told")
    cut(seed, page)
    last = await seed.words.ended()
    assert isinstance(last, Seeded)
    assert last.digest == content.sha256
    assert [asked.header("Range") for asked in seed.server.requests] == [None, f"bytes={2 * PIECE}-"]
    assert seed.server.requests[1].header("If-Range") == '"1"'
    assert set(seed.words.pieces) == {0, 1, 2, 3}
    assert seed.server.body_bytes == 4 * PIECE + 100
    assert 4 * PIECE <= last.source_bytes <= 4 * PIECE + 100


async def test_a_source_that_dies_and_knows_no_ranges_is_read_from_its_start(seed: Seed, nodes: Nodes) -> None:
    content = content_of(3 * PIECE)
    seed.source(content, ranges=False, dies_after=PIECE, deaths=2)
    seed.asked(content)
    last = await seed.words.ended()
    assert isinstance(last, Seeded)
    assert last.digest == content.sha256
    await assert_served(seed, nodes, content)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (401, ErrorCode.SOURCE_NEEDS_AUTH),
        (403, ErrorCode.SOURCE_FORBIDDEN),
        (404, ErrorCode.SOURCE_NOT_FOUND),
        (410, ErrorCode.SOURCE_NOT_FOUND),
        (418, ErrorCode.SOURCE_ERROR),
    ],
)
async def test_a_source_that_refuses_is_told_at_once(seed: Seed, status: int, code: ErrorCode) -> None:
    seed.source(content_of(10), status=status)
    seed.asked(content_of(10))
    last = await seed.words.ended()
    assert isinstance(last, SeedFailed)
    assert (last.code, last.status) == (code, status)
    assert str(status) in last.message
    assert "secret" not in last.message
    assert len(seed.server.requests) == 1


async def test_headers_reach_the_source(seed: Seed) -> None:
    content = content_of(10)
    seed.source(content)
    seed.asked(content, headers=(("Authorization", "Bearer x"), ("X-Mine", "yes")))
    await seed.words.ended()
    (request,) = seed.server.requests
    assert request.header("Authorization") == "Bearer x"
    assert request.header("X-Mine") == "yes"


async def test_a_part_of_a_source_is_a_content(seed: Seed, nodes: Nodes) -> None:
    whole, part = content_of(3 * PIECE), content_of(PIECE + 10)
    part.data = whole.data[100 : 100 + PIECE + 10]
    seed.source(whole)
    seed.asked(part, byte_range=(100, 100 + PIECE + 9))
    last = await seed.words.ended()
    assert isinstance(last, Seeded)
    assert last.digest == part.sha256
    await assert_served(seed, nodes, part)


# -- wrong contents ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", [{"digest": "sha256:" + "0" * 64}, {"md5": "0" * 32}])
async def test_a_content_that_is_not_what_was_promised_is_thrown_away(seed: Seed, nodes: Nodes, wanted: dict[str, str]) -> None:
    content = content_of(2 * PIECE)
    seed.source(content)
    seed.asked(content, **wanted)
    last = await seed.words.ended()
    assert isinstance(last, SeedFailed)
    assert last.code is ErrorCode.DIGEST_MISMATCH
    assert "check the digest" in last.message
    assert "secret" not in last.message
    assert Store(seed.folder / "data").tasks() == []
    child = nodes.node("child")
    child.share(content)
    child.fetch(content, seed.node, 0)
    await child.told.until(Lost)
    assert len(seed.server.requests) == 1


async def test_an_md5_in_capitals_is_the_same(seed: Seed) -> None:
    content = content_of(10)
    seed.source(content)
    seed.asked(content, md5=hashlib.md5(content.data).hexdigest().upper())
    assert isinstance(await seed.words.ended(), Seeded)


async def test_a_url_is_asked_again_whether_its_content_has_changed(seed: Seed) -> None:
    content = content_of(2 * PIECE)
    page = seed.source(content, etag='"1"')
    seed.asked(content)
    await seed.words.ended()
    other = content_of(2 * PIECE)
    other.data = bytes(reversed(content.data))
    page.body, page.etag = other.data, '"2"'
    seed.asked(content)
    last = await seed.words.ended(2)
    assert isinstance(last, Seeded)
    assert last.digest == other.sha256
    assert seed.server.requests[1].header("If-None-Match") == '"1"'
    path = next((seed.folder / "data").glob("*/*/content"))
    assert bytes_of(path) == other.data


async def test_a_source_whose_length_changes_while_it_is_read_is_an_error(seed: Seed) -> None:
    content = content_of(3 * PIECE)
    page = seed.source(content, ranges=False, holds_after=2 * PIECE)
    seed.asked(content)
    await until(lambda: 1 in seed.words.pieces, "two pieces are told")
    seed.server.pages["/file"] = Page(body=bytes(5 * MIB), ranges=False)
    cut(seed, page)
    last = await seed.words.ended()
    assert isinstance(last, SeedFailed)
    assert last.code is ErrorCode.SOURCE_CHANGED


# -- the rest ---------------------------------------------------------------------------------------------------------------


async def test_a_full_disk_and_a_content_too_large_are_told_apart(seed: Seed, monkeypatch: pytest.MonkeyPatch) -> None:
    content = content_of(10)
    seed.source(content)
    monkeypatch.setattr(Store, "free_bytes", lambda _: 5)
    seed.asked(content)
    last = await seed.words.ended()
    assert isinstance(last, SeedFailed)
    assert last.code is ErrorCode.STORE_FULL
    seed.source(content, declared_length=1 << 50)
    seed.asked(content)
    last = await seed.words.ended(2)
    assert isinstance(last, SeedFailed)
    assert last.code is ErrorCode.TOO_LARGE


async def test_a_store_that_cannot_be_read_is_told(seed: Seed, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Store, task: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Store, "open", broken)
    seed.asked(content_of(10))
    last = await seed.words.ended()
    assert isinstance(last, SeedFailed)
    assert last.code is ErrorCode.INTERNAL
    assert "Permission denied" in last.message


async def test_a_dropped_task_is_gone_from_disk_and_from_the_wire(seed: Seed, nodes: Nodes) -> None:
    content = content_of(2 * PIECE)
    seed.source(content)
    seed.asked(content)
    await seed.words.ended()
    seed.seeding.message(seed.words, Drop(task=content.task))  # type: ignore[arg-type]
    await until(lambda: Store(seed.folder / "data").tasks() == [], "the content is gone")
    child = nodes.node("child")
    child.share(content)
    child.fetch(content, seed.node, 0)
    await child.told.until(Lost)
    seed.asked(content)
    await seed.words.ended(2)
    await assert_served(seed, nodes, content)


async def test_a_task_dropped_while_it_is_read_stops_the_reading(seed: Seed) -> None:
    content = content_of(2 * PIECE)
    page = seed.source(content, holds_after=PIECE)
    seed.asked(content)
    await until(lambda: seed.words.pieces == [0], "a piece is told")
    seed.seeding.message(seed.words, Drop(task=content.task))  # type: ignore[arg-type]
    await until(lambda: len(seed.background) == 0, "nothing runs any more")
    assert Store(seed.folder / "data").tasks() == []
    page.go_on.set()
    assert seed.words.lasts == []


async def test_a_content_that_can_no_longer_be_read_is_told_deleted_and_read_anew(seed: Seed, nodes: Nodes) -> None:
    content = content_of(2 * PIECE)
    seed.source(content, etag='"1"')
    seed.asked(content)
    await seed.words.ended()
    path = next((seed.folder / "data").glob("*/*/content"))
    with path.open("r+b") as file:
        file.truncate(100)
    child = nodes.node("child")
    child.share(content)
    child.fetch(content, seed.node, 0)
    (broke,) = await seed.node.told.until(StoreBroke)
    seed.seeding.broke(seed.words, broke.task, broke.message)  # type: ignore[arg-type]
    last = await seed.words.ended(2)
    assert isinstance(last, SeedFailed)
    assert (last.task, last.code, last.source_bytes) == (content.task, ErrorCode.INTERNAL, 2 * PIECE)
    assert "cut off after 100 bytes" in last.message
    await until(lambda: len(seed.background) == 0, "it is deleted")
    assert Store(seed.folder / "data").tasks() == []
    seed.asked(content)
    last = await seed.words.ended(3)
    assert isinstance(last, Seeded)
    assert (last.digest, last.source_bytes) == (content.sha256, 4 * PIECE)
    assert seed.server.requests[1].header("If-None-Match") is None, "nothing is here to compare"
    await assert_served(seed, nodes, content)


async def test_a_content_that_breaks_while_it_is_read_stops_the_reading(seed: Seed) -> None:
    content = content_of(2 * PIECE)
    page = seed.source(content, holds_after=PIECE)
    seed.asked(content)
    await until(lambda: seed.words.pieces == [0], "a piece is told")
    seed.seeding.broke(seed.words, content.task, "gone " * 1000)  # type: ignore[arg-type]
    await until(lambda: len(seed.background) == 0, "nothing runs any more")
    (last,) = seed.words.lasts
    assert isinstance(last, SeedFailed)
    assert len(last.message) == 1000
    assert Store(seed.folder / "data").tasks() == []
    page.go_on.set()
    seed.asked(content)
    last = await seed.words.ended(2)
    assert isinstance(last, Seeded)
    assert last.digest == content.sha256


async def test_what_is_not_for_a_seed_is_ignored(seed: Seed) -> None:
    seed.seeding.message(seed.words, NotKnown())  # type: ignore[arg-type]
    assert seed.words.said == []
    assert len(seed.background) == 0
