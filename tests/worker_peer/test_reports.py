"""Pieces that came in one moment are one message; failures are told at once; nobody is told nothing."""

import asyncio
from dataclasses import dataclass, field
from typing import cast

from wire.messages import MAX_PIECES_PER_MESSAGE, Message, PieceFailure, Report
from worker_peer.broker_link import BrokerLink
from worker_peer.core.session_effects import ReportPieces
from worker_peer.reports import Reports

TASK, OTHER = "a" * 64, "b" * 64


@dataclass
class Link:
    """Keeps what is said."""

    said: list[Message] = field(default_factory=list)

    def send(self, message: Message) -> bool:
        self.said.append(message)
        return True


async def test_pieces_of_one_moment_travel_together() -> None:
    reports, link = Reports(), Link()
    for piece in range(3):
        reports.add(TASK, lambda: cast("BrokerLink", link), ReportPieces(done=((1, piece, 2.0),)))
    reports.add(OTHER, lambda: cast("BrokerLink", link), ReportPieces(done=((2, 7, 0.0),)))
    failed = ((1, 9, PieceFailure.GONE),)
    reports.add(TASK, lambda: cast("BrokerLink", link), ReportPieces(failed=failed))
    assert link.said == [Report(task=TASK, failed=failed)]
    await asyncio.sleep(0)
    assert link.said[1:] == [
        Report(task=TASK, done=((1, 0, 2.0), (1, 1, 2.0), (1, 2, 2.0))),
        Report(task=OTHER, done=((2, 7, 0.0),)),
    ]


async def test_more_than_a_message_names_are_told_in_several() -> None:
    reports, link = Reports(), Link()
    done = tuple((0, piece, 0.0) for piece in range(MAX_PIECES_PER_MESSAGE + 1))
    reports.add(TASK, lambda: cast("BrokerLink", link), ReportPieces(done=done))
    await asyncio.sleep(0)
    assert [len(each.done) for each in link.said if isinstance(each, Report)] == [MAX_PIECES_PER_MESSAGE, 1]


async def test_without_a_supernode_nothing_is_told() -> None:
    reports, links = Reports(), [None, None]
    reports.add(TASK, links.pop, ReportPieces(done=((0, 1, 0.0),)))
    await asyncio.sleep(0)
    assert links == [None]
