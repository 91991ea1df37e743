"""What is cached of a URL is asked of its source again, once for many; what has not changed is still given by who has it."""

from dataclasses import replace

import pytest

from broker.core.effects import Effect, Tell
from broker.core.scheduler import Scheduler, SchedulerSettings
from tests.support.broker_words import (
    CONTENT_DIGEST,
    OTHER_DIGEST,
    PIECE,
    SEED,
    TASK,
    URL,
    block_digests,
    done,
    greeted,
    leases_in,
    register,
    said,
    scheduler,
    seed_greeted,
    seeded,
)
from wire.errors import ErrorCode
from wire.messages import Fetch, Leave, LeaveReason, Register, SeedFailed, Task, TaskState

#: Later than the freshness of what was told before.
LATER = 10.0


def cached(*peers: str, digest: str | None = None) -> Scheduler:
    """A content of two pieces that the seed and these peers have whole."""
    made = scheduler(SchedulerSettings(probe_after_s=1e6, fresh_s=2.0))
    made.handle(seed_greeted(), 0.0)
    for peer in peers:
        made.handle(greeted(peer), 0.0)
        made.handle(said(peer, Register(task=TASK, url=URL, digest=digest)), 0.1)
    made.handle(said(SEED, seeded(0, 1, of=2, digest=CONTENT_DIGEST)), 0.2)
    for peer in peers:
        made.handle(said(peer, done(0, 0, 1)), 0.3)
    made.handle(greeted("new"), LATER - 1)
    made.handle(greeted("newer"), LATER - 1)
    return made


def fetches(effects: list[Effect]) -> int:
    """How often a seed is asked."""
    return sum(isinstance(each, Tell) and isinstance(each.message, Fetch) for each in effects)


def states(effects: list[Effect], peer: str) -> list[TaskState]:
    """What a peer is told of the task."""
    return [
        each.message.state for each in effects if isinstance(each, Tell) and each.peer == peer and isinstance(each.message, Task)
    ]


def test_the_source_is_asked_once_for_all_who_come_meanwhile_and_nobody_is_told_before() -> None:
    made = cached("a")
    effects = made.handle(said("new", register(url=URL + "?signature=2")), LATER)
    assert fetches(effects) == 1
    assert states(effects, "new") == [TaskState.PROBING]
    assert next(each.message for each in effects if isinstance(each, Tell) and isinstance(each.message, Fetch)).url.endswith("=2")
    assert fetches(made.handle(said("newer", register()), LATER + 0.1)) == 0
    made.validate()
    effects = made.handle(said(SEED, seeded(0, 1, of=2, digest=CONTENT_DIGEST)), LATER + 0.2)
    assert states(effects, "new")[-1] is states(effects, "newer")[-1] is TaskState.CACHED
    # Who had it has it still, and gives it.
    assert "a" in {lease.parent for lease in leases_in(effects)}
    record = made.state.tasks[TASK]
    assert record.matcher is not None
    assert record.matcher.has_all("a")
    assert (record.former, record.former_holders) == ({}, set())
    made.validate()
    for peer in ("new", "newer"):
        made.handle(said(peer, done(0, 0, 1)), LATER + 0.3)
    made.handle(greeted("next"), LATER + 1)
    assert fetches(made.handle(said("next", register()), LATER + 2.1)) == 0, "it was checked a moment ago"
    made.handle(said("next", done(0, 0, 1)), LATER + 2.2)
    assert fetches(made.handle(said("a", register()), LATER + 20)) == 1, "who has it asks whether it has the right one"


def test_what_has_changed_is_not_taken_from_those_who_have_what_it_was() -> None:
    made = cached("a")
    made.handle(said("new", register()), LATER)
    changed = block_digests(0) + block_digests(7)
    effects = made.handle(said(SEED, seeded(0, 1, of=2, digests=changed, digest=OTHER_DIGEST)), LATER + 0.1)
    assert states(effects, "new")[-1] is TaskState.CACHED
    parents = {piece: lease.parent for lease in leases_in(effects, child="new") for piece in lease.pieces}
    assert parents[1] == SEED, "of the second piece a has another one"
    record = made.state.tasks[TASK]
    assert record.matcher is not None
    assert not record.matcher.has_all("a")
    assert record.digest == OTHER_DIGEST
    made.validate()


def test_another_length_makes_the_old_ones_nobodys_parents() -> None:
    made = cached("a")
    made.handle(said("new", register()), LATER)
    effects = made.handle(said(SEED, seeded(0, of=1, digest=OTHER_DIGEST, length=PIECE - 1)), LATER + 0.1)
    assert {lease.parent for lease in leases_in(effects)} == {SEED}
    made.validate()


def test_one_who_leaves_while_the_source_is_asked_is_no_parent_afterwards() -> None:
    made = cached("a", "b")
    made.handle(said("new", register()), LATER)
    made.handle(said("a", Leave(task=TASK, reason=LeaveReason.EVICTED)), LATER + 0.1)
    made.validate()
    effects = made.handle(said(SEED, seeded(0, 1, of=2, digest=CONTENT_DIGEST)), LATER + 0.2)
    assert "a" not in {lease.parent for lease in leases_in(effects)}
    made.validate()


def test_a_source_that_gives_it_no_longer_is_told_to_all() -> None:
    made = cached("a")
    made.handle(said("new", register()), LATER)
    effects = made.handle(
        said(SEED, SeedFailed(task=TASK, code=ErrorCode.SOURCE_NOT_FOUND, status=404, message="gone")), LATER + 0.1
    )
    assert states(effects, "new") == [TaskState.DEAD]
    made.validate()


def test_under_its_digest_a_content_is_always_fresh() -> None:
    made = cached("a", digest=CONTENT_DIGEST)
    effects = made.handle(said("new", Register(task=TASK, url=URL, digest=CONTENT_DIGEST)), LATER)
    assert fetches(effects) == 0
    assert states(effects, "new") == [TaskState.CACHED]


@pytest.mark.parametrize("case", ["in the middle", "an offer", "a preheat"])
def test_the_source_is_not_asked_beside_those_who_fetch_nor_for_an_offer_nor_against_a_preheat(case: str) -> None:
    made = cached("a")
    record = made.state.tasks[TASK]
    message = register()
    match case:
        case "in the middle":
            made.handle(said("newer", register()), 1.0)
            assert record.matcher is not None
            assert record.matcher.is_wanted
        case "an offer":
            message = register(serves_only=True)
        case _:
            record.is_wanted = True
    assert fetches(made.handle(said("new", message), LATER)) == 0
    assert record.state is TaskState.CACHED
    made.validate()


def test_a_small_content_that_is_told_with_its_task_is_asked_again_too() -> None:
    made = scheduler(SchedulerSettings(probe_after_s=1e6, fresh_s=2.0))
    made.handle(seed_greeted(), 0.0)
    for peer in ("a", "b"):
        made.handle(greeted(peer), 0.0)
    made.handle(said("a", register()), 0.1)
    old, new = b"o" * PIECE, b"n" * PIECE
    effects = made.handle(said(SEED, replace(seeded(0, of=1, digest=CONTENT_DIGEST), content=old)), 0.2)
    assert contents(effects, "a") == [old]
    made.handle(said("a", done(0, 0)), 0.3)
    effects = made.handle(said("b", register()), LATER)
    assert fetches(effects) == 1
    assert contents(effects, "b") == [b""]
    changed = replace(seeded(0, of=1, digests=block_digests(7), digest=OTHER_DIGEST), content=new)
    assert contents(made.handle(said(SEED, changed), LATER + 0.1), "b") == [new]
    made.validate()


def contents(effects: list[Effect], peer: str) -> list[bytes]:
    """The contents that a peer is told with its task."""
    words = [each.message for each in effects if isinstance(each, Tell) and each.peer == peer]
    return [bytes(word.content) for word in words if isinstance(word, Task)]
