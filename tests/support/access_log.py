"""What test servers in other network namespaces saw: one JSON line per request, in a file that both sides reach."""

import json
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """One request that was answered, wholly or in part."""

    method: str
    #: As asked, without the query.
    path: str
    query: str
    status: int
    #: Bytes of body that left.
    body_bytes: int
    headers: Mapping[str, str]


class AccessLog:
    """The server's end; used by several threads."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", buffering=1)
        self._lock = threading.Lock()

    def add(self, access: Access) -> None:
        """Write one line."""
        with self._lock:
            self._file.write(json.dumps(asdict(access)) + "\n")


def read_accesses(path: Path) -> list[Access]:
    """The test's end: everything so far."""
    return [Access(**json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []
