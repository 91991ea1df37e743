"""PieceSet: which pieces of a task somebody has. Packed bits, most significant first, as BEP 3's bitfield."""

from collections.abc import Iterable, Iterator


class PieceSet:
    """A set of piece numbers below `size`, held as one integer: an intersection costs nanoseconds, whatever its length."""

    __slots__ = ("bits", "size")

    def __init__(self, size: int, bits: int = 0) -> None:
        if size < 0 or bits < 0 or bits >> size:
            raise ValueError(f"bits outside of {size} pieces")
        self.size = size
        self.bits = bits

    @classmethod
    def full(cls, size: int) -> "PieceSet":
        """Every piece."""
        return cls(size, (1 << size) - 1)

    @classmethod
    def of(cls, size: int, pieces: Iterable[int]) -> "PieceSet":
        """Just these pieces."""
        made = cls(size)
        for piece in pieces:
            made.add(piece)
        return made

    @classmethod
    def from_bytes(cls, size: int, packed: bytes) -> "PieceSet":
        """The set that `to_bytes` packed. Raises ValueError for another length or for bits past the last piece."""
        if len(packed) != -(-size // 8):
            raise ValueError(f"{len(packed)} bytes are not the bitmap of {size} pieces")
        spare = len(packed) * 8 - size
        value = int.from_bytes(packed, "big")
        if value & ((1 << spare) - 1):
            raise ValueError("the bitmap has bits past its last piece")
        value >>= spare
        # Piece 0 is the first bit on the wire, and the lowest bit here.
        return cls(size, int(f"{value:0{size}b}"[::-1], 2) if size else 0)

    def to_bytes(self) -> bytes:
        """ceil(size / 8) bytes, piece 0 in the first byte's highest bit, spare bits zero."""
        if not self.size:
            return b""
        spare = -self.size % 8
        return (int(f"{self.bits:0{self.size}b}"[::-1], 2) << spare).to_bytes((self.size + spare) // 8, "big")

    def add(self, piece: int) -> None:
        """Put a piece in. Raises IndexError outside of the set's size."""
        if not 0 <= piece < self.size:
            raise IndexError(f"piece {piece} of {self.size}")
        self.bits |= 1 << piece

    def discard(self, piece: int) -> None:
        """Take a piece out, if it is in."""
        if 0 <= piece < self.size:
            self.bits &= ~(1 << piece)

    def __contains__(self, piece: int) -> bool:
        return piece >= 0 and bool(self.bits >> piece & 1)

    def __len__(self) -> int:
        return self.bits.bit_count()

    def __iter__(self) -> Iterator[int]:
        bits = self.bits
        while bits:
            lowest = bits & -bits
            yield lowest.bit_length() - 1
            bits ^= lowest

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PieceSet) and (self.size, self.bits) == (other.size, other.bits)

    def __hash__(self) -> int:
        raise TypeError("a PieceSet changes; it cannot be a key")

    def __repr__(self) -> str:
        return f"PieceSet({len(self)} of {self.size})"

    @property
    def is_full(self) -> bool:
        """Whether every piece is in."""
        return self.bits == (1 << self.size) - 1

    def missing(self) -> "PieceSet":
        """The pieces that are not in."""
        return PieceSet(self.size, self.bits ^ ((1 << self.size) - 1))

    def copy(self) -> "PieceSet":
        """Another set with the same pieces."""
        return PieceSet(self.size, self.bits)
