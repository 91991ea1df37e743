"""Tasks that a preheat wants: kept without a member, told of at every turn, and WARM only to who understands it."""

import dataclasses

import pytest

from broker.core.effects import Effect, PeerMoved, PeerWarmed, TaskMoved, Tell
from broker.core.events import PeerGone, PeerGreeted, TaskDropped, TaskReleased, TaskWanted, Tick, WarmWanted
from broker.core.scheduler import Scheduler, SchedulerSettings
from broker.core.state import State, TaskRecord
from broker.core.wanted import says_progress, task_gone, task_moved, warm_told
from tests.support.broker_words import (
    CONTENT_DIGEST,
    OTHER_SEED,
    PIECE,
    SEED,
    TASK,
    URL,
    greeted,
    hello,
    register,
    said,
    scheduler,
    seed_greeted,
    seeded,
)
from wire.errors import ErrorCode
from wire.messages import Alive, Drop, Fetch, Leave, LeaveReason, SeedFailed, TaskState, Warm, Warmed

WANTED = TaskWanted(spec=register())
FAILED = SeedFailed(task=TASK, code=ErrorCode.SOURCE_NEEDS_AUTH, status=401, message="it wants credentials")


def moved(effects: list[Effect]) -> list[TaskMoved]:
    return [effect for effect in effects if isinstance(effect, TaskMoved)]


def fetches(effects: list[Effect]) -> list[Fetch]:
    return [effect.message for effect in effects if isinstance(effect, Tell) and isinstance(effect.message, Fetch)]


def with_seed() -> Scheduler:
    made = scheduler()
    made.handle(seed_greeted(), 0.0)
    return made


def test_a_wanted_task_is_fetched_and_told_of_to_its_end() -> None:
    made = with_seed()
    effects = made.handle(WANTED, 1.0)
    assert [fetch.url for fetch in fetches(effects)] == [URL]
    assert moved(effects) == [TaskMoved(task=TASK, state=TaskState.PROBING, seed=SEED)]
    assert made.state.tasks[TASK].members == {}
    begun = moved(made.handle(said(SEED, seeded(0, of=4)), 1.1))
    assert begun == [TaskMoved(task=TASK, state=TaskState.CACHING, seed=SEED, length=4 * PIECE, pieces_cached=1, piece_count=4)]
    assert moved(made.handle(said(SEED, seeded(1, of=4)), 1.2)) == [], "progress is told once a second"
    (progress,) = moved(made.handle(said(SEED, seeded(2, of=4)), 2.2))
    assert (progress.state, progress.pieces_cached) == (TaskState.CACHING, 3)
    (cached,) = moved(made.handle(said(SEED, seeded(3, of=4, digest=CONTENT_DIGEST)), 2.3))
    assert (cached.state, cached.pieces_cached, cached.digest) == (TaskState.CACHED, 4, CONTENT_DIGEST)
    made.validate()


def test_wanted_again_its_state_is_said_again_and_the_seed_is_not_asked_twice() -> None:
    made = with_seed()
    made.handle(WANTED, 1.0)
    made.handle(said(SEED, seeded(0, of=1, digest=CONTENT_DIGEST)), 1.1)
    effects = made.handle(WANTED, 1.2)
    assert fetches(effects) == []
    assert [each.state for each in moved(effects)] == [TaskState.CACHED]


def test_a_task_that_nobody_but_a_peer_wants_is_not_told_of() -> None:
    made = with_seed()
    made.handle(greeted("a"), 0.0)
    assert moved(made.handle(said("a", register()), 0.1)) == []
    assert moved(made.handle(said(SEED, seeded(0, of=2)), 5.0)) == []
    assert moved(made.handle(said(SEED, FAILED), 5.1)) == []


def test_a_dead_one_is_tried_again_at_once_with_the_new_request() -> None:
    made = with_seed()
    made.handle(WANTED, 1.0)
    (dead,) = moved(made.handle(said(SEED, FAILED), 1.1))
    assert (dead.state, dead.code, dead.status) == (TaskState.DEAD, ErrorCode.SOURCE_NEEDS_AUTH, 401)
    assert dead.message == "it wants credentials"
    again = dataclasses.replace(register(), headers=(("Authorization", "other"),))
    effects = made.handle(TaskWanted(spec=again), 1.1)
    (asked,) = fetches(effects)
    assert asked.headers == again.headers
    assert [each.state for each in moved(effects)] == [TaskState.PROBING]


def test_whom_the_seed_may_ask_goes_with_whose_request_it_is() -> None:
    made = scheduler(SchedulerSettings(source_allow=("for.peers",)))
    made.handle(seed_greeted(), 0.0)
    made.handle(greeted("a"), 0.0)
    (asked,) = fetches(made.handle(TaskWanted(spec=register(), allow=("for.jobs",)), 1.0))
    assert asked.allow == ("for.jobs",)
    made.handle(said(SEED, FAILED), 1.1)
    (asked,) = fetches(made.handle(said("a", register()), 1.2))
    assert asked.allow == ("for.peers",), "what a job may not read may be a peer's to read: at once"
    made.handle(TaskWanted(spec=register(), allow=()), 9.1)
    assert made.state.tasks[TASK].allow is None, "it is being read by the peer's"
    made.handle(said(SEED, FAILED), 9.2)
    (asked,) = fetches(made.handle(TaskWanted(spec=register(), allow=()), 9.3))
    assert asked.allow == ()
    made.handle(said(SEED, seeded(0, of=1, digest=CONTENT_DIGEST)), 9.4)
    made.handle(TaskReleased(task=TASK), 9.5)
    (asked,) = fetches(made.handle(said("a", register()), 20.0))
    assert asked.allow == ("for.peers",), "one that has grown old, or was evicted"
    made.handle(said(SEED, seeded(0, of=1, digest=CONTENT_DIGEST)), 20.1)


def test_an_evicted_task_that_a_peer_asks_for_is_read_by_the_list_for_peers() -> None:
    made = scheduler(SchedulerSettings(source_allow=("for.peers",)))
    made.handle(seed_greeted(), 0.0)
    made.handle(TaskWanted(spec=register(), allow=("for.jobs",)), 1.0)
    made.handle(said(SEED, seeded(0, of=1, digest=CONTENT_DIGEST)), 1.1)
    made.handle(TaskReleased(task=TASK), 1.2)
    made.handle(said(SEED, Leave(task=TASK, reason=LeaveReason.EVICTED)), 1.3)
    made.handle(greeted("a"), 1.3)
    (asked,) = fetches(made.handle(said("a", register()), 1.4))
    assert asked.allow == ("for.peers",)


def test_it_is_kept_until_it_is_released() -> None:
    made = scheduler(SchedulerSettings(task_expire_s=10.0, probe_after_s=1e6))
    made.handle(seed_greeted(), 0.0)
    made.handle(WANTED, 1.0)
    made.handle(said(SEED, seeded(0, of=1, digest=CONTENT_DIGEST)), 1.1)
    for now in range(2, 40):
        made.handle(said(SEED, Alive()), float(now))
        made.handle(Tick(), float(now))
    assert TASK in made.state.tasks
    made.handle(TaskReleased(task=TASK), 40.0)
    made.handle(TaskReleased(task="f" * 64), 40.0)
    for now in range(41, 55):
        made.handle(said(SEED, Alive()), float(now))
        made.handle(Tick(), float(now))
    assert TASK not in made.state.tasks


def test_a_lost_seed_takes_it_back_to_probing_until_another_has_all_of_it() -> None:
    made = with_seed()
    made.handle(WANTED, 1.0)
    made.handle(said(SEED, seeded(0, of=1, digest=CONTENT_DIGEST)), 1.1)
    effects = made.handle(PeerGone(peer=SEED), 2.0)
    assert PeerMoved(peer=SEED, here=False, why="its process has ended") in effects
    (lost,) = moved(effects)
    assert (lost.state, lost.seed) == (TaskState.PROBING, "")
    effects = made.handle(seed_greeted(OTHER_SEED), 3.0)
    assert PeerMoved(peer=OTHER_SEED, here=True) in effects
    assert len(fetches(effects)) == 1
    (back,) = moved(made.handle(said(OTHER_SEED, seeded(0, of=1, digest=CONTENT_DIGEST)), 3.1))
    assert (back.state, back.seed) == (TaskState.CACHED, OTHER_SEED)


def test_a_dropped_one_is_told_of_as_dead() -> None:
    made = with_seed()
    made.handle(WANTED, 1.0)
    effects = made.handle(TaskDropped(task=TASK), 2.0)
    assert Tell(peer=SEED, message=Drop(task=TASK)) in effects
    assert moved(effects) == [task_gone(TASK, ErrorCode.CANCELLED, "an operator dropped the task")]
    made.handle(greeted("a"), 2.0)
    made.handle(said("a", register()), 2.0)
    assert moved(made.handle(TaskDropped(task=TASK), 2.1)) == []


def test_more_tasks_than_may_be_are_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.core.scheduler._MAX_TASKS", 0)
    (refused,) = moved(scheduler().handle(WANTED, 0.0))
    assert refused.state is TaskState.DEAD
    assert "as many tasks as it can" in refused.message


def test_warm_goes_to_a_peer_that_understands_it() -> None:
    made = scheduler()
    made.handle(greeted("a"), 0.0)
    warm = Warm(task=TASK, url=URL, keep_s=60.0)
    assert made.handle(WarmWanted(peer="a", message=warm), 0.1) == [Tell(peer="a", message=warm)]


def test_a_peer_that_is_too_old_or_not_here_is_named() -> None:
    made = scheduler()
    old = dataclasses.replace(hello("old"), protocol=(1, 0))
    made.handle(PeerGreeted(hello=old), 0.0)
    warm = Warm(task=TASK, url=URL)
    (too_old,) = made.handle(WarmWanted(peer="old", message=warm), 0.1)
    assert isinstance(too_old, PeerWarmed)
    assert too_old.message.code is ErrorCode.UNEXPECTED_KIND
    assert "old speaks protocol 1.0, too old" in too_old.message.message
    not_here = warm_told(State(), "gone", warm)
    assert isinstance(not_here, PeerWarmed)
    assert not_here.message.code is ErrorCode.CANCELLED
    assert "gone is not connected" in not_here.message.message


def test_warmed_is_passed_on() -> None:
    made = scheduler()
    made.handle(greeted("a"), 0.0)
    message = Warmed(task=TASK, done=True, verified=3, length=3, digest=CONTENT_DIGEST)
    assert made.handle(said("a", message), 0.1) == [PeerWarmed(peer="a", message=message)]


def test_progress_is_due_only_for_what_is_wanted() -> None:
    record = TaskRecord(task=TASK, spec=register(), born_at=0.0, used_at=0.0)
    assert not says_progress(record, 10.0)
    record.is_wanted = True
    assert says_progress(record, 10.0)
    record.told_at = 9.5
    assert not says_progress(record, 10.0)
    assert task_moved(record).state is TaskState.PROBING
