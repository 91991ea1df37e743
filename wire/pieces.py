"""How a content is cut: pieces, which are assigned, and the blocks inside them, which are sent, verified and passed on."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

MIB: Final = 1 << 20
#: Bytes of a BLAKE3 block digest.
DIGEST_BYTES: Final = 32
MIN_PIECE_BYTES: Final = MIB // 4
MAX_PIECE_BYTES: Final = 16 * MIB
MIN_BLOCK_BYTES: Final = MIB // 8
MAX_BLOCK_BYTES: Final = MIB // 4
#: 16 TiB in the largest pieces: bounds every bitmap and every list of pieces on the wire.
MAX_PIECES: Final = 1 << 20
#: Bounds every run of blocks and the digests of one piece on the wire.
MAX_BLOCKS_PER_PIECE: Final = 1 << 16
#: How many pieces a content should have: the swarm's loss is about 1.4 log2(peers) / pieces of the ideal time.
_WANTED_PIECES: Final = 256


@dataclass(frozen=True, slots=True)
class PieceLayout:
    """The cut of one content of `length` bytes. Pieces are numbered from 0, blocks from 0 within their piece.

    The last piece and the last block may be shorter. An empty content has one piece of no bytes and one block of none,
    so that "all pieces are here" means the same for every length.
    """

    length: int
    piece_length: int
    block_length: int
    #: How many pieces there are, at least one. Held, not computed: it is asked for with every block.
    piece_count: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        pieces = max(1, -(-self.length // self.piece_length)) if self.piece_length > 0 else 0
        object.__setattr__(self, "piece_count", pieces)
        if self.length < 0 or self.piece_length <= 0 or self.block_length <= 0:
            raise ValueError(f"not a layout: {self.length} bytes in pieces of {self.piece_length}")
        if self.piece_length % self.block_length:
            raise ValueError(f"a piece of {self.piece_length} is no whole number of blocks of {self.block_length}")
        blocks = self.piece_length // self.block_length
        if self.piece_length > MAX_PIECE_BYTES or self.piece_count > MAX_PIECES or blocks > MAX_BLOCKS_PER_PIECE:
            raise ValueError(f"{self.length} bytes in pieces of {self.piece_length} exceed what the protocol carries")

    def piece_span(self, piece: int) -> tuple[int, int]:
        """(offset in the content, bytes) of a piece."""
        if not 0 <= piece < self.piece_count:
            raise IndexError(f"piece {piece} of {self.piece_count}")
        start = piece * self.piece_length
        return start, min(self.piece_length, self.length - start)

    def block_count(self, piece: int) -> int:
        """How many blocks a piece has, at least one."""
        return max(1, -(-self.piece_span(piece)[1] // self.block_length))

    def block_span(self, piece: int, block: int) -> tuple[int, int]:
        """(offset in the content, bytes) of a block."""
        start, size = self.piece_span(piece)
        if not 0 <= block < self.block_count(piece):
            raise IndexError(f"block {block} of piece {piece}")
        inside = block * self.block_length
        return start + inside, min(self.block_length, size - inside)

    def run_span(self, piece: int, first: int, count: int) -> tuple[int, int]:
        """(offset, bytes) of `count` consecutive blocks of a piece, from block `first`. Raises IndexError."""
        start, size = self.piece_span(piece)
        begin, end = first * self.block_length, (first + count) * self.block_length
        if first < 0 or count < 1 or (end - self.block_length >= size and (size or end > self.block_length)):
            raise IndexError(f"blocks {first} to {first + count - 1} of piece {piece}")
        return start + begin, min(end, size) - begin

    def pieces_of_range(self, start: int, stop: int) -> range:
        """The pieces that hold the bytes from `start` up to, not including, `stop`."""
        if stop <= start:
            return range(0)
        return range(start // self.piece_length, -(-stop // self.piece_length))

    def blocks_of(self, piece: int) -> Iterator[int]:
        """The numbers of a piece's blocks."""
        return iter(range(self.block_count(piece)))


def layout_for(length: int) -> PieceLayout:
    """The layout that the supernode chooses for a content of `length` bytes. Raises ValueError where it is too long."""
    piece = MIN_PIECE_BYTES
    while piece < MAX_PIECE_BYTES and piece * _WANTED_PIECES < length:
        piece *= 2
    return PieceLayout(length, piece, max(MIN_BLOCK_BYTES, min(MAX_BLOCK_BYTES, piece // 16)))
