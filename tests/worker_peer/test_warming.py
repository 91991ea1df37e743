"""A host is told to have a content ready: real downloads and stores, a supernode by script, every word of it looked at."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.worker_peer.parts import LOOPBACK, Nodes, Sample, bytes_of, sample, until
from tests.worker_peer.whole_peer import Lab, open_lab, read_all, request_for
from wire.errors import ErrorCode
from wire.messages import Hello, Leave, LeaveReason, Message, NotKnown, Register, Report, Task, TaskState, Warm, Warmed
from worker_peer.core import warming as core
from worker_peer.host.store import Store

URL = "http://source.example/blob"


def blob(number: int = 0, pieces: int = 5) -> tuple[Sample, Any]:
    """A content that is named by its digest, and its request."""
    content = sample(pieces * 4096 + 100 + number)
    request = request_for(URL, digest=content.sha256)
    content.task = request.task
    return content, request


def warm(content: Sample, **more: Any) -> Warm:
    """The content is to be ready."""
    return Warm(task=content.task, job="job-1", url=URL, digest=content.sha256, **more)


async def last_word(lab: Lab, content: Sample, heard: list[Message] | None = None) -> Warmed:
    """The end of its warming, as the supernode hears it; what is heard before goes into `heard`."""
    while True:
        message = await lab.supernode.hears(Message)
        if isinstance(message, Warmed) and message.task == content.task and (message.done or message.code is not None):
            return message
        if heard is not None:
            heard.append(message)


async def first(lab: Lab, kind: type[Message]) -> Any:
    """The next message of this kind, whatever else is said before."""
    while True:
        message = await lab.supernode.hears(Message)
        if isinstance(message, kind):
            return message


async def warmed(lab: Lab, content: Sample, **more: Any) -> Warmed:
    """It is told to be ready, and comes from another peer. The end."""
    lab.supernode.say(warm(content, **more))
    await first(lab, Register)
    lab.tell(content, cached=True)
    parent = next((node for node in lab.nodes._nodes if node.name == "parent"), None) or lab.nodes.node("parent")
    parent.share(content, *range(content.layout.piece_count))
    lab.lease(content, parent, *range(content.layout.piece_count))
    return await last_word(lab, content)


def stored(lab: Lab, content: Sample) -> bytes:
    """What lies on the host's disk."""
    return bytes_of(lab.peer.config.home / "data" / content.task[:3] / content.task / "content")


def spoil(path: Path, at: int) -> None:
    """The disk has gone bad there."""
    with path.open("r+b") as file:
        file.seek(at)
        file.write(b"rot")


async def test_a_content_comes_through_the_swarm_and_is_told_from_begin_to_end(lab: Lab) -> None:
    content, _ = blob()
    lab.supernode.say(warm(content, headers=(("Authorization", "Bearer secret"),)))
    begin = await lab.hears(Warmed)
    assert begin == Warmed(task=content.task, received=(0, 0, 0, 0))
    register = await lab.hears(Register)
    assert (register.task, register.url, register.digest) == (content.task, URL, content.sha256)
    assert register.headers == (("Authorization", "Bearer secret"),)
    assert (register.caller, register.serves_only) == ("preheat job-1", False)
    lab.tell(content, cached=True)
    seed, parent = lab.parent(content, 0, 1, name=f"cdnnode:{LOOPBACK}"), lab.parent(content, 2, 3, 4, 5)
    lab.lease(content, seed, 0, 1)
    await lab.reported(2)
    lab.lease(content, parent, 2, 3, 4, 5)
    end = await last_word(lab, content)
    length = len(content.data)
    assert end == Warmed(
        task=content.task,
        done=True,
        verified=length,
        length=length,
        digest=content.sha256,
        received=(0, 2 * 4096, length - 2 * 4096, 0),
    )
    assert stored(lab, content) == content.data
    assert lab.peer.downloads.active == 0


async def test_it_is_told_every_second_while_it_runs(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core, "TELL_EVERY_S", 0.02)
    content, _ = blob()
    lab.supernode.say(warm(content))
    await first(lab, Register)
    lab.tell(content)
    lab.lease(content, lab.parent(content, 0, 1), 0, 1)
    while (told := await first(lab, Warmed)).verified < 2 * 4096:
        assert not told.done
    assert (told.length, told.received, told.digest) == (len(content.data), (0, 0, 2 * 4096, 0), None)
    await first(lab, Warmed)


async def test_nothing_is_done_before_the_digest_is_confirmed(lab: Lab) -> None:
    content = sample(5 * 4096 + 100)
    content.task = request_for(URL).task
    lab.supernode.say(Warm(task=content.task, url=URL, filters=("Signature",)))
    await first(lab, Register)
    lab.tell(content)
    lab.lease(content, lab.parent(content, *range(6)), *range(6))
    assert await first(lab, Report)
    lab.supernode.say(Warm(task=content.task, url=URL, filters=("Signature",)))
    told = await first(lab, Warmed)
    assert not told.done
    lab.tell(content, cached=True)
    end = await last_word(lab, content)
    assert (end.done, end.digest) == (True, content.sha256)


async def test_what_is_here_is_read_again_before_it_counts(lab: Lab) -> None:
    content, request = blob()
    reader = await lab.complete(content, request, lab.parent(content, *range(6), name="parent"))
    await reader.close()
    heard: list[Message] = []
    lab.supernode.say(warm(content))
    end = await last_word(lab, content, heard)
    assert (end.done, end.verified, end.digest) == (True, len(content.data), content.sha256)
    assert not [each for each in heard if isinstance(each, Register)], "nothing is fetched"


async def test_what_has_gone_bad_is_found_and_fetched_anew(lab: Lab) -> None:
    content, request = blob()
    parent = lab.parent(content, *range(6), name="parent")
    reader = await lab.complete(content, request, parent)
    path = Path(await reader.whole())
    await reader.close()
    spoil(path, 2 * 4096 + 7)
    lab.supernode.say(warm(content))
    leave = await first(lab, Leave)
    assert leave.reason is LeaveReason.EVICTED
    register = await first(lab, Register)
    assert register.have == b""
    lab.tell(content, cached=True)
    lab.lease(content, parent, *range(6))
    end = await last_word(lab, content)
    assert (end.done, end.received) == (True, (0, 0, len(content.data), 0))
    assert stored(lab, content) == content.data


async def test_what_an_earlier_run_left_is_verified_and_only_the_rest_is_fetched(nodes: Nodes, tmp_path: Path) -> None:
    content, _ = blob()
    content.file(Store(tmp_path / "home" / "data"), [0, 1, 4]).close()
    spoil(tmp_path / "home" / "data" / content.task[:3] / content.task / "content", 4096)
    async with open_lab(nodes, tmp_path) as lab:
        await lab.hears(Hello)
        lab.supernode.say(warm(content))
        register = await first(lab, Register)
        assert list(register.have) == [0b10001000]
        lab.tell(content, cached=True)
        lab.lease(content, lab.parent(content, *range(6)), 1, 2, 3, 5)
        # What an earlier run left may be by an earlier seed's word: the whole is digested, not one byte read from the source.
        end = await last_word(lab, content)
        assert (end.done, end.received) == (True, (0, 0, len(content.data) - 2 * 4096, 2 * 4096))
        assert stored(lab, content) == content.data


async def test_asking_again_is_answered_at_once_and_reads_nothing_again(lab: Lab) -> None:
    content, _ = blob()
    await warmed(lab, content)
    lab.supernode.run_id = "run-2"
    lab.supernode.say(NotKnown())
    register = await first(lab, Register)
    assert register.serves_only
    heard: list[Message] = []
    lab.supernode.say(warm(content))
    end = await last_word(lab, content, heard)
    assert end.done
    assert heard == []


async def test_a_file_that_somebody_touched_is_proven_again(lab: Lab) -> None:
    content, _ = blob()
    await warmed(lab, content)
    path = lab.peer.config.home / "data" / content.task[:3] / content.task / "content"
    path.touch()
    lab.supernode.say(warm(content))
    heard: list[Message] = []
    assert (await last_word(lab, content, heard)).done
    assert heard == [Warmed(task=content.task, received=(0, 0, 0, 0))], "it was read again: that takes its turn"


async def test_it_is_kept_for_as_long_as_the_job_wants(lab: Lab) -> None:
    content, _ = blob()
    await warmed(lab, content, keep_s=3600.0)
    now = lab.peer._clock.wall()
    assert lab.peer.store.kept_until(content.task) == pytest.approx(now + 3600.0, abs=30.0)
    assert await lab.peer.purge() == []
    lab.supernode.say(warm(content, keep_s=7200.0))
    assert (await last_word(lab, content)).done
    assert lab.peer.store.kept_until(content.task) == pytest.approx(now + 7200.0, abs=30.0)


async def test_what_cannot_be_kept_is_not_called_done(nodes: Nodes, tmp_path: Path) -> None:
    content, _ = blob()
    async with open_lab(nodes, tmp_path, cache_quota=1 << 20, kept_percent=1) as lab:
        await lab.hears(Hello)
        end = await warmed(lab, content, keep_s=3600.0)
        assert (end.done, end.code) == (False, ErrorCode.STORE_FULL)
        assert "raise --preheat-quota" in end.message


async def test_a_stopped_job_stops_its_download_and_what_came_is_kept(lab: Lab) -> None:
    content, request = blob()
    lab.supernode.say(warm(content))
    await first(lab, Register)
    lab.tell(content)
    parent = lab.parent(content, *range(6))
    lab.lease(content, parent, 0, 1)
    await first(lab, Report)
    lab.supernode.say(warm(content, cancel=True))
    leave = await first(lab, Leave)
    assert leave.reason is LeaveReason.CANCELLED
    assert lab.peer.store.tasks() == [content.task]
    opening = lab.peer._background.spawn(lab.peer.open(request), "open")
    register = await first(lab, Register)
    assert register.have[0] & 0b10000000
    opening.cancel()


async def test_a_reader_joins_what_is_warmed_and_leaves_it_to_go_on(lab: Lab) -> None:
    content, request = blob()
    lab.supernode.say(warm(content))
    await first(lab, Register)
    opening = lab.peer._background.spawn(lab.peer.open(request), "open")
    lab.tell(content, cached=True)
    reader = await opening
    parent = lab.parent(content, *range(6))
    lab.lease(content, parent, 0, 1)
    assert b"".join([bytes(chunk) async for chunk in reader.read(0, 8192)]) == content.data[:8192]
    await reader.close()
    lab.lease(content, parent, 2, 3, 4, 5)
    assert (await last_word(lab, content)).done


async def test_what_cannot_be_had_is_told_in_words(lab: Lab) -> None:
    content, _ = blob()
    lab.supernode.say(warm(content))
    await first(lab, Register)
    lab.supernode.say(
        Task(task=content.task, state=TaskState.DEAD, code=ErrorCode.SOURCE_FORBIDDEN, status=403, message="no: check the token")
    )
    end = await last_word(lab, content)
    assert (end.code, end.status) == (ErrorCode.SOURCE_FORBIDDEN, 403)
    assert end.message == f"task {content.task[:16]}: no: check the token"


async def test_a_task_that_is_another_by_its_url_is_refused(lab: Lab) -> None:
    content, _ = blob()
    content.task = "9" * 64
    lab.supernode.say(warm(content))
    end = await last_word(lab, content)
    assert end.code is ErrorCode.TASK_CONFLICT
    assert "run the same release" in end.message


async def test_without_the_supernode_it_waits_and_never_reads_the_source(nodes: Nodes, tmp_path: Path) -> None:
    content, _ = blob()
    async with open_lab(nodes, tmp_path, back_to_source_after_s=0.05) as lab:
        await lab.hears(Hello)
        lab.supernode.say(warm(content))
        await first(lab, Register)
        lab.tell(content, cached=True)
        parent = lab.parent(content, *range(6))
        lab.lease(content, parent, 0, 1)
        await first(lab, Report)
        port = int(lab.supernode.node.rpartition(":")[2])
        link = lab.peer.supernodes.link(lab.supernode.node)
        await lab.supernode.close()
        await until(lambda: not link.is_up, "the peer has seen it")
        await asyncio.sleep(0.2)  # four times the patience after which a download that somebody waits for reads the source
        assert lab.peer.downloads.active == 1
        lab.supernode.run_id = "run-2"
        await lab.supernode.start(port)
        register = await first(lab, Register)
        assert register.have
        lab.supernode.say(warm(content))
        lab.tell(content, cached=True)
        lab.lease(content, parent, 2, 3, 4, 5)
        end = await last_word(lab, content)
        assert (end.done, end.received[0]) == (True, 0)
        assert stored(lab, content) == content.data


async def test_four_at_a_time_and_all_of_them_in_the_end(lab: Lab) -> None:
    contents = [blob(number)[0] for number in range(6)]
    parent = lab.nodes.node("parent")
    for content in contents:
        parent.share(content, *range(6))
        lab.supernode.say(warm(content))
    registered: list[str] = []
    done: set[str] = set()
    waiting = {content.task: content for content in contents}
    while len(done) < 6:
        message = await lab.supernode.hears(Message)
        if isinstance(message, Register):
            registered.append(message.task)
            assert len(registered) - len(done) <= core.AT_ONCE
            if len(registered) in (core.AT_ONCE, 6):
                for task in set(registered) & waiting.keys():
                    content = waiting.pop(task)
                    lab.tell(content, cached=True)
                    lab.lease(content, parent, *range(6))
        elif isinstance(message, Warmed) and message.done:
            done.add(message.task)
    tasks = [content.task for content in contents]
    assert set(registered[: core.AT_ONCE]) == set(tasks[: core.AT_ONCE]), "in the order of the asking"
    assert done == set(tasks)


async def test_a_reader_of_a_warmed_content_gets_it_from_the_disk(lab: Lab) -> None:
    content, request = blob()
    await warmed(lab, content)
    reader = await lab.peer.open(request)
    assert await read_all(reader) == content.data
    await reader.close()


async def test_nothing_is_kept_of_what_has_ended(lab: Lab) -> None:
    content, _ = blob()
    assert (await warmed(lab, content)).done
    assert lab.peer.warmer._running == {}
    assert len(lab.peer.warmer) == 0


async def test_an_error_of_our_own_ends_it_too(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    async def breaks(*_: object) -> None:
        raise RuntimeError("a bug")

    content, _ = blob()
    monkeypatch.setattr(lab.peer.warmer._contents, "have", breaks)
    lab.supernode.say(warm(content))
    end = await last_word(lab, content)
    assert (end.code, "look into its log" in end.message) == (ErrorCode.INTERNAL, True)
    assert len(lab.peer.warmer) == 0
