"""The jobs on disk: SQLite in a thread of its own, so that no commit holds up the broker. Nothing secret is in a job.

Driver. One row per job, its record as JSON; written in the order in which it is told, and all of it before `close` returns.
"""

import json
import logging
import queue
import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from broker.core.preheat_records import Job, Row, as_row, from_document, without_rows

_log = logging.getLogger("preheat")

#: Writes, and may give what is to be called once that is committed.
_Write = Callable[[sqlite3.Connection], Callable[[], object] | None]
#: What is told of a job, and its rows: where each is, and what it is.
_Record = tuple[dict[str, Any], list[tuple[str, str]], list[Row]]
_SCHEMA: Final = 1
_CLOSE_S: Final = 10.0
#: Rows that are made into text at a time: json keeps every other thread from running meanwhile.
_SLICE: Final = 500
#: Primary result codes of SQLite that say so; all others pass, or are about something else (sqlite.org/rescode.html).
_DAMAGE: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class _Damaged(Exception):
    """The file is no database that can be read here."""


class History:
    """Opened at once; close it at the end."""

    def __init__(self, path: Path) -> None:
        """Opens or makes the database. One that cannot be read is set aside, and named. Raises OSError."""
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._told: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        #: Jobs whose turn to be written has not come, as they were told last: however slow the disk is, one of each.
        self._unwritten: dict[int, _Record] = {}
        self._connection = self._opened()
        self._thread = threading.Thread(target=self._write, name="preheat history", daemon=True)
        self._thread.start()

    def _opened(self) -> sqlite3.Connection:
        try:
            try:
                return self._connected()
            except _Damaged as error:
                self._set_aside(error)
                return self._connected()
        except (_Damaged, sqlite3.Error) as error:
            # Locked, read-only, a full disk: that passes, and is no reason to throw a history away.
            raise OSError(f"{self._path} cannot be opened: {error}: end what else uses it, or make room") from None

    def _set_aside(self, error: Exception) -> None:
        broken = self._path.with_suffix(".broken")
        _log.error("%s cannot be read (%s): it is set aside as %s, and begun anew", self._path, error, broken.name)
        # What was committed last may stand in the -wal: it goes along. The -shm is only an index of that.
        with suppress(FileNotFoundError):
            self._path.with_name(self._path.name + "-shm").unlink()
        with suppress(FileNotFoundError):
            self._path.with_name(self._path.name + "-wal").replace(broken.with_name(broken.name + "-wal"))
        self._path.replace(broken)

    def _connected(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, check_same_thread=False, isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            # With WAL a power cut may lose the last commits, and never the file.
            connection.execute("PRAGMA synchronous=NORMAL")
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, _SCHEMA):
                raise _Damaged(f"its schema is {version}, of another release")
            # A page that has gone bad would be met by whoever loads the jobs.
            if (found := connection.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
                raise _Damaged(found)
            connection.execute("CREATE TABLE IF NOT EXISTS jobs (number INTEGER PRIMARY KEY, job TEXT NOT NULL)")
            connection.execute("CREATE TABLE IF NOT EXISTS counter (last INTEGER NOT NULL)")
            connection.execute(f"PRAGMA user_version={_SCHEMA}")
        except BaseException as error:
            connection.close()
            if isinstance(error, sqlite3.Error) and error.sqlite_errorcode & 0xFF in _DAMAGE:
                raise _Damaged(str(error)) from None
            raise
        # URLs of private registries are in it.
        self._path.chmod(0o600)
        return connection

    def load(self) -> tuple[list[Job], int]:
        """All jobs by their numbers, and the last number that was ever given. Before anything is saved. Blocking."""
        jobs = []
        for number, text in self._connection.execute("SELECT number, job FROM jobs ORDER BY number").fetchall():
            try:
                jobs.append(from_document(json.loads(text)))
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                _log.error("preheat job %d of %s cannot be read: %s: it is left out", number, self._path, error)
        last = self._connection.execute("SELECT MAX(last) FROM counter").fetchone()[0] or 0
        return jobs, max([last, *(job.number for job in jobs)])

    def save(self, job: Job) -> None:
        """Write a job. It may go on changing: its rows are written as they are when the writer comes to them."""
        # No pair for each row: a hundred thousand new objects are a long garbage collection.
        number, record = job.number, (without_rows(job), list(job.rows), list(job.rows.values()))
        with self._lock:
            has_turn = number in self._unwritten
            self._unwritten[number] = record
        if has_turn:
            return
        taken: _Record | None = None

        def write(connection: sqlite3.Connection) -> None:
            nonlocal taken  # a write that is tried once more writes the same
            if taken is None:
                with self._lock:
                    taken = self._unwritten.pop(number)
            connection.execute("INSERT OR REPLACE INTO jobs VALUES (?, ?)", (number, _text(*taken)))
            # A deleted job's number is never given again: whoever polls it would see another job.
            connection.execute("DELETE FROM counter WHERE last <= ?", (number,))
            connection.execute("INSERT INTO counter SELECT ? WHERE NOT EXISTS (SELECT 1 FROM counter)", (number,))

        self._told.put(write)

    def erase(self, number: int) -> None:
        """Forget a job. It is not saved again."""

        def write(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM jobs WHERE number = ?", (number,))

        self._told.put(write)

    def when_written(self, then: Callable[[], object]) -> None:
        """Call, in the writer's thread, when everything that was told so far is on disk, or could not be written."""
        self._told.put(lambda connection: then)

    def close(self) -> None:
        """Write all that was told, and close. Blocking."""
        self._told.put(None)
        self._thread.join(_CLOSE_S)
        if not self._thread.is_alive():
            self._connection.close()

    def _write(self) -> None:
        closing = False
        while not closing:
            batch = [self._told.get()]
            while not self._told.empty():
                batch.append(self._told.get())
            closing = None in batch
            writes = [each for each in batch if each is not None]
            # What waits goes into one commit, for a commit is what costs; where that fails, each into its own.
            if not self._committed(writes):
                for each in writes:
                    self._committed([each], last=True)

    def _committed(self, writes: list[_Write], *, last: bool = False) -> bool:
        """Whether all of them are on disk. `last`: they are not tried again."""
        written: list[Callable[[], object] | None] = []
        try:
            self._connection.execute("BEGIN")
            written = [write(self._connection) for write in writes]
            self._connection.execute("COMMIT")
        except Exception as error:
            with suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            if not last:
                return False
            _log.error("a preheat job cannot be written to %s: %s: a restart will not know it as it is", self._path, error)
        for then in written:
            if then is not None:
                then()
        return True


def _text(told: dict[str, Any], places: list[tuple[str, str]], rows: list[Row]) -> str:
    """A job as JSON, which `from_document` reads."""
    slices = []
    for at in range(0, len(rows), _SLICE):
        part = [as_row(*each) for each in zip(places[at : at + _SLICE], rows[at : at + _SLICE], strict=True)]
        slices.append(json.dumps(part)[1:-1])
    return f'{json.dumps(told)[:-1]}, "rows": [{", ".join(slices)}]}}'
