"""Log lines as 1.x's readers grep them, files that rotate, and no secret in any of them."""

import json
import logging
import multiprocessing
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.errors import ErrorCode
from wire.messages import Origin, PieceFailure
from worker_peer.host import logs
from worker_peer.host.logs import PieceLog

TASK = "ab" * 32
LOGGER = logging.getLogger("tests.logs")


@pytest.fixture(autouse=True)
def _root_logger_as_before() -> Iterator[None]:
    root = logging.getLogger()
    before = (list(root.handlers), root.level)
    yield
    assert (list(root.handlers), root.level) == before


def test_the_classic_line(tmp_path: Path) -> None:
    output = logs.configure(tmp_path / "logs" / "dfclient.log", sign="7-1.000")
    for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
        LOGGER.log(level, "a %s", "word")
    output.close()
    output.close()
    lines = (tmp_path / "logs" / "dfclient.log").read_text().splitlines()
    assert [re.sub(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} ", "", line) for line in lines] == [
        "INFO sign:7-1.000 : a word",
        "WARN sign:7-1.000 : a word",
        "ERRO sign:7-1.000 : a word",
    ]
    assert all(re.match(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} ", line) for line in lines)


def test_the_time_is_utc() -> None:
    record = logging.makeLogRecord({"created": 86400.5, "msg": "x", "levelname": "INFO"})
    assert logs.ClassicFormatter("s").format(record) == "1970-01-02 00:00:00.500 INFO sign:s : x"
    assert json.loads(logs.JsonFormatter("s").format(record))["time"] == "1970-01-02T00:00:00.500Z"


def test_a_message_cannot_begin_a_line_of_its_own(tmp_path: Path) -> None:
    output = logs.configure(tmp_path / "log", sign="s")
    LOGGER.info("first\n2026-01-01 00:00:00.000 INFO sign:forged : second\r")
    output.close()
    assert len((tmp_path / "log").read_text().splitlines()) == 1


def test_a_trace_is_written(tmp_path: Path) -> None:
    for as_json in (False, True):
        output = logs.configure(tmp_path / "log", as_json=as_json)
        try:
            raise KeyError("https://h/p?Signature=abc")
        except KeyError:
            LOGGER.exception("it broke")
        output.close()
        text = (tmp_path / "log").read_text()
        assert "Traceback" in text
        assert "KeyError" in text
        assert "abc" not in text
        (tmp_path / "log").unlink()


def test_json_lines_have_the_event_and_its_fields(tmp_path: Path) -> None:
    output = logs.configure(tmp_path / "log", as_json=True, sign="s", level=logging.DEBUG)
    LOGGER.debug(
        "hello", extra={"event": "greeted", "fields": {"peer": "p", "count": 3, "path": tmp_path, "message": "not this"}}
    )
    LOGGER.info("plain")
    output.close()
    first, second = map(json.loads, (tmp_path / "log").read_text().splitlines())
    assert list(first) == ["time", "level", "sign", "event", "message", "peer", "count", "path"]
    assert first["event"] == "greeted"
    assert first["message"] == "hello"
    assert first["count"] == 3
    assert first["path"] == str(tmp_path)
    assert second["event"] == "tests.logs"


def test_the_console_is_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    output = logs.configure(None, console=True)
    LOGGER.info("shown")
    output.close()
    shown = capsys.readouterr()
    assert shown.out.endswith("INFO sign: : shown\n")
    assert shown.err == ""


def test_a_full_file_is_rotated_and_one_old_one_kept(tmp_path: Path) -> None:
    output = logs.configure(tmp_path / "log", rotate_bytes=2000)
    for number in range(200):
        LOGGER.info("line %03d", number)
    output.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "log.1"]
    assert (tmp_path / "log").stat().st_size <= 2100
    assert 2000 <= (tmp_path / "log.1").stat().st_size <= 2100
    assert "line 199" in (tmp_path / "log").read_text()


def test_a_file_that_another_process_rotated_is_followed(tmp_path: Path) -> None:
    output = logs.configure(tmp_path / "log")
    LOGGER.info("before")
    output._listener.stop()  # type: ignore[union-attr]  # all that was queued is written
    (tmp_path / "log").rename(tmp_path / "log.1")
    output._listener.start()  # type: ignore[union-attr]
    LOGGER.info("after")
    output.close()
    assert "before" in (tmp_path / "log.1").read_text()
    assert "after" in (tmp_path / "log").read_text()


def _log_many(path: Path, name: str) -> None:
    output = logs.configure(path, rotate_bytes=25_000)
    for number in range(400):
        LOGGER.info("%s %d", name, number)
    output.close()


def test_processes_that_share_a_file_lose_no_line_over_a_rotation(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_log_many, args=(tmp_path / "log", name)) for name in "ab"]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    # 800 lines of about 43 bytes are more than one file of 25,000 and less than two: one rotation, nothing thrown away.
    lines = [line for name in ("log.1", "log") for line in (tmp_path / name).read_text().splitlines()]
    assert sorted(line.partition(" : ")[2] for line in lines) == sorted(
        f"{name} {number}" for name in "ab" for number in range(400)
    )


def test_a_full_queue_drops_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_QUEUED_RECORDS", 10)
    go_on, reached = threading.Event(), threading.Event()
    output = logs.configure(tmp_path / "log")

    def block(record: logging.LogRecord) -> bool:
        reached.set()
        return go_on.wait(30)

    output._handlers[0].addFilter(block)
    LOGGER.info("the first")
    assert reached.wait(30)
    for number in range(15):
        LOGGER.info("line %d", number)
    assert output.dropped == 5
    go_on.set()
    output._listener.stop()  # type: ignore[union-attr]
    output._listener.start()  # type: ignore[union-attr]
    LOGGER.info("the last")
    output.close()
    messages = [line.partition(" : ")[2] for line in (tmp_path / "log").read_text().splitlines()]
    assert messages == ["the first", *(f"line {number}" for number in range(10)), "5 log records were dropped", "the last"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Authorization: Bearer s3cret", "Authorization: ***"),
        ("got {'Authorization': 'Basic s3cret', 'Accept': 'x'}", "got {'Authorization': ***, 'Accept': 'x'}"),
        ("[(b'authorization', b'Basic s3cret'), (b'a', b'b')]", "[(b'authorization', ***), (b'a', b'b')]"),
        ('proxy-authorization: Digest username="u", response="s3cret"\nnext', "proxy-authorization: ***\nnext"),
        ("Set-Cookie: id=s3cret; Path=/", "Set-Cookie: ***"),
        ("with bearer s3cret, which", "with Bearer ***, which"),
        ("GET https://h:1/a/b?Expires=1&Signature=s3cret 200", "GET https://h:1/a/b?... 200"),
        ("from http://user:s3cret@h/p", "from http://h/p"),
        ("200 GET /v2/x?token=s3cret (::1) 1ms", "200 GET /v2/x?... (::1) 1ms"),
        ("is it a/b? yes = no", "is it a/b? yes = no"),
        ("https://h/p?...", "https://h/p?..."),
    ],
)
def test_redaction(text: str, shown: str) -> None:
    assert logs.redacted(text) == shown
    assert logs.redacted(shown) == shown


@given(st.from_regex(r"[A-Za-z0-9+/=._~-]{12,40}", fullmatch=True), st.sampled_from(["Basic", "Bearer", "Token"]))
def test_no_authorization_survives_either_format(secret: str, scheme: str) -> None:
    record = logging.makeLogRecord({"msg": "sent Authorization: %s %s", "args": (scheme, secret), "levelname": "INFO"})
    record.fields = {"url": f"https://h/p?sig={secret}"}
    for formatter in (logs.ClassicFormatter(""), logs.JsonFormatter("")):
        assert secret not in formatter.format(record)


def test_downloading_piece_is_1xs_line_to_the_letter(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    PieceLog().downloading_piece(TASK, "10.0.0.10:8002", "10.0.0.2-17-1700000000.123", 0, 0, 4194303, 4194304)
    [record] = caplog.records
    assert record.getMessage() == (
        f'downloading piece:{{"taskID":"{TASK}","superNode":"10.0.0.10:8002","dstCid":"10.0.0.2-17-1700000000.123",'
        '"range":"0-4194303","result":503,"status":701,"pieceSize":4194304,"pieceNum":0}'
    )
    assert logs.redacted(record.getMessage()) == record.getMessage()


def test_a_piece_from_nobody_is_refused() -> None:
    with pytest.raises(ValueError, match="parent_cid is empty"):
        PieceLog().downloading_piece(TASK, "s:8002", "", 0, 0, 1, 2)


def test_the_ends_of_a_task_and_a_strike(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    log = PieceLog()
    log.task_finished(TASK, length=141898, elapsed_s=0.0264, by_origin={Origin.SEED: 100000, Origin.PEER: 41898})
    log.task_failed(TASK, code=ErrorCode.SOURCE_NOT_FOUND, detail="http://h/p answers 404", elapsed_s=2.3344, reason=1003)
    log.strike(TASK, parent="p", piece=3, failure=PieceFailure.DIGEST, strikes=2)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", f"download SUCCESS cost:0.026s length:141898 reason:0 task:{TASK} source:0 seed:100000 peer:41898 disk:0"),
        ("ERROR", f"download FAIL(43) cost:2.334s length:-1 reason:1003 task:{TASK} source_not_found: http://h/p answers 404"),
        ("WARNING", f"strike 2 against p: digest, piece 3 of task {TASK}"),
    ]
    assert json.loads(logs.JsonFormatter("").format(caplog.records[0]))["peer_bytes"] == 41898
