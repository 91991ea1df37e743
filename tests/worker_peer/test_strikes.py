"""Strikes against parents, as the log tells them."""

import pytest

from wire.messages import PieceFailure
from worker_peer import strikes as module
from worker_peer.core.fetching import Lost
from worker_peer.host.logs import PieceLog
from worker_peer.strikes import Strikes


def test_strikes_are_counted_for_so_many_parents(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(module, "_MOST_PARENTS", 2)
    strikes = Strikes(PieceLog())
    for parent in ("a", "a", "b", "a", "c", "a"):
        strikes.against(Lost("7" * 64, 1, 5, parent, PieceFailure.DIGEST))
    told = [record.message.partition("strike ")[2].partition(":")[0] for record in caplog.records]
    assert told == ["1 against a", "2 against a", "1 against b", "3 against a", "1 against c", "1 against a"]
