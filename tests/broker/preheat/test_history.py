"""Jobs on disk: in order, whole, private, and never in the way of a start."""

import sqlite3
import stat
import threading
from functools import partial
from pathlib import Path

import pytest

from broker.core.preheat_records import SEED_HOST, Host, Job, Row
from broker.preheat.history import History
from tests.support.preheat_world import blob, spec


def job(number: int) -> Job:
    return Job(number=number, spec=spec(f"key-{number}"), created_at=1.0)


def test_what_is_saved_is_there_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "meta" / "jobs.sqlite3"
    history = History(path)
    assert history.load() == ([], 0)
    for number in (2, 1, 3):
        history.save(job(number))
    changed = job(2)
    changed.error = "why"
    history.save(changed)
    history.erase(3)
    history.close()
    again = History(path)
    assert again.load() == ([job(1), changed], 3), "a number is never given twice"
    again.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_it_is_on_disk_when_it_says_so(tmp_path: Path) -> None:
    history = History(tmp_path / "jobs.sqlite3")
    written = threading.Event()
    history.save(job(1))
    history.when_written(written.set)
    assert written.wait(10)
    # As another process would see it after a kill -9 of this one.
    other = sqlite3.connect(tmp_path / "jobs.sqlite3")
    assert other.execute("SELECT COUNT(*) FROM jobs").fetchone() == (1,)
    other.close()
    history.close()


def test_behind_a_slow_disk_each_job_waits_once_and_its_last_word_is_written(tmp_path: Path) -> None:
    history = History(tmp_path / "jobs.sqlite3")
    slow, goes_on = threading.Event(), threading.Event()

    def waits() -> None:
        slow.set()
        assert goes_on.wait(10)

    history.when_written(waits)
    assert slow.wait(10)
    for number in (1, 2, 3):
        for change in range(100):
            made = job(number)
            made.error = f"{change}"
            history.save(made)
    history.erase(3)
    assert history._told.qsize() == 4
    goes_on.set()
    history.close()
    again = History(tmp_path / "jobs.sqlite3")
    assert [(each.number, each.error) for each in again.load()[0]] == [(1, "99"), (2, "99")]
    again.close()


def test_one_that_cannot_be_read_is_set_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "jobs.sqlite3"
    path.write_bytes(b"this is no database, and it is long enough to be looked at" * 100)
    history = History(path)
    assert history.load() == ([], 0)
    history.save(job(1))
    history.close()
    assert (tmp_path / "jobs.broken").read_bytes().startswith(b"this is no database")
    assert "is set aside as jobs.broken" in caplog.text


def test_damage_past_its_beginning_is_found_before_anybody_loads_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "jobs.sqlite3"
    history = History(path)
    for number in range(1, 50):
        long = job(number)
        long.error = "x" * 3000
        history.save(long)
    history.close()
    whole = path.read_bytes()
    assert len(whole) > 100_000
    path.write_bytes(whole[:16_384] + b"\xa5" * (len(whole) - 16_384))
    again = History(path)
    assert again.load() == ([], 0)
    again.close()
    assert "is set aside as jobs.broken" in caplog.text
    assert (tmp_path / "jobs.broken").stat().st_size == len(whole)


def test_one_that_is_locked_is_not_thrown_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "jobs.sqlite3"
    history = History(path)
    history.save(job(1))
    history.close()
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("PRAGMA journal_mode=DELETE")
    holder.execute("BEGIN EXCLUSIVE")  # as a backup holds it
    impatient = partial(sqlite3.connect, timeout=0.01)
    monkeypatch.setattr("broker.preheat.history.sqlite3.connect", impatient)
    with pytest.raises(OSError, match=r"jobs\.sqlite3 cannot be opened: .*locked.*: end what else uses it"):
        History(path)
    assert not (tmp_path / "jobs.broken").exists()
    holder.execute("COMMIT")
    holder.close()
    again = History(path)
    assert [each.number for each in again.load()[0]] == [1]
    again.close()


def test_another_release_s_schema_and_a_job_that_is_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "jobs.sqlite3"
    history = History(path)
    history.save(job(1))
    history.save(job(2))
    history.close()
    broken = sqlite3.connect(path)
    broken.execute("UPDATE jobs SET job = '{}' WHERE number = 2")
    broken.commit()
    broken.close()
    again = History(path)
    jobs, last = again.load()
    assert ([each.number for each in jobs], last) == ([1], 2)
    assert "preheat job 2" in caplog.text
    again.close()
    newer = sqlite3.connect(path)
    newer.execute("PRAGMA user_version=99")
    newer.close()
    newest = History(path)
    assert newest.load() == ([], 0)
    newest.close()


def test_a_job_that_cannot_be_written_is_named_and_takes_no_other_with_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    history = History(tmp_path / "jobs.sqlite3")
    held = threading.Event()
    history.when_written(lambda: held.wait(10))
    history.save(job(1))
    unwritable = job(2)
    unwritable.error = {"no JSON"}  # type: ignore[assignment]
    history.save(unwritable)
    history.save(job(3))
    written = threading.Event()
    history.when_written(written.set)
    held.set()
    assert written.wait(10)
    assert "cannot be written" in caplog.text
    history.close()
    again = History(tmp_path / "jobs.sqlite3")
    assert [each.number for each in again.load()[0]] == [1, 3]
    again.close()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "meta").write_text("in the way")
    with pytest.raises(OSError, match="meta"):
        History(tmp_path / "meta" / "jobs.sqlite3")


def test_a_job_with_very_many_rows_comes_back(tmp_path: Path) -> None:
    made = job(1)
    made.blobs = {blob(number).task: blob(number) for number in range(3)}
    made.hosts = {f"h{number}": Host(peer=f"h{number}") for number in range(400)}
    for task in made.blobs:
        for host in (SEED_HOST, *made.hosts):
            made.add_row(host, task, Row(length=5, why="\u201cwhy\u201d"))
    history = History(tmp_path / "jobs.sqlite3")
    history.save(made)
    history.close()
    again = History(tmp_path / "jobs.sqlite3")
    assert again.load()[0] == [made]
    again.close()
