"""Downloads of a whole peer whose pieces are of two origins, an earlier run's or two supernodes': right as a whole, or an error.

And what an earlier run has left on the disk.
"""

import asyncio
import os
from pathlib import Path

import pytest

from tests.worker_peer.parts import Nodes, Sample, sample, until
from tests.worker_peer.whole_peer import REQUEST, Lab, begin, by_origin, open_lab, read_all, request_for, url_content
from wire.bitmap import PieceSet
from wire.errors import ErrorCode
from wire.messages import Hello, Leave, LeaveReason, NotKnown, Register
from worker_peer.api import DownloadFailed, DownloadRequest
from worker_peer.content import ContentReader
from worker_peer.host.store import Store

DIGESTED = "its pieces have not all come in one run: the whole is digested again"


def under_digest(length: int = 5 * 4096 + 100) -> tuple[Sample, DownloadRequest]:
    """A content, and the request for it by its digest."""
    content = sample(length)
    request = request_for(digest=content.sha256)
    content.task = request.task
    return content, request


async def resume(lab: Lab, content: Sample, request: DownloadRequest, *missing: int) -> "asyncio.Task[ContentReader]":
    """Ask for a content that is partly here already, and bring the rest. The reading is begun."""
    opening = lab.peer._background.spawn(lab.peer.open(request), "open")
    register = await lab.registered()
    have = PieceSet.of(content.layout.piece_count, set(range(content.layout.piece_count)) - set(missing))
    assert register.have == have.to_bytes()
    lab.tell(content, cached=True)
    lab.lease(content, lab.parent(content, *range(content.layout.piece_count)), *missing)
    return opening


async def test_a_resumed_content_is_digested_whole_and_nothing_is_read_twice(
    nodes: Nodes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content, request = under_digest()
    content.file(Store(tmp_path / "home" / "data"), [0, 2, 3]).close()
    caplog.set_level("INFO")
    async with open_lab(nodes, tmp_path) as lab:
        reader = await (await resume(lab, content, request, 1, 4, 5))
        assert await asyncio.wait_for(read_all(reader), 20) == content.data
        assert by_origin(reader, disk=3 * 4096, peer=len(content.data) - 3 * 4096)
        assert reader.digest == content.sha256
        assert DIGESTED in caplog.text
        assert "pieces from the source" not in caplog.text
        await reader.close()


async def test_a_resumed_content_that_an_earlier_supernode_lied_about_is_an_error_and_goes(nodes: Nodes, tmp_path: Path) -> None:
    content, request = under_digest()
    lie = Sample(layout=content.layout, data=bytes(len(content.data)), task=content.task)
    lie.file(Store(tmp_path / "home" / "data"), [0, 2, 3]).close()
    async with open_lab(nodes, tmp_path) as lab:
        reader = await (await resume(lab, content, request, 1, 4, 5))
        with pytest.raises(DownloadFailed) as caught:
            await asyncio.wait_for(reader.whole(), 20)
        assert caught.value.code is ErrorCode.DIGEST_MISMATCH
        assert content.sha256 in str(caught.value)
        await lab.reported(3)
        leave = await lab.hears(Leave)
        assert leave.reason is LeaveReason.FAILED
        await until(lambda: lab.peer.store.tasks() == [], "it is deleted")
        await reader.close()
        # So the next one who wants it gets it.
        opening = lab.peer._background.spawn(lab.peer.open(request), "open")
        register = await lab.hears(Register)
        assert register.have == b""
        lab.tell(content, cached=True)
        lab.lease(content, lab.parent(content, *range(6), name="another"), *range(6))
        again = await opening
        assert await asyncio.wait_for(read_all(again), 20) == content.data
        await again.close()


async def next_supernode(lab: Lab, run: str) -> None:
    """The supernode ends and begins anew; the peer registers what it has."""
    lab.supernode.run_id = run
    lab.supernode.say(NotKnown())
    await lab.registered()


@pytest.mark.parametrize(("run", "digested"), [("run-1", False), ("run-2", True)])
async def test_what_came_by_two_supernodes_words_is_digested_whole(
    lab: Lab, caplog: pytest.LogCaptureFixture, run: str, digested: bool
) -> None:
    caplog.set_level("INFO")
    content = url_content()
    parent = lab.parent(content, *range(6))
    opening = await begin(lab)
    lab.tell(content)
    reader = await opening
    lab.lease(content, parent, 0, 1)
    await lab.reported(2)
    await next_supernode(lab, run)
    lab.tell(content, cached=True)
    lab.lease(content, parent, 2, 3, 4, 5)
    assert await asyncio.wait_for(read_all(reader), 20) == content.data
    assert (DIGESTED in caplog.text) is digested
    assert by_origin(reader, peer=len(content.data))
    await reader.close()


async def test_a_source_that_changed_between_two_supernodes_is_an_error_not_a_mixture(lab: Lab) -> None:
    old, new = url_content(), url_content()
    new.data = bytes(reversed(old.data))
    opening = await begin(lab)
    lab.tell(old)
    reader = await opening
    lab.lease(old, lab.parent(old, 0, 1, name="old"), 0, 1)
    await lab.reported(2)
    await next_supernode(lab, "run-2")
    lab.tell(new, cached=True)
    lab.lease(new, lab.parent(new, *range(6), name="new"), 2, 3, 4, 5)
    with pytest.raises(DownloadFailed) as caught:
        await asyncio.wait_for(reader.whole(), 20)
    assert caught.value.code is ErrorCode.DIGEST_MISMATCH
    await until(lambda: lab.peer.store.tasks() == [], "it is deleted")
    await reader.close()


# -- what is left of earlier runs, and what is remembered -------------------------------------------------------------------


async def test_what_earlier_runs_left_goes_when_it_is_old_and_nobody_wants_it(nodes: Nodes, tmp_path: Path) -> None:
    wanted, old, young = url_content(), sample(4096), sample(4096)
    old.task, young.task = "8" * 64, "9" * 64
    for each in (old, young):
        each.file(Store(tmp_path / "home" / "data")).close()
    for path in (tmp_path / "home" / "data" / old.task[:3] / old.task).iterdir():
        os.utime(path, (1e9, 1e9))
    async with open_lab(nodes, tmp_path, expire_s=3600.0, tidy_after_s=1e6) as lab:
        await lab.hears(Hello)
        reader = await lab.complete(wanted, REQUEST, lab.parent(wanted, *range(6)))
        assert await lab.peer.keeper.tidy() == [old.task]
        assert lab.peer.store.tasks() == sorted([wanted.task, young.task])
        assert await read_all(reader) == wanted.data
        await reader.close()
        # A process that ends takes away what it has itself, not what may be another's.
        await lab.peer.purge()
        assert lab.peer.store.tasks() == [young.task]


async def test_a_peer_says_hello_under_another_run(lab: Lab) -> None:
    """What the tests above lean on: the run that a link is in is the last welcome's."""
    link = lab.peer.supernodes.link(lab.supernode.node)
    await until(lambda: link.supernode_run == "run-1", "it is welcomed")
    lab.supernode.run_id = "run-2"
    lab.supernode.say(NotKnown())
    await lab.hears(Hello)
    await until(lambda: link.supernode_run == "run-2", "it is welcomed again")
