"""The seed is told to have a content ready: read once whoever asks first, read again when its file was touched."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support.source_server import Page, SourceServer
from tests.worker_peer.parts import Nodes, Sample, bytes_of, sample, until
from tests.worker_peer.test_warming import first, last_word, spoil
from tests.worker_peer.whole_peer import Lab, open_lab
from wire.errors import ErrorCode
from wire.ids import task_id
from wire.messages import Drop, Fetch, Hello, Message, Role, Seeded, SeedFailed, Warm, Warmed
from wire.pieces import layout_for

PIECE = layout_for(0).piece_length


def content_of(source: SourceServer, length: int = 3 * PIECE + 5) -> tuple[Sample, str]:
    """A content at its source, named by its digest; and its URL."""
    layout = layout_for(length)
    content = sample(length, layout.piece_length, layout.block_length)
    url = source.url("/blob")
    content.task = task_id(url, digest=content.sha256)
    source.pages["/blob"] = Page(body=content.data, etag='"1"')
    return content, url


@asynccontextmanager
async def seed_lab(nodes: Nodes, folder: Path) -> AsyncIterator[Lab]:
    """A seed that its supernode has greeted."""
    async with open_lab(nodes, folder, role=Role.SEED) as lab:
        await lab.hears(Hello)
        yield lab


def fetch(content: Sample, url: str) -> Fetch:
    return Fetch(task=content.task, url=url, digest=content.sha256)


def warm(content: Sample, url: str, **more: float) -> Warm:
    return Warm(task=content.task, job="job-1", url=url, digest=content.sha256, **more)  # type: ignore[arg-type]


async def seeded(lab: Lab) -> None:
    """The last word of a FETCH."""
    while (await first(lab, Seeded)).digest is None:
        pass


def path_of(lab: Lab, content: Sample) -> Path:
    return lab.peer.config.home / "data" / content.task[:3] / content.task / "content"


def done(content: Sample) -> Warmed:
    length = len(content.data)
    return Warmed(task=content.task, done=True, verified=length, length=length, digest=content.sha256)


async def test_what_was_fetched_is_ready_without_another_byte_and_kept(nodes: Nodes, tmp_path: Path) -> None:
    async with SourceServer() as source, seed_lab(nodes, tmp_path) as lab:
        content, url = content_of(source)
        lab.supernode.say(fetch(content, url))
        await seeded(lab)
        lab.supernode.say(warm(content, url, keep_s=3600.0))
        heard: list[Message] = []
        assert await last_word(lab, content, heard) == done(content)
        assert not any(isinstance(each, Seeded) for each in heard)
        assert source.body_bytes == len(content.data)
        assert lab.peer.store.kept_until(content.task) > lab.peer._clock.wall() + 3500
        assert bytes_of(path_of(lab, content)) == content.data


async def test_before_its_fetch_it_reads_the_source_as_for_one(nodes: Nodes, tmp_path: Path) -> None:
    async with SourceServer() as source, seed_lab(nodes, tmp_path) as lab:
        content, url = content_of(source)
        lab.supernode.say(warm(content, url))
        heard: list[Message] = []
        assert await last_word(lab, content, heard) == done(content)
        pieces = [piece for each in heard if isinstance(each, Seeded) for piece in each.pieces]
        assert pieces == [0, 1, 2, 3]
        assert len(source.requests) == 1


async def test_while_it_is_fetched_it_waits_for_that(nodes: Nodes, tmp_path: Path) -> None:
    async with SourceServer() as source, seed_lab(nodes, tmp_path) as lab:
        content, url = content_of(source)
        page = source.pages["/blob"]
        page.holds_after = PIECE
        lab.supernode.say(fetch(content, url))
        await first(lab, Seeded)
        lab.supernode.say(warm(content, url))
        assert not (await first(lab, Warmed)).done
        page.go_on.set()
        assert await last_word(lab, content) == done(content)
        assert len(source.requests) == 1


async def test_after_a_restart_what_is_on_the_disk_is_verified_and_nothing_is_read_twice(nodes: Nodes, tmp_path: Path) -> None:
    async with SourceServer() as source:
        content, url = content_of(source)
        for _ in range(2):
            async with seed_lab(nodes, tmp_path) as lab:
                lab.supernode.say(warm(content, url))
                assert await last_word(lab, content) == done(content)
        assert source.body_bytes == len(content.data)


async def test_a_file_that_has_gone_bad_is_read_from_the_source_again(nodes: Nodes, tmp_path: Path) -> None:
    async with SourceServer() as source, seed_lab(nodes, tmp_path) as lab:
        content, url = content_of(source)
        lab.supernode.say(warm(content, url))
        await last_word(lab, content)
        path_of(lab, content).touch()
        lab.supernode.say(warm(content, url))
        assert await last_word(lab, content) == done(content)
        assert source.body_bytes == len(content.data), "touched and right: it was only read again"
        spoil(path_of(lab, content), PIECE + 1)
        lab.supernode.say(warm(content, url))
        assert await last_word(lab, content) == done(content)
        assert source.body_bytes == 2 * len(content.data)
        assert bytes_of(path_of(lab, content)) == content.data


async def test_a_source_that_refuses_is_told_with_its_answer(nodes: Nodes, tmp_path: Path) -> None:
    async with SourceServer() as source, seed_lab(nodes, tmp_path) as lab:
        content, url = content_of(source)
        source.pages["/blob"] = Page(body=b"", status=403)
        lab.supernode.say(warm(content, url))
        heard: list[Message] = []
        end = await last_word(lab, content, heard)
        assert (end.code, end.status) == (ErrorCode.SOURCE_FORBIDDEN, 403)
        assert [each.code for each in heard if isinstance(each, SeedFailed)] == [ErrorCode.SOURCE_FORBIDDEN]


async def test_what_is_dropped_in_the_middle_is_told(nodes: Nodes, tmp_path: Path) -> None:
    async with SourceServer() as source, seed_lab(nodes, tmp_path) as lab:
        content, url = content_of(source)
        page = source.pages["/blob"]
        page.holds_after = PIECE
        lab.supernode.say(warm(content, url))
        await first(lab, Seeded)
        lab.supernode.say(Drop(task=content.task))
        end = await last_word(lab, content)
        assert end.code is ErrorCode.CANCELLED
        assert "ask again" in end.message
        page.go_on.set()
        await until(lambda: lab.peer.store.tasks() == [], "it is deleted")
