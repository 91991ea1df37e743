"""Preheat jobs, one thing at a time. What holds under any order of events is in test_preheating_machine.py."""

import dataclasses

import pytest

from broker.core.effects import PeerWarmed, TaskMoved
from broker.core.preheat_events import (
    JobAsked,
    JobDeleted,
    JobStopped,
    PreheatTick,
    Release,
    Resolve,
    Resolved,
    ResolveFailed,
    Save,
    Want,
    WantFailed,
)
from broker.core.preheat_records import SEED_HOST, Host, Job, JobState, Row, RowState, from_document
from broker.core.preheating import Preheating, PreheatSettings
from tests.support.preheat_world import SIZE, PreheatWorld, blob, digest_of, document_of, spec, task_id, warmed_whole
from wire.errors import ErrorCode
from wire.messages import TaskState, Warmed

ONE, TWO = task_id(1), task_id(2)


def world(**settings: object) -> PreheatWorld:
    made = PreheatWorld(dataclasses.replace(PreheatSettings(), **settings))  # type: ignore[arg-type]
    made.seed_comes()
    return made


def state_of(thing: Job | Row) -> JobState | RowState:
    """Its state now: a type checker would believe that it stays what it was."""
    return thing.state


def test_from_the_request_to_the_proof() -> None:
    made = world()
    job = made.asks(spec(keep_s=60.0))
    assert (job.number, job.state) == (1, JobState.RUNNING)
    made.resolves(1, 1, 2)
    assert made.wants == [Want(job=1, task=ONE, place=0), Want(job=1, task=TWO, place=0)]
    made.task_moves(ONE, TaskState.CACHING)
    row = job.rows[SEED_HOST, ONE]
    assert (row.state, row.verified, row.length) == (RowState.RUNNING, SIZE // 4, SIZE)
    assert made.warms == [], "the seed proves it when it has all of it"
    made.task_moves(ONE, TaskState.CACHED)
    assert [(warm.peer, warm.task, warm.keep_s) for warm in made.warms] == [("seed-1", ONE, 60.0)]
    assert state_of(row) is RowState.RUNNING, "having it is no proof"
    made.warms_to_the_end("seed-1", ONE)
    assert state_of(row) is RowState.DONE
    made.task_moves(TWO, TaskState.CACHED)
    assert state_of(job) is JobState.RUNNING
    made.warms_to_the_end("seed-1", TWO)
    assert (job.state, job.error) == (JobState.SUCCESS, "")
    assert made.sources == {}
    assert made.saved[1].state is JobState.SUCCESS


def test_hosts_begin_when_the_length_is_known_and_a_dead_one_makes_it_partial() -> None:
    made = world()
    for name in "ab":
        made.host_comes(name)
    job = made.asks(spec(scope="all"))
    made.resolves(1, 1, hosts=True)
    made.host_comes("late")
    made.task_moves(ONE, TaskState.CACHING)
    assert [warm.peer for warm in made.warms] == ["a", "b"]
    made.task_moves(ONE, TaskState.CACHED)
    made.warms_to_the_end("seed-1", ONE)
    made.warms_to_the_end("a", ONE)
    made.host_goes("a")  # it has proven it already
    made.host_goes("b")
    made.time_passes(19.0)
    assert state_of(job) is JobState.RUNNING, "perhaps it comes back"
    made.time_passes(3.0)
    assert state_of(job) is JobState.PARTIAL
    assert "1 of 2 hosts lack something; b, " in job.error
    assert "gone" in job.error
    assert [warm.peer for warm in made.warms if warm.peer == "late"] == []


def test_a_host_that_comes_back_is_told_again() -> None:
    made = world()
    made.host_comes("a")
    job = made.asks(spec(scope="all"))
    made.resolves(1, 1, hosts=True)
    made.task_moves(ONE, TaskState.CACHED)
    made.host_goes("a")
    made.time_passes(5.0)
    made.host_comes("a")
    assert [warm.peer for warm in made.warms].count("a") == 2
    made.goes_well()
    assert state_of(job) is JobState.SUCCESS


def test_names_that_nobody_has_are_lost_and_no_host_at_all_is_a_failure() -> None:
    made = world()
    made.host_comes("a")
    job = made.asks(spec("named", scope="a,b"))
    made.resolving.clear()
    made.happens(Resolved(job=1, blobs=(blob(1),), hosts=(Host(peer="a", name="a"),), absent=("b",)))
    made.goes_well()
    assert state_of(job) is JobState.PARTIAL
    assert "no host of this name" in job.error
    nobody = made.asks(spec("nobody", scope="all"))
    made.resolving.clear()
    made.happens(Resolved(job=2, blobs=(blob(1),)))
    assert state_of(nobody) is JobState.FAILED
    assert "no host is connected" in nobody.error


def test_nothing_to_preheat_and_nothing_to_find() -> None:
    made = world()
    empty, failed = made.asks(spec("empty")), made.asks(spec("failed"))
    made.resolves(1)
    assert (empty.state, empty.error) == (JobState.FAILED, "there is nothing in it to preheat")
    made.happens(ResolveFailed(job=2, why="no such image"))
    assert (failed.state, failed.error) == (JobState.FAILED, "no such image")
    made.happens(ResolveFailed(job=2, why="again"))
    made.happens(ResolveFailed(job=9, why="unknown"))
    assert failed.error == "no such image"


def test_a_shared_blob_is_wanted_once_and_fails_nobody_for_another_s_credentials() -> None:
    made = world()
    first, second = made.asks(spec("first")), made.asks(spec("second"))
    made.resolves(1, 1)
    made.resolves(2, 1, 2)
    assert [(want.job, want.task) for want in made.wants] == [(1, ONE), (2, TWO)]
    for _ in range(2):
        made.task_moves(ONE, TaskState.DEAD, ErrorCode.SOURCE_NEEDS_AUTH, "it wants credentials")
        made.time_passes(2.0)
    assert state_of(first) is JobState.FAILED
    assert "it wants credentials" in first.error
    assert (made.wants[-1].job, made.wants[-1].task) == (2, ONE), "now by the other's request"
    made.goes_well()
    assert state_of(second) is JobState.SUCCESS


@pytest.mark.parametrize(("code", "tries"), [(ErrorCode.SOURCE_ERROR, 4), (ErrorCode.SOURCE_NOT_FOUND, 2)])
def test_a_source_that_fails_is_tried_again_with_pauses(code: ErrorCode, tries: int) -> None:
    made = world()
    job = made.asks(spec())
    made.resolves(1, 1)
    for number in range(1, tries):
        made.task_moves(ONE, TaskState.DEAD, code, "it fails")
        assert len(made.wants) == number
        made.time_passes(2.0 ** (number - 1) - 0.5)
        assert len(made.wants) == number, "not yet"
        made.time_passes(0.5)
        assert len(made.wants) == number + 1
    made.task_moves(ONE, TaskState.DEAD, code, "it fails")
    assert state_of(job) is JobState.FAILED
    assert job.error == f"1 of 1 blobs cannot be had; {blob(1).url}: it fails"


def test_other_places_are_tried_before_it_is_given_up() -> None:
    made = world()
    job = made.asks(spec())
    made.resolves(1, 1, places=2)
    made.task_moves(ONE, TaskState.DEAD, ErrorCode.SOURCE_NOT_FOUND, "not here")
    assert [want.place for want in made.wants] == [0, 1]
    made.goes_well()
    assert state_of(job) is JobState.SUCCESS


def test_a_request_that_cannot_be_made_is_a_failure_of_its_source() -> None:
    made = world()
    job = made.asks(spec())
    made.resolves(1, 1)
    for _ in range(2):
        made.happens(WantFailed(task=ONE, code=ErrorCode.SOURCE_FORBIDDEN, why="its host is not allowed"))
        made.time_passes(2.0)
    assert "its host is not allowed" in job.error
    made.happens(WantFailed(task=ONE, code=ErrorCode.SOURCE_FORBIDDEN, why="late"))


def test_no_more_tasks_and_jobs_at_once_than_may_be_and_each_job_has_its_turn() -> None:
    made = world(tasks_at_once=2, jobs_at_once=2)
    jobs = [made.asks(spec(key)) for key in "abc"]
    assert [job.state for job in jobs] == [JobState.RUNNING, JobState.RUNNING, JobState.WAITING]
    made.resolves(1, 1, 2, 3)
    assert len(made.wants) == 2
    made.resolves(2, 4)
    made.task_moves(ONE, TaskState.CACHED)
    assert len(made.wants) == 2, "it holds its place until it is proven"
    made.warms_to_the_end("seed-1", ONE)
    assert (made.wants[-1].job, made.wants[-1].task) == (2, task_id(4)), "the job that has none under way"
    made.goes_well()
    assert [job.state for job in jobs] == [JobState.SUCCESS] * 3


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (dataclasses.replace(warmed_whole(ONE), digest="sha256:" + "f" * 64), "the host has sha256:fff"),
        (dataclasses.replace(warmed_whole(ONE), digest=None), "the host has no digest, not sha256:"),
        (dataclasses.replace(warmed_whole(ONE), verified=1), "verified 1 of 1000 bytes"),
        (dataclasses.replace(warmed_whole(ONE), verified=5, length=5), "has 5 bytes, and the manifest says 1000"),
        (Warmed(task=ONE, code=ErrorCode.STORE_FULL, message="the disk is full"), "the disk is full"),
        (Warmed(task=ONE, code=ErrorCode.STORE_FULL), "store full"),
    ],
)
def test_what_is_no_proof(message: Warmed, told: str) -> None:
    made = world()
    made.host_comes("a")
    job = made.asks(spec(scope="all"))
    made.resolves(1, 1, hosts=True)
    made.task_moves(ONE, TaskState.CACHED)
    made.warms_to_the_end("seed-1", ONE)
    for _ in range(4):
        assert state_of(job) is JobState.RUNNING
        made.happens(PeerWarmed(peer="a", message=message))
        made.time_passes(1.5)
    assert state_of(job) is JobState.PARTIAL
    assert told in job.error


def test_a_peer_that_is_too_old_is_named_at_once() -> None:
    made = world()
    made.host_comes("old")
    job = made.asks(spec(scope="all"))
    made.resolves(1, 1, hosts=True)
    made.task_moves(ONE, TaskState.CACHED)
    too_old = Warmed(task=ONE, code=ErrorCode.UNEXPECTED_KIND, message="old speaks protocol 1.0, too old")
    made.happens(PeerWarmed(peer="old", message=too_old))
    made.warms_to_the_end("seed-1", ONE)
    assert state_of(job) is JobState.PARTIAL
    assert "too old" in job.error


def test_a_seed_that_cannot_prove_it_is_asked_for_it_anew() -> None:
    made = world()
    job = made.asks(spec())
    made.resolves(1, 1)
    made.task_moves(ONE, TaskState.CACHED)
    made.warms_to_the_end("seed-1", ONE, Warmed(task=ONE, code=ErrorCode.TASK_UNKNOWN, message="it is not here"))
    made.time_passes(1.5)
    assert len(made.wants) == 2
    made.goes_well()
    assert state_of(job) is JobState.SUCCESS


def test_a_seed_that_dies_after_its_proof_has_proven() -> None:
    made = world()
    made.host_comes("a")
    job = made.asks(spec(scope="all"))
    made.resolves(1, 1, hosts=True)
    made.task_moves(ONE, TaskState.CACHED)
    made.warms_to_the_end("seed-1", ONE)
    made.seed_goes()
    made.happens(PeerWarmed(peer="a", message=Warmed(task=ONE, code=ErrorCode.TIMED_OUT, message="nobody serves it")))
    assert job.rows["a", ONE].tries == 0, "nothing of its doing"
    made.seed_comes("seed-2")
    made.task_moves(ONE, TaskState.CACHED)
    assert made.warms[-1].peer == "a"
    made.warms_to_the_end("a", ONE)
    assert state_of(job) is JobState.SUCCESS


def test_stopping_tells_hosts_and_releases_tasks() -> None:
    made = world()
    made.host_comes("a")
    job = made.asks(spec(scope="all"))
    made.resolves(1, 1, hosts=True)
    made.task_moves(ONE, TaskState.CACHING)
    effects = made.happens(JobStopped(job=1))
    assert Release(task=ONE) in effects
    assert made.warms[-1].cancel
    assert made.told == set()
    assert (job.state, job.error) == (JobState.STOPPED, "it was stopped")
    assert {row.state for row in job.rows.values()} == {RowState.STOPPED}
    assert made.happens(JobStopped(job=1)) == []
    assert made.happens(TaskMoved(task=ONE, state=TaskState.CACHED)) == []


def test_stopping_one_job_leaves_what_another_wants() -> None:
    made = world()
    made.host_comes("a")
    made.host_comes("b")
    stopped, goes_on = made.asks(spec("x", scope="all")), made.asks(spec("y", scope="a"))
    made.resolves(1, 1, hosts=True)
    made.resolving.clear()
    made.happens(Resolved(job=2, blobs=(blob(1),), hosts=(Host(peer="a"),)))
    made.task_moves(ONE, TaskState.CACHING)
    made.happens(JobStopped(job=1))
    assert [(warm.peer, warm.cancel) for warm in made.warms] == [("a", False), ("b", False), ("b", True)]
    made.goes_well()
    assert (stopped.state, goes_on.state) == (JobState.STOPPED, JobState.SUCCESS)


def test_deleting() -> None:
    made = world()
    made.asks(spec())
    made.happens(JobDeleted(job=1))
    made.happens(JobDeleted(job=1))
    assert made.jobs.jobs == {}
    assert made.saved == {}
    made.resolving.clear()
    made.happens(Resolved(job=1, blobs=(blob(1),)))
    assert made.wants == []


def test_a_job_that_takes_too_long_has_failed() -> None:
    made = world()
    job = made.asks(spec(timeout_s=10.0))
    made.resolves(1, 1)
    made.time_passes(9.0)
    assert state_of(job) is JobState.RUNNING
    made.time_passes(2.0)
    assert (job.state, job.error) == (JobState.FAILED, "it was not done within 10 s")


def test_history_is_bounded_by_number_and_by_age() -> None:
    made = world(kept_jobs=2, kept_s=100.0)
    for key in "abc":
        made.asks(spec(key))
        made.goes_well()
    assert list(made.jobs.jobs) == [2, 3]
    made.time_passes(101.0)
    assert made.jobs.jobs == {}
    assert made.saved == {}


def test_progress_without_a_length_or_pieces_is_no_progress() -> None:
    made = world()
    job = made.asks(spec())
    made.resolves(1, 1)
    made.happens(TaskMoved(task=ONE, state=TaskState.CACHING, seed="seed-1"))
    assert job.rows[SEED_HOST, ONE].state is RowState.WAITING
    made.happens(TaskMoved(task=ONE, state=TaskState.CACHING, seed="seed-1", length=0))
    assert job.rows[SEED_HOST, ONE].length == 0


def test_a_host_s_progress_and_words_of_who_was_not_told() -> None:
    made = world()
    made.host_comes("a")
    job = made.asks(spec(scope="all"))
    made.resolves(1, 1, hosts=True)
    made.happens(PeerWarmed(peer="a", message=warmed_whole(ONE)))
    assert job.rows["a", ONE].state is RowState.WAITING, "it was not told: nothing that it says counts"
    made.task_moves(ONE, TaskState.CACHING)
    made.happens(PeerWarmed(peer="a", message=Warmed(task=ONE, verified=10)))
    row = job.rows["a", ONE]
    assert (row.state, row.verified, row.length) == (RowState.RUNNING, 10, SIZE)
    made.happens(PeerWarmed(peer="a", message=Warmed(task=ONE, verified=5, length=SIZE, received=(0, 5))))
    assert (row.verified, row.received) == (10, (0, 5)), "what it reads again is not less"
    # It is told once, however often the seed's progress is told.
    made.task_moves(ONE, TaskState.CACHING)
    assert len(made.warms) == 1
    # It gives up, and the seed dies before the pause is over: it is told again when the next seed has begun.
    made.happens(PeerWarmed(peer="a", message=Warmed(task=ONE, code=ErrorCode.TIMED_OUT, message="too slow")))
    assert row.tries == 1
    made.task_moves(ONE, TaskState.DEAD, ErrorCode.SOURCE_ERROR, "502")
    made.time_passes(1.5)
    assert len(made.warms) == 1
    made.goes_well()
    assert job.state is JobState.SUCCESS


def test_after_a_restart_jobs_go_on_with_what_was_proven() -> None:
    made = world()
    made.host_comes("a")
    made.asks(spec("runs", scope="all", had_secrets=True))
    made.asks(spec("waits"))
    made.resolves(1, 1, 2, hosts=True)
    made.task_moves(ONE, TaskState.CACHED)
    made.warms_to_the_end("seed-1", ONE)
    made.warms_to_the_end("a", ONE)
    stored = [from_document(document_of(job)) for job in made.jobs.jobs.values()]
    again = Preheating()
    effects = again.restore(stored, 0.0)
    assert [effect for effect in effects if not isinstance(effect, Save)] == [
        Resolve(job=2),
        Want(job=1, task=TWO, place=0),
    ]
    assert again.next_number == 3
    again.validate()
    for now in (0.0, 5.0):
        again.handle(TaskMoved(task=TWO, state=TaskState.DEAD, code=ErrorCode.SOURCE_NEEDS_AUTH, message="401"), now)
        again.handle(PreheatTick(), now + 3.0)
    failed = again.jobs[1]
    assert state_of(failed) is JobState.FAILED
    assert "the supernode was restarted, and credentials are not stored: send the job again (401)" in failed.error
    assert failed.rows["a", ONE].state is RowState.DONE


def test_time_is_looked_at_only_while_something_runs() -> None:
    made = Preheating()
    assert made.next_deadline(0.0) == 60.0
    made.handle(JobAsked(spec=spec()), 0.0)
    assert made.next_deadline(0.0) == 0.5
    assert made.unfinished == 1
    assert not made.wants(ONE)
    made.handle(Resolved(job=1, blobs=(blob(1),)), 0.0)
    assert made.wants(ONE)
    assert made.newest("nobody's") is None
    assert digest_of(ONE) == blob(1).digest
