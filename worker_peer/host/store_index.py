"""What a store's folder holds, by task, in memory: sizes, last uses and until when each content is kept.

Read once when the store is opened, from the folders' entries alone: no content and no journal is read, so that ten thousand
of them take a second. A content's last use is its journal's modification time, written now and then for all at once, never
for each read. What else must outlive the process is in a small file beside the journal, `notes`.
"""

import contextlib
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from wire.ids import is_task_id
from wire.pieces import DIGEST_BYTES, PieceLayout

CONTENT: Final = "content"
JOURNAL: Final = "journal"
NOTES: Final = "notes"
_FRESH_NOTES: Final = "notes.new"
#: Everything that a content's folder may hold, the journal first: without it a content is none.
NAMES: Final = (JOURNAL, NOTES, _FRESH_NOTES, CONTENT)
_PAGE: Final = 4096
#: A folder and its notes, one page each.
_FOLDER_BYTES: Final = 2 * _PAGE
#: A journal's header, with a long URL; and what a record has beside its digests.
_HEADER_BYTES: Final = 1024
_RECORD_BYTES: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """One content's place on the disk."""

    task: str
    #: Bytes of the content.
    length: int
    #: Bytes on the disk of all that belongs to it; of one that is still filled, as much as it will have.
    size: int
    #: When it was last used, in unix seconds.
    used_at: float
    #: Until when it is kept whatever else is deleted, in unix seconds; 0: it is as any other.
    kept_until: float = 0.0


@dataclass(frozen=True, slots=True)
class Notes:
    """What is known of a content beside its bytes. No secret."""

    kept_until: float = 0.0
    #: The source's ETag or Last-Modified of these bytes; empty: it gave none.
    validator: str = ""


class StoreIndex:
    """The contents of one store's folder. Safe for several threads."""

    def __init__(self, root: Path) -> None:
        """Blocking: looks into every folder once."""
        self._root = root
        self._lock = threading.Lock()
        self._stored = {each.task: each for each in _look(root)}
        self._used = sum(each.size for each in self._stored.values())
        self._touched: set[str] = set()

    @property
    def used(self) -> int:
        """Bytes on the disk of all contents."""
        return self._used

    def __len__(self) -> int:
        return len(self._stored)

    def __contains__(self, task: object) -> bool:
        return task in self._stored

    def get(self, task: str) -> Stored | None:
        """One content; None: it is not here."""
        return self._stored.get(task)

    def all(self) -> list[Stored]:
        """Every content, in no order."""
        with self._lock:
            return list(self._stored.values())

    def add(self, task: str, layout: PieceLayout, used_at: float) -> None:
        """A content whose space is about to be taken."""
        with self._lock:
            self._drop(task)
            self._stored[task] = Stored(task=task, length=layout.length, size=size_on_disk(layout), used_at=used_at)
            self._used += self._stored[task].size

    def remove(self, task: str) -> None:
        """It is no longer here."""
        with self._lock:
            self._drop(task)

    def used_now(self, task: str, at: float) -> None:
        """Somebody has used it at this time, unix seconds. On the disk only with `write_uses`."""
        with self._lock:
            stored = self._stored.get(task)
            if stored is not None and at > stored.used_at:
                self._stored[task] = replace(stored, used_at=at)
                self._touched.add(task)

    def write_uses(self) -> None:
        """Blocking. Put the last uses where the next run finds them."""
        with self._lock:
            touched = {task: self._stored[task].used_at for task in self._touched if task in self._stored}
            self._touched.clear()
        for task, used_at in touched.items():
            # Deleted meanwhile, or a disk that cannot be written: a last use that is lost makes nothing wrong.
            with contextlib.suppress(OSError):
                os.utime(folder_of(self._root, task) / JOURNAL, (used_at, used_at))

    def notes(self, task: str) -> Notes:
        """Blocking. What was noted; nothing, where there is no readable note."""
        return read_notes(folder_of(self._root, task))

    def write_notes(self, task: str, **changes: float | str) -> bool:
        """Blocking. Change some of what is noted, whole or not at all. False: the content is not here. Raises OSError."""
        with self._lock:
            stored = self._stored.get(task)
            if stored is None:
                return False
            folder = folder_of(self._root, task)
            notes = replace(read_notes(folder), **changes)  # type: ignore[arg-type]  # by the fields' names
            fresh = folder / _FRESH_NOTES
            fresh.write_text(json.dumps({"kept_until": notes.kept_until, "validator": notes.validator}), encoding="utf-8")
            fresh.replace(folder / NOTES)
            self._stored[task] = replace(stored, kept_until=notes.kept_until)
            return True

    def _drop(self, task: str) -> None:
        stored = self._stored.pop(task, None)
        if stored is not None:
            self._used -= stored.size


def folder_of(root: Path, task: str) -> Path:
    """Where a store keeps a content. Raises ValueError for what is no task id: it is no name of ours."""
    if not is_task_id(task):
        raise ValueError(f"{task[:80]!r} is no task id")
    return root / task[:3] / task


def size_on_disk(layout: PieceLayout) -> int:
    """Bytes that a content takes with all that belongs to it, once it is whole. At least what the disk will count."""
    blocks = -(-layout.length // layout.block_length)
    journal = _HEADER_BYTES + layout.piece_count * _RECORD_BYTES + blocks * DIGEST_BYTES
    return _pages(layout.length) + _pages(journal) + _FOLDER_BYTES


def _pages(size: int) -> int:
    return -(-size // _PAGE) * _PAGE


def _look(root: Path) -> Iterator[Stored]:
    for above in _entries(root):
        if len(above.name) == 3:
            for folder in _entries(above.path):
                found = _one(folder.path, folder.name) if is_task_id(folder.name) else None
                if found is not None:
                    yield found


def _entries(path: Path | str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as found:
            return list(found)
    except OSError:
        return []


def _one(folder: str, task: str) -> Stored | None:
    length, size, used_at, kept_until, whole = -1, _FOLDER_BYTES, 0.0, 0.0, False
    for entry in _entries(folder):
        try:
            found = entry.stat(follow_symlinks=False)
        except OSError:
            continue
        if entry.name == CONTENT:
            # A file system that cannot reserve shows less than it will have.
            length, size = found.st_size, size + max(_pages(found.st_size), found.st_blocks * 512)
            used_at = max(used_at, found.st_mtime)
        elif entry.name == JOURNAL:
            size, used_at, whole = size + found.st_blocks * 512, max(used_at, found.st_mtime), True
        elif entry.name == NOTES:
            kept_until = read_notes(Path(folder)).kept_until
    if length < 0:
        return None
    # Half a content, of a process that was killed while it was made, is older than any.
    return Stored(task=task, length=length, size=size, used_at=used_at if whole else 0.0, kept_until=kept_until)


def read_notes(folder: Path) -> Notes:
    """What a content's folder says. Whatever is not as it should be counts as not said."""
    try:
        told = json.loads((folder / NOTES).read_bytes())
        kept_until, validator = told.get("kept_until", 0.0), told.get("validator", "")
    except (OSError, ValueError, AttributeError):
        return Notes()
    good = isinstance(kept_until, int | float) and kept_until == kept_until
    return Notes(float(kept_until) if good else 0.0, validator if isinstance(validator, str) else "")
