"""What the driver processes of `bench broker` know of each other: which peer has which piece, and whom it serves.

One memory map for all of them, so that a peer of one process never says to have got what its parent in another process
does not have. Every byte has one writer: a peer's row its own process, a count of streams a column for each process.
"""

import mmap
from pathlib import Path

_STREAM_BYTES = 2


class SwarmTable:
    """`rows`: the peers, then the seed's row for each task. `drivers`: processes that use the table, this one `driver`."""

    def __init__(self, path: Path, *, rows: int, pieces: int, drivers: int, driver: int) -> None:
        self._pieces = pieces
        self._drivers = range(0, drivers * rows, rows)
        self._mine = driver * rows
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        whole = memoryview(self._map)
        self._have = whole[: rows * pieces]
        self._streams = whole[_aligned(rows * pieces) :][: drivers * rows * _STREAM_BYTES].cast("H")

    @staticmethod
    def make(path: Path, *, rows: int, pieces: int, drivers: int) -> None:
        """The file behind it, empty."""
        with path.open("wb") as file:
            file.truncate(_aligned(rows * pieces) + drivers * rows * _STREAM_BYTES)

    def has(self, row: int, piece: int) -> bool:
        """Whether the peer has the piece."""
        return self._have[row * self._pieces + piece] == 1

    def came(self, row: int, piece: int) -> bool:
        """A peer of this process has the piece from now on. False: it had it."""
        at = row * self._pieces + piece
        if self._have[at]:
            return False
        self._have[at] = 1
        return True

    def streams(self, row: int) -> int:
        """How many children the parent serves now."""
        return sum(self._streams[column + row] for column in self._drivers)

    def stream(self, row: int, change: int) -> None:
        """A child of this process begins (+1) or ends (-1) to be served by the parent."""
        self._streams[self._mine + row] += change


def _aligned(size: int) -> int:
    return -(-size // 8) * 8
