"""From the store to the place that a user named: reflink, hard link or copy, always whole or not at all. Blocking.

The store's file is never moved: other peers are still served from it. A reflink shares no later change; a hard link does,
so the store must be told (`TaskFile.mark_linked`) before one is made.
"""

import contextlib
import errno
import fcntl
import os
import secrets
import stat
from enum import Enum
from pathlib import Path
from typing import Final

# linux/fs.h: _IOW(0x94, 9, int). Python has a name for it only from 3.12 on.
_FICLONE: Final = 0x40049409
_COPY_BYTES: Final = 64 << 20
_NO_COPY_IN_KERNEL: Final = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.ETXTBSY})


class Placement(Enum):
    """How an output came to be."""

    REFLINK = "reflink"
    HARDLINK = "hardlink"
    COPY = "copy"


class OutputError(Exception):
    """The output cannot be made. The text names its path, and says what to do."""


def check_output(path: Path) -> None:
    """Find out early whether `path` can become a file. Raises OutputError.

    As 1.x: it must not be a folder, and the nearest folder that exists must be writable. Beyond 1.x: a device or a pipe is
    refused, because replacing it (`-o /dev/null`, as root) would break the machine.
    """
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise OutputError(f"{path} cannot be written: its name is too long; choose a shorter one") from error
        mode = stat.S_IFREG
    if stat.S_ISDIR(mode):
        raise OutputError(f"{path} is a folder: give the output a file's name in it, as {path / 'name'}")
    if not stat.S_ISREG(mode):
        raise OutputError(f"{path} is not a regular file: choose another name for the output")
    ancestor = path.absolute().parent
    while not os.path.lexists(ancestor) and ancestor != ancestor.parent:
        ancestor = ancestor.parent
    if not ancestor.is_dir():
        raise OutputError(f"{ancestor} is not a folder, so {path} cannot be made: choose another output")
    if not os.access(ancestor, os.W_OK | os.X_OK):
        raise OutputError(f"{ancestor} is not writable for this user: choose another output, or change its permissions")


def place_output(content: Path, output: Path) -> Placement:
    """Make `output` hold what `content` holds, in one step for everybody who looks; folders on its way are made.

    What was at `output` before is replaced; if anything fails it is left as it was. Raises OutputError.
    """
    check_output(output)
    spare = output.with_name(f".damselfly-{os.getpid()}-{secrets.token_hex(8)}.part")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        placement = _fill(content, spare)
        os.replace(spare, output)
    except OSError as error:
        raise OutputError(_explained(error, content, output)) from error
    finally:
        # Renaming one name of a file over another of the same file does nothing (rename(2)): then the spare one is left.
        # Nothing that goes wrong here may hide what went wrong before.
        with contextlib.suppress(OSError):
            spare.unlink()
    return placement


def _fill(content: Path, spare: Path) -> Placement:
    source = os.open(content, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _reflinked(source, spare):
            return Placement.REFLINK
        if _linked(content, spare):
            return Placement.HARDLINK
        _copy(source, spare)
        return Placement.COPY
    finally:
        os.close(source)


def _create(spare: Path) -> int:
    return os.open(spare, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)


def _reflinked(source: int, spare: Path) -> bool:
    target = _create(spare)
    try:
        fcntl.ioctl(target, _FICLONE, source)
        return True
    except OSError:
        # No such file system, another one, or an odd reason: linking and copying have words for what is really wrong.
        spare.unlink()
        return False
    finally:
        os.close(target)


def _linked(content: Path, spare: Path) -> bool:
    try:
        os.link(content, spare)
        return True
    except OSError:
        return False


def _copy(source: int, spare: Path) -> None:
    size = os.fstat(source).st_size
    target = _create(spare)
    try:
        done = 0
        in_kernel = True
        while done < size:
            count = min(_COPY_BYTES, size - done)
            try:
                moved = os.copy_file_range(source, target, count, done, done) if in_kernel else _sent(source, target, count, done)
            except OSError as error:
                if not in_kernel or error.errno not in _NO_COPY_IN_KERNEL:
                    raise
                moved = 0
            if not moved and not in_kernel:
                raise OSError(errno.EIO, f"the stored content ends after {done} of {size} bytes")
            in_kernel = in_kernel and moved > 0
            done += moved
    finally:
        os.close(target)


def _sent(source: int, target: int, count: int, at: int) -> int:
    os.lseek(target, at, os.SEEK_SET)
    return os.sendfile(target, source, at, count)


def _explained(error: OSError, content: Path, output: Path) -> str:
    folder = output.parent
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            needed = _size(content)
            return f"{output} cannot be written: {folder} has no room for {needed} bytes; free some or choose another output"
        case errno.EFBIG:
            return f"{output} cannot be written: its {_size(content)} bytes exceed what the file system or ulimit -f allows"
        case errno.EACCES | errno.EPERM:
            return f"{output} cannot be written: permission denied in {folder}; choose another output, or change its permissions"
        case errno.EROFS:
            return f"{output} cannot be written: {folder} is on a read-only file system; choose another output"
        case errno.EISDIR | errno.ENOTEMPTY | errno.EEXIST:
            return f"{output} is a folder: give the output a file's name in it"
        case errno.ENOTDIR:
            return f"{folder} is not a folder, so {output} cannot be made: choose another output"
        case errno.ENAMETOOLONG:
            return f"{output} cannot be written: its name is too long; choose a shorter one"
        case _:
            return f"{output} cannot be written: {error.strerror or error}; choose another output"


def _size(content: Path) -> int:
    try:
        found = os.stat(content)
    except OSError:
        return 0
    return found.st_size if stat.S_ISREG(found.st_mode) else 0
