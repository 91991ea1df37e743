"""What peers only offer: known, and read by nobody until somebody wants it; then whoever offers it serves it."""

import pytest

from broker.core import scheduler as module
from broker.core.effects import Effect, Tell
from broker.core.events import Event, PeerGone, TaskWanted, Tick
from broker.core.scheduler import Scheduler
from tests.support.broker_words import (
    CONTENT_DIGEST,
    OTHER_TASK,
    SEED,
    TASK,
    greeted,
    register,
    said,
    scheduler,
    seed_greeted,
    seeded,
)
from wire.errors import ErrorCode
from wire.messages import Alive, Fetch, Lease, Task, TaskState

OFFER = register(have=frozenset({0, 1, 2}), pieces=3, serves_only=True, url="http://source.example/file?...")
WANTED = register(url="http://source.example/file?Signature=secret")


class World:
    """A scheduler and all that it said."""

    def __init__(self, *events: Event) -> None:
        self.made: Scheduler = scheduler()
        self.now = 0.0
        self.happens(*events)

    def happens(self, *events: Event) -> list[Effect]:
        effects: list[Effect] = []
        for event in events:
            self.now += 0.01
            effects += self.made.handle(event, self.now)
            self.made.validate()
        return effects

    def passes(self, seconds: float) -> list[Effect]:
        """Time, with the peers that are here saying so, and every tick that is due."""
        effects: list[Effect] = []
        for _ in range(int(seconds / 0.5)):
            self.now += 0.5
            for peer in list(self.made.state.peers):
                effects += self.made.handle(said(peer, Alive()), self.now)
            effects += self.made.handle(Tick(), self.now)
            self.made.validate()
        return effects


def fetches(effects: list[Effect]) -> list[Fetch]:
    return [each.message for each in effects if isinstance(each, Tell) and isinstance(each.message, Fetch)]


def leases(effects: list[Effect], child: str) -> list[Lease]:
    return [each.message for each in effects if isinstance(each, Tell) and each.peer == child and isinstance(each.message, Lease)]


@pytest.mark.parametrize("seed_first", [True, False])
def test_an_offer_makes_nobody_read_the_source_however_long_it_lasts(seed_first: bool) -> None:
    world = World()
    offer = (greeted("a"), said("a", OFFER))
    effects = world.happens(*((seed_greeted(), *offer) if seed_first else (*offer, seed_greeted())))
    assert fetches(effects) == []
    assert Tell(peer="a", message=Task(task=TASK, state=TaskState.PROBING)) in effects
    assert fetches(world.passes(400.0)) == []
    assert world.made.state.tasks[TASK].state is TaskState.PROBING


def test_who_wants_what_is_offered_has_it_read_with_his_own_request_and_gets_it_from_the_offerer() -> None:
    world = World(seed_greeted(), greeted("a"), greeted("b"), greeted("c"), said("a", OFFER), said("b", OFFER))
    (fetch,) = fetches(world.happens(said("c", WANTED)))
    assert fetch.url == WANTED.url
    effects = world.happens(said(SEED, seeded(0, 1, 2, of=3, digest=CONTENT_DIGEST)))
    effects += world.passes(1.0)
    assert {piece for lease in leases(effects, "c") for piece in lease.pieces} == {0, 1, 2}
    assert {lease.parent for lease in leases(effects, "c")} & {"a", "b"}, "they serve what they have"
    assert leases(effects, "a") == leases(effects, "b") == []


def test_a_preheat_of_what_is_offered_has_it_read_with_its_own_request() -> None:
    world = World(seed_greeted(), greeted("a"), said("a", OFFER))
    (fetch,) = fetches(world.happens(TaskWanted(spec=WANTED)))
    assert fetch.url == WANTED.url


def test_an_offer_takes_nothing_from_who_waits_for_a_seed() -> None:
    world = World(greeted("a"), greeted("b"), said("b", WANTED), said("a", OFFER))
    (fetch,) = fetches(world.happens(seed_greeted()))
    assert fetch.url == WANTED.url


def test_a_task_that_is_only_offered_any_more_is_read_again_by_nobody() -> None:
    world = World(seed_greeted(), greeted("a"), greeted("b"), said("a", OFFER))
    world.happens(PeerGone(peer="a"))
    world.happens(greeted("a"), said("a", OFFER))
    assert len(fetches(world.happens(said("b", WANTED)))) == 1


def test_offers_leave_room_for_what_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_TASKS", 2)
    world = World(seed_greeted(), greeted("a"), said("a", OFFER))
    other = register(task=OTHER_TASK, have=frozenset({0}), pieces=1, serves_only=True)
    (refused,) = world.happens(said("a", other))
    assert isinstance(refused, Tell)
    assert isinstance(refused.message, Task)
    assert refused.message.code is ErrorCode.INTERNAL
    assert len(fetches(world.happens(said("a", register(task=OTHER_TASK))))) == 1
