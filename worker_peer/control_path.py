"""Where the control socket of a peer's home is. Both ends compute it alike."""

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Final

#: Linux takes 107 bytes for a unix socket's path (unix(7)); ZeroMQ's own prefix and the lock's suffix come out of it.
_LONGEST_PATH: Final = 100


def control_path(home: Path) -> Path:
    """The socket's path. A home too deep for a unix socket has it in a private folder under the temporary one.

    Raises OSError when that folder is somebody else's.
    """
    path = home.absolute() / "meta" / "peer.sock"
    if len(os.fsencode(path)) <= _LONGEST_PATH:
        return path
    folder = Path(tempfile.gettempdir()) / f"damselfly-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.lstat().st_uid != os.getuid():
        raise OSError(f"{folder} belongs to somebody else: choose a shorter --home")
    return folder / f"{hashlib.sha256(os.fsencode(home.absolute())).hexdigest()[:24]}.sock"
