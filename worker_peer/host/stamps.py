"""Whether somebody has touched a file: what the file system says of it, compared with what it said before."""

import os
from collections import OrderedDict

#: Inode, bytes, time of the last write in nanoseconds.
FileStamp = tuple[int, int, int]


def stamp_of(path: str) -> FileStamp | None:
    """Blocking. None: there is no such file, or it cannot be looked at."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


class Stamps:
    """Files as they were when somebody looked last, of so many tasks; the oldest are forgotten."""

    def __init__(self, at_most: int) -> None:
        self._at_most = at_most
        self._noted: OrderedDict[str, tuple[str, FileStamp]] = OrderedDict()

    def note(self, task: str, path: str, stamp: FileStamp) -> None:
        """The task's file is like that."""
        self._noted[task] = (path, stamp)
        self._noted.move_to_end(task)
        while len(self._noted) > self._at_most:
            self._noted.popitem(last=False)

    def is_other(self, task: str, path: str, stamp: FileStamp) -> bool:
        """Whether the task's file is known to have been another, or other than that."""
        noted = self._noted.get(task)
        return noted is not None and noted != (path, stamp)

    def holds(self, task: str) -> bool:
        """Blocking. Whether the task's file is as it was noted."""
        noted = self._noted.get(task)
        return noted is not None and stamp_of(noted[0]) == noted[1]
