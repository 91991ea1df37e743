"""Straight from the source to the output: whole and right, or the output is as it was."""

import asyncio
import hashlib
import os
import stat
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.source_server import Page, SourceServer
from tests.worker_peer.parts import bytes_of, sample
from wire.errors import ErrorCode
from wire.ids import ByteRange
from worker_peer.direct import OutputUnwritable, WrongContent, download_directly, file_digest
from worker_peer.host.source import SourceError

CONTENT = sample(300_000)


@pytest.fixture
async def source() -> AsyncIterator[SourceServer]:
    """A source with the content at /file."""
    async with SourceServer() as server:
        server.pages["/file"] = Page(body=CONTENT.data)
        yield server


async def download(source: SourceServer, output: Path, **more: Any) -> tuple[int, str]:
    fixed: dict[str, Any] = {
        "url": source.url("/file?Signature=secret"),
        "headers": (("X-Mine", "yes"),),
        "byte_range": None,
        "insecure": False,
        "certificates": (),
        "digest": None,
        "md5": None,
        "rate": 0,
    }
    return await download_directly(**(fixed | more), output=output)


def left_in(folder: Path) -> list[str]:
    """The names in a folder."""
    return sorted(os.listdir(folder))


async def test_a_content_is_written_whole_with_usual_permissions(source: SourceServer, tmp_path: Path) -> None:
    output = tmp_path / "new" / "folder" / "file"
    wanted = {"digest": CONTENT.sha256, "md5": hashlib.md5(CONTENT.data).hexdigest()}
    before = os.umask(0o027)
    try:
        assert await download(source, output, **wanted) == (300_000, CONTENT.sha256)
    finally:
        os.umask(before)
    assert bytes_of(output) == CONTENT.data
    assert file_digest(output) == CONTENT.sha256
    assert os.stat(output).st_mode & 0o777 == 0o640
    assert left_in(output.parent) == ["file"]
    assert source.requests[0].header("X-Mine") == "yes"


async def test_what_was_there_is_replaced(source: SourceServer, tmp_path: Path) -> None:
    output = tmp_path / "file"
    await download(source, output)
    source.pages["/file"].body = b"other"
    await download(source, output)
    assert bytes_of(output) == b"other"


async def test_a_part_is_a_content(source: SourceServer, tmp_path: Path) -> None:
    length, digest = await download(source, tmp_path / "file", byte_range=ByteRange(1000, 1999))
    assert (length, digest) == (1000, "sha256:" + hashlib.sha256(CONTENT.data[1000:2000]).hexdigest())
    assert bytes_of(tmp_path / "file") == CONTENT.data[1000:2000]


@pytest.mark.parametrize(
    ("wanted", "words"), [({"digest": "sha256:" + "0" * 64}, "check the digest"), ({"md5": "0" * 32}, "check --md5")]
)
async def test_a_wrong_content_is_thrown_away(source: SourceServer, tmp_path: Path, wanted: dict[str, str], words: str) -> None:
    output = tmp_path / "file"
    output.touch()
    with pytest.raises(WrongContent, match=words):
        await download(source, output, **wanted)
    assert bytes_of(output) == b""
    assert left_in(tmp_path) == ["file"]


async def test_a_source_that_dies_leaves_nothing(source: SourceServer, tmp_path: Path) -> None:
    source.pages["/file"].dies_after = 100_000
    with pytest.raises(SourceError, match="100000 of 300000 bytes") as caught:
        await download(source, tmp_path / "file")
    assert "secret" not in str(caught.value)
    assert left_in(tmp_path) == []


async def test_a_source_that_refuses_is_told_with_its_status(source: SourceServer, tmp_path: Path) -> None:
    source.pages["/file"].status = 401
    with pytest.raises(SourceError) as caught:
        await download(source, tmp_path / "file")
    assert (caught.value.code, caught.value.status) == (ErrorCode.SOURCE_NEEDS_AUTH, 401)
    assert left_in(tmp_path) == []


async def test_an_output_that_cannot_be_written_is_named(source: SourceServer, tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.touch()
    with pytest.raises(OutputUnwritable, match=r"below: .*choose another --output"):
        await download(source, in_the_way / "below")
    assert left_in(tmp_path) == ["file"]


async def test_a_full_disk_says_so(source: SourceServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, data: memoryview) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("worker_peer.direct.os.write", full)
    with pytest.raises(OutputUnwritable, match="No space left on device: free some space, or choose another --output"):
        await download(source, tmp_path / "file")
    monkeypatch.undo()
    assert left_in(tmp_path) == []


async def test_who_gives_up_in_the_middle_of_a_write_waits_for_it_and_leaves_nothing(
    source: SourceServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A descriptor that is closed under a thread may be another file by then."""
    writing, go_on = threading.Event(), threading.Event()
    written: list[int] = []
    original = os.write

    def slow(descriptor: int, data: memoryview) -> int:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return original(descriptor, data)  # the loop's own way to wake itself
        writing.set()
        assert go_on.wait(20)
        written.append(original(descriptor, data))
        return written[-1]

    monkeypatch.setattr("worker_peer.direct.os.write", slow)
    downloading = asyncio.ensure_future(download(source, tmp_path / "file"))
    assert await asyncio.to_thread(writing.wait, 20)
    downloading.cancel()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not downloading.done()
    assert len(left_in(tmp_path)) == 1
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await downloading
    assert len(written) >= 1, "the write went on in a file that was open"
    assert left_in(tmp_path) == []
