"""A folder as it is, to be compared with what it was: every file's bytes, mode, owner and time, every link and folder."""

import hashlib
import os
import stat
from pathlib import Path


def tree(folder: Path) -> dict[str, tuple[object, ...]]:
    """By path within the folder. A folder's time is left out: it tells what was done, not what is there."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        common = (stat.S_IFMT(status.st_mode), stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid)
        if path.is_symlink():
            found[str(path.relative_to(folder))] = (*common, os.readlink(path))
        elif path.is_dir():
            found[str(path.relative_to(folder))] = common
        elif path.is_file():
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            found[str(path.relative_to(folder))] = (*common, digest, status.st_mtime_ns)
        else:
            # A socket of something that runs.
            found[str(path.relative_to(folder))] = common
    return found
