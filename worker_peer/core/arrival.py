"""Which bytes of a content are here, for readers that take them in order while the rest is still on its way."""

from wire.bitmap import PieceSet
from wire.pieces import PieceLayout


class Arrival:
    """The verified pieces of a content, and the verified blocks of pieces that are not whole yet."""

    def __init__(self, layout: PieceLayout, have: PieceSet) -> None:
        self.layout = layout
        self.have = have
        self._partial: dict[int, int] = {}

    def piece(self, piece: int) -> None:
        """A whole piece is here."""
        self.have.add(piece)
        self._partial.pop(piece, None)

    def blocks(self, piece: int, first: int, count: int) -> None:
        """Some blocks of a piece are here."""
        if piece in self.have:
            return
        bits = self._partial.get(piece, 0) | ((1 << count) - 1) << first
        if bits == (1 << self.layout.block_count(piece)) - 1:
            self.piece(piece)
        else:
            self._partial[piece] = bits

    def lost(self, piece: int) -> None:
        """What came of a piece is not worth anything: another parent will send it from its start."""
        self._partial.pop(piece, None)

    def ready_until(self, start: int, stop: int) -> int:
        """The end of the bytes that are here without a gap from `start` on, at most `stop`."""
        layout, at = self.layout, start
        while at < stop:
            piece = at // layout.piece_length
            offset, size = layout.piece_span(piece)
            if piece in self.have:
                at = offset + size
                continue
            bits = self._partial.get(piece, 0)
            block = (at - offset) // layout.block_length
            while block < layout.block_count(piece) and bits >> block & 1:
                block_at, block_size = layout.block_span(piece, block)
                at = block_at + block_size
                block += 1
            if at < offset + size:
                break
        return min(at, stop)
