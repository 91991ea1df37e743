"""What an earlier run left whole is verified and offered again, one at a time; nothing is fetched for it, and nobody waits."""

import asyncio
from pathlib import Path

import pytest

from tests.worker_peer.parts import LOOPBACK, Nodes, Sample, sample, until
from tests.worker_peer.test_warming import first, spoil
from tests.worker_peer.whole_peer import Lab, open_lab, read_all, request_for
from wire.bitmap import PieceSet
from wire.messages import Hello, Message, NotKnown, Register, Warm
from worker_peer import offering
from worker_peer.host.store import Store

URL = "http://user:secret@source.example/blob?Signature=secret"


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for the start."""
    monkeypatch.setattr(offering, "_BEGIN_S", 0.0)


def left_behind(folder: Path, number: int, *, whole: bool = True, by_digest: bool = True, url: str = URL) -> Sample:
    """A content that an earlier run left."""
    content = sample(5 * 4096 + 100 + number)
    request = request_for(URL, digest=content.sha256) if by_digest else request_for(URL)
    content.task = request.task
    file = Store(folder / "home" / "data").create(content.task, content.layout, url=url)
    for piece in range(6 if whole else 3):
        file.write(content.layout.piece_span(piece)[0], content.piece(piece))
        file.commit(piece, content.digests(piece))
    if whole:
        file.finish(content.sha256)
    file.close()
    return content


async def test_what_is_whole_is_offered_verified_and_served(nodes: Nodes, tmp_path: Path) -> None:
    content = left_behind(tmp_path, 0)
    async with open_lab(nodes, tmp_path) as lab:
        register = await lab.registered()
        assert (register.task, register.serves_only, register.have) == (content.task, True, PieceSet.full(6).to_bytes())
        assert (register.length, register.piece_length, register.digest) == (len(content.data), 4096, content.sha256)
        assert register.url == "http://source.example/blob?..."
        child = nodes.node("child")
        file = child.share(content)
        endpoint = f"tcp://{LOOPBACK}:{lab.peer.exchange.data_port}"
        child.exchange.fetch(content.task, 1, lab.peer.peer_id, endpoint, "", content.wanted(*range(6)))
        await until(lambda: file.have.is_full, "all of it is at the child")
        assert bytes(file.read(0, len(content.data))) == content.data


async def test_what_is_not_whole_or_of_a_url_or_bad_is_not_offered_and_stays(nodes: Nodes, tmp_path: Path) -> None:
    others = [left_behind(tmp_path, 1, whole=False), left_behind(tmp_path, 2, by_digest=False), left_behind(tmp_path, 3, url="")]
    bad, good = left_behind(tmp_path, 4), left_behind(tmp_path, 5)
    spoil(tmp_path / "home" / "data" / bad.task[:3] / bad.task / "content", 100)
    async with open_lab(nodes, tmp_path) as lab:
        await lab.hears(Hello)
        assert (await first(lab, Register)).task == good.task
        await until(lambda: bad.task not in lab.peer.downloads.tasks, "it was looked at")
        await until(lambda: lab.peer.downloads.tasks == [good.task], "the others were looked at")
        assert lab.supernode.said.empty()
        assert set(lab.peer.store.tasks()) == {each.task for each in [*others, bad, good]}


async def test_an_offer_is_no_use_so_that_what_is_old_stays_old(nodes: Nodes, tmp_path: Path) -> None:
    content = left_behind(tmp_path, 0)
    before = Store(tmp_path / "home" / "data").index.get(content.task)
    async with open_lab(nodes, tmp_path) as lab:
        await lab.registered()
        await until(lambda: lab.peer.downloads.is_here(content.task), "it is offered")
        await lab.peer.keeper.tidy()
        after = lab.peer.store.index.get(content.task)
        assert before is not None
        assert after is not None
        assert after.used_at == before.used_at
        assert await lab.peer.purge() == [], "a process that ends deletes what it has itself"
        reader = await lab.peer.open(request_for(URL, digest=content.sha256))
        assert await read_all(reader) == content.data
        await reader.close()
        assert await lab.peer.purge() == [content.task]


async def test_the_last_used_come_first_and_only_so_many(nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offering, "MOST_OFFERED", 2)
    contents = [left_behind(tmp_path, number) for number in range(3)]
    for number, content in zip((5, 9, 7), contents, strict=True):
        index = Store(tmp_path / "home" / "data").index
        index.used_now(content.task, 2e9 + number)
        index.write_uses()
    async with open_lab(nodes, tmp_path) as lab:
        await lab.hears(Hello)
        assert [(await first(lab, Register)).task for _ in range(2)] == [contents[1].task, contents[2].task]
        await until(lambda: not any(task.get_name() == "offer" for task in lab.peer._background._tasks), "that is all")
        assert len(lab.peer.downloads.tasks) == 2


async def test_it_rests_while_somebody_waits(nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offering, "_REST_S", 0.01)
    monkeypatch.setattr(offering, "_BEGIN_S", 0.1)
    content = left_behind(tmp_path, 0)
    async with open_lab(nodes, tmp_path) as lab:
        await lab.hears(Hello)
        opening = lab.peer._background.spawn(lab.peer.open(request_for("http://source.example/other")), "open")
        other = await first(lab, Register)
        await asyncio.sleep(0.3)
        assert lab.supernode.said.empty()
        assert content.task not in lab.peer.downloads.tasks
        opening.cancel()
        register = await first(lab, Register)
        assert (register.task, other.task == register.task) == (content.task, False)


async def test_a_supernode_that_is_back_is_told_of_what_is_wanted_first_and_of_the_rest_in_portions(lab: Lab) -> None:
    offered = []
    for number in range(40):
        content = sample(5 * 4096 + number)
        request = request_for(f"http://source.example/{number}", digest=content.sha256)
        content.task = request.task
        file = content.file(lab.peer.store, range(content.layout.piece_count))
        file.finish(content.sha256)
        file.close()
        await (await lab.peer.open(request)).close()
        assert (await lab.hears(Register)).serves_only
        offered.append(content.task)
    opening = lab.peer._background.spawn(lab.peer.open(request_for("http://source.example/wanted")), "open")
    wanted = await lab.hears(Register)
    lab.supernode.run_id = "run-2"
    lab.supernode.say(NotKnown())
    await lab.hears(Hello)
    heard = [await lab.hears(Register) for _ in range(33)]
    assert heard[0].task == wanted.task
    assert lab.supernode.said.empty(), "then a pause"
    heard += [await lab.hears(Register) for _ in range(8)]
    assert [each.task for each in heard[1:]] == offered
    opening.cancel()


async def test_what_is_offered_may_be_warmed(nodes: Nodes, tmp_path: Path) -> None:
    content = left_behind(tmp_path, 0)
    async with open_lab(nodes, tmp_path) as lab:
        await lab.registered()
        lab.supernode.say(Warm(task=content.task, url=URL, digest=content.sha256))
        while not (message := await lab.supernode.hears(Message)).done:  # type: ignore[attr-defined]
            pass
        assert message.digest == content.sha256  # type: ignore[attr-defined]
