"""Downloads of a whole peer: supernode by script, parents and sources real, every byte and every word looked at."""

import asyncio
import json
import logging
import threading
import time
from pathlib import Path

import pytest

from tests.worker_peer.parts import LOOPBACK, Nodes, Sample, bytes_of, sample, until
from tests.worker_peer.whole_peer import REQUEST, URL, Lab, begin, by_origin, open_lab, read_all, request_for, url_content
from wire.bitmap import PieceSet
from wire.errors import ErrorCode
from wire.messages import Drop, Leave, LeaveReason, PieceFailure, Register, Report, Task, TaskState
from worker_peer.api import DownloadFailed
from worker_peer.host.store import Store, StoreFull, TaskFile

# -- the usual way ----------------------------------------------------------------------------------------------------------


async def test_a_content_comes_from_a_seed_and_a_peer_and_is_told_piece_by_piece(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    content = url_content()
    seed, parent = lab.parent(content, 0, 1, name=f"cdnnode:{LOOPBACK}"), lab.parent(content, 2, 3, 4, 5)
    with caplog.at_level(logging.INFO):
        request = request_for(headers=(("Authorization", "Bearer secret"),), identifier=None, caller="test")
        opening = lab.peer._background.spawn(lab.peer.open(request), "open")
        register = await lab.hears(Register)
        assert (register.task, register.url, register.filters, register.caller) == (content.task, URL, ("Signature",), "test")
        assert register.headers == (("Authorization", "Bearer secret"),)
        assert (register.have, register.length, register.serves_only) == (b"", None, False)
        assert not opening.done()
        lab.tell(content, content_type="text/plain")
        reader = await opening
        assert (reader.length, reader.content_type, reader.supernode) == (len(content.data), "text/plain", lab.supernode.node)
        first, second = lab.lease(content, seed, 0, 1), lab.lease(content, parent, 2, 3, 4, 5)
        assert await lab.reported(6) == [0, 1, 2, 3, 4, 5]
        assert reader.digest == ""
        lab.tell(content, cached=True)
        path = await reader.whole()
    assert (first, second) == (1, 2)
    assert bytes_of(path) == content.data == await read_all(reader)
    assert reader.digest == content.sha256
    assert by_origin(reader, seed=8192, peer=len(content.data) - 8192)
    lines = [record.message for record in caplog.records if "downloading piece:" in record.message]
    told = {each["range"]: each["dstCid"] for each in (json.loads(line.partition("downloading piece:")[2]) for line in lines)}
    assert len(told) == 6
    assert told["0-4095"] == f"cdnnode:{LOOPBACK}~{content.task}"
    assert told["20480-20579"] == parent.name
    assert not any("secret" in record.message for record in caplog.records)
    await reader.close()


async def test_a_reader_gets_bytes_while_the_rest_is_on_its_way(lab: Lab) -> None:
    content = url_content()
    parent = lab.parent(content, 0, 1)
    opening = await begin(lab)
    lab.tell(content)
    reader = await opening
    lab.lease(content, parent, 0, 1)
    got = bytearray()
    async for chunk in reader.read(0, 8192):
        got += chunk
    assert bytes(got) == content.data[:8192]
    await reader.close()


async def test_what_is_here_is_served_to_others(lab: Lab, nodes: Nodes) -> None:
    content = url_content()
    reader = await lab.complete(content, REQUEST, lab.parent(content, *range(6)))
    child = nodes.node("child")
    file = child.share(content)
    endpoint = f"tcp://{LOOPBACK}:{lab.peer.exchange.data_port}"
    child.exchange.fetch(content.task, 1, lab.peer.peer_id, endpoint, "", content.wanted(*range(6)))
    await until(lambda: file.have.is_full, "all of it is at the child")
    assert bytes(file.read(0, len(content.data))) == content.data
    await reader.close()


async def test_readers_of_one_task_share_its_download(lab: Lab) -> None:
    content = url_content()
    opening = await begin(lab)
    second = lab.peer._background.spawn(lab.peer.open(request_for("http://source.example/file?Signature=other")), "open")
    lab.tell(content, cached=True)
    readers = [await opening, await second]
    lab.lease(content, lab.parent(content, *range(6)), *range(6))
    for reader in readers:
        assert await read_all(reader) == content.data
    assert lab.peer.downloads.active == 1
    await readers[0].close()
    assert lab.peer.downloads.active == 1
    await readers[1].close()
    assert lab.peer.downloads.active == 0
    assert lab.peer.downloads.tasks == [content.task]
    assert await lab.reported(6) == list(range(6))


async def test_a_bad_parent_is_reported_and_its_piece_comes_from_another(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    content = url_content(2 * 4096)
    spoilt = Sample(layout=content.layout, data=bytes(2 * 4096), task=content.task)
    bad, good = lab.parent(spoilt, 0, 1, name="bad"), lab.parent(content, 0, 1, name="good")
    opening = await begin(lab)
    lab.tell(content, cached=True)
    reader = await opening
    number = lab.lease(content, bad, 0)
    report = await lab.hears(Report)
    assert (report.done, report.failed) == ((), ((number, 0, PieceFailure.DIGEST),))
    assert "strike 1 against bad: digest, piece 0" in caplog.text
    lab.lease(content, good, 0, 1)
    assert await read_all(reader) == content.data
    await reader.close()


# -- what the store holds ---------------------------------------------------------------------------------------------------


def in_store(folder: Path, content: Sample, *pieces: int, finished: bool = False) -> None:
    """What an earlier run left."""
    file = content.file(Store(folder / "home" / "data"), pieces)
    if finished:
        file.finish(content.sha256)
    file.close()


async def test_stored_pieces_of_a_url_are_not_fetched_again_but_read_counted_and_served(nodes: Nodes, tmp_path: Path) -> None:
    content = url_content()
    in_store(tmp_path, content, 0, 2, 3)
    async with open_lab(nodes, tmp_path) as lab:
        parent = lab.parent(content, *range(6))
        opening = lab.peer._background.spawn(lab.peer.open(REQUEST), "open")
        register = await lab.registered()
        assert register.have == b""  # nobody knows yet whether it is the same content
        lab.tell(content, cached=True)
        lab.lease(content, parent, *range(6))
        reader = await opening
        assert await asyncio.wait_for(read_all(reader), 20) == content.data
        assert by_origin(reader, disk=3 * 4096, peer=len(content.data) - 3 * 4096)
        assert await lab.reported(6) == list(range(6))
        await parent.settled()
        assert parent.exchange.sent_bytes == len(content.data) - 3 * 4096
        child = nodes.node("child")
        file = child.share(content)
        endpoint = f"tcp://{LOOPBACK}:{lab.peer.exchange.data_port}"
        child.exchange.fetch(content.task, 1, lab.peer.peer_id, endpoint, "", content.wanted(0, 2))
        await until(lambda: file.have == PieceSet.of(6, [0, 2]), "what came from the disk is served")
        await reader.close()


async def test_a_whole_stored_content_of_a_url_is_used_when_the_digest_is_the_same(nodes: Nodes, tmp_path: Path) -> None:
    content = url_content()
    in_store(tmp_path, content, *range(6), finished=True)
    async with open_lab(nodes, tmp_path) as lab:
        opening = lab.peer._background.spawn(lab.peer.open(REQUEST), "open")
        await lab.registered()
        lab.tell(content, cached=True)
        reader = await opening
        assert await read_all(reader) == content.data
        assert by_origin(reader, disk=len(content.data))
        assert await lab.reported(6) == list(range(6))
        await reader.close()


async def test_an_older_content_of_a_url_is_never_shown_as_todays(nodes: Nodes, tmp_path: Path) -> None:
    old, new = url_content(9 * 4096 + 1), url_content()
    in_store(tmp_path, old, *range(10), finished=True)
    async with open_lab(nodes, tmp_path) as lab:
        opening = lab.peer._background.spawn(lab.peer.open(REQUEST), "open")
        await lab.registered()
        assert not opening.done()
        lab.tell(new, cached=True)
        lab.lease(new, lab.parent(new, *range(6)), *range(6))
        reader = await opening
        assert reader.length == len(new.data)
        assert await read_all(reader) == new.data
        assert by_origin(reader, peer=len(new.data))
        await reader.close()


async def test_a_content_under_its_digest_needs_nobody(nodes: Nodes, tmp_path: Path) -> None:
    content = sample(5 * 4096 + 100)
    request = request_for(digest=content.sha256)
    content.task = request.task
    in_store(tmp_path, content, *range(6), finished=True)
    async with open_lab(nodes, tmp_path) as lab:
        reader = await lab.peer.open(request)
        assert await read_all(reader) == content.data
        assert by_origin(reader, disk=len(content.data))
        register = await lab.registered()
        assert (register.have, register.serves_only) == (PieceSet.full(6).to_bytes(), True)
        await reader.close()


async def test_what_came_of_a_cancelled_download_is_used_by_the_next(lab: Lab) -> None:
    content = url_content()
    parent = lab.parent(content, *range(6))
    opening = await begin(lab)
    lab.tell(content)
    reader = await opening
    lab.lease(content, parent, 0, 1, 2)
    await lab.reported(3)
    await reader.close()
    leave = await lab.hears(Leave)
    assert (leave.task, leave.reason) == (content.task, LeaveReason.CANCELLED)
    assert lab.peer.downloads.tasks == []
    opening = await begin(lab)
    lab.tell(content, cached=True)
    lab.lease(content, parent, *range(6))
    reader = await opening
    assert await read_all(reader) == content.data
    assert by_origin(reader, disk=3 * 4096, peer=len(content.data) - 3 * 4096)
    await reader.close()


# -- what goes wrong --------------------------------------------------------------------------------------------------------


async def test_without_a_supernode_it_fails_within_a_second(nodes: Nodes, tmp_path: Path) -> None:
    async with open_lab(nodes, tmp_path, supernode_patience_s=0.9, supernodes=(f"{LOOPBACK}:1",)) as lab:
        begun = time.monotonic()
        with pytest.raises(DownloadFailed, match=r"no supernode answers: check the address") as caught:
            await lab.peer.open(REQUEST)
        assert time.monotonic() - begun < 2.0
        assert caught.value.code is ErrorCode.NO_SUPERNODE
        # Now it is known to be dead: nobody waits for it again.
        with pytest.raises(DownloadFailed):
            await lab.peer.open(REQUEST)
        assert lab.peer.downloads.tasks == []


async def test_a_dead_task_fails_with_the_sources_answer(lab: Lab) -> None:
    opening = await begin(lab)
    dead = Task(
        task=REQUEST.task, state=TaskState.DEAD, code=ErrorCode.SOURCE_NOT_FOUND, status=404, message="gone: check the URL"
    )
    lab.supernode.say(dead)
    with pytest.raises(DownloadFailed, match=f"task {REQUEST.task[:16]}: gone: check the URL") as caught:
        await opening
    assert (caught.value.code, caught.value.status) == (ErrorCode.SOURCE_NOT_FOUND, 404)
    leave = await lab.hears(Leave)
    assert leave.reason is LeaveReason.FAILED
    assert lab.peer.downloads.tasks == []


async def test_a_content_found_wrong_is_deleted(lab: Lab) -> None:
    content = url_content()
    opening = await begin(lab)
    lab.tell(content)
    reader = await opening
    lab.lease(content, lab.parent(content, *range(6)), *range(6))
    await lab.reported(6)
    lab.supernode.say(Task(task=content.task, state=TaskState.DEAD, code=ErrorCode.DIGEST_MISMATCH, message="wrong"))
    with pytest.raises(DownloadFailed, match="wrong"):
        await reader.whole()
    await until(lambda: lab.peer.store.tasks() == [], "it is deleted")
    await reader.close()


async def test_a_store_without_room_is_told(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def create(store: Store, task: str, layout: object, **_: object) -> None:
        raise StoreFull(Path("/full"), 10, 5)

    monkeypatch.setattr(Store, "create", create)
    opening = await begin(lab)
    lab.tell(url_content())
    with pytest.raises(DownloadFailed, match="/full has no room") as caught:
        await opening
    assert caught.value.code is ErrorCode.STORE_FULL


@pytest.mark.parametrize("method", ["open", "create"])
async def test_a_store_that_is_broken_is_told(lab: Lab, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    def broken(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Store, method, broken)
    opening = lab.peer._background.spawn(lab.peer.open(REQUEST), "open")
    if method == "create":
        await lab.hears(Register)
        lab.tell(url_content())
    with pytest.raises(DownloadFailed, match=r"the store cannot be .*Permission denied") as caught:
        await opening
    assert caught.value.code is ErrorCode.INTERNAL


async def test_a_journal_without_room_for_the_last_word_keeps_nobody_waiting(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def finish(file: TaskFile, digest: str) -> None:
        raise StoreFull(file.path, 100, 0)

    monkeypatch.setattr(TaskFile, "finish", finish)
    content = url_content()
    reader = await asyncio.wait_for(lab.complete(content, REQUEST, lab.parent(content, *range(6))), 20)
    assert await read_all(reader) == content.data
    assert "its end could not be noted in the journal" in caplog.text
    await reader.close()


async def test_who_asks_and_leaves_before_the_store_is_read_leaves_nothing(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    content = url_content()
    content.file(lab.peer.store, [0]).close()
    looking, go_on = threading.Event(), threading.Event()
    original = Store.open
    opened: list[TaskFile | None] = []

    def slow(store: Store, task: str) -> TaskFile | None:
        looking.set()
        assert go_on.wait(20)
        opened.append(original(store, task))
        return opened[-1]

    monkeypatch.setattr(Store, "open", slow)
    opening = lab.peer._background.spawn(lab.peer.open(REQUEST), "open")
    await asyncio.to_thread(looking.wait, 20)
    opening.cancel()
    await asyncio.wait([opening])
    assert lab.peer.downloads.tasks == []
    go_on.set()
    await until(lambda: opened, "the store has been read")
    (file,) = opened
    assert file is not None
    await until(lambda: file._closed, "nobody holds its file")
    assert lab.peer.store.tasks() == [content.task]


async def test_an_output_that_its_user_edits_is_served_no_more(lab: Lab, nodes: Nodes) -> None:
    content = url_content()
    reader = await lab.complete(content, REQUEST, lab.parent(content, *range(6)))
    path = Path(await reader.whole())
    reader.mark_linked()
    await reader.close()
    output = lab.folder / "output"
    output.hardlink_to(path)
    child = nodes.node("child")
    child_file = child.share(content)
    endpoint = f"tcp://{LOOPBACK}:{lab.peer.exchange.data_port}"
    child.exchange.fetch(content.task, 1, lab.peer.peer_id, endpoint, "", content.wanted(0))
    await until(lambda: 0 in child_file.have, "an unchanged link is served")
    with output.open("r+b") as edited:
        edited.write(b"my own words")
    child.exchange.fetch(content.task, 2, lab.peer.peer_id, endpoint, "", content.wanted(1))
    leave = await lab.hears(Leave)
    assert (leave.task, leave.reason) == (content.task, LeaveReason.FAILED)
    assert child_file.have == PieceSet.of(6, [0])
    assert bytes_of(output)[:12] == b"my own words", "the user's file is the user's"
    # The next one who wants it gets the right bytes, from elsewhere.
    again = await lab.complete(content, REQUEST, lab.parent(content, *range(6), name="another"))
    assert await read_all(again) == content.data
    assert by_origin(again, peer=len(content.data))
    assert bytes_of(output)[:12] == b"my own words"
    await again.close()


async def test_messages_about_nothing_that_is_here_are_answered_or_ignored(lab: Lab) -> None:
    content = url_content()
    lab.tell(content)
    lab.supernode.say(Drop(task=content.task))
    lab.supernode.say(Register(task=content.task, url=URL))
    lab.lease(content, lab.parent(content, 0), 0)
    leave = await lab.hears(Leave)
    assert (leave.task, leave.reason) == (content.task, LeaveReason.CANCELLED)
