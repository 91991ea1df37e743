"""Readers of one content: each byte in order, none before it is verified, the last ones only when the whole is right."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.worker_peer.parts import Sample, bytes_of, sample, until
from wire.bitmap import PieceSet
from wire.errors import ErrorCode
from wire.messages import Origin
from wire.pieces import MIB
from worker_peer.api import DownloadFailed, Received
from worker_peer.content import ContentReader, SharedContent
from worker_peer.core.arrival import Arrival
from worker_peer.host.background import Background
from worker_peer.host.store import Store, TaskFile

FAILED = DownloadFailed(ErrorCode.SOURCE_NOT_FOUND, "task 7: gone", status=404)


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    """Where files are read."""
    with ThreadPoolExecutor(1) as made:
        yield made


@pytest.fixture
async def background() -> AsyncIterator[Background]:
    """Readers that run beside the test."""
    made = Background()
    yield made
    await made.close()


class Arriving:
    """A content whose pieces come when the test says so."""

    def __init__(self, folder: Path, executor: ThreadPoolExecutor, content: Sample, *have: int) -> None:
        self.content = content
        self.store = Store(folder)
        self.shared = SharedContent(content.task, executor)
        self.file: TaskFile | None = None
        self.have = have

    def begin(self, content_type: str = "text/plain") -> None:
        """The length is known."""
        self.file = self.content.file(self.store, self.have)
        arrival = Arrival(self.content.layout, PieceSet.of(self.content.layout.piece_count, self.have))
        self.shared.ready(self.file, arrival, content_type)

    def comes(self, *pieces: int, origin: Origin = Origin.PEER) -> None:
        """Pieces are here."""
        assert self.file is not None
        for piece in pieces:
            self.file.write(self.content.layout.piece_span(piece)[0], self.content.piece(piece))
            self.shared.came(piece, origin)

    def blocks_come(self, piece: int, first: int, count: int) -> None:
        """Blocks of a piece are here."""
        assert self.file is not None
        assert self.shared.arrival is not None
        self.file.write(self.content.layout.run_span(piece, first, count)[0], self.content.run(piece, first, count))
        self.shared.arrival.blocks(piece, first, count)
        self.shared.wake()

    def close(self) -> None:
        """Close the file."""
        if self.file is not None:
            self.file.close()


async def collect(reader: ContentReader, into: bytearray, start: int = 0, stop: int | None = None) -> None:
    async for chunk in reader.read(start, stop):
        into += chunk


async def turns(count: int = 20) -> None:
    """Let everything run that can."""
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.fixture
def arriving(tmp_path: Path, executor: ThreadPoolExecutor) -> Iterator[Arriving]:
    """Five pieces of four blocks of 1 KiB; the last piece has two blocks, the last block 100 bytes."""
    made = Arriving(tmp_path, executor, sample(4 * 4096 + 1124))
    yield made
    made.close()


async def test_a_reader_waits_for_the_length(arriving: Arriving, background: Background) -> None:
    reader = ContentReader(arriving.shared)
    opened = background.spawn(reader.opened(), "opened")
    await turns()
    assert not opened.done()
    arriving.begin()
    await opened
    assert (reader.length, reader.content_type, reader.digest) == (4 * 4096 + 1124, "text/plain", "")


async def test_bytes_are_read_in_order_as_they_come_and_the_last_block_after_the_verdict(
    arriving: Arriving, background: Background
) -> None:
    content = arriving.content
    arriving.begin()
    got = bytearray()
    reading = background.spawn(collect(ContentReader(arriving.shared), got), "read")
    arriving.comes(1)
    await turns()
    assert got == b""
    arriving.blocks_come(0, 0, 2)
    await until(lambda: len(got) >= 2048, "what is here has been read")
    await turns()
    assert bytes(got) == content.data[:2048]
    arriving.comes(0, 2, 3, 4)
    await until(lambda: len(got) >= len(content.data) - 100, "what is here has been read")
    await turns()
    assert len(got) == len(content.data) - 100, "the last block is out before the content is known to be right"
    assert not reading.done()
    arriving.shared.complete(content.sha256)
    await reading
    assert bytes(got) == content.data


async def test_a_content_found_wrong_never_ends_well(arriving: Arriving, background: Background) -> None:
    arriving.begin()
    arriving.comes(0, 1, 2, 3, 4)
    got = bytearray()
    reading = background.spawn(collect(ContentReader(arriving.shared), got), "read")
    await until(lambda: len(got) >= len(arriving.content.data) - 100, "what is here has been read")
    arriving.shared.fail(DownloadFailed(ErrorCode.DIGEST_MISMATCH, "wrong"))
    with pytest.raises(DownloadFailed, match="wrong"):
        await reading
    assert len(got) == len(arriving.content.data) - 100


async def test_an_empty_content_ends_only_when_it_is_known_to_be_right(
    tmp_path: Path, executor: ThreadPoolExecutor, background: Background
) -> None:
    arriving = Arriving(tmp_path, executor, sample(0), 0)
    arriving.begin()
    got = bytearray()
    reading = background.spawn(collect(ContentReader(arriving.shared), got), "read")
    await turns()
    assert not reading.done()
    arriving.shared.complete(arriving.content.sha256)
    await reading
    assert got == b""
    arriving.close()


@pytest.mark.parametrize(
    ("start", "stop"), [(0, 1), (1000, 5000), (4096, 8192), (8191, 8193), (0, 10**9), (17000, None), (17507, 17508), (5, 5)]
)
async def test_a_part_is_read_from_where_it_begins(arriving: Arriving, start: int, stop: int | None) -> None:
    arriving.begin()
    arriving.comes(0, 1, 2, 3, 4)
    arriving.shared.complete(arriving.content.sha256)
    got = bytearray()
    await collect(ContentReader(arriving.shared), got, start, stop)
    assert bytes(got) == arriving.content.data[start:stop]


async def test_a_part_in_the_middle_waits_for_its_own_bytes_only(arriving: Arriving) -> None:
    arriving.begin()
    arriving.comes(2)
    got = bytearray()
    await collect(ContentReader(arriving.shared), got, 8200, 12000)
    assert bytes(got) == arriving.content.data[8200:12000]


async def test_chunks_are_of_at_most_a_mebibyte(tmp_path: Path, executor: ThreadPoolExecutor) -> None:
    arriving = Arriving(tmp_path, executor, sample(2 * MIB + 5, MIB, MIB // 4), 0, 1, 2)
    arriving.begin()
    arriving.shared.complete(arriving.content.sha256)
    sizes = [len(chunk) async for chunk in ContentReader(arriving.shared).read()]
    assert sizes == [MIB, MIB, 5]
    arriving.close()


async def test_readers_at_different_places_share_one_arrival(arriving: Arriving, background: Background) -> None:
    arriving.begin()
    got = [bytearray() for _ in range(3)]
    readings = [
        background.spawn(collect(ContentReader(arriving.shared), into, start), "read")
        for into, start in zip(got, (0, 5000, 16000), strict=True)
    ]
    arriving.comes(4, 3, 2, 1, 0)
    arriving.shared.complete(arriving.content.sha256)
    await asyncio.gather(*readings)
    assert [bytes(into) for into in got] == [arriving.content.data[start:] for start in (0, 5000, 16000)]


async def test_a_content_that_is_cut_anew_is_read_from_its_new_file(arriving: Arriving, background: Background) -> None:
    arriving.begin()
    got = bytearray()
    reading = background.spawn(collect(ContentReader(arriving.shared), got), "read")
    await turns()
    arriving.close()
    arriving.content.layout = type(arriving.content.layout)(arriving.content.layout.length, 8192, 1024)
    arriving.begin()
    arriving.comes(0, 1, 2)
    arriving.shared.complete(arriving.content.sha256)
    await reading
    assert bytes(got) == arriving.content.data


async def test_bytes_are_counted_once_by_where_they_came_from(arriving: Arriving) -> None:
    arriving.begin()
    shared = arriving.shared
    assert shared.came(0, Origin.SEED) == 4096
    assert shared.came(0, Origin.PEER) == 0
    arriving.blocks_come(4, 0, 2)  # whole by its blocks, and counted when its piece is told
    assert shared.came(4, Origin.PEER) == 1124
    assert shared.came(1, Origin.DISK) == 4096
    assert shared.received.by_origin == {Origin.SOURCE: 0, Origin.SEED: 4096, Origin.PEER: 1124, Origin.DISK: 4096}
    assert shared.received.total == 4096 + 1124 + 4096


async def test_whole_tells_progress_and_gives_the_files_path(arriving: Arriving, background: Background) -> None:
    arriving.begin()
    told: list[int] = []

    def on_progress(received: Received) -> None:
        told.append(received.total)

    reader = ContentReader(arriving.shared)
    whole = background.spawn(reader.whole(on_progress), "whole")
    await turns()
    arriving.comes(0, 1, 2, 3)
    await turns()
    arriving.comes(4)
    await turns()
    arriving.shared.complete(arriving.content.sha256)
    path = await whole
    assert bytes_of(path) == arriving.content.data
    assert told == [0, 4 * 4096, len(arriving.content.data), len(arriving.content.data)]
    assert reader.digest == arriving.content.sha256


@pytest.mark.parametrize("before", [True, False])
async def test_everybody_who_waits_hears_of_a_failure(arriving: Arriving, background: Background, before: bool) -> None:
    reader = ContentReader(arriving.shared)
    if before:
        arriving.shared.fail(FAILED)
    waiting = [background.spawn(reader.opened(), "opened"), background.spawn(reader.opened(), "opened")]
    await turns()
    if not before:
        arriving.shared.fail(FAILED)
    for each in waiting:
        with pytest.raises(DownloadFailed, match="gone") as caught:
            await each
        assert caught.value.status == 404


async def test_what_is_complete_can_be_read_although_it_fails_later(arriving: Arriving) -> None:
    arriving.begin()
    arriving.comes(0, 1, 2, 3, 4)
    arriving.shared.complete(arriving.content.sha256)
    arriving.shared.fail(FAILED)
    got = bytearray()
    await collect(ContentReader(arriving.shared), got)
    assert bytes(got) == arriving.content.data


async def test_a_file_that_cannot_be_read_is_a_failure_in_words(arriving: Arriving) -> None:
    arriving.begin()
    arriving.comes(0)
    arriving.close()
    with pytest.raises(DownloadFailed, match=r"task 7777777777777777: the stored content cannot be read") as caught:
        await collect(ContentReader(arriving.shared), bytearray(), 0, 10)
    assert caught.value.code is ErrorCode.INTERNAL


async def test_the_last_reader_that_closes_is_noticed_once(arriving: Arriving) -> None:
    unread, linked = [], []
    arriving.shared.on_unread = lambda: unread.append(1)
    arriving.shared.on_linked = lambda: linked.append(1)
    arriving.shared.supernode = "10.0.0.10:8002"
    first, second = ContentReader(arriving.shared), ContentReader(arriving.shared)
    assert first.supernode == "10.0.0.10:8002"
    await first.close()
    await first.close()
    assert (unread, arriving.shared.readers) == ([], 1)
    second.mark_linked()
    await second.close()
    assert (unread, linked, arriving.shared.readers) == ([1], [1], 0)


@pytest.mark.parametrize("at", [0, 1023, 1024, 4096, 3 * 4096 + 7, 4 * 4096 + 1123])
async def test_a_stored_content_that_has_gone_bad_is_never_given_out(
    tmp_path: Path, executor: ThreadPoolExecutor, at: int
) -> None:
    """A disk that changes a byte of what was whole before its reader came."""
    arriving = Arriving(tmp_path, executor, sample(4 * 4096 + 1124), *range(5))
    arriving.begin()
    content, shared = arriving.content, arriving.shared
    shared.complete("sha256:" + "0" * 64)
    whole = bytearray()
    await collect(ContentReader(shared), whole)
    assert whole == content.data
    assert arriving.file is not None
    with arriving.file.path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))
    for start, stop in ((0, None), (at, at + 1), (max(0, at - 1500), None)):
        got = bytearray()
        with pytest.raises(DownloadFailed, match="has gone bad at byte"):
            await collect(ContentReader(shared), got, start, stop)
        assert got == content.data[start : start + len(got)]
        assert start + len(got) <= at
    assert shared.damaged
    arriving.close()
