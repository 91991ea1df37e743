"""One content on disk: its verified bytes go in by pieces, come out as views; its files are open only while they are used.

How many contents have their files open at once is bounded (`OpenFiles`): the least recently used are closed and opened again
on demand. Their bytes are not verified again then, for nobody has touched the file meanwhile: its times, size and number
tell.
"""

import contextlib
import errno
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from wire.bitmap import PieceSet
from wire.ids import is_sha256_digest
from wire.pieces import DIGEST_BYTES
from worker_peer.host.digests import View
from worker_peer.host.journal import Header, Replayed, encode_finished, encode_piece
from worker_peer.host.mapped import MappedContent
from worker_peer.host.store_index import CONTENT, JOURNAL, folder_of

#: One pwrite. Of larger ones the kernel makes large folios of memory that nobody has touched for long: on a virtual machine
#: that gives free memory back to its host, six times as much CPU (1.5 s per GiB with 1 MiB, 0.24 with this; ext4, Linux 6.18).
_WRITE_BYTES: Final = 128 << 10
NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class StoreFull(Exception):
    """The disk has no room. `needed` and `free` are bytes; the text says where, and what to do."""

    def __init__(self, path: Path, needed: int, free: int, text: str = "") -> None:
        super().__init__(
            text
            or f"{path} has no room: {needed} bytes are needed, {free} are free; "
            "free some, or put the home folder on a larger disk (a quota or ulimit -f counts too)"
        )
        self.path = path
        self.needed = needed
        self.free = free


class ContentChanged(Exception):
    """Somebody wrote to a content's file or cut it, by a hard link that was given out: none of it may be served any more."""


class OpenFiles:
    """Which contents have their files open: at most so many that nobody uses, the least recently used are closed first."""

    def __init__(self, most: int) -> None:
        self.most: Final = most
        self._lock = threading.Lock()
        self._open: OrderedDict[TaskFile, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._open)

    def used(self, file: "TaskFile") -> None:
        """The file is open, and was used just now."""
        with self._lock:
            self._open[file] = None
            self._open.move_to_end(file)
            # A look at so many: they may be in use, all of them.
            idle = [each for each, _ in zip(self._open, range(len(self._open) - self.most), strict=False)]
        for each in idle:
            each.rest()

    def closed(self, file: "TaskFile") -> None:
        """It is open no longer."""
        with self._lock:
            self._open.pop(file, None)


class TaskFile:
    """One content on disk. Made by `Store`. Safe for several threads; two that write must not write the same bytes."""

    def __init__(
        self,
        root: Path,
        header: Header,
        content_fd: int,
        journal_fd: int,
        replayed: Replayed | None = None,
        *,
        maps: bool = False,
        open_files: OpenFiles | None = None,
        linked_as: tuple[int, int] | None = None,
    ) -> None:
        """`linked_as`: the stamp of a file that a user has a hard link of, as it was before it was verified."""
        self.task: Final = header.task
        self.layout: Final = header.layout
        #: The source's Content-Type; empty: it gave none.
        self.content_type: Final = header.content_type
        #: The source, without secrets: for people.
        self.url: Final = header.url
        #: The content's file, to link or to copy; never to write to.
        self.path: Final = folder_of(root, header.task) / CONTENT
        self._content_fd = content_fd
        self._journal_fd = journal_fd
        self._lock = threading.Lock()
        self._digests: dict[int, bytes] = dict(replayed.pieces) if replayed else {}
        self._have = PieceSet.of(header.layout.piece_count, self._digests)
        self._digest = replayed.digest if replayed and self._have.is_full else None
        self._journal_bytes = os.fstat(journal_fd).st_size
        self._expected_stat = linked_as
        self._maps = maps and header.layout.length > 0
        self._mapped = MappedContent(content_fd, header.layout.length) if self._maps else None
        self._changed = False
        self._users = 0
        self._closed = False
        self._open_files = open_files if open_files is not None else OpenFiles(1)
        #: What the content's file was when it was closed for a while; None: it is open.
        self._rests: tuple[int, ...] | None = None
        self._open_files.used(self)

    @property
    def have(self) -> PieceSet:
        """The verified pieces, as of now."""
        with self._lock:
            return self._have.copy()

    @property
    def digest(self) -> str | None:
        """The whole content's `sha256:...`, once it is verified."""
        return self._digest

    def digests(self, piece: int) -> bytes:
        """The block digests of a verified piece, 32 bytes each. Raises KeyError for a piece that is not verified."""
        with self._lock:
            return self._digests[piece]

    def write(self, offset: int, view: View) -> None:
        """Put verified bytes at their place. Raises StoreFull, and ValueError outside of the content or once it is finished."""
        size = len(view)
        if offset < 0 or offset + size > self.layout.length:
            raise ValueError(f"bytes {offset}..{offset + size} of a content of {self.layout.length}")
        if self._digest is not None or self._expected_stat is not None:
            raise ValueError(f"task {self.task[:12]} is finished or linked: nobody may write to it")
        whole = memoryview(view).cast("B")
        fd, done = self._begin_use(), 0
        try:
            while done < size:
                done += os.pwrite(fd, whole[done : done + _WRITE_BYTES], offset + done)
        except OSError as error:
            raise self._explained(error, size - done) from error
        finally:
            self._end_use()

    def commit(self, piece: int, digests: bytes) -> None:
        """All blocks of a piece are written and verified: remember it. Raises StoreFull; the piece is then not remembered."""
        if len(digests) != self.layout.block_count(piece) * DIGEST_BYTES:
            raise ValueError(f"{len(digests)} bytes are not the digests of piece {piece}")
        with self._using(), self._lock:
            if self._digests.get(piece) == digests:
                return
            self._append(encode_piece(piece, digests))
            self._digests[piece] = digests
            self._have.add(piece)

    def finish(self, digest: str) -> None:
        """All pieces are here, and the whole content has this `sha256:...`. Raises StoreFull, ValueError."""
        if not is_sha256_digest(digest):
            raise ValueError(f"{digest!r} is no sha256 digest")
        with self._using(), self._lock:
            if not self._have.is_full:
                raise ValueError(f"task {self.task[:12]} has {len(self._have)} of {self._have.size} pieces: not finished")
            if self._digest != digest:
                self._append(encode_finished(digest))
                self._digest = digest

    def read(self, offset: int, size: int) -> memoryview:
        """A view of `size` bytes, in memory now, good for as long as it is kept. Raises ContentChanged, OSError, ValueError
        outside of the content.

        Which of them are verified, `have` tells.
        """
        if offset < 0 or size < 0 or offset + size > self.layout.length:
            raise ValueError(f"bytes {offset}..{offset + size} of a content of {self.layout.length}")
        fd = self._begin_use()
        try:
            if self._mapped is not None and self._expected_stat is None:
                return self._mapped.view(offset, size)
            self._check_unchanged(fd)
            return memoryview(_read_exactly(fd, offset, size, self.task))
        finally:
            self._end_use()

    def mark_linked(self) -> None:
        """A hard link is about to be given out: from now on nobody writes here, and each read looks whether somebody did.

        Call it before the link is made. It finds what changes the file's size or modification time; a change that hides
        from both is still found by whoever receives a block, for its digest is wrong.
        """
        with self._using() as fd, self._lock:
            if self._expected_stat is None:
                self._expected_stat = stamp_of_fd(fd)

    def close(self) -> None:
        """No more reads and writes; those that run are let finish. May be called again."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._close_unused()

    def rest(self) -> bool:
        """Close the files until somebody needs them. False: somebody uses them now, or they are closed."""
        with self._lock:
            if self._closed or self._users or self._rests is not None:
                return False
            self._rests = _identity(self._content_fd)
            self._mapped = None
            os.close(self._content_fd)
            os.close(self._journal_fd)
            self._open_files.closed(self)
        return True

    def _wake(self) -> None:
        # Under the lock. Raises OSError, ContentChanged.
        opened: list[int] = []
        try:
            opened.append(os.open(self.path, os.O_RDWR | os.O_CLOEXEC))
            opened.append(os.open(self.path.with_name(JOURNAL), os.O_RDWR | os.O_APPEND | os.O_CLOEXEC))
            if _identity(opened[0]) != self._rests:
                raise ContentChanged(f"the file of task {self.task[:12]} was changed while nobody used it: fetch it again")
            if self._maps and self._expected_stat is None:
                self._mapped = MappedContent(opened[0], self.layout.length)
        except BaseException:
            close_all(opened)
            raise
        self._content_fd, self._journal_fd = opened
        self._rests = None

    @contextlib.contextmanager
    def _using(self) -> Iterator[int]:
        fd = self._begin_use()
        try:
            yield fd
        finally:
            self._end_use()

    def _begin_use(self) -> int:
        # A descriptor that is closed under a running call may be somebody else's file by then.
        with self._lock:
            if self._closed:
                raise ValueError(f"task {self.task[:12]} is closed")
            if self._rests is not None:
                self._wake()
            self._users += 1
            fd = self._content_fd
        self._open_files.used(self)
        return fd

    def _end_use(self) -> None:
        with self._lock:
            self._users -= 1
            self._close_unused()

    def _close_unused(self) -> None:
        if self._closed and not self._users and self._rests is None:
            self._mapped = None
            os.close(self._content_fd)
            os.close(self._journal_fd)
            self._rests = ()
            self._open_files.closed(self)

    def _check_unchanged(self, fd: int) -> None:
        if self._expected_stat is None:
            return
        # Once is enough: a modification time can be set back.
        self._changed = self._changed or stamp_of_fd(fd) != self._expected_stat
        if self._changed:
            raise ContentChanged(f"the file of task {self.task[:12]} was written to by its hard link: fetch it again")

    def _append(self, record: bytes) -> None:
        try:
            write_all(self._journal_fd, record)
        except OSError as error:
            # Half a record would hide all that are written after it.
            os.ftruncate(self._journal_fd, self._journal_bytes)
            raise self._explained(error, len(record)) from error
        self._journal_bytes += len(record)

    def _explained(self, error: OSError, needed: int) -> Exception:
        return StoreFull(self.path, needed, free_bytes_at(self.path)) if error.errno in NO_ROOM else error


def write_all(fd: int, record: bytes) -> None:
    """Write all of it, in as many calls as it takes. Raises OSError; a part may be written then."""
    written = 0
    while written < len(record):
        # A disk that fills up takes a part first, and refuses the next one.
        written += os.write(fd, record[written:])


def close_all(descriptors: list[int]) -> None:
    """Close each of them."""
    for fd in descriptors:
        os.close(fd)


def free_bytes_at(path: Path) -> int:
    """Bytes that this user may still write to the file system of a path; 0 where that cannot be told."""
    try:
        found = os.statvfs(path)
    except OSError:
        return 0
    return found.f_bavail * found.f_frsize


def stamp_of_fd(fd: int) -> tuple[int, int]:
    """What changes when somebody writes to a file: its modification time in nanoseconds, and its size."""
    found = os.fstat(fd)
    return found.st_mtime_ns, found.st_size


def _identity(fd: int) -> tuple[int, ...]:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _read_exactly(fd: int, offset: int, size: int, task: str) -> bytes:
    read = os.pread(fd, size, offset)
    if len(read) == size:
        return read
    # Linux stops at 2 GiB or at the file's end: read on, so that only the latter is left.
    parts = [read]
    done = len(read)
    while done < size:
        part = os.pread(fd, size - done, offset + done)
        if not part:
            raise ContentChanged(f"the file of task {task[:12]} was cut off after {offset + done} bytes: fetch it again")
        parts.append(part)
        done += len(part)
    return b"".join(parts)
