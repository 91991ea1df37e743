"""The contents that the exchange thread reads from and writes to. Touched by that thread only."""

from dataclasses import dataclass, field

from wire.bitmap import PieceSet
from wire.messages import GetBlocks
from worker_peer.core.serving import Presence
from worker_peer.host.limits import TokenBucket
from worker_peer.host.store import TaskFile


@dataclass(slots=True)
class SharedFile:
    """One content's file."""

    file: TaskFile
    #: Verified pieces that may be served. Not the file's own: a stored piece may be of an older content.
    have: PieceSet
    #: The download's own limit.
    limit: TokenBucket
    #: Blocks here of pieces that are on their way (0: none yet).
    partial: dict[int, int] = field(default_factory=dict)

    def presence(self, request: GetBlocks) -> Presence:
        """Whether a request's blocks are here, or on their way."""
        layout = self.file.layout
        if request.piece >= layout.piece_count or request.first + request.count > layout.block_count(request.piece):
            return Presence.MISSING
        if request.piece in self.have:
            return Presence.HERE
        if request.piece not in self.partial:
            return Presence.MISSING
        wanted = ((1 << request.count) - 1) << request.first
        return Presence.HERE if self.partial[request.piece] & wanted == wanted else Presence.COMING

    def add_piece(self, piece: int) -> None:
        """A whole piece is here."""
        self.have.add(piece)
        self.partial.pop(piece, None)

    def add_blocks(self, piece: int, first: int, count: int) -> None:
        """Some blocks of a piece are here."""
        self.partial[piece] = self.partial.get(piece, 0) | ((1 << count) - 1) << first


SharedFiles = dict[str, SharedFile]
