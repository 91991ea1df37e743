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
import resource
from pathlib import Path
from typing import Final

from wire.ids import is_task_id, url_without_secrets
from wire.pieces import DIGEST_BYTES, PieceLayout
from worker_peer.host.clock import Clock, SystemClock
from worker_peer.host.digests import block_digest
from worker_peer.host.journal import Header, Replayed, encode_header, read_header, replay
from worker_peer.host.store_index import CONTENT, JOURNAL, NAMES, StoreIndex, folder_of
from worker_peer.host.task_file import (
    NO_ROOM,
    ContentChanged,
    OpenFiles,
    StoreFull,
    TaskFile,
    close_all,
    free_bytes_at,
    stamp_of_fd,
    write_all,
)

__all__ = ["ContentChanged", "Store", "StoreFull", "TaskFile"]

_NO_RESERVING: Final = frozenset({errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS})
_UNREADABLE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EIO})
#: A journal's first record, with the longest URL.
_HEADER_BYTES: Final = 32 << 10
#: Contents whose files are open although nobody uses them, if the process may have so many (three descriptors each).
_MOST_OPEN: Final = 512
_SHARE_OF_DESCRIPTORS: Final = 12


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
        may_have = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        #: Contents that have their files open.
        self.open_files: Final = OpenFiles(min(_MOST_OPEN, max(1, may_have // _SHARE_OF_DESCRIPTORS)))

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
        folder = folder_of(self._root, task)
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
            write_all(opened[1], encode_header(header))
            if kept_until:
                self.index.write_notes(task, kept_until=kept_until)
        except OSError as error:
            close_all(opened)
            self.remove(task)
            if error.errno in NO_ROOM:
                raise StoreFull(folder, layout.length, self.free_bytes()) from error
            raise
        return TaskFile(self._root, header, opened[0], opened[1], maps=self._maps, open_files=self.open_files)

    def open(self, task: str) -> TaskFile | None:
        """A content that is here, with the pieces that are right: each journalled one is read and verified again.

        None: it is not here, or nothing can be made of it; then it is removed.
        """
        folder = folder_of(self._root, task)
        opened: list[int] = []
        try:
            opened.append(os.open(folder / CONTENT, os.O_RDWR | os.O_CLOEXEC))
            opened.append(os.open(folder / JOURNAL, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC))
            found = self._resumed(task, *opened)
        except OSError as error:
            if error.errno not in _UNREADABLE:
                # Too many open files, say: that is no reason to throw a content away.
                close_all(opened)
                raise
            found = None
        if found is None:
            close_all(opened)
            self.remove(task)
        return found

    def _resumed(self, task: str, content_fd: int, journal_fd: int) -> TaskFile | None:
        with os.fdopen(journal_fd, "rb", closefd=False) as journal:
            replayed = replay(journal.read())
        if replayed is None or replayed.header.task != task:
            return None
        layout = replayed.header.layout
        stamp = stamp_of_fd(content_fd)
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
        return TaskFile(
            self._root,
            replayed.header,
            content_fd,
            journal_fd,
            replayed,
            maps=self._maps and not linked,
            open_files=self.open_files,
            linked_as=stamp if linked else None,
        )

    def remove(self, task: str) -> None:
        """Take a content away, by unlink only: who has it open goes on reading it, and a user's hard link stays."""
        folder = folder_of(self._root, task)
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
        folder_of(self._root, task)
        return self.index.write_notes(task, kept_until=until_wall)

    def kept_until(self, task: str) -> float:
        """Until when it is kept, in unix seconds; 0: it is as any other, or not here."""
        stored = self.index.get(task)
        return stored.kept_until if stored is not None else 0.0

    def about(self, task: str) -> Header | None:
        """What was known of a content before its first piece; None: it is not here, or cannot be read."""
        try:
            with (folder_of(self._root, task) / JOURNAL).open("rb") as journal:
                return read_header(journal.read(_HEADER_BYTES))
        except OSError:
            return None

    def journal(self, task: str) -> Replayed | None:
        """What a content's journal says, unverified; None: it is not here, or cannot be read."""
        try:
            return replay((folder_of(self._root, task) / JOURNAL).read_bytes())
        except OSError:
            return None

    def is_linked(self, task: str) -> bool:
        """Whether a user has a hard link of the content's file: deleting it here gives the disk nothing back."""
        try:
            return (folder_of(self._root, task) / CONTENT).stat().st_nlink > 1
        except OSError:
            return False

    def free_bytes(self) -> int:
        """Bytes that this user may still write to the store's file system."""
        return free_bytes_at(self._root)


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


def _is_right(fd: int, layout: PieceLayout, piece: int, digests: bytes) -> bool:
    for block in layout.blocks_of(piece):
        offset, size = layout.block_span(piece, block)
        wanted = digests[block * DIGEST_BYTES : (block + 1) * DIGEST_BYTES]
        if block_digest(os.pread(fd, size, offset)) != wanted:
            return False
    return True
