"""Log files and lines: 1.x's classic line or JSON, rotation, redaction. Set up by a command line only, never on import.

Records flow: any thread or event loop → bounded queue → one thread that formats, redacts and writes. A full queue drops
records and says how many; it never makes an event loop wait for a disk. `PieceLog` has a typed method for each event of a
transfer.
"""

import copy
import fcntl
import json
import logging
import logging.handlers
import os
import queue
import re
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TextIO, TypeAlias

from wire.errors import ErrorCode
from wire.messages import Origin, PieceFailure

#: 1.x's: a log is rotated at 40 MB, and one old file is kept.
ROTATE_BYTES: Final = 40 << 20
ROTATED_FILES: Final = 1
_QUEUED_RECORDS: Final = 20_000
#: The writing thread lets records gather for so long.
_GATHER_S: Final = 0.1
# 1.x's numbers in `downloading piece`: the piece is done (result) and its task goes on (status).
_PIECE_DONE: Final = 503
_TASK_RUNNING: Final = 701

_Records: TypeAlias = "queue.Queue[logging.LogRecord | None]"

#: Keys of `extra=` that a JSON line shows: the event's name, and a dict of fields.
EVENT: Final = "event"
FIELDS: Final = "fields"
_PIECE_RECEIVED: Final = "piece_received"

_SECRET_HEADER: Final = re.compile(
    r"(?i)((?:proxy-)?authorization|(?:set-)?cookie)(b?[\"']?\s*[:=,]\s*+)(?:b?\"[^\"]*\"|b?'[^']*'|(?!\*\*\*)[^\"'\r\n][^\r\n]*)"
)
_BEARER: Final = re.compile(r"(?i)\bbearer\s+(?!\*\*\*)[^\s\"',;]+")
_USER_IN_URL: Final = re.compile(r"(?i)\b(https?://)[^\s/@\"']+@")
_URL_QUERY: Final = re.compile(r"(?i)\b(https?://[^\s?#\"'<>]*)\?[^\s\"'<>]*")
# A request line or a relative redirect. The `=` keeps prose with a slash and a question mark as it is.
_PATH_QUERY: Final = re.compile(r"(/[^\s?#\"'<>]*)\?[^\s\"'<>]*=[^\s\"'<>]*")


def redacted(text: str) -> str:
    """The text without credentials and URL queries. The last line of defence: nobody should have logged them."""
    text = _SECRET_HEADER.sub(r"\1\2***", text)
    text = _BEARER.sub("Bearer ***", text)
    text = _USER_IN_URL.sub(r"\1", text)
    text = _URL_QUERY.sub(r"\1?...", text)
    return _PATH_QUERY.sub(r"\1?...", text)


class ClassicFormatter(logging.Formatter):
    """`2006-01-02 15:04:05.000 INFO sign:<sign> : message`, in UTC (Dragonfly 1.x: pkg/dflog/log.go)."""

    def __init__(self, sign: str) -> None:
        super().__init__()
        self._sign = sign

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
        line = f"{at} {record.levelname[:4]} sign:{self._sign} : {_one_line(_message(record))}"
        return f"{line}\n{redacted(record.exc_text)}" if record.exc_text else line


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, sign, event, message, then the event's own fields."""

    def __init__(self, sign: str) -> None:
        super().__init__()
        self._sign = sign

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {
            "time": at.replace("+00:00", "Z"),
            "level": record.levelname,
            "sign": self._sign,
            "event": getattr(record, EVENT, record.name),
            "message": _message(record),
        }
        if record.exc_text:
            line["trace"] = redacted(record.exc_text)
        for name, value in getattr(record, FIELDS, {}).items():
            line.setdefault(name, redacted(value) if isinstance(value, str) else value)
        return json.dumps(line, ensure_ascii=False, default=lambda value: redacted(str(value)))


def _message(record: logging.LogRecord) -> str:
    # A line for each piece is most of a log, and holds numbers and ids that were checked when they came.
    text = record.getMessage()
    return text if getattr(record, EVENT, "") == _PIECE_RECEIVED else redacted(text)


def _one_line(text: str) -> str:
    # What a remote sent must not be able to begin a line of its own.
    return text.replace("\r", "\\r").replace("\n", "\\n")


class _SharedFileHandler(logging.handlers.RotatingFileHandler):
    """A rotating file that several processes append to: each `dfget` writes to the same dfclient.log."""

    def __init__(self, path: Path, rotate_bytes: int, rotated_files: int) -> None:
        super().__init__(path, maxBytes=rotate_bytes, backupCount=rotated_files, encoding="utf-8")

    def shouldRollover(self, record: logging.LogRecord) -> bool:
        if not self._is_current():
            self._reopen()
        return os.fstat(self._file.fileno()).st_size >= self.maxBytes

    @property
    def _file(self) -> TextIO:
        # The base class has no stream where opening is delayed, and in the middle of its own rollover.
        if self.stream is None:
            self.stream = self._open()
        return self.stream

    def doRollover(self) -> None:
        """Rotate, unless another process has just done it."""
        # A duplicate keeps the lock while the stream itself is closed and renamed.
        lock = os.dup(self._file.fileno())
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if self._is_current():
                super().doRollover()
            else:
                self._reopen()
        finally:
            os.close(lock)

    def _is_current(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._file.fileno()), os.stat(self.baseFilename))
        except FileNotFoundError:
            return False

    def _reopen(self) -> None:
        self._file.close()
        self.stream = self._open()


class _QueueHandler(logging.handlers.QueueHandler):
    """Puts records into a bounded queue without waiting."""

    def __init__(self, records: _Records) -> None:
        super().__init__(records)
        self._records = records
        self.dropped = 0

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        # The message is made here, while its arguments are what they were; the rest is the writing thread's work.
        made = copy.copy(record)
        made.msg, made.args = record.getMessage(), None
        if record.exc_info:
            made.exc_text = logging.Formatter().formatException(record.exc_info)
            made.exc_info = None
        return made

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            if self.dropped:
                self._records.put_nowait(_dropped_record(self.dropped))
                self.dropped = 0
            self._records.put_nowait(record)
        except queue.Full:
            self.dropped += 1


def _dropped_record(count: int) -> logging.LogRecord:
    return logging.LogRecord(__name__, logging.WARNING, __file__, 0, "%d log records were dropped", (count,), None)


class _QueueListener(logging.handlers.QueueListener):
    """Writes what is queued, in its own thread."""

    def __init__(self, records: _Records, handlers: list[logging.Handler]) -> None:
        super().__init__(records, *handlers)
        self._records = records

    def dequeue(self, block: bool) -> logging.LogRecord:
        """The next record. After a pause it waits a moment more, so that a line per piece does not wake a thread per piece."""
        try:
            record = self._records.get_nowait()
        except queue.Empty:
            record = self._records.get(block)
            if record is not None:
                time.sleep(_GATHER_S)
        return record  # type: ignore[return-value]  # None, the end, is what the base class expects too

    def enqueue_sentinel(self) -> None:
        # Waits for room: the end must not be lost because the queue is full just now.
        self._records.put(None)


class LogOutput:
    """What `configure` set up. The command line closes it last."""

    def __init__(self, root: logging.Logger, handlers: list[logging.Handler], before: tuple[list[logging.Handler], int]) -> None:
        self._root = root
        self._handlers = handlers
        self._before = before
        records: _Records = queue.Queue(_QUEUED_RECORDS)
        self._queue_handler = _QueueHandler(records)
        self._listener: _QueueListener | None = _QueueListener(records, handlers)
        self._listener.start()
        root.handlers[:] = [self._queue_handler]

    @property
    def dropped(self) -> int:
        """Records that were dropped since the queue last had room."""
        return self._queue_handler.dropped

    def close(self) -> None:
        """Write all that was logged, close the files, and put the root logger back. May be called again."""
        if self._listener is None:
            return
        self._root.handlers[:], level = self._before
        self._root.setLevel(level)
        self._listener.stop()
        self._listener = None
        self._queue_handler.close()
        for handler in self._handlers:
            handler.close()


def configure(
    path: Path | None,
    *,
    level: int = logging.INFO,
    as_json: bool = False,
    sign: str = "",
    console: bool = False,
    rotate_bytes: int = ROTATE_BYTES,
    rotated_files: int = ROTATED_FILES,
) -> LogOutput:
    """Send all logs to `path` (its folder is made; rotated at `rotate_bytes`) and, if asked, to stdout.

    Raises OSError where the file cannot be written.
    """
    formatter: logging.Formatter = JsonFormatter(sign) if as_json else ClassicFormatter(sign)
    handlers: list[logging.Handler] = []
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(_SharedFileHandler(path, rotate_bytes, rotated_files))
    if console:
        handlers.append(logging.StreamHandler(sys.stdout))
    for handler in handlers:
        handler.setFormatter(formatter)
    root = logging.getLogger()
    output = LogOutput(root, handlers, (list(root.handlers), root.level))
    root.setLevel(level)
    return output


class PieceLog:
    """The lines about transfers that operators grep for, one typed method each; 1.x's shapes where 1.x has the line."""

    def __init__(self, logger: logging.Logger | None = None) -> None:
        self._logger = logger or logging.getLogger("worker_peer.transfer")

    def downloading_piece(
        self, task: str, supernode: str, parent_cid: str, piece: int, start: int, end: int, piece_length: int
    ) -> None:
        """One piece has arrived: the content's bytes `start` to `end`, both included, from `parent_cid`.

        `parent_cid` is `cdnnode:<ip>~<task>` for the seed, else the parent's `<ip>-<pid>-<unix time>`. Raises ValueError
        where it is empty: `grep -v cdnnode` on this line is how people count what came from peers.
        """
        if not parent_cid:
            raise ValueError(f"piece {piece} of task {task[:12]} came from nobody: parent_cid is empty")
        told = {
            "taskID": task,
            "superNode": supernode,
            "dstCid": parent_cid,
            "range": f"{start}-{end}",
            "result": _PIECE_DONE,
            "status": _TASK_RUNNING,
            "pieceSize": piece_length,
            "pieceNum": piece,
        }
        fields = {"task": task, "supernode": supernode, "parent": parent_cid, "piece": piece, "size_bytes": end - start + 1}
        self._tell(logging.INFO, _PIECE_RECEIVED, "downloading piece:" + json.dumps(told, separators=(",", ":")), fields)

    def task_finished(
        self, task: str, *, length: int, elapsed_s: float, by_origin: Mapping[Origin, int], reason: int = 0
    ) -> None:
        """A content is here and right: `length` bytes, by where they came from. `reason`: 1.x's back-to-source number."""
        fields: dict[str, Any] = {"task": task, "length": length, "elapsed_s": round(elapsed_s, 3), "reason": reason}
        parts = {origin.name.lower(): by_origin.get(origin, 0) for origin in Origin}
        told = " ".join(f"{name}:{size}" for name, size in parts.items())
        message = f"download SUCCESS cost:{elapsed_s:.3f}s length:{length} reason:{reason} task:{task} {told}"
        self._tell(logging.INFO, "task_finished", message, fields | {f"{name}_bytes": size for name, size in parts.items()})

    def task_failed(
        self, task: str, *, code: ErrorCode, detail: str, elapsed_s: float, length: int = -1, reason: int = 0
    ) -> None:
        """A content cannot be had. `detail` says why, with the next step, and without secrets."""
        name = code.name.lower()
        fields = {"task": task, "code": name, "detail": detail, "elapsed_s": round(elapsed_s, 3), "length": length}
        message = f"download FAIL({int(code)}) cost:{elapsed_s:.3f}s length:{length} reason:{reason} task:{task} {name}: {detail}"
        self._tell(logging.ERROR, "task_failed", message, fields)

    def strike(self, task: str, *, parent: str, piece: int, failure: PieceFailure, strikes: int) -> None:
        """A parent did not give a piece that it was to give; `strikes` is its count so far."""
        name = failure.name.lower()
        fields = {"task": task, "parent": parent, "piece": piece, "failure": name, "strikes": strikes}
        message = f"strike {strikes} against {parent}: {name}, piece {piece} of task {task}"
        self._tell(logging.WARNING, "strike", message, fields)

    def _tell(self, level: int, event: str, message: str, fields: Mapping[str, Any]) -> None:
        self._logger.log(level, "%s", message, extra={EVENT: event, FIELDS: fields})
