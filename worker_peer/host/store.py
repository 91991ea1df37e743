"""Store: the contents on this host's disk, one preallocated file and one journal each. Blocking: call it from worker threads.

    <root>/<task[:3]>/<task>/content    the bytes, each at its place
    <root>/<task[:3]>/<task>/journal    which pieces are verified, with their blocks' digests (journal.py)
    <root>/<task[:3]>/<task>/notes      until when it is kept, and the source's validator (store_index.py)

Verified blocks come in (`write`, then `commit` once a piece is whole), views go out (`read`). Nothing here fetches, decides
or verifies what arrives; but `open` believes no journal: it reads every claimed piece again, so that a kill, a power cut or
a stranger's hand can cost bytes, never right ones. Files are removed by unlink only, never truncated or punched: a content
that is being sent goes out whole.
"""

import contextlib
import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from wire.bitmap import PieceSet
from wire.ids import is_sha256_digest, is_task_id, url_without_secrets
from wire.pieces import DIGEST_BYTES, PieceLayout
from worker_peer.host.clock import Clock, SystemClock
from worker_peer.host.digests import View, block_digest
from worker_peer.host.journal import Header, Replayed, encode_finished, encode_header, encode_piece, replay
from worker_peer.host.mapped import MappedContent
from worker_peer.host.store_index import CONTENT, JOURNAL, NAMES, StoreIndex

#: One pwrite. Of larger ones the kernel makes large folios of memory that nobody has touched for long: on a virtual machine
#: that gives free memory back to its host, six times as much CPU (1.5 s per GiB with 1 MiB, 0.24 with this; ext4, Linux 6.18).
_WRITE_BYTES: Final = 128 << 10
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NO_RESERVING: Final = frozenset({errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS})
_UNREADABLE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EIO})


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
    ) -> None:
        self.task: Final = header.task
        self.layout: Final = header.layout
        #: The source's Content-Type; empty: it gave none.
        self.content_type: Final = header.content_type
        #: The source, without secrets: for people.
        self.url: Final = header.url
        #: The content's file, to link or to copy; never to write to.
        self.path: Final = _folder(root, header.task) / CONTENT
        self._content_fd = content_fd
        self._journal_fd = journal_fd
        self._lock = threading.Lock()
        self._digests: dict[int, bytes] = dict(replayed.pieces) if replayed else {}
        self._have = PieceSet.of(header.layout.piece_count, self._digests)
        self._digest = replayed.digest if replayed and self._have.is_full else None
        self._journal_bytes = os.fstat(journal_fd).st_size
        self._expected_stat: tuple[int, int] | None = None
        self._mapped = MappedContent(content_fd, header.layout.length) if maps and header.layout.length else None
        self._changed = False
        self._users = 0
        self._closed = False

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
                self._expected_stat = _stamp(fd)

    def close(self) -> None:
        """No more reads and writes; those that run are let finish. May be called again."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._close_unused()

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
            self._users += 1
            return self._content_fd

    def _end_use(self) -> None:
        with self._lock:
            self._users -= 1
            self._close_unused()

    def _close_unused(self) -> None:
        if self._closed and not self._users:
            self._mapped = None
            os.close(self._content_fd)
            os.close(self._journal_fd)

    def _check_unchanged(self, fd: int) -> None:
        if self._expected_stat is None:
            return
        # Once is enough: a modification time can be set back.
        self._changed = self._changed or _stamp(fd) != self._expected_stat
        if self._changed:
            raise ContentChanged(f"the file of task {self.task[:12]} was written to by its hard link: fetch it again")

    def _append(self, record: bytes) -> None:
        try:
            _write_all(self._journal_fd, record)
        except OSError as error:
            # Half a record would hide all that are written after it.
            os.ftruncate(self._journal_fd, self._journal_bytes)
            raise self._explained(error, len(record)) from error
        self._journal_bytes += len(record)

    def _explained(self, error: OSError, needed: int) -> Exception:
        return StoreFull(self.path, needed, _free_bytes(self.path)) if error.errno in _NO_ROOM else error


class Store:
    """A folder of contents. One process at a time owns it.

    `maps`: no content is ever given out as a link, so that nobody can cut a file off: they are read by mapping them.
    """

    def __init__(self, root: Path, *, maps: bool = False, clock: Clock | None = None) -> None:
        self._root: Final = root
        self._maps = maps
        self._clock = clock or SystemClock()
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        # What is in it may be somebody's private image: the umask must not decide.
        root.chmod(0o700)
        #: What is here, how large it is and when it was last used.
        self.index: Final = StoreIndex(root)

    @property
    def root(self) -> Path:
        """Its folder."""
        return self._root

    def create(self, task: str, layout: PieceLayout, *, url: str = "", content_type: str = "") -> TaskFile:
        """A new content without pieces, its space reserved; one of the same task that is here is replaced.

        `url` is kept without its secrets. What was kept until some time is kept so long in its new content too. Raises
        StoreFull and leaves nothing behind.
        """
        kept_until = self.kept_until(task)
        self.remove(task)
        folder = _folder(self._root, task)
        if layout.length > (free := self.free_bytes()):
            # Asked first: reserving until the disk is full would take the space from everybody for a moment.
            raise StoreFull(folder, layout.length, free)
        header = Header(task=task, layout=layout, url=url_without_secrets(url), content_type=content_type[:256])
        folder.mkdir(parents=True, exist_ok=True)
        self.index.add(task, layout, self._clock.wall())
        opened: list[int] = []
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            # An output that is a hard link of it has its mode, so it is a usual one. The root keeps others out.
            opened.append(os.open(folder / CONTENT, flags, 0o666))
            _reserve(opened[0], layout.length)
            # The header comes last: without it a content is no content, whatever a kill left of it.
            opened.append(os.open(folder / JOURNAL, flags | os.O_APPEND, 0o600))
            _write_all(opened[1], encode_header(header))
            if kept_until:
                self.index.write_notes(task, kept_until=kept_until)
        except OSError as error:
            _close_all(opened)
            self.remove(task)
            if error.errno in _NO_ROOM:
                raise StoreFull(folder, layout.length, self.free_bytes()) from error
            raise
        return TaskFile(self._root, header, opened[0], opened[1], maps=self._maps)

    def open(self, task: str) -> TaskFile | None:
        """A content that is here, with the pieces that are right: each journalled one is read and verified again.

        None: it is not here, or nothing can be made of it; then it is removed.
        """
        folder = _folder(self._root, task)
        opened: list[int] = []
        try:
            opened.append(os.open(folder / CONTENT, os.O_RDWR | os.O_CLOEXEC))
            opened.append(os.open(folder / JOURNAL, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC))
            found = self._resumed(task, *opened)
        except OSError as error:
            if error.errno not in _UNREADABLE:
                # Too many open files, say: that is no reason to throw a content away.
                _close_all(opened)
                raise
            found = None
        if found is None:
            _close_all(opened)
            self.remove(task)
        return found

    def _resumed(self, task: str, content_fd: int, journal_fd: int) -> TaskFile | None:
        with os.fdopen(journal_fd, "rb", closefd=False) as journal:
            replayed = replay(journal.read())
        if replayed is None or replayed.header.task != task:
            return None
        layout = replayed.header.layout
        stamp = _stamp(content_fd)
        linked = os.fstat(content_fd).st_nlink > 1
        if os.fstat(content_fd).st_size != layout.length:
            return None
        claimed = len(replayed.pieces)
        replayed.pieces = {
            piece: digests for piece, digests in replayed.pieces.items() if _is_right(content_fd, layout, piece, digests)
        }
        if linked and (len(replayed.pieces) < claimed or len(replayed.pieces) < layout.piece_count):
            # Repairing it would write into the file that a user was given.
            return None
        os.ftruncate(journal_fd, replayed.valid_bytes)
        found = TaskFile(self._root, replayed.header, content_fd, journal_fd, replayed, maps=self._maps and not linked)
        if linked:
            found._expected_stat = stamp
        return found

    def remove(self, task: str) -> None:
        """Take a content away, by unlink only: who has it open goes on reading it, and a user's hard link stays."""
        folder = _folder(self._root, task)
        for name in NAMES:
            (folder / name).unlink(missing_ok=True)
        self.index.remove(task)
        # Gone already, or not empty because NFS keeps a file that is open under another name.
        with contextlib.suppress(OSError):
            folder.rmdir()

    def tasks(self) -> list[str]:
        """The tasks that take space here, sorted. Which of them can be opened, only `open` tells."""
        found = (content.parent.name for content in self._root.glob(f"???/*/{CONTENT}"))
        return sorted(name for name in found if is_task_id(name))

    def keep(self, task: str, until_wall: float) -> bool:
        """Keep a content until then, in unix seconds, whatever else is deleted; 0: no longer. It outlives the process.

        False: the content is not here. Raises OSError where it cannot be noted.
        """
        _folder(self._root, task)
        return self.index.write_notes(task, kept_until=until_wall)

    def kept_until(self, task: str) -> float:
        """Until when it is kept, in unix seconds; 0: it is as any other, or not here."""
        stored = self.index.get(task)
        return stored.kept_until if stored is not None else 0.0

    def is_linked(self, task: str) -> bool:
        """Whether a user has a hard link of the content's file: deleting it here gives the disk nothing back."""
        try:
            return (_folder(self._root, task) / CONTENT).stat().st_nlink > 1
        except OSError:
            return False

    def free_bytes(self) -> int:
        """Bytes that this user may still write to the store's file system."""
        return _free_bytes(self._root)


def _folder(root: Path, task: str) -> Path:
    if not is_task_id(task):
        raise ValueError(f"{task[:80]!r} is no task id")
    return root / task[:3] / task


def _reserve(fd: int, length: int) -> None:
    if not length:
        return
    try:
        os.posix_fallocate(fd, 0, length)
    except OSError as error:
        if error.errno not in _NO_RESERVING:
            raise
        # A file system that cannot reserve: a full disk then shows at a write.
        os.ftruncate(fd, length)


def _write_all(fd: int, record: bytes) -> None:
    written = 0
    while written < len(record):
        # A disk that fills up takes a part first, and refuses the next one.
        written += os.write(fd, record[written:])


def _close_all(descriptors: list[int]) -> None:
    for fd in descriptors:
        os.close(fd)


def _free_bytes(path: Path) -> int:
    try:
        found = os.statvfs(path)
    except OSError:
        return 0
    return found.f_bavail * found.f_frsize


def _stamp(fd: int) -> tuple[int, int]:
    found = os.fstat(fd)
    return found.st_mtime_ns, found.st_size


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


def _is_right(fd: int, layout: PieceLayout, piece: int, digests: bytes) -> bool:
    for block in layout.blocks_of(piece):
        offset, size = layout.block_span(piece, block)
        wanted = digests[block * DIGEST_BYTES : (block + 1) * DIGEST_BYTES]
        if block_digest(os.pread(fd, size, offset)) != wanted:
            return False
    return True
