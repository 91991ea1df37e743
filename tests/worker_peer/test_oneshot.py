"""One dfget from its first line to its last: 1.x's lines, codes and reasons, whatever the host's peer and the source do."""

import asyncio
import hashlib
import json
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support.source_server import Page, SourceServer
from tests.worker_peer.parts import bytes_of, sample
from wire.errors import ErrorCode
from wire.ids import ByteRange
from wire.messages import Download, Finished, Progress
from worker_peer import oneshot
from worker_peer.host_peer import NoHostPeer
from worker_peer.oneshot_options import OneshotOptions

CONTENT = sample(50_000)
TASK = CONTENT.task


@dataclass
class FakeHostPeer:
    """The host's peer by script."""

    script: list[Progress | Finished | BaseException]
    asked: list[Download] = field(default_factory=list)
    placings: list[tuple[str, bool]] = field(default_factory=list)
    cancelled: int = 0
    closed: int = 0

    def download(self, request: Download, deadline: float | None) -> Iterator[Progress | Finished]:
        """See HostPeer."""
        self.asked.append(request)
        for step in self.script:
            if isinstance(step, BaseException):
                raise step
            yield step

    def placed(self, task: str, *, linked: bool) -> None:
        """See HostPeer."""
        self.placings.append((task, linked))

    def cancel(self) -> None:
        """See HostPeer."""
        self.cancelled += 1

    def close(self) -> None:
        """See HostPeer."""
        self.closed += 1


@dataclass(kw_only=True)
class Bench:
    """Runs dfgets."""

    folder: Path
    source: SourceServer
    capture: pytest.CaptureFixture[str]
    patch: pytest.MonkeyPatch
    server_arguments: list[list[str]] = field(default_factory=list)

    def options(self, **more: Any) -> OneshotOptions:
        fixed: dict[str, Any] = {
            "url": self.source.url("/file?Signature=secret"),
            "output": self.folder / "output",
            "rate": 0,
            "total_rate": 0,
            "min_rate": 0,
            "timeout_s": 0.0,
            "md5": None,
            "identifier": None,
            "digest": None,
            "caller": "",
            "certificates": (),
            "from_source": False,
            "filters": (),
            "headers": (),
            "byte_range": None,
            "supernodes": ("10.0.0.10:8002",),
            "back_to_source": True,
            "insecure": False,
            "bar": False,
            "verbose": False,
            "home": self.folder / "home",
            "ip": "",
            "port": 0,
            "expire_s": 180.0,
            "alive_s": 300.0,
            "cache_quota": 0,
            "report": self.folder / "report",
        }
        return OneshotOptions(**(fixed | more))

    def peer(self, *script: Progress | Finished | BaseException) -> FakeHostPeer:
        """The host's peer that dfget finds."""
        made = FakeHostPeer(list(script))

        def connect(home: Path, arguments: list[str]) -> FakeHostPeer:
            self.server_arguments.append(arguments)
            return made

        self.patch.setattr(oneshot, "connect_or_start", connect)
        return made

    async def run(self, **more: Any) -> tuple[int, list[str]]:
        """(exit code, lines of stdout)."""
        code = await asyncio.to_thread(oneshot.run_oneshot, self.options(**more))
        told = self.capture.readouterr()
        assert "secret" not in told.out + told.err
        return code, told.out.splitlines()

    @property
    def report(self) -> dict[str, Any]:
        """What --report wrote."""
        found: dict[str, Any] = json.loads((self.folder / "report").read_text())
        return found

    def stored(self) -> Path:
        """The content's file in the store."""
        path = self.folder / "stored"
        path.write_bytes(CONTENT.data)
        return path


@pytest.fixture
async def bench(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    """A source with the content at /file."""
    async with SourceServer() as server:
        server.pages["/file"] = Page(body=CONTENT.data)
        yield Bench(folder=tmp_path, source=server, capture=capsys, patch=monkeypatch)


PROGRESS = Progress(task=TASK, supernode="10.0.0.10:8002", length=50_000, received=(0, 10, 0, 0))


def finished(path: Path) -> Finished:
    return Finished(task=TASK, path=str(path), length=50_000, digest=CONTENT.sha256, received=(0, 30_000, 20_000, 0))


def failed(code: ErrorCode, status: int = 0) -> Finished:
    return Finished(task=TASK, path="", code=code, status=status, message='no "way"')


HEAD = (
    r"--\d{4}-\d\d-\d\d \d\d:\d\d:\d\d--  http://127\.0\.0\.1:\d+/file\?\.\.\.",
    r"dfget version:\S+",
    r"workspace:/.*/home",
    r"sign:\d+-\d+\.\d{3}",
)


def assert_lines(lines: list[str], *patterns: str) -> None:
    """Just these lines, in this order, after 1.x's first four."""
    assert len(lines) == len(HEAD) + len(patterns), lines
    for line, pattern in zip(lines, (*HEAD, *patterns), strict=True):
        assert re.fullmatch(pattern, line), f"{line!r} is not {pattern!r}"


CONNECTED = (r"client:\S+ connected to node:10\.0\.0\.10:8002", r"start download by dragonfly\.\.\.")
TURNED = r"failed to download by dragonfly: {}, and start try to download from source"
FROM_SOURCE = r"start download output from the source station"
SUCCESS = r"download SUCCESS cost:\d+\.\d\d\ds length:50000 reason:{}"


async def test_a_download_prints_1xs_lines_and_places_its_output(bench: Bench) -> None:
    stored = bench.stored()
    peer = bench.peer(PROGRESS, PROGRESS, finished(stored))
    code, lines = await bench.run()
    assert code == 0
    assert_lines(lines, *CONNECTED, SUCCESS.format(0))
    assert bytes_of(bench.folder / "output") == CONTENT.data
    linked = (bench.folder / "output").samefile(stored)
    assert peer.placings == [(TASK, linked)]
    assert peer.closed == 1
    report = bench.report
    assert report.pop("seconds") >= 0
    assert report == {
        "ok": True,
        "task": TASK,
        "length": 50_000,
        "digest": CONTENT.sha256,
        "reason": 0,
        "code": 0,
        "message": "",
        "source_bytes": 0,
        "seed_bytes": 30_000,
        "peer_bytes": 20_000,
        "disk_bytes": 0,
    }
    assert bench.source.requests == []


async def test_what_is_asked_of_the_peer_is_what_the_user_asked(bench: Bench) -> None:
    peer = bench.peer(finished(bench.stored()))
    await bench.run(
        headers=(("Authorization", "secret"),),
        filters=("Signature",),
        digest=CONTENT.sha256,
        md5="ab",
        identifier="me",
        byte_range=ByteRange(5, None),
        insecure=True,
        certificates=(b"pem",),
        caller="test",
        rate=5,
        total_rate=20 << 20,
        ip="10.0.0.1",
        port=15001,
        verbose=True,
    )
    assert peer.asked == [
        Download(
            url=bench.source.url("/file?Signature=secret"),
            headers=(("Authorization", "secret"),),
            filters=("Signature",),
            digest=CONTENT.sha256,
            md5="ab",
            identifier="me",
            byte_range=(5, None),
            insecure=True,
            certificates=(b"pem",),
            supernodes=("10.0.0.10:8002",),
            caller="test",
            rate=5,
            total_rate=20 << 20,
        )
    ]
    arguments = "--node 10.0.0.10:8002 --port 15001 --expiretime 180.0s --alivetime 300.0s"
    assert " ".join(bench.server_arguments[0]) == f"{arguments} --ip 10.0.0.1 --totallimit 20MB --verbose"


CASES = [
    (ErrorCode.NO_SUPERNODE, 8, 1104),
    (ErrorCode.STORE_FULL, 6, 1104),
    (ErrorCode.SOURCE_NOT_FOUND, 10, 1104),
    (ErrorCode.SOURCE_UNREACHABLE, 10, 1104),
    (ErrorCode.SOURCE_NEEDS_AUTH, 10, 1103),
    (ErrorCode.SOURCE_FORBIDDEN, 10, 1104),
    (ErrorCode.SOURCE_ERROR, 10, 1104),
    (ErrorCode.INTERNAL, 3, 1104),
    (ErrorCode.DIGEST_MISMATCH, 3, 1104),
]


@pytest.mark.parametrize(("error", "reason", "code"), CASES)
async def test_notbs_fails_with_the_reason_and_a_thousand(bench: Bench, error: ErrorCode, reason: int, code: int) -> None:
    bench.peer(PROGRESS, failed(error))
    status, lines = await bench.run(back_to_source=False)
    assert status == code % 256
    words = json.dumps({"Code": code, "Msg": 'no "way"'}, separators=(",", ":"))
    last = rf"download FAIL\({code}\) cost:\d+\.\d{{3}}s length:-1 reason:{1000 + reason} error:{re.escape(words)}"
    assert_lines(lines, *CONNECTED, last)
    assert not (bench.folder / "output").exists()
    assert (bench.report["ok"], bench.report["code"], bench.report["message"]) == (False, code, 'no "way"')
    assert bench.source.requests == []


@pytest.mark.parametrize(("error", "reason", "_"), CASES)
async def test_what_the_swarm_cannot_give_comes_from_the_source(bench: Bench, error: ErrorCode, reason: int, _: int) -> None:
    peer = bench.peer(failed(error))
    code, lines = await bench.run()
    assert code == 0
    assert_lines(lines, TURNED.format('no "way"'), FROM_SOURCE, SUCCESS.format(reason))
    assert bytes_of(bench.folder / "output") == CONTENT.data
    assert (bench.report["source_bytes"], bench.report["digest"]) == (50_000, CONTENT.sha256)
    assert (peer.placings, peer.closed) == ([], 1)


async def test_without_a_peer_of_the_host_it_comes_from_the_source(bench: Bench) -> None:
    def connect(home: Path, arguments: list[str]) -> FakeHostPeer:
        raise NoHostPeer("`dfget server` did not start: no room")

    bench.patch.setattr(oneshot, "connect_or_start", connect)
    code, lines = await bench.run()
    assert code == 0
    assert_lines(lines, TURNED.format("`dfget server` did not start: no room"), FROM_SOURCE, SUCCESS.format(1))


async def test_a_peer_that_dies_in_the_middle_is_left(bench: Bench) -> None:
    bench.peer(PROGRESS, NoHostPeer("the host's peer has died"))
    code, lines = await bench.run()
    assert code == 0
    assert_lines(lines, *CONNECTED, TURNED.format("the host's peer has died"), FROM_SOURCE, SUCCESS.format(3))


@pytest.mark.parametrize(
    ("limits", "least"),
    [({}, "1GB"), ({"rate": 1 << 29}, "512MB"), ({"rate": 1 << 29, "total_rate": 1 << 20}, "1MB"), ({"rate": 1 << 40}, "1GB")],
)
async def test_a_swarm_slower_than_minrate_is_left_for_the_source(bench: Bench, limits: dict[str, int], least: str) -> None:
    peer = bench.peer(PROGRESS, finished(bench.stored()))
    bench.patch.setattr(oneshot, "_MIN_RATE_GRACE_S", -1.0)
    code, lines = await bench.run(min_rate=1 << 30, **limits)
    assert code == 0
    slow = rf"it took longer than -1s, which is slower than --minrate {least}"
    assert_lines(lines, TURNED.format(slow), FROM_SOURCE, SUCCESS.format(0))
    assert (peer.cancelled, peer.closed) == (1, 1)


@pytest.mark.parametrize("asked", [{}, {"rate": 5}, {"min_rate": 1}, {"min_rate": 1 << 30, "timeout_s": 60.0}])
async def test_a_swarm_that_is_fast_enough_is_not_left(bench: Bench, asked: dict[str, Any]) -> None:
    peer = bench.peer(PROGRESS, finished(bench.stored()))
    if "timeout_s" in asked:
        bench.patch.setattr(oneshot, "_MIN_RATE_GRACE_S", -1.0)
    code, lines = await bench.run(**asked)
    assert code == 0
    assert_lines(lines, *CONNECTED, SUCCESS.format(0))
    assert peer.cancelled == 0


@pytest.mark.parametrize(("limits", "seconds"), [({"rate": 100_000}, 0.45), ({"rate": 1 << 30, "total_rate": 100_000}, 0.45)])
async def test_the_lowest_limit_holds_straight_from_the_source(bench: Bench, limits: dict[str, int], seconds: float) -> None:
    began_at = time.monotonic()
    code, lines = await bench.run(from_source=True, **limits)
    assert code == 0
    assert_lines(lines, FROM_SOURCE, SUCCESS.format(100))
    assert time.monotonic() - began_at >= seconds


async def test_a_download_that_takes_too_long_is_given_up(bench: Bench) -> None:
    bench.peer(PROGRESS, TimeoutError())
    bench.source.pages["/file"].holds_after = 10
    code, lines = await bench.run(timeout_s=0.2)
    assert code == 1104 % 256
    words = r"it took longer than --timeout 0\.2s"
    last = rf'download FAIL\(1104\) cost:\S+ length:-1 reason:0 error:{{"Code":1104,"Msg":"{words}"}}'
    assert_lines(lines, *CONNECTED, TURNED.format(words), FROM_SOURCE, last)
    assert not (bench.folder / "output").exists()


async def test_ctrl_c_cancels_and_says_so(bench: Bench) -> None:
    peer = bench.peer(PROGRESS, KeyboardInterrupt())
    code, lines = await bench.run()
    assert code == 130
    assert lines[-1].startswith("download FAIL(130) ")
    assert '"Msg":"interrupted"' in lines[-1]
    assert (peer.cancelled, peer.closed) == (1, 1)


# -- straight from the source -----------------------------------------------------------------------------------------------


def never(home: Path, arguments: list[str]) -> FakeHostPeer:
    raise AssertionError("the swarm is not wanted")


async def test_the_source_by_wish(bench: Bench) -> None:
    bench.patch.setattr(oneshot, "connect_or_start", never)
    code, lines = await bench.run(from_source=True, md5=hashlib.md5(CONTENT.data).hexdigest())
    assert code == 0
    assert_lines(lines, FROM_SOURCE, SUCCESS.format(100))


@pytest.mark.parametrize(("status", "code"), [(401, 1103), (404, 1104), (500, 1104)])
async def test_a_source_that_refuses_is_an_error_with_its_status(bench: Bench, status: int, code: int) -> None:
    bench.patch.setattr(oneshot, "connect_or_start", never)
    bench.source.pages["/file"].status = status
    exit_code, lines = await bench.run(from_source=True)
    assert exit_code == code % 256
    last = rf'download FAIL\({code}\) cost:\S+ length:-1 reason:10 error:{{"Code":{code},"Msg":".*{status}.*"}}'
    assert_lines(lines, FROM_SOURCE, last)


@pytest.mark.parametrize("wanted", [{"md5": "0" * 32}, {"digest": "sha256:" + "0" * 64}])
async def test_a_source_that_gives_something_else_is_an_error(bench: Bench, wanted: dict[str, str]) -> None:
    bench.patch.setattr(oneshot, "connect_or_start", never)
    code, lines = await bench.run(from_source=True, **wanted)
    assert code == 1104 % 256
    assert next(iter(wanted.values())) in lines[-1]
    assert not (bench.folder / "output").exists()


async def test_a_digest_in_the_url_is_checked(bench: Bench) -> None:
    bench.patch.setattr(oneshot, "connect_or_start", never)
    path = "/v2/library/x/blobs/sha256:" + "0" * 64
    bench.source.pages[path] = Page(body=CONTENT.data)
    code, _ = await bench.run(from_source=True, url=bench.source.url(path))
    assert code == 1104 % 256
    code, _ = await bench.run(from_source=True, url=bench.source.url(path), byte_range=ByteRange(0, 9))
    assert code == 0


# -- outputs and reports ----------------------------------------------------------------------------------------------------


def a_folder(path: Path) -> None:
    path.mkdir()


def a_file_on_its_way(path: Path) -> None:
    path.parent.touch()


@pytest.mark.parametrize(("place", "prepare"), [("folder", a_folder), ("file/below", a_file_on_its_way)])
@pytest.mark.parametrize("back_to_source", [True, False])
async def test_an_output_that_cannot_be_made_is_named_before_anything_is_asked(
    bench: Bench, place: str, prepare: Callable[[Path], None], back_to_source: bool
) -> None:
    bench.patch.setattr(oneshot, "connect_or_start", never)
    output = bench.folder / place
    prepare(output)
    code, lines = await bench.run(output=output, back_to_source=back_to_source)
    assert code == 1101 % 256
    last = rf'download FAIL\(1101\) cost:\S+ length:-1 reason:0 error:{{"Code":1101,"Msg":"[^"]*{output.name}[^"]*"}}'
    assert_lines(lines, last)
    assert bench.source.requests == []


async def test_an_output_that_fails_at_the_end_is_named(bench: Bench) -> None:
    bench.peer(PROGRESS, finished(bench.folder / "no such file"))
    code, lines = await bench.run()
    assert code == 1101 % 256
    assert "cannot be written" in lines[-1]


async def test_a_report_that_cannot_be_written_changes_nothing_else(bench: Bench) -> None:
    bench.peer(PROGRESS, finished(bench.stored()))
    code = await asyncio.to_thread(oneshot.run_oneshot, bench.options(report=bench.folder))
    assert code == 0
    told = bench.capture.readouterr()
    assert f"dfget: --report {bench.folder}: Is a directory" in told.err
    assert "SUCCESS" in told.out
