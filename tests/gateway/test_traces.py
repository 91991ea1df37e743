"""What is remembered of requests, and for how long."""

import asyncio
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway import traces
from gateway.core.subject import Kind
from gateway.core.trace import Place, Trace, Wait
from gateway.traces import Traces, Watch, read_file
from wire.messages import Origin
from worker_peer.api import Cause, Waits
from worker_peer.host.background import Background

_DIGEST = "sha256:" + "a" * 64


class ByHand:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.at = 50.0

    def now(self) -> float:
        return self.at

    def wall(self) -> float:
        return 1_000_000.0 + self.at


@pytest.fixture
async def background() -> AsyncIterator[Background]:
    """What writes."""
    made = Background()
    yield made
    await made.close()


def _trace(number: int, url: str = f"http://r.test/v2/app/blobs/{_DIGEST}") -> Trace:
    watch = Watch(method="GET", clock=ByHand())
    watch.id = f"{number:032x}"
    watch.judged(url, way="p2p", rule="proxies[0]")
    made = watch.ended(status=200, end="complete", sent=5)
    return made


async def _written(file: Path, count: int) -> None:
    async with asyncio.timeout(20):
        while len(await asyncio.to_thread(read_file, file)) < count:
            pass


async def test_what_was_kept_is_there_after_a_restart(tmp_path: Path, background: Background) -> None:
    file = tmp_path / "meta" / "traces.jsonl"
    kept = Traces(background, file)
    await kept.load()
    for number in range(5):
        kept.add(_trace(number))
    await _written(file, 5)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    later = Traces(background, file)
    await later.load()
    assert await later.all() == await kept.all() == [_trace(number) for number in range(5)]


async def test_what_ends_with_the_process_is_written_too(tmp_path: Path) -> None:
    background, file = Background(), tmp_path / "traces.jsonl"
    kept = Traces(background, file)
    kept.add(_trace(1))
    await background.close()
    kept.add(_trace(2))
    await kept.close()
    await _written(file, 2)
    assert {each.id for each in read_file(file)} == {f"{1:032x}", f"{2:032x}"}


async def test_memory_and_file_are_bounded(tmp_path: Path, background: Background, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces, "FILE_BYTES", 5000)
    file = tmp_path / "meta" / "traces.jsonl"
    kept = Traces(background, file)
    for number in range(traces.KEPT + 10):
        kept.add(_trace(number))
        kept.add(_trace(number, "http://r.test/other"))
        if number % 20 == 0:
            await kept.close()
    await kept.close()
    found = await kept.all()
    blobs = [each for each in found if each.subject.kind is Kind.BLOB]
    assert len(blobs) == traces.KEPT
    # What is asked all day long does not push images out.
    assert len(found) - len(blobs) == 200
    sizes = await asyncio.to_thread(lambda: {path.name: path.stat().st_size for path in file.parent.iterdir()})
    assert set(sizes) <= {"traces.jsonl", "traces.jsonl.1"}
    assert sum(sizes.values()) < 2 * 5000 + 40 * 2000


async def test_a_file_of_anybodys_making_harms_nobody(tmp_path: Path, background: Background) -> None:
    file = tmp_path / "traces.jsonl"
    good = _trace(1).to_line()
    file.write_bytes(b"\xff\xfe\n[1]\n{\n" + good.encode() + b"\n" + good.encode()[: len(good) // 2])
    kept = Traces(background, file)
    await kept.load()
    assert await kept.all() == [_trace(1)]


async def test_a_disk_that_takes_nothing_is_told_once(
    tmp_path: Path, background: Background, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("no folder")
    kept = Traces(background, tmp_path / "file" / "traces.jsonl")
    await kept.load()
    for number in range(3):
        kept.add(_trace(number))
        await kept.close()
    assert len(await kept.all()) == 3
    assert [record.message for record in caplog.records if "cannot be written" in record.message] != []
    assert len(caplog.records) == 1


async def test_without_a_file_it_is_only_remembered(background: Background) -> None:
    kept = Traces(background)
    await kept.load()
    kept.add(_trace(1))
    await kept.close()
    assert await kept.all() == [_trace(1)]


# -- one request ----------------------------------------------------------------------------------------------------------


def test_what_the_peer_waits_for_is_what_the_request_waits_for_while_it_is_attached() -> None:
    clock, waits = ByHand(), Waits()
    watch = Watch(clock=clock)
    waits.turn(Cause.SUPERNODE, clock.at)
    with watch.on(Wait.ACCESS):
        clock.at += 2
        waits.turn(Cause.SEED, clock.at)
        clock.at += 1
    watch.attach(waits)
    clock.at += 4
    waits.turn(None, clock.at)
    clock.at += 8
    waits.on_turn = None
    waits.turn(Cause.PEERS, clock.at)
    trace = watch.ended(status=200, end="complete", sent=0)
    assert trace.waits == {Wait.ACCESS: 3_000_000, Wait.SEED: 4_000_000, Wait.OWN: 8_000_000}
    assert trace.began == 1_000_050.0
    assert trace.whole_us == 15_000_000


def test_the_bytes_that_nobody_else_gave_are_the_registrys() -> None:
    watch = Watch()
    watch.gave({(Origin.SEED, "s"): 5})
    watch.gave({(Origin.SEED, "s"): 2, (Origin.DISK, ""): 1})
    watch.own_bytes = 4
    trace = watch.ended(status=206, end="complete", sent=20)
    assert {(each.place, each.size) for each in trace.given} == {
        (Place.SEED, 7), (Place.STORE, 1), (Place.OWN, 4), (Place.REGISTRY, 8),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("status", "end", "size", "is_read"),
    [(200, "complete", 0, True), (304, "complete", 0, False), (200, "cut", 0, False), (200, "complete", 300_000, False)],
)
def test_a_manifests_parts_are_learnt_from_its_body(status: int, end: str, size: int, is_read: bool) -> None:
    watch = Watch()
    watch.judged("http://r.test/v2/app/manifests/1")
    watch.answered(status, (("docker-content-digest", _DIGEST),))
    body = b'{"layers": [{"digest": "sha256:' + b"b" * 64 + b'"}]}' + b" " * size
    for at in range(0, len(body), 100):
        watch.wrote(memoryview(body)[at : at + 100])
    trace = watch.ended(status=status, end=end, sent=len(body))
    assert trace.members == (("sha256:" + "b" * 64,) if is_read else ())
    assert trace.subject.digest == (_DIGEST if status == 200 else "")


def test_a_client_is_known_by_its_programs_name_alone() -> None:
    fields: Any = (
        ("User-Agent", "docker/26.1.5 go/1.22 secret(word)"),
        ("Authorization", "Bearer x"),
        ("traceparent", "nonsense"),
    )
    trace = Watch(fields, method="GET").ended(status=0, end="cut", sent=0)
    assert trace.client == "docker/26.1.5"
    assert len(trace.id) == 32
    assert "secret" not in trace.to_line()
    assert "Bearer" not in trace.to_line()
