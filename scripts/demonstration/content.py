"""The file of the demonstration: made of random bytes, or somebody else's; its length and sha256 either way."""

import hashlib
import os
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_SLICE_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """What every copy must be."""

    length: int
    sha256: str


def make_random_file(path: Path, length: int) -> Reference:
    """Write `length` random bytes to `path`. Raises OSError."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        left = length
        while left:
            part = os.urandom(min(_SLICE_BYTES, left))
            digest.update(part)
            file.write(part)
            left -= len(part)
    return Reference(length=length, sha256=digest.hexdigest())


def read_directly(url: str) -> Reference:
    """Read the URL once without the swarm, keeping only its digest. Raises OSError (also for an HTTP error's status)."""
    digest = hashlib.sha256()
    length = 0
    with urllib.request.urlopen(url, timeout=60) as answer:
        while part := answer.read(_SLICE_BYTES):
            digest.update(part)
            length += len(part)
    return Reference(length=length, sha256=digest.hexdigest())


def sha256_of(path: Path) -> str:
    """The hexadecimal sha256 of a file. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
