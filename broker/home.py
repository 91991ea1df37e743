"""The supernode's home belongs to one process: two would write the same contents, and each answer for the other's.

Driver. The lock goes with the process, however it ends; the file stays, and means nothing by itself.
"""

import errno
import fcntl
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from os import getpid
from pathlib import Path
from typing import Final

_LOCK: Final = "supernode.lock"

_log = logging.getLogger("supernode")


@contextmanager
def owned(home: Path) -> Iterator[None]:
    """The home, made where it is not there, for as long as the block runs. Raises OSError when another supernode has it."""
    home.mkdir(parents=True, exist_ok=True)
    # Not "w": that would wipe the owner's number out.
    with (home / _LOCK).open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                # Some network file systems have no locks. A home there is better than none.
                _log.warning("%s cannot be locked (%s): let no second supernode use this home", home / _LOCK, error.strerror)
            else:
                lock.seek(0)
                raise OSError(
                    f"another supernode uses {home} (process {lock.read(20).strip() or 'not known'}): "
                    "end it, or give this one a --home-dir of its own"
                ) from None
        lock.truncate(0)
        lock.write(f"{getpid()}\n")
        lock.flush()
        yield
