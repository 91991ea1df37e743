"""What the swarm cannot give is read from the source: only that, and the whole is right or it is an error."""

import hashlib
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.source_server import Page, SourceServer
from tests.worker_peer.parts import FakeClock, Sample, sample
from wire.bitmap import PieceSet
from wire.errors import ErrorCode
from wire.ids import ByteRange
from worker_peer.api import DownloadRequest
from worker_peer.back_to_source import SourceOutcome, read_missing
from worker_peer.host.source import SourceReader
from worker_peer.host.store import Store, StoreFull, TaskFile


@dataclass(kw_only=True)
class Site:
    """A source, a reader of it, and a store."""

    server: SourceServer
    reader: SourceReader
    executor: ThreadPoolExecutor
    store: Store
    told: list[int] = field(default_factory=list)

    def put(self, content: Sample, *have: int, **page: object) -> TaskFile:
        """The content at its source, and a file of it that has these pieces."""
        self.server.pages["/file"] = Page(body=content.data, **page)  # type: ignore[arg-type]
        return content.file(self.store, have)

    async def read(self, file: TaskFile, digest: str | None = None, **request: object) -> SourceOutcome:
        """Read what the file has not."""
        asked = DownloadRequest(url=self.server.url("/file?Signature=secret"), **request)  # type: ignore[arg-type]
        missing = file.have.missing()
        return await read_missing(
            asked, file, missing, digest, source=self.reader, executor=self.executor, on_pieces=self.told.extend
        )

    @property
    def ranges(self) -> list[str | None]:
        """What was asked for."""
        return [asked.header("Range") for asked in self.server.requests]


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """Everything on loopback."""
    with ThreadPoolExecutor(1) as executor:
        async with SourceServer() as server:
            reader = SourceReader(clock=FakeClock(), user_agent="test")
            yield Site(server=server, reader=reader, executor=executor, store=Store(tmp_path))
            await reader.close()


@pytest.mark.parametrize("length", [0, 1, 4096, 5 * 4096 + 100])
async def test_a_whole_content_is_read_once(site: Site, length: int) -> None:
    content = sample(length)
    file = site.put(content)
    outcome = await site.read(file, content.sha256, md5=hashlib.md5(content.data).hexdigest().upper())
    assert outcome == SourceOutcome(digest=content.sha256)
    assert bytes(file.read(0, length)) == content.data
    assert site.told == list(range(content.layout.piece_count))
    assert site.server.body_bytes == length
    file.close()


async def test_only_what_is_missing_is_read(site: Site) -> None:
    content = sample(5 * 4096 + 100)
    file = site.put(content, 0, 3)
    outcome = await site.read(file, content.sha256)
    assert outcome == SourceOutcome(digest=content.sha256)
    assert site.told == [1, 2, 4, 5]
    assert bytes(file.read(0, len(content.data))) == content.data
    assert [asked is not None and asked.partition("-")[0] for asked in site.ranges] == ["bytes=4096", "bytes=16384"]
    file.close()


async def test_without_a_digest_two_versions_of_a_source_are_never_mixed(site: Site) -> None:
    content = sample(5 * 4096 + 100)
    file = site.put(content, 0, 3)
    site.server.pages["/file"] = Page(body=bytes(5 * 4096 + 100))
    assert (await site.read(file)).code is ErrorCode.SOURCE_CHANGED
    site.server.pages["/file"] = Page(body=content.data)
    other = site.put(content, 0, 3)
    assert await site.read(other) == SourceOutcome(digest=content.sha256)
    assert site.ranges == [None, None]
    other.close()


async def test_what_is_here_is_not_read_and_still_judged(site: Site) -> None:
    content = sample(2 * 4096)
    file = site.put(content, 0, 1)
    assert await site.read(file, content.sha256) == SourceOutcome(digest=content.sha256)
    wrong = await site.read(file, "sha256:" + "0" * 64)
    assert wrong.code is ErrorCode.DIGEST_MISMATCH
    assert (site.told, site.server.requests) == ([], [])
    file.close()


async def test_a_source_without_ranges_is_read_from_its_start_once(site: Site) -> None:
    content = sample(5 * 4096 + 100)
    file = site.put(content, 0, 2, 3, ranges=False)
    assert await site.read(file) == SourceOutcome(digest=content.sha256)
    assert sorted(site.told) == [1, 4, 5]
    assert site.server.body_bytes == len(content.data)
    assert bytes(file.read(0, len(content.data))) == content.data
    file.close()


@pytest.mark.parametrize("have", [(), (1,)])
async def test_a_source_without_a_length_is_read(site: Site, have: tuple[int, ...]) -> None:
    content = sample(5 * 4096 + 100)
    file = site.put(content, *have, ranges=False, chunked=True)
    assert await site.read(file) == SourceOutcome(digest=content.sha256)
    file.close()


async def test_a_part_of_a_source_is_a_content_of_its_own(site: Site) -> None:
    whole, part = sample(5 * 4096), sample(4096 + 50)
    part.data = whole.data[1000 : 1000 + 4096 + 50]
    file = part.file(site.store, [0])
    site.server.pages["/file"] = Page(body=whole.data)
    outcome = await site.read(file, part.sha256, byte_range=ByteRange(1000, 1000 + 4096 + 49))
    assert outcome == SourceOutcome(digest=part.sha256)
    assert site.ranges == [f"bytes={1000 + 4096}-{1000 + 4096 + 49}"]
    file.close()


@pytest.mark.parametrize("status", [401, 403, 404, 500])
async def test_a_source_that_refuses_is_told_with_its_status(site: Site, status: int) -> None:
    file = site.put(sample(4096), status=status)
    outcome = await site.read(file)
    assert outcome.status == status
    assert outcome.code is not None
    assert str(status) in outcome.message
    assert "secret" not in outcome.message
    assert site.told == []
    file.close()


async def test_a_source_that_dies_leaves_what_came(site: Site) -> None:
    content = sample(4 * 4096)
    file = site.put(content, dies_after=9000)
    outcome = await site.read(file)
    assert outcome.code is ErrorCode.SOURCE_ERROR
    assert site.told == [0, 1]
    assert file.have == PieceSet.of(4, [0, 1])
    file.close()


@pytest.mark.parametrize("length", [4 * 4096 - 1, 4 * 4096 + 1, 0])
@pytest.mark.parametrize("chunked", [True, False])
async def test_a_source_of_another_length_has_changed(site: Site, length: int, chunked: bool) -> None:
    file = sample(4 * 4096).file(site.store, [1])
    site.server.pages["/file"] = Page(body=bytes(length), ranges=False, chunked=chunked)
    outcome = await site.read(file)
    assert outcome.code in (ErrorCode.SOURCE_CHANGED, ErrorCode.SOURCE_ERROR)
    assert len(site.server.requests) <= 3
    file.close()


async def test_other_bytes_where_pieces_are_here_mean_that_the_source_has_changed(site: Site) -> None:
    content, other = sample(4 * 4096), sample(4 * 4096)
    other.data = content.data[:100] + bytes(4 * 4096 - 100)
    file = site.put(content, 0, 1)
    site.server.pages["/file"] = Page(body=other.data, ranges=False)
    assert (await site.read(file)).code is ErrorCode.SOURCE_CHANGED
    file.close()


async def test_other_bytes_are_found_by_the_digest(site: Site) -> None:
    content = sample(4 * 4096)
    file = site.put(content, 0, 1)
    site.server.pages["/file"] = Page(body=content.data[:8192] + bytes(8192))
    outcome = await site.read(file, content.sha256)
    assert outcome.code is ErrorCode.DIGEST_MISMATCH
    assert content.sha256 in outcome.message
    again = await site.read(file, md5="0" * 32)
    assert again.code is ErrorCode.DIGEST_MISMATCH
    assert "check --md5" in again.message
    file.close()


async def test_a_full_disk_and_a_closed_file_are_told_apart(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    file = site.put(sample(4096))

    def write(offset: int, view: memoryview) -> None:
        raise StoreFull(file.path, 4096, 0)

    with monkeypatch.context() as patched:
        patched.setattr(file, "write", write)
        assert (await site.read(file)).code is ErrorCode.STORE_FULL
    file.close()
    outcome = await site.read(file)
    assert outcome.code is ErrorCode.INTERNAL
    assert "store cannot be written" in outcome.message
