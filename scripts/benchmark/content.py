"""What the benchmarks move: random bytes in a file."""

import hashlib
from pathlib import Path

#: In a content that shrinks so many random bytes are followed by as many that are not.
_STRETCH = 64


def make_content(path: Path, size: int, *, shrinks: bool = False) -> str:
    """A file of `size` random bytes, every second stretch of them all zeros where it shrinks; its sha256 in hex."""
    path.parent.mkdir(parents=True, exist_ok=True)
    digest, left = hashlib.sha256(), size
    with Path("/dev/urandom").open("rb") as random, path.open("wb") as file:
        while left:
            chunk = random.read(min(left, 1 << 20))
            if shrinks:
                spaces = bytes(_STRETCH)
                chunk = b"".join(chunk[at : at + _STRETCH] + spaces for at in range(0, len(chunk), 2 * _STRETCH))[: len(chunk)]
            file.write(chunk)
            digest.update(chunk)
            left -= len(chunk)
    return digest.hexdigest()
