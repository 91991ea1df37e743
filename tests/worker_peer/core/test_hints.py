"""Hints remember who said to have what, within a bound, and forget on command."""

from worker_peer.core.hints import MAX_ENTRIES, Hints

TASK, OTHER = "a" * 64, "b" * 64


def test_holders_are_those_who_named_the_piece() -> None:
    hints = Hints()
    hints.note(TASK, "first", [0, 2])
    hints.note(TASK, "second", [2])
    hints.note(TASK, "second", [5])
    hints.note(OTHER, "third", [2])
    assert hints.holders(TASK, 2) == ["first", "second"]
    assert hints.holders(TASK, 5) == ["second"]
    assert hints.holders(TASK, 1) == []
    assert hints.holders(OTHER, 2) == ["third"]


def test_a_task_or_a_peer_that_goes_is_forgotten_and_no_other() -> None:
    hints = Hints()
    for task in (TASK, OTHER):
        for peer in ("first", "second"):
            hints.note(task, peer, [1])
    hints.drop_task(TASK)
    assert hints.holders(TASK, 1) == []
    assert hints.holders(OTHER, 1) == ["first", "second"]
    hints.drop_peer("first")
    assert hints.holders(OTHER, 1) == ["second"]
    assert len(hints) == 1


def test_the_one_not_heard_of_for_longest_makes_room() -> None:
    hints = Hints()
    for number in range(MAX_ENTRIES):
        hints.note(TASK, f"peer-{number}", [0])
    hints.note(TASK, "peer-0", [1])
    hints.note(TASK, "one too many", [0])
    assert len(hints) == MAX_ENTRIES
    assert hints.holders(TASK, 1) == ["peer-0"]
    assert "peer-1" not in hints.holders(TASK, 0)
    assert "one too many" in hints.holders(TASK, 0)
