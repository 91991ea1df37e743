"""What the scheduler does about zones: locations reach the matcher, the budget is one for all tasks, bytes are counted."""

from collections import deque
from dataclasses import replace

from broker.core.effects import Tell
from broker.core.events import PeerGreeted, Tick
from broker.core.scheduler import Scheduler, SchedulerSettings
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
from wire.messages import Lease, Report


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
    made = scheduler()
    for name, location in (("far", "b"), ("near", "a/2"), ("same", "a/1/"), ("child", "a/1")):
        made.handle(greeted(name, location=location), 0.0)
        made.handle(said(name, register(TASK)), 0.0)
    made.handle(seed_greeted(), 0.0)
    made.handle(said(SEED, seeded(of=4, length=3 * PIECE + 5)), 0.0)
    state, task = made.state, made.state.tasks[TASK]
    for piece, parent in enumerate(("same", "near", "near", "far")):
        state.leases.grant(100 + piece, task=TASK, child="child", parent=parent, pieces=[piece], until=9.0)
        state.arrived(state.peers["child"], task, 100 + piece, piece, 0.0, 0.1)
    assert state.counters.entered_zones == {1: 5, 2: 2 * PIECE}


def busy_subnets(*, between: float) -> Scheduler:
    """Two subnets of four peers; whoever reports has pieces at 1e6 bytes per second from inside, `between` from outside."""
    made = scheduler()
    made.handle(seed_greeted(), 0.0)
    names = [f"{subnet}.{host}" for subnet in (1, 2) for host in range(1, 5)]
    for name in names:
        said_hello = hello(name, location="")
        made.handle(PeerGreeted(hello=replace(said_hello, data_endpoint=f"tcp://10.0.{name}:7")), 0.0)
        made.handle(said(name, register(TASK)), 0.0)
    total = 400
    waiting = deque(made.handle(said(SEED, seeded(*range(total), of=total, digest=CONTENT_DIGEST)), 0.0))
    now = 0.0
    while waiting:
        effect = waiting.popleft()
        now += 0.001
        if isinstance(effect, Tell) and isinstance(effect.message, Lease):
            lease = effect.message
            rate = 1e6 if lease.parent.partition(".")[0] == effect.peer.partition(".")[0] else between
            for piece in lease.pieces:
                report = Report(task=TASK, done=((lease.lease, piece, rate),))
                waiting.extend(made.handle(said(effect.peer, report), now))
        if not waiting and (due := made.next_deadline()) is not None and now < 60.0:
            now = max(now, due)
            waiting.extend(made.handle(Tick(), now))
    made.validate()
    assert made.state.counters.pieces_reported == 8 * total
    return made


def test_zones_are_learned_from_reports_and_used_where_nobody_tells_a_location() -> None:
    made = busy_subnets(between=3e5)
    zones = {record.zone for record in made.state.peers.values()}
    assert zones == {"subnet 10.0.1.*", "subnet 10.0.2.*", ""}
    assert made.state.peers[SEED].zone == "", "the seed is in none"
    made.handle(greeted("told", location="a/b"), 61.0)
    made.handle(PeerGreeted(hello=replace(hello("new"), data_endpoint="tcp://10.0.2.77:7")), 61.0)
    assert (made.state.peers["told"].zone, made.state.peers["new"].zone) == ("a/b", "subnet 10.0.2.*")
    assert made.state.counters.entered_zones.get(1, 0) > 0


def test_a_flat_network_stays_flat() -> None:
    made = busy_subnets(between=9e5)
    assert {record.zone for record in made.state.peers.values()} == {""}
    assert made.state.counters.entered_zones == {}
