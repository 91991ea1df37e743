"""What the scheduler does about zones: locations reach the matcher, the budget is one for all tasks, bytes are counted."""

from broker.core.scheduler import Scheduler, SchedulerSettings
from broker.core.state import State
from broker.core.telling import peer_greeted
from tests.support.broker_words import (
    CONTENT_DIGEST,
    OTHER_TASK,
    PIECE,
    SEED,
    TASK,
    done,
    greeted,
    hello,
    leases_in,
    register,
    said,
    scheduler,
    seed_greeted,
    seeded,
)
from wire.messages import Lease


def racks(settings: SchedulerSettings, *tasks: str, pieces: int = 8) -> Scheduler:
    """Two peers in each of two racks, which want all of some tasks that a peer elsewhere has; the seed is gone again."""
    made = scheduler(settings)
    everything = frozenset(range(pieces))
    for event in (seed_greeted(), greeted("far", location="b/1"), greeted("far 2", location="b/1")):
        made.handle(event, 0.0)
    for task in tasks:
        for far in ("far", "far 2"):
            made.handle(said(far, register(task, have=everything, pieces=pieces)), 0.0)
        made.handle(said(SEED, seeded(*everything, of=pieces, task=task, digest=CONTENT_DIGEST)), 0.0)
    for name in ("a", "b"):
        made.handle(greeted(name, location="a/1"), 0.0)
    return made


def entering(leases: list[Lease]) -> int:
    return sum(len(lease.pieces) for lease in leases if lease.parent in ("far", "far 2", SEED))


def test_a_zone_gets_no_more_than_its_budget_however_many_tasks_there_are() -> None:
    made = racks(SchedulerSettings(probe_after_s=1e6, zone_rate=3.0 * PIECE), TASK, OTHER_TASK)
    effects = []
    for task in (TASK, OTHER_TASK):
        for name in ("a", "b"):
            effects += made.handle(said(name, register(task)), 0.0)
    assert entering(leases_in(effects)) == 3, "a second's worth"
    made.validate()


def test_without_a_budget_as_much_enters_as_there_is_room_for() -> None:
    made = racks(SchedulerSettings(probe_after_s=1e6), TASK, OTHER_TASK)
    effects = []
    for task in (TASK, OTHER_TASK):
        for name in ("a", "b"):
            effects += made.handle(said(name, register(task)), 0.0)
    assert entering(leases_in(effects)) > 6


def test_a_reported_piece_is_counted_at_the_level_that_its_bytes_crossed() -> None:
    made = racks(SchedulerSettings(probe_after_s=1e6), TASK)
    (lease, *_) = leases_in(made.handle(said("a", register(TASK)), 0.0))
    made.handle(said("a", done(lease.lease, lease.pieces[0])), 0.1)
    assert made.state.counters.entered_zones == {1: PIECE}
    made.handle(said("a", done(lease.lease, lease.pieces[0])), 0.2)
    assert made.state.counters.entered_zones == {1: PIECE}, "told twice, counted once"


def test_levels_are_counted_apart_and_what_stays_inside_is_not() -> None:
    state = State()
    far, near, same, child = (peer_greeted(hello(at, location=at), 0.0) for at in ("b", "a/2", "a/1/", "a/1"))
    for parent, size in ((far, 5), (near, 7), (near, 1), (same, 100)):
        state.count_piece(parent, child, size)
    assert state.counters.entered_zones == {1: 5, 2: 8}
