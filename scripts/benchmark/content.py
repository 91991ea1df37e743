"""What the benchmarks move: random bytes in a file."""

import hashlib
from pathlib import Path


def make_content(path: Path, size: int) -> str:
    """A file of `size` random bytes; its sha256 in hex."""
    path.parent.mkdir(parents=True, exist_ok=True)
    digest, left = hashlib.sha256(), size
    with Path("/dev/urandom").open("rb") as random, path.open("wb") as file:
        while left:
            chunk = random.read(min(left, 1 << 20))
            file.write(chunk)
            digest.update(chunk)
            left -= len(chunk)
    return digest.hexdigest()
