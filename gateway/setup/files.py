"""Files of other programs, in the system or in a folder that stands for its root: looked at, and replaced whole or not at all.

Every path is resolved as the program would see it whose root that folder is: a link in an image that says /etc leads to
the image's /etc, never to this system's.
"""

import contextlib
import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.core.setup.journal import Seen
from gateway.core.setup.plan import MAX_FILE_BYTES, Refused

_MAX_LINKS: Final = 40
NEW_FILE: Final = 0o644
NEW_FOLDER: Final = 0o755


@dataclass(frozen=True, slots=True)
class RootFiles:
    """All files below a root."""

    root: Path

    def real(self, path: str) -> Path:
        """Where a path of the root leads, every link followed within it. Raises Refused for a circle."""
        todo = [part for part in path.split("/") if part not in ("", ".")][::-1]
        done: list[str] = []
        links = 0
        while todo:
            part = todo.pop()
            if part == "..":
                # As chroot: there is nothing above.
                del done[-1:]
                continue
            here = self.root.joinpath(*done, part)
            if not here.is_symlink():
                done.append(part)
                continue
            links += 1
            if links > _MAX_LINKS:
                raise Refused(f"{path}: its links lead in a circle; nothing was changed")
            target = os.readlink(here)
            if target.startswith("/"):
                done.clear()
            todo += [each for each in target.split("/") if each not in ("", ".")][::-1]
        return self.root.joinpath(*done)

    def read(self, path: str) -> bytes | None:
        """Files' own."""
        real = self.real(path)
        try:
            if not stat.S_ISREG(real.stat().st_mode):
                raise Refused(f"{path} is no plain file; nothing was changed")
            with real.open("rb") as file:
                return file.read(MAX_FILE_BYTES + 1)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise Refused(f"{path} cannot be read: {error.strerror}; nothing was changed") from None

    def names(self, folder: str) -> tuple[str, ...]:
        """Files' own."""
        try:
            return tuple(sorted(os.listdir(self.real(folder))))
        except (FileNotFoundError, NotADirectoryError):
            return ()
        except OSError as error:
            raise Refused(f"{folder} cannot be read: {error.strerror}; nothing was changed") from None

    def seen(self, path: str) -> Seen | None:
        """A file as it is now. Raises Refused."""
        content = self.read(path)
        if content is None:
            return None
        status = self.real(path).stat()
        return Seen(
            sha256=hashlib.sha256(content).hexdigest(),
            mode=stat.S_IMODE(status.st_mode),
            uid=status.st_uid,
            gid=status.st_gid,
            mtime_ns=status.st_mtime_ns,
        )

    def missing_folders(self, path: str) -> list[str]:
        """Folders above a file that are not there, the outermost first; paths within the root."""
        missing: list[str] = []
        above = self.real(path).parent
        while above != self.root and not above.exists():
            missing.insert(0, "/" + above.relative_to(self.root).as_posix())
            above = above.parent
        return missing

    def make_folder(self, path: str) -> None:
        """With mode 0755, whatever the umask. Nothing happens where it is there. Raises OSError."""
        real = self.real(path)
        with contextlib.suppress(FileExistsError):
            real.mkdir()
            real.chmod(NEW_FOLDER)
            _sync(real.parent)

    def remove_folder(self, path: str) -> bool:
        """False: something is in it. Raises OSError."""
        real = self.real(path)
        try:
            real.rmdir()
        except FileNotFoundError:
            return True
        except OSError:
            if real.is_dir() and any(real.iterdir()):
                return False
            raise
        _sync(real.parent)
        return True

    def replace(self, path: str, content: bytes, like: Seen) -> None:
        """Put a file in place, whole or not at all, with a mode, an owner and (unless 0) a time. Raises OSError."""
        real = self.real(path)
        write_whole(real, content, like)

    def remove(self, path: str) -> None:
        """Raises OSError."""
        real = self.real(path)
        real.unlink(missing_ok=True)
        _sync(real.parent)

    def remove_rest(self, path: str) -> None:
        """What a killed process may have left half-written beside a file."""
        _spare(self.real(path)).unlink(missing_ok=True)


def _spare(path: Path) -> Path:
    # Of one name, so that what a killed process leaves is found again.
    return path.with_name(f".{path.name}.dfdaemon-setup")


def write_whole(path: Path, content: bytes, like: Seen | None = None) -> None:
    """A file with that content, on disk when this returns; after a crash the old one or the new one. Raises OSError."""
    spare = _spare(path)
    spare.unlink(missing_ok=True)
    # Nobody reads it before it has its own mode.
    descriptor = os.open(spare, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            if like is not None:
                _copy_attributes(path, file.fileno())
                os.fchown(file.fileno(), like.uid, like.gid)
                os.fchmod(file.fileno(), like.mode)
                if like.mtime_ns:
                    os.utime(file.fileno(), ns=(like.mtime_ns, like.mtime_ns))
            os.fsync(file.fileno())
        os.replace(spare, path)
    except BaseException:
        spare.unlink(missing_ok=True)
        raise
    _sync(path.parent)


def _copy_attributes(path: Path, descriptor: int) -> None:
    """SELinux's label and access lists of the file that is replaced; a file system may know none."""
    with contextlib.suppress(OSError):
        for name in os.listxattr(path):
            with contextlib.suppress(OSError):
                os.setxattr(descriptor, name, os.getxattr(path, name))


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
