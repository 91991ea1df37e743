"""What a peer's silence means, by how often it was told to speak."""

import pytest

from broker.core.scheduler_settings import SchedulerSettings
from broker.core.silence import is_to_be_asked, why_lost
from broker.core.telling import peer_greeted
from tests.support.broker_words import hello

SETTINGS = SchedulerSettings(alive_every_s=1.0, lost_after_s=5.0, doubt_s=2.0, probe_after_s=1.5)


@pytest.mark.parametrize(
    ("every_s", "silent_s", "lost"), [(1.0, 5.0, False), (1.0, 5.1, True), (10.0, 29.9, False), (10.0, 30.1, True)]
)
def test_a_peer_is_lost_after_a_silence_that_follows_from_how_often_it_is_to_speak(
    every_s: float, silent_s: float, lost: bool
) -> None:
    record = peer_greeted(hello("a"), 100.0)
    record.alive_every_s = every_s
    assert bool(why_lost(record, SETTINGS, 100.0 + silent_s)) == lost
    assert why_lost(record, SETTINGS, 100.0 + silent_s) == (f"silent for {silent_s:.1f} s" if lost else "")


def test_one_that_its_children_doubt_has_less_time() -> None:
    record = peer_greeted(hello("a"), 100.0)
    record.doubted_at = 101.0
    assert not why_lost(record, SETTINGS, 103.0)
    assert "children cannot reach it" in why_lost(record, SETTINGS, 103.1)


@pytest.mark.parametrize(
    ("every_s", "silent_s", "asked"), [(0.0, 1.5, False), (0.0, 1.6, True), (4.0, 6.0, False), (4.0, 6.1, True)]
)
def test_a_silent_one_is_asked_before(every_s: float, silent_s: float, asked: bool) -> None:
    record = peer_greeted(hello("a"), 100.0)
    record.alive_every_s = every_s
    assert is_to_be_asked(record, SETTINGS, 100.0 + silent_s) == asked
