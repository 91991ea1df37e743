"""REPORT: pieces that came in one moment travel in one message."""

import asyncio
from collections.abc import Callable
from typing import Final

from wire.messages import MAX_PIECES_PER_MESSAGE, Report
from worker_peer.broker_link import BrokerLink
from worker_peer.core.session_effects import ReportPieces

_STEP: Final = MAX_PIECES_PER_MESSAGE


class Reports:
    """What is to be reported of each task, until the loop's next turn. Call it on the loop."""

    def __init__(self) -> None:
        self._done: dict[str, list[tuple[int, int, float]]] = {}

    def add(self, task: str, link: Callable[[], BrokerLink | None], pieces: ReportPieces) -> None:
        """Report pieces over the link that the task has then. Failures are told at once."""
        now = link()
        if now is None:
            return
        if pieces.failed:
            now.send(Report(task=task, failed=pieces.failed))
        if task not in self._done:
            self._done[task] = []
            asyncio.get_running_loop().call_soon(self._send, task, link)
        self._done[task].extend(pieces.done)

    def _send(self, task: str, link: Callable[[], BrokerLink | None]) -> None:
        done, then = self._done.pop(task), link()
        if then is not None:
            for at in range(0, len(done), _STEP):
                then.send(Report(task=task, done=tuple(done[at : at + _STEP])))
