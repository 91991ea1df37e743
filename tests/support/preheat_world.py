"""A world around preheat jobs: a registry that resolves, a seed, hosts that warm, all of which may fail. No clock.

Carries out every effect at once or when the test says so, and asserts on the way what may never be asked.
"""

from dataclasses import dataclass
from typing import Any

from broker.core.effects import PeerMoved, PeerWarmed, TaskMoved
from broker.core.preheat_events import (
    AskWarm,
    Erase,
    JobAsked,
    PreheatEffect,
    PreheatEvent,
    PreheatTick,
    Release,
    Resolve,
    Resolved,
    Save,
    Want,
)
from broker.core.preheat_records import SEED_HOST, Blob, Host, Job, JobSpec, RowState, as_row, from_document, without_rows
from broker.core.preheating import Preheating, PreheatSettings
from wire.errors import ErrorCode
from wire.messages import TaskState, Warmed

SIZE = 1000
STEP_S = 0.5


def task_id(number: int) -> str:
    """A task's id."""
    return f"{number:064x}"


def digest_of(task: str) -> str:
    """The content's digest that belongs to a task's id."""
    return f"sha256:{task}"


def blob(number: int, *, places: int = 1) -> Blob:
    """A blob of a registry."""
    task = task_id(number)
    url = f"https://registry.example/v2/app/blobs/{digest_of(task)}"
    return Blob(task=task, url=url, digest=digest_of(task), size=SIZE, places=places)


def spec(
    key: str = "k", *, scope: str = "seed", keep_s: float = 0.0, had_secrets: bool = False, timeout_s: float = 0.0
) -> JobSpec:
    """A job of an image."""
    url = "https://registry.example/v2/app/manifests/1"
    return JobSpec(key=key, kind="image", url=url, scope=scope, keep_s=keep_s, had_secrets=had_secrets, timeout_s=timeout_s)


def warmed_whole(task: str) -> Warmed:
    """The proof."""
    return Warmed(task=task, done=True, verified=SIZE, length=SIZE, digest=digest_of(task), received=(0, SIZE))


@dataclass(slots=True)
class Source:
    """A task at the scheduler."""

    state: TaskState = TaskState.PROBING


def document_of(job: Job) -> dict[str, Any]:
    """A job as the history writes it."""
    return {**without_rows(job), "rows": [as_row(*each) for each in job.rows.items()]}


class PreheatWorld:
    """Jobs, and everything that they depend on."""

    def __init__(self, settings: PreheatSettings | None = None) -> None:
        self.now = 0.0
        self.settings = settings or PreheatSettings(pause_s=1.0)
        self.jobs = Preheating(settings=self.settings, wall_minus_now=1e9)
        self.seed = "seed-1"
        self.seed_is_here = False
        self.hosts: set[str] = set()
        self.resolving: list[int] = []
        self.sources: dict[str, Source] = {}
        #: Who has been told to warm what, and has not ended.
        self.told: set[tuple[str, str]] = set()
        #: Who has proven what.
        self.proven: set[tuple[str, str]] = set()
        self.wants: list[Want] = []
        self.warms: list[AskWarm] = []
        self.saved: dict[int, Job] = {}

    def happens(self, event: PreheatEvent) -> list[PreheatEffect]:
        """Give the jobs an event, and carry out what they decide."""
        effects = self.jobs.handle(event, self.now)
        for effect in effects:
            self._carry_out(effect)
        self.jobs.validate()
        for effect in effects:
            if isinstance(effect, Want) and effect.task in self.sources:
                # The scheduler says the state of a task whenever it is wanted.
                source = self.sources[effect.task]
                if source.state in (TaskState.CACHING, TaskState.CACHED) and self.seed_is_here:
                    self.task_moves(effect.task, source.state)
        return effects

    def _carry_out(self, effect: PreheatEffect) -> None:
        match effect:
            case Resolve():
                assert effect.job not in self.resolving
                self.resolving.append(effect.job)
            case Want():
                assert effect.job in self.jobs.jobs
                self.wants.append(effect)
                source = self.sources.setdefault(effect.task, Source())
                if source.state is TaskState.DEAD:
                    source.state = TaskState.PROBING
            case Release():
                assert effect.task in self.sources or not any(want.task == effect.task for want in self.wants)
                self.sources.pop(effect.task, None)
            case AskWarm():
                self.warms.append(effect)
                assert effect.peer in self.hosts or effect.peer == self.seed or effect.cancel
                (self.told.discard if effect.cancel else self.told.add)((effect.peer, effect.task))
            case Save():
                if effect.job in self.jobs.jobs:
                    self.saved[effect.job] = from_document(document_of(self.jobs.jobs[effect.job]))
            case Erase():
                self.saved.pop(effect.job, None)

    # -- what happens ---------------------------------------------------------------------------------------------------

    def asks(self, wanted: JobSpec) -> Job:
        """Somebody asks for a job."""
        self.happens(JobAsked(spec=wanted))
        found = self.jobs.newest(wanted.key)
        assert found is not None
        return found

    def resolves(self, job: int, *numbers: int, hosts: bool = False, places: int = 1) -> None:
        """What a job is made of is found out."""
        self.resolving.remove(job)
        named = tuple(Host(peer=each, name=each) for each in sorted(self.hosts)) if hosts else ()
        self.happens(Resolved(job=job, blobs=tuple(blob(each, places=places) for each in numbers), hosts=named))

    def seed_comes(self, name: str = "seed-1") -> None:
        """A seed says HELLO; tasks that wait for one are probed by it."""
        self.seed, self.seed_is_here = name, True
        self.happens(PeerMoved(peer=name, here=True))

    def seed_goes(self) -> None:
        """The seed dies: all that it had must be told anew."""
        self.seed_is_here = False
        self.happens(PeerMoved(peer=self.seed, here=False, why="killed"))
        self.told = {each for each in self.told if each[0] != self.seed}
        for task in list(self.sources):
            if self.sources[task].state is not TaskState.DEAD:
                self.sources[task].state = TaskState.PROBING
                self.happens(TaskMoved(task=task, state=TaskState.PROBING))

    def host_comes(self, name: str) -> None:
        """A host says HELLO, maybe again: it does not know what it was told."""
        self.hosts.add(name)
        self.told = {each for each in self.told if each[0] != name}
        self.happens(PeerMoved(peer=name, here=True))

    def host_goes(self, name: str) -> None:
        """A host is lost."""
        self.hosts.discard(name)
        self.told = {each for each in self.told if each[0] != name}
        self.happens(PeerMoved(peer=name, here=False, why="killed"))

    def task_moves(self, task: str, state: TaskState, code: ErrorCode | None = None, why: str = "") -> None:
        """The scheduler says what a task is."""
        if task in self.sources:
            self.sources[task].state = state
        whole = state is TaskState.CACHED
        self.happens(
            TaskMoved(
                task=task,
                state=state,
                seed=self.seed,
                length=SIZE,
                pieces_cached=4 if whole else 1,
                piece_count=4,
                digest=digest_of(task) if whole else None,
                code=code,
                message=why,
            )
        )

    def warms_to_the_end(self, peer: str, task: str, told: Warmed | None = None) -> None:
        """A peer that was told says the end of it."""
        self.told.discard((peer, task))
        said = told or warmed_whole(task)
        if said.done:
            self.proven.add((SEED_HOST if peer == self.seed else peer, task))
        self.happens(PeerWarmed(peer=peer, message=said))

    def time_passes(self, seconds: float) -> None:
        """With the ticks that are due."""
        until = self.now + seconds
        while self.now < until:
            self.now += min(STEP_S, until - self.now)
            self.happens(PreheatTick())

    def goes_well(self, limit_s: float = 200.0) -> None:
        """Nothing bad happens any more: every job comes to its end. Fails where one does not."""
        until = self.now + limit_s
        if not self.seed_is_here:
            self.seed_comes(self.seed)
        while self.jobs.unfinished:
            assert self.now < until, [document_of(job) for job in self.jobs.jobs.values() if not job.state.is_final]
            for job in list(self.resolving):
                self.resolves(job, 1)
            for task, source in list(self.sources.items()):
                if source.state in (TaskState.PROBING, TaskState.CACHING):
                    self.task_moves(task, TaskState.CACHED)
            for peer, task in sorted(self.told):
                self.warms_to_the_end(peer, task)
            self.time_passes(STEP_S)

    def check_proofs(self) -> None:
        """A row is DONE only where its host has said so."""
        for job in self.jobs.jobs.values():
            for (host, task), row in job.rows.items():
                assert row.state is not RowState.DONE or (host, task) in self.proven, (job.number, host, task)
