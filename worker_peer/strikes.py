"""Pieces that parents failed to deliver, counted for the log. The supernode keeps the count that decides."""

from collections import Counter
from typing import Final

from worker_peer.core.fetching import Lost
from worker_peer.host.logs import PieceLog

#: Parents that are counted at the same time.
_MOST_PARENTS: Final = 4096


class Strikes:
    """Strikes against each parent."""

    def __init__(self, log: PieceLog) -> None:
        self._log = log
        self._strikes: Counter[str] = Counter()

    def against(self, lost: Lost) -> None:
        """A leased piece did not come."""
        if lost.parent not in self._strikes and len(self._strikes) >= _MOST_PARENTS:
            self._strikes.clear()
        self._strikes[lost.parent] += 1
        self._log.strike(
            lost.task, parent=lost.parent, piece=lost.piece, failure=lost.failure, strikes=self._strikes[lost.parent]
        )
