"""Preheat jobs under any order of events: nothing contradicts itself, no row is DONE without its proof, every job ends."""

from typing import Any

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from broker.core.effects import PeerMoved, PeerWarmed, TaskMoved
from broker.core.errands import ErrandSettings
from broker.core.preheat_events import JobDeleted, JobStopped, ResolveFailed, WantFailed
from broker.core.preheating import PreheatSettings
from tests.support.preheat_world import PreheatWorld, spec, task_id
from wire.errors import ErrorCode
from wire.messages import TaskState, Warmed

HOSTS = ["a", "b", "c"]
numbers = st.integers(1, 4)
codes = st.sampled_from([ErrorCode.SOURCE_NEEDS_AUTH, ErrorCode.SOURCE_ERROR, ErrorCode.NO_SEED, ErrorCode.CANCELLED])


class PreheatMachine(RuleBasedStateMachine):
    """Four blobs, three hosts, a seed that dies and comes back."""

    @initialize(at_once=st.integers(1, 3), jobs=st.integers(1, 3), per_peer=st.integers(1, 2))
    def begin(self, at_once: int, jobs: int, per_peer: int) -> None:
        errands = ErrandSettings(per_peer=per_peer)
        self.world = PreheatWorld(PreheatSettings(tasks_at_once=at_once, jobs_at_once=jobs, kept_jobs=5, errands=errands))
        self.world.seed_comes()

    @rule(key=st.sampled_from("xyz"), scope=st.sampled_from(["seed", "all"]), keep=st.sampled_from([0.0, 60.0]))
    def somebody_asks(self, key: str, scope: str, keep: float) -> None:
        self.world.asks(spec(key, scope=scope, keep_s=keep))

    @precondition(lambda self: self.world.resolving)
    @rule(data=st.data(), blobs=st.lists(numbers, max_size=4, unique=True), places=st.integers(1, 2), fails=st.integers(0, 5))
    def job_resolves(self, data: Any, blobs: list[int], places: int, fails: int) -> None:
        job = data.draw(st.sampled_from(self.world.resolving))
        if fails == 0:
            self.world.resolving.remove(job)
            self.world.happens(ResolveFailed(job=job, why="no such image"))
            return
        known = self.world.jobs.jobs.get(job)
        self.world.resolves(job, *blobs, hosts=known is not None and known.spec.scope == "all", places=places)

    @precondition(lambda self: self.world.sources and self.world.seed_is_here)
    @rule(data=st.data(), state=st.sampled_from([TaskState.CACHING, TaskState.CACHED, TaskState.CACHED]))
    def task_comes(self, data: Any, state: TaskState) -> None:
        self.world.task_moves(data.draw(st.sampled_from(sorted(self.world.sources))), state)

    @precondition(lambda self: self.world.sources)
    @rule(data=st.data(), code=codes)
    def task_dies(self, data: Any, code: ErrorCode) -> None:
        task = data.draw(st.sampled_from(sorted(self.world.sources)))
        self.world.task_moves(task, TaskState.DEAD, code, "the source fails")

    @rule(number=numbers, code=codes)
    def want_fails(self, number: int, code: ErrorCode) -> None:
        self.world.happens(WantFailed(task=task_id(number), code=code, why="no token"))

    @precondition(lambda self: self.world.told)
    @rule(data=st.data(), how=st.sampled_from(["done", "done", "progress", "fails", "other"]))
    def host_speaks(self, data: Any, how: str) -> None:
        peer, task = data.draw(st.sampled_from(sorted(self.world.told)))
        match how:
            case "done":
                self.world.warms_to_the_end(peer, task)
            case "progress":
                self.world.happens(PeerWarmed(peer=peer, message=Warmed(task=task, verified=1, length=2)))
            case "fails":
                failed = Warmed(task=task, code=ErrorCode.STORE_FULL, message="the disk is full")
                self.world.warms_to_the_end(peer, task, failed)
            case _:
                other = Warmed(task=task, done=True, verified=1, length=1, digest="sha256:" + "f" * 64)
                self.world.told.discard((peer, task))
                self.world.happens(PeerWarmed(peer=peer, message=other))

    @rule(peer=st.sampled_from([*HOSTS, "seed-1", "nobody"]), number=numbers)
    def liar_speaks(self, peer: str, number: int) -> None:
        task = task_id(number)
        if (peer, task) not in self.world.told:
            self.world.happens(PeerWarmed(peer=peer, message=Warmed(task=task, code=ErrorCode.CANCELLED)))

    @rule(number=st.integers(5, 9), state=st.sampled_from(TaskState))
    def scheduler_speaks_of_others(self, number: int, state: TaskState) -> None:
        self.world.happens(TaskMoved(task=task_id(number), state=state, code=ErrorCode.INTERNAL))

    @rule(name=st.sampled_from(HOSTS))
    def host_comes(self, name: str) -> None:
        self.world.host_comes(name)

    @precondition(lambda self: self.world.hosts)
    @rule(data=st.data())
    def host_goes(self, data: Any) -> None:
        self.world.host_goes(data.draw(st.sampled_from(sorted(self.world.hosts))))

    @rule()
    def seed_dies_and_comes_back(self) -> None:
        self.world.seed_goes()
        self.world.happens(PeerMoved(peer=self.world.seed, here=False))
        self.world.seed_comes(f"seed-{int(self.world.seed[5:]) + 1}")

    @rule(number=st.integers(1, 8), forget=st.booleans())
    def operator_stops(self, number: int, forget: bool) -> None:
        self.world.happens(JobDeleted(job=number) if forget else JobStopped(job=number))

    @rule(seconds=st.sampled_from([0.5, 2.0, 25.0, 100.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.time_passes(seconds)

    @invariant()
    def every_done_row_is_proven(self) -> None:
        if hasattr(self, "world"):
            self.world.check_proofs()

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.goes_well()
            self.world.check_proofs()
            assert not self.world.sources, "nobody wants anything any more"
            assert set(self.world.saved) == set(self.world.jobs.jobs)


PreheatMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, report_multiple_bugs=False, suppress_health_check=list(HealthCheck)
)
TestPreheatMachine = PreheatMachine.TestCase
