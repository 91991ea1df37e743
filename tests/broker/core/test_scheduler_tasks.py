"""A task's life: PROBING, CACHING, CACHED; dead, tried again, forgotten, dropped. Scripts of what came and what was said."""

import pytest

from broker.core import scheduler as scheduler_module
from broker.core.effects import Notice, Tell
from broker.core.events import PeerGone, TaskDropped, Tick
from broker.core.scheduler import SchedulerSettings
from tests.support.broker_words import (
    CONTENT_DIGEST,
    CONTENT_TYPE,
    OTHER_DIGEST,
    OTHER_TASK,
    PIECE,
    SEED,
    TASK,
    block_digests,
    done,
    greeted,
    leased,
    leases_in,
    register,
    said,
    scheduler,
    seed_failed,
    seed_greeted,
    seeded,
    told,
)
from tests.support.playbook import At, Noticed, Playbook
from wire.errors import ErrorCode
from wire.messages import Alive, Drop, Fetch, Leave, LeaveReason, SeedFailed, Task, TaskState

FETCH = Tell(peer=SEED, message=Fetch(task=TASK, url=register().url))
NOT_FOUND = SeedFailed(task=TASK, code=ErrorCode.SOURCE_NOT_FOUND, status=404, message="no such file: check the URL")
DEAD = Task(task=TASK, state=TaskState.DEAD, code=NOT_FOUND.code, status=404, message=NOT_FOUND.message)


def tells(peer: str, state: TaskState, *, pieces: int | None = None, digest: str | None = None) -> Tell:
    return Tell(peer=peer, message=told(state, pieces=pieces, digest=digest))


def begun(pieces: int = 2) -> Playbook:
    """A seed, a peer `a`, and its registration; the seed knows the length."""
    return (
        Playbook(scheduler())
        >> At(0.0, seed_greeted()) << Noticed(Notice.PEER_JOINED, peer=SEED)
        >> At(0.0, greeted("a")) << Noticed(Notice.PEER_JOINED, peer="a")
        >> At(0.1, said("a", register())) << FETCH << tells("a", TaskState.PROBING) << Noticed(Notice.TASK_NEW, peer="a")
        >> At(0.2, said(SEED, seeded(of=pieces))) << tells("a", TaskState.CACHING, pieces=pieces)
        << Noticed(Notice.TASK_CACHING, task=TASK, text=f"{pieces * PIECE} bytes, {pieces} pieces")
    )  # fmt: skip


def test_from_the_first_question_to_the_last_piece() -> None:
    made = (
        begun()
        >> At(0.3, said(SEED, seeded(0, of=2))) << leased("a", 1, SEED, 0)
        >> At(0.4, said("a", done(1, 0)))
        >> At(0.5, said(SEED, seeded(1, of=2))) << leased("a", 2, SEED, 1)
        >> At(0.6, said(SEED, seeded(of=2, digest=CONTENT_DIGEST)))
        << tells("a", TaskState.CACHED, pieces=2, digest=CONTENT_DIGEST) << Noticed(Notice.TASK_CACHED, text=CONTENT_DIGEST)
        >> At(0.7, said("a", done(2, 1)))
        >> At(0.8, said(SEED, seeded(of=2, digest=CONTENT_DIGEST)))
    ).check()  # fmt: skip
    task = made.state.tasks[TASK]
    assert task.matcher is not None
    assert task.matcher.complete_peers == 1
    assert (task.pieces_cached, len(made.state.leases)) == (2, 0)
    counters = made.state.counters
    assert (counters.tasks_registered, counters.registrations, counters.seed_fetches) == (1, 1, 1)
    assert (counters.pieces_reported, counters.leases_granted, counters.peers_joined) == (2, 2, 2)


def test_one_seeded_can_tell_everything_at_once() -> None:
    """A seed that has it all already: length, pieces and digest come in one message, and one TASK says so."""
    script = (
        Playbook(scheduler())
        >> At(0.0, seed_greeted())
        >> At(0.0, greeted("a"))
        >> At(0.1, said("a", register())) << FETCH << tells("a", TaskState.PROBING)
        >> At(0.2, said(SEED, seeded(0, of=1, digest=CONTENT_DIGEST)))
        << tells("a", TaskState.CACHED, pieces=1, digest=CONTENT_DIGEST) << leased("a", 1, SEED, 0)
    )  # fmt: skip
    script.check()


def test_an_empty_content_has_one_piece_that_is_fetched_like_any_other() -> None:
    made = scheduler()
    for event in (seed_greeted(), greeted("a"), said("a", register())):
        made.handle(event, 0.0)
    effects = made.handle(said(SEED, seeded(0, of=1, length=0, digest=CONTENT_DIGEST)), 0.1)
    (lease,) = leases_in(effects)
    assert (lease.pieces, lease.digests) == ((0,), block_digests(0))


def test_who_comes_later_is_told_where_the_task_stands() -> None:
    script = (
        begun(pieces=1)
        >> At(0.3, said(SEED, seeded(0, of=1, digest=CONTENT_DIGEST)))
        << tells("a", TaskState.CACHED, pieces=1, digest=CONTENT_DIGEST) << leased("a", 1, SEED, 0)
        >> At(0.4, said("a", done(1, 0)))
        >> At(0.5, greeted("b"))
        >> At(0.6, said("b", register())) << tells("b", TaskState.CACHED, pieces=1, digest=CONTENT_DIGEST)
        << leased("b", 2, "a", 0)
    )  # fmt: skip
    counters = script.check().state.counters
    assert (counters.tasks_registered, counters.registrations, counters.seed_fetches) == (1, 2, 1)


def test_the_source_says_no_and_everybody_hears_why() -> None:
    made = (
        Playbook(scheduler())
        >> At(0.0, seed_greeted())
        >> At(0.0, greeted("a"))
        >> At(0.0, greeted("b"))
        >> At(0.1, said("a", register())) << FETCH << tells("a", TaskState.PROBING)
        >> At(0.2, said("b", register())) << tells("b", TaskState.PROBING)
        >> At(0.3, seed_failed(NOT_FOUND)) << Tell(peer="a", message=DEAD) << Tell(peer="b", message=DEAD)
        << Noticed(Notice.TASK_DEAD, task=TASK, text="no such file")
        >> At(0.4, seed_failed(NOT_FOUND))
    ).check()  # fmt: skip
    assert made.state.tasks[TASK].members == {}
    assert made.state.peers["a"].tasks == set()
    assert made.state.counters.seed_failures == 1


def test_a_task_that_dies_in_the_middle_grants_nothing_more() -> None:
    """Members leave one after the other: what one sets free must not be granted to the next, of a task that is dead."""
    made = begun(pieces=4).check()
    for event in (greeted("b"), greeted("c"), said("b", register()), said("c", register()), said(SEED, seeded(0, 1, 2, 3, of=4))):
        made.handle(event, 0.3)
    assert len(made.state.leases) > 1
    effects = made.handle(seed_failed(NOT_FOUND), 0.4)
    assert leases_in(effects) == []
    assert len(made.state.leases) == 0
    made.validate()
    assert made.state.tasks[TASK].layout is None


def test_a_dead_task_is_not_tried_again_at_once_but_then_with_the_new_askers_request() -> None:
    again = register(url="http://user@source.example/other?token=2")
    script = (
        Playbook(scheduler(SchedulerSettings(retry_s=1.0)))
        >> At(0.0, seed_greeted())
        >> At(0.0, greeted("a"))
        >> At(0.1, said("a", register())) << FETCH << tells("a", TaskState.PROBING)
        >> At(0.2, said(SEED, seeded(0, of=2))) << tells("a", TaskState.CACHING, pieces=2) << leased("a", 1, SEED, 0)
        >> At(0.3, seed_failed(NOT_FOUND))
        << Tell(peer="a", message=Task(task=TASK, state=TaskState.DEAD, code=NOT_FOUND.code, status=404,
                                       message=NOT_FOUND.message, content_type=CONTENT_TYPE))
    )  # fmt: skip
    made = script.check()
    told_dead = made.handle(said("a", register()), 1.29)
    assert [effect.message.state for effect in told_dead if isinstance(effect, Tell) and isinstance(effect.message, Task)] == [
        TaskState.DEAD
    ]
    assert made.state.tasks[TASK].members == {}
    effects = made.handle(said("a", again), 1.31)
    assert Tell(peer=SEED, message=Fetch(task=TASK, url=again.url)) in effects
    task = made.state.tasks[TASK]
    assert (task.state, task.code, task.status, task.message, task.digests) == (TaskState.PROBING, None, 0, "", {})
    made.handle(said(SEED, seeded(0, of=1, digest=OTHER_DIGEST, digests=block_digests(9))), 1.4)
    assert task.digest == OTHER_DIGEST
    made.validate()


@pytest.mark.parametrize(
    ("second", "code", "words"),
    [
        (seeded(1, of=3), ErrorCode.SOURCE_CHANGED, "changed"),
        (seeded(0, of=2, digests=block_digests(7)), ErrorCode.SOURCE_CHANGED, "changed"),
        (seeded(1, of=2, digests=b""), ErrorCode.INTERNAL, "a cut that cannot be"),
        (seeded(2, of=2), ErrorCode.INTERNAL, "a cut that cannot be"),
        (seeded(of=2, length=1 << 44), ErrorCode.INTERNAL, "a cut that cannot be"),
        (seeded(of=2, digest=CONTENT_DIGEST), ErrorCode.INTERNAL, "not all of its pieces"),
    ],
)
def test_a_seed_that_contradicts_itself_ends_the_task(second: object, code: ErrorCode, words: str) -> None:
    made = (begun() >> At(0.3, said(SEED, seeded(0, of=2))) << leased("a", 1, SEED, 0)).check()  # fmt: skip
    effects = made.handle(said(SEED, second), 0.4)  # type: ignore[arg-type]
    made.validate()
    (heard,) = [effect.message for effect in effects if isinstance(effect, Tell)]
    assert isinstance(heard, Task)
    assert (heard.state, heard.code) == (TaskState.DEAD, code)
    assert words in heard.message
    assert len(made.state.leases) == 0


def test_a_content_has_one_digest_for_ever() -> None:
    made = (
        begun(pieces=1)
        >> At(0.3, said(SEED, seeded(0, of=1, digest=CONTENT_DIGEST)))
        << tells("a", TaskState.CACHED, pieces=1, digest=CONTENT_DIGEST) << leased("a", 1, SEED, 0)
    ).check()  # fmt: skip
    effects = made.handle(said(SEED, seeded(of=1, digest=OTHER_DIGEST)), 0.4)
    (heard,) = [effect.message for effect in effects if isinstance(effect, Tell)]
    assert isinstance(heard, Task)
    assert (heard.state, heard.code) == (TaskState.DEAD, ErrorCode.SOURCE_CHANGED)
    made.validate()


def test_a_task_is_forgotten_when_nobody_has_asked_for_long_and_not_while_somebody_is_in_it() -> None:
    made = begun(pieces=1).check()
    made.handle(said("a", Alive()), 100.0)
    for second in range(10, 300, 10):
        for peer in ("a", SEED):
            made.handle(said(peer, Alive()), float(second))
        made.handle(Tick(), float(second))
    assert TASK in made.state.tasks, "a peer is in it"
    made.handle(said("a", Leave(task=TASK, reason=LeaveReason.CANCELLED)), 290.0)
    for now in (380.0, 469.9):
        for peer in ("a", SEED):
            made.handle(said(peer, Alive()), now)
        assert made.handle(Tick(), now) == []
    for peer in ("a", SEED):
        made.handle(said(peer, Alive()), 471.0)
    dropped, note = made.handle(Tick(), 471.0)
    assert dropped == Tell(peer=SEED, message=Drop(task=TASK)), "the seed still reads what nobody waits for"
    assert Noticed(Notice.TASK_FORGOTTEN, task=TASK).names(note)  # type: ignore[arg-type]
    assert made.state.tasks == {}
    made.validate()


def test_a_dropped_task_is_dropped_by_everybody_who_has_it() -> None:
    made = begun(pieces=2).check()
    for event in (greeted("b"), said("b", register()), said(SEED, seeded(0, 1, of=2)), said("a", done(1, 0))):
        made.handle(event, 0.3)
    effects = made.handle(TaskDropped(task=TASK), 0.4)
    drop = Drop(task=TASK)
    assert [effect for effect in effects if isinstance(effect, Tell)] == [
        Tell(peer=peer, message=drop) for peer in ("a", "b", SEED)
    ]
    assert made.state.tasks == {}
    assert len(made.state.leases) == 0
    made.validate()
    assert made.handle(TaskDropped(task=TASK), 0.5) == []


def test_a_task_without_a_seed_is_dropped_too() -> None:
    script = (
        Playbook(scheduler())
        >> At(0.0, greeted("a"))
        >> At(0.1, said("a", register())) << tells("a", TaskState.PROBING)
        >> At(0.2, TaskDropped(task=TASK)) << Tell(peer="a", message=Drop(task=TASK)) << Noticed(Notice.TASK_FORGOTTEN)
    )  # fmt: skip
    assert script.check().state.peers["a"].tasks == set()


def test_there_are_only_so_many_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler_module, "_MAX_TASKS", 1)
    made = begun().check()
    (effect,) = made.handle(said("a", register(OTHER_TASK)), 0.3)
    assert isinstance(effect, Tell)
    assert isinstance(effect.message, Task)
    assert (effect.message.task, effect.message.state) == (OTHER_TASK, TaskState.DEAD)
    assert "as many tasks as it can" in effect.message.message
    assert set(made.state.tasks) == {TASK}
    assert made.handle(said("a", register()), 0.4) != [], "the one that is there goes on"


def test_leaving_a_task_that_one_is_not_in_is_nothing() -> None:
    made = begun().check()
    leave = Leave(task=OTHER_TASK, reason=LeaveReason.EVICTED)
    assert made.handle(said("a", leave), 0.3) == []
    assert made.handle(said(SEED, Leave(task=OTHER_TASK, reason=LeaveReason.EVICTED)), 0.3) == []
    assert set(made.state.tasks[TASK].members) == {"a"}


def test_a_member_that_dies_leaves_all_its_tasks() -> None:
    made = begun().check()
    made.handle(said("a", register(OTHER_TASK)), 0.3)
    made.handle(PeerGone(peer="a"), 0.4)
    assert [task.members for task in made.state.tasks.values()] == [{}, {}]
    made.validate()
    assert made.handle(PeerGone(peer="a"), 0.5) == []
