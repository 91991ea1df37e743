"""A source's bytes, in chunks of any size, become the same pieces with the same digests."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.worker_peer.parts import Sample, sample
from wire.bitmap import PieceSet
from wire.errors import ErrorCode
from worker_peer.host.digests import ContentDigest
from worker_peer.host.source import SourceError
from worker_peer.host.store import Store
from worker_peer.source_writer import SourceWriter, write_body


def chunks(data: bytes, sizes: Iterator[int]) -> Iterator[bytes]:
    """The data in chunks of these sizes; the last ends it."""
    at = 0
    for size in sizes:
        yield data[at : at + size]
        at += size
    yield data[at:]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(length=st.integers(1, 9 * 1024), sizes=st.lists(st.integers(0, 5000), max_size=8))
def test_any_chunks_make_the_same_pieces(tmp_path: Path, length: int, sizes: list[int]) -> None:
    content = sample(length, 2048, 512)
    file = content.file(Store(tmp_path))
    digest = ContentDigest(with_md5=True)
    writer = SourceWriter(file, 0, digest)
    whole = [piece for chunk in chunks(content.data, iter(sizes)) for piece in writer.write(chunk)]
    assert whole == list(range(content.layout.piece_count))
    assert writer.position == length
    assert writer.finish_empty() == []
    assert file.have.is_full
    assert [file.digests(piece) for piece in whole] == [content.digests(piece) for piece in whole]
    assert bytes(file.read(0, length)) == content.data
    assert digest.sha256() == content.sha256
    assert digest.md5() == hashlib.md5(content.data).hexdigest()
    file.close()


def test_an_empty_content_has_one_piece_of_nothing(tmp_path: Path) -> None:
    content = sample(0)
    file = content.file(Store(tmp_path))
    writer = SourceWriter(file, 0, None)
    assert writer.write(b"") == []
    assert writer.finish_empty() == [0]
    assert file.digests(0) == content.digests(0)
    file.close()


def test_a_writer_begins_at_any_piece(tmp_path: Path) -> None:
    content = sample(3 * 4096 + 5)
    file = content.file(Store(tmp_path), [0, 1])
    writer = SourceWriter(file, 2 * 4096, None)
    assert writer.write(content.data[2 * 4096 :]) == [2, 3]
    assert file.have.is_full
    file.close()


def test_more_bytes_than_announced_are_refused_before_any_of_them_is_written(tmp_path: Path) -> None:
    content = sample(4096 + 10)
    file = content.file(Store(tmp_path))
    writer = SourceWriter(file, 0, None)
    assert writer.write(content.data[:4096]) == [0]
    with pytest.raises(SourceError, match="more than the 4106 bytes") as caught:
        writer.write(bytes(11))
    assert caught.value.code is ErrorCode.SOURCE_ERROR
    assert file.have == PieceSet.of(2, [0])
    file.close()


def test_what_is_here_is_compared_and_not_written(tmp_path: Path) -> None:
    content = sample(3 * 4096)
    file = content.file(Store(tmp_path), [1])
    written = []
    original = file.write

    def write(offset: int, view: bytes | memoryview) -> None:
        written.append((offset, len(view)))
        original(offset, view)

    file.write = write  # type: ignore[method-assign]
    writer = SourceWriter(file, 0, None, keep=frozenset({1}))
    assert writer.write(content.data) == [0, 1, 2]
    assert written == [(0, 4096), (2 * 4096, 4096)]
    file.close()


def test_a_kept_piece_that_reads_differently_means_that_the_source_has_changed(tmp_path: Path) -> None:
    content = sample(2 * 4096)
    file = content.file(Store(tmp_path), [1])
    writer = SourceWriter(file, 0, None, keep=frozenset({1}))
    with pytest.raises(SourceError, match="changed") as caught:
        writer.write(content.data[:-1] + bytes([content.data[-1] ^ 1]))
    assert caught.value.code is ErrorCode.SOURCE_CHANGED
    assert bytes(file.read(4096, 4096)) == content.piece(1)
    file.close()


class ListedBody:
    """A body of these chunks, which may end in an error."""

    def __init__(self, content: Sample, *parts: bytes, error: Exception | None = None) -> None:
        self.length: int | None = len(content.data)
        self.offset, self.content_type, self.validator, self.bytes_read = 0, "", "", 0
        self._parts, self._error = parts, error

    async def chunks(self) -> AsyncIterator[bytes]:
        for part in self._parts:
            await asyncio.sleep(0)
            yield part
        if self._error is not None:
            raise self._error

    async def close(self) -> None:
        raise AssertionError("who opened it closes it")


@pytest.mark.parametrize("length", [0, 5000])
async def test_a_body_is_written_to_its_end_and_pieces_are_told_as_they_come(tmp_path: Path, length: int) -> None:
    content = sample(length)
    file = content.file(Store(tmp_path))
    told: list[list[int]] = []
    body = ListedBody(content, content.data[:100], content.data[100:4097], content.data[4097:])
    with ThreadPoolExecutor(1) as executor:
        await write_body(body, SourceWriter(file, 0, None), executor=executor, on_pieces=told.append)
    assert told == ([[0], [1]] if length else [[0]])
    assert bytes(file.read(0, length)) == content.data
    file.close()


async def test_a_body_that_dies_leaves_what_came_before(tmp_path: Path) -> None:
    content = sample(2 * 4096)
    file = content.file(Store(tmp_path))
    told: list[list[int]] = []
    body = ListedBody(content, content.data[:5000], error=SourceError(ErrorCode.SOURCE_ERROR, "died"))
    with ThreadPoolExecutor(1) as executor, pytest.raises(SourceError, match="died"):
        await write_body(body, SourceWriter(file, 0, None), executor=executor, on_pieces=told.append)
    assert told == [[0]]
    assert file.have == PieceSet.of(2, [0])
    file.close()
