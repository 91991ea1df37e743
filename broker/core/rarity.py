"""How many copies of each piece there are, kept so that the rarest of any set of pieces is found in a few operations."""

from typing import Final

#: A bucket per power of two of copies: enough for 16 million peers.
_BUCKETS: Final = 25


class Rarity:
    """Copies of every piece, complete and promised ones alike, in buckets by powers of two.

    Bucket 0 holds the pieces without a copy, bucket j those with 2^(j-1) to 2^j - 1 copies, each as one bitmap. A piece
    changes its bucket only at a power of two, so most changes touch one number. A promised copy counts: what is on its
    way twice is not rare, and when it arrives nothing has to change. Exact rarity would be worse: it sends every child
    to the same piece, whose only holder is then asked by all (simulated: 1.39 of the ideal time against 1.09).
    """

    __slots__ = ("buckets", "copies", "first", "pieces")

    def __init__(self, pieces: int) -> None:
        self.pieces = pieces
        self.copies = [0] * pieces
        self.buckets = [(1 << pieces) - 1] + [0] * (_BUCKETS - 1)
        #: Below this bucket there is nothing: where a search begins.
        self.first = 0

    def add(self, piece: int) -> int:
        """One copy more. Returns how many there are now."""
        count = self.copies[piece] + 1
        self.copies[piece] = count
        if not count & (count - 1):
            bit, bucket = 1 << piece, count.bit_length()
            self.buckets[bucket - 1] ^= bit
            self.buckets[bucket] |= bit
            while not self.buckets[self.first]:
                self.first += 1
        return count

    def remove(self, piece: int) -> None:
        """One copy less."""
        count = self.copies[piece]
        self.copies[piece] = count - 1
        if not count & (count - 1):
            bit, bucket = 1 << piece, count.bit_length()
            self.buckets[bucket] ^= bit
            self.buckets[bucket - 1] |= bit
            self.first = min(self.first, bucket - 1)

    def rarest(self, candidates: int, draw: float) -> tuple[int, int]:
        """(bucket, piece) of a rarest piece among the bitmap `candidates`, which must not be 0.

        `draw`, from 0 to 1, picks among equals: the first one at or above that fraction of the content, so that two
        children that ask at the same time do not get the same piece.
        """
        bucket = self.first
        for members in self.buckets[bucket:] if bucket else self.buckets:
            found = candidates & members
            if found:
                start = int(draw * self.pieces)
                above = found >> start
                if above:
                    return bucket, start + (above & -above).bit_length() - 1
                return bucket, (found & -found).bit_length() - 1
            bucket += 1
        raise AssertionError("a piece is in no bucket")

    def validate(self) -> None:
        """Raise AssertionError where buckets and counts contradict each other."""
        assert self.buckets[self.first]
        assert not any(self.buckets[: self.first])
        for piece, count in enumerate(self.copies):
            assert count >= 0, piece
            for bucket, members in enumerate(self.buckets):
                assert (members >> piece & 1) == (bucket == count.bit_length()), (piece, count, bucket)
