"""What peers said that they have (HAVE over PUB/SUB). Hints, never truth: they may be lost, late or wrong.

Pure and bounded. Used for one thing: a piece that a parent does not deliver is asked of a holder that is known already.
"""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

#: (task, peer) pairs remembered; the one not heard of for longest goes first.
MAX_ENTRIES: Final = 4096


class Hints:
    """Who said to have which pieces."""

    def __init__(self) -> None:
        self._bits: OrderedDict[tuple[str, str], int] = OrderedDict()

    def note(self, task: str, peer: str, pieces: Iterable[int]) -> None:
        """A peer said that it has these pieces."""
        bits = self._bits.get((task, peer), 0)
        for piece in pieces:
            bits |= 1 << piece
        self._bits[task, peer] = bits
        self._bits.move_to_end((task, peer))
        if len(self._bits) > MAX_ENTRIES:
            self._bits.popitem(last=False)

    def holders(self, task: str, piece: int) -> list[str]:
        """Peers that said to have the piece."""
        return [peer for (noted, peer), bits in self._bits.items() if noted == task and bits >> piece & 1]

    def drop_task(self, task: str) -> None:
        """The task is gone."""
        for key in [key for key in self._bits if key[0] == task]:
            del self._bits[key]

    def drop_peer(self, peer: str) -> None:
        """The peer is gone."""
        for key in [key for key in self._bits if key[1] == peer]:
            del self._bits[key]

    def __len__(self) -> int:
        return len(self._bits)
