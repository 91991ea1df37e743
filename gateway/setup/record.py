"""Where a setup's journal and the files of before are kept: `<workHome>/setup/<runtime>/`, for its owner's eyes only.

journal.json    written before the first change, and again at each step
before/NAME     a changed file's bytes of before
after/NAME      what setup wrote, to show what has been changed since
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from gateway.core.setup.journal import Journal, decode
from gateway.core.setup.plan import Refused, Runtime
from gateway.setup.files import write_whole

_FOLDER: Final = "setup"
_JOURNAL: Final = "journal.json"
_MAX_JOURNAL_BYTES: Final = 4 << 20


class Record:
    """One runtime's, in one root. Raises OSError where the folder cannot be used."""

    def __init__(self, home: Path, runtime: Runtime, root: Path) -> None:
        mark = "" if root == Path("/") else "-" + hashlib.sha256(str(root).encode()).hexdigest()[:8]
        self.folder = home / _FOLDER / f"{runtime.value}{mark}"

    def load(self) -> Journal | None:
        """None: nothing was set up, or it was undone. Raises Refused for one that cannot be read."""
        return load(self.folder)

    def write(self, journal: Journal) -> None:
        """On disk when this returns."""
        self._prepare("before")
        write_whole(self.folder / _JOURNAL, journal.encoded())

    def keep(self, path: str, content: bytes, *, when: str) -> str:
        """Keep a file's bytes of `before` or `after`. Returns the copy's name."""
        name = copy_name(path)
        write_whole(self._prepare(when) / name, content)
        return name

    def kept(self, name: str, *, when: str) -> bytes:
        """Raises Refused where the copy is gone."""
        path = self.folder / when / name
        try:
            return path.read_bytes()
        except OSError as error:
            raise Refused(f"{path}, the copy of what was there before, cannot be read: {error.strerror}") from None

    def forget(self) -> None:
        """The setup is undone."""
        # The journal first: without it nothing is claimed.
        (self.folder / _JOURNAL).unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            self.folder.parent.rmdir()

    def retire(self) -> Path:
        """Forget the setup and leave the copies of before. Returns their new folder."""
        number = 1
        while (place := self.folder.with_name(f"{self.folder.name}.kept-{number}")).exists():
            number += 1
        (self.folder / _JOURNAL).unlink(missing_ok=True)
        self.folder.rename(place)
        return place / "before"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Alone with all setups of this home. Raises Refused where another process is at one."""
        above = self.folder.parent.parent
        above.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(above, os.O_RDONLY | os.O_DIRECTORY)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Refused(f"another `dfdaemon setup` of {above} is running: wait for its end") from None
            yield
        finally:
            os.close(descriptor)

    def _prepare(self, name: str) -> Path:
        made = self.folder / name
        for each in (self.folder.parent, self.folder, made):
            each.mkdir(mode=0o700, exist_ok=True)
        return made


def copy_name(path: str) -> str:
    """Of a file's copies."""
    return f"{hashlib.sha256(path.encode()).hexdigest()[:12]}-{path.rpartition('/')[2]}"


def load(folder: Path) -> Journal | None:
    """A journal out of its folder."""
    path = folder / _JOURNAL
    try:
        with path.open("rb") as file:
            return decode(file.read(_MAX_JOURNAL_BYTES), str(path))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}") from None


def all_of(home: Path) -> list[Path]:
    """The folders of all setups of a home."""
    try:
        return sorted(each for each in (home / _FOLDER).iterdir() if (each / _JOURNAL).exists())
    except OSError:
        return []
