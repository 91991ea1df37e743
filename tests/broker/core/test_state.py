"""The state's own sums and its validation: that it sees what is wrong is what lets the other tests lean on it."""

from collections.abc import Callable

import pytest

from broker.core import state as state_module
from broker.core.scheduler import Scheduler
from broker.core.state import Claim, State, TaskRecord
from broker.core.telling import peer_greeted
from tests.support.broker_words import (
    OTHER_TASK,
    SEED,
    TASK,
    greeted,
    hello,
    register,
    said,
    scheduler,
    seed_greeted,
    seeded,
)
from wire.messages import TaskState


def busy() -> Scheduler:
    """A swarm of two with a lease each."""
    made = scheduler()
    for event in (seed_greeted(), greeted("a"), greeted("b"), said("a", register()), said("b", register())):
        made.handle(event, 0.0)
    made.handle(said(SEED, seeded(0, 1, of=2)), 0.0)
    made.validate()
    assert len(made.state.leases) >= 2
    return made


def forget_member(state: State) -> None:
    del state.tasks[TASK].members["a"]


def forget_membership(state: State) -> None:
    state.peers["a"].tasks.clear()


def let_a_stranger_serve(state: State) -> None:
    state.tasks[TASK].serves_only.add("stranger")


def lose_the_layout(state: State) -> None:
    state.tasks[TASK].layout = None


def lose_the_seed(state: State) -> None:
    del state.peers[SEED]


def die(state: State) -> None:
    state.tasks[TASK].state = TaskState.DEAD


def end_a_lease(state: State) -> None:
    lease = next(iter(state.leases))
    for piece in list(lease.pieces):
        state.leases.take_back(lease.child, TASK, lease.lease, piece)


def lease_to_a_stranger(state: State) -> None:
    state.leases.grant(99, task=TASK, child="stranger", parent="a", pieces=[0], until=1.0)


def lease_from_a_stranger(state: State) -> None:
    state.leases.grant(99, task=TASK, child="a", parent="stranger", pieces=[0], until=1.0)


def lease_what_has_no_digest(state: State) -> None:
    state.leases.grant(99, task=TASK, child="a", parent="b", pieces=[5], until=1.0)


def empty_a_lease(state: State) -> None:
    next(iter(state.leases)).pieces.clear()


@pytest.mark.parametrize(
    "damage",
    [
        forget_member,
        forget_membership,
        let_a_stranger_serve,
        lose_the_layout,
        lose_the_seed,
        die,
        end_a_lease,
        lease_to_a_stranger,
        lease_from_a_stranger,
        lease_what_has_no_digest,
        empty_a_lease,
    ],
)
def test_validation_sees_what_is_wrong(damage: Callable[[State], None]) -> None:
    made = busy()
    damage(made.state)
    with pytest.raises((AssertionError, KeyError)):
        made.validate()


def test_what_is_remembered_of_peers_that_are_gone_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_module, "_MAX_FORMER", 2)
    state = State()
    for number in range(4):
        record = peer_greeted(hello(f"p{number}"), 0.0)
        state.enter(record)
        record.received, record.sent = (number,), number
        state.leave(record)
    assert list(state.former) == ["p2", "p3"]
    assert state.sent() == 0 + 1 + 2 + 3, "forgotten peers stay counted"
    assert sum(state.received().values()) == 6


def test_a_fresh_task_knows_nothing() -> None:
    record = TaskRecord(task=OTHER_TASK, spec=register(OTHER_TASK), born_at=1.0, used_at=1.0)
    assert (record.state, record.pieces_cached, record.layout, record.matcher) == (TaskState.PROBING, 0, None, None)
    record.digests = {0: b"", 3: b""}
    assert record.pieces_cached == 2
    assert Claim(1, None, 0).bits == 1
