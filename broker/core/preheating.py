"""Preheat jobs: which blobs are fetched when, who is asked to prove them, and what becomes of the jobs.

Pure. `handle(event, now)` returns what to do. A job resolves into blobs; each blob is a task of the scheduler's, wanted
once however many jobs have it. When the seed has a task it is told WARM, as the hosts of its jobs are from the moment that
its length is known; only their WARMED with `done` makes a row of a job DONE, and only rows that are all DONE a SUCCESS.

A task's failure is its first job's, whose request was used; the next job's request is tried then: what jobs share never
fails one of them for another's credentials.
"""

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final, assert_never

from broker.core.effects import PeerMoved, PeerWarmed, TaskMoved
from broker.core.errands import Errand, Errands, ErrandSettings
from broker.core.preheat_events import (
    Erase,
    JobAsked,
    JobDeleted,
    JobStopped,
    PreheatEffect,
    PreheatEvent,
    PreheatTick,
    Release,
    Resolve,
    Resolved,
    ResolveFailed,
    Save,
    Want,
    WantFailed,
)
from broker.core.preheat_records import SEED_HOST, Blob, Host, Job, JobState, Row, RowState
from wire.errors import ErrorCode
from wire.messages import TaskState

_RETRYABLE: Final = frozenset(
    {ErrorCode.SOURCE_UNREACHABLE, ErrorCode.SOURCE_ERROR, ErrorCode.SOURCE_CHANGED, ErrorCode.NO_SEED, ErrorCode.INTERNAL}
)
_OF_CREDENTIALS: Final = frozenset({ErrorCode.SOURCE_NEEDS_AUTH, ErrorCode.SOURCE_FORBIDDEN, ErrorCode.SOURCE_NOT_FOUND})
_RESTARTED: Final = "the supernode was restarted, and credentials are not stored: send the job again"
_TICK_S: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class PreheatSettings:
    """What may be tuned. Times in seconds."""

    tasks_at_once: int = 16
    """Tasks that the seed fetches or proves for all jobs together."""

    jobs_at_once: int = 64
    """Jobs that run; more of them wait."""

    tries: int = 4
    """A task whose source fails is tried so often for one job; one whose source refuses it, twice."""

    pause_s: float = 1.0
    """Before the second try; twice as long before each one more."""

    kept_jobs: int = 1000
    """Finished jobs that are remembered."""

    kept_s: float = 7 * 86400.0
    """How long a finished job is remembered."""

    errands: ErrandSettings = field(default_factory=ErrandSettings)


class _Phase(Enum):
    QUEUED = auto()
    ASKED = auto()
    CACHING = auto()
    CACHED = auto()


@dataclass(slots=True)
class _Work:
    """A task that jobs want."""

    task: str
    #: Jobs' numbers; the first one's request is used.
    claims: list[int] = field(default_factory=list)
    phase: _Phase = _Phase.QUEUED
    seed: str = ""
    tries: int = 0
    place: int = 0
    #: When to try again; None: no try is due.
    retry_at: float | None = None


class Preheating:
    """All jobs. `wall_minus_now`: what to add to `now` for Unix time, which is what jobs show."""

    def __init__(self, *, settings: PreheatSettings | None = None, first_number: int = 1, wall_minus_now: float = 0.0) -> None:
        self.settings = settings or PreheatSettings()
        self.jobs: dict[int, Job] = {}
        self._next_number = first_number
        self._wall_minus_now = wall_minus_now
        #: Jobs that are not final.
        self._live: dict[int, Job] = {}
        self._works: dict[str, _Work] = {}
        #: Something has changed that may let a job or a task begin.
        self._may_begin = False
        self._errands = Errands(self.settings.errands)
        self._effects: list[PreheatEffect] = []

    # -- the front ------------------------------------------------------------------------------------------------------

    def restore(self, jobs: list[Job], now: float) -> list[PreheatEffect]:
        """Jobs of before a restart, in the order of their numbers. Those that ran go on."""
        for job in jobs:
            self.jobs[job.number] = job
            self._next_number = max(self._next_number, job.number + 1)
            if job.state.is_final:
                continue
            job.restarted = True
            self._live[job.number] = job
            for task in job.open_rows:
                self._claim(task, job.number, now)
            if job.state is JobState.RUNNING and not job.blobs:
                self._effects.append(Resolve(job=job.number))
        self._may_begin = True
        self._forget(now)
        return self._finish(now)

    def handle(self, event: PreheatEvent, now: float) -> list[PreheatEffect]:
        """What to do about what happened."""
        match event:
            case JobAsked():
                job = Job(number=self._next_number, spec=event.spec, created_at=now + self._wall_minus_now)
                self._next_number += 1
                self.jobs[job.number] = self._live[job.number] = job
                self._may_begin = True
                self._effects.append(Save(job=job.number, at_once=True))
            case Resolved():
                self._on_resolved(event, now)
            case ResolveFailed():
                if (failed := self.jobs.get(event.job)) is not None and not failed.state.is_final:
                    self._end(failed, JobState.FAILED, self._why(failed, event.code, event.why), now)
            case TaskMoved():
                self._on_task(event, now)
            case WantFailed():
                if (work := self._works.get(event.task)) is not None and work.phase is _Phase.ASKED:
                    self._on_dead(work, event.code, event.why, now)
            case PeerWarmed():
                self._on_warmed(event, now)
            case PeerMoved():
                if event.here:
                    self._effects += self._errands.peer_here(event.peer, now)
                else:
                    self._errands.peer_gone(event.peer, now)
            case JobStopped():
                if (stopped := self.jobs.get(event.job)) is not None and not stopped.state.is_final:
                    self._end(stopped, JobState.STOPPED, "it was stopped", now)
            case JobDeleted():
                self._on_deleted(event.job, now)
            case PreheatTick():
                self._on_tick(now)
            case _:
                assert_never(event)
        return self._finish(now)

    def next_deadline(self, now: float) -> float:
        """When a PreheatTick is due."""
        # Each of them is looked at: ten thousand hosts are looked at less often.
        return now + (_TICK_S + len(self._errands) / 100_000 if self._live else 60.0)

    @property
    def next_number(self) -> int:
        """The next job's."""
        return self._next_number

    def wants(self, task: str) -> bool:
        """Whether a job still wants the task."""
        return task in self._works

    @property
    def unfinished(self) -> int:
        """Jobs that wait or run."""
        return len(self._live)

    def newest(self, key: str) -> Job | None:
        """The last job of a key."""
        return next((job for job in reversed(self.jobs.values()) if job.spec.key == key), None)

    def _finish(self, now: float) -> list[PreheatEffect]:
        """Begin what may begin. Returns what is to be done."""
        if self._may_begin:
            self._may_begin = False
            self._begin_jobs(now)
            self._begin_tasks(now)
        effects, self._effects = self._effects, []
        return effects

    def _begin_jobs(self, now: float) -> None:
        room = self.settings.jobs_at_once - sum(job.state is JobState.RUNNING for job in self._live.values())
        waiting = [job for job in self._live.values() if job.state is JobState.WAITING]
        for job in waiting[: max(0, room)]:
            job.state, job.started_at = JobState.RUNNING, now + self._wall_minus_now
            self._effects += [Save(job=job.number, at_once=True), Resolve(job=job.number)]

    def _begin_tasks(self, now: float) -> None:
        """As many as there is room for, of the job that has fewest under way first."""
        busy = [work.claims[0] for work in self._works.values() if self._takes_room(work)]
        under_way = Counter(busy)
        due = [work for work in self._works.values() if work.phase is _Phase.QUEUED and (work.retry_at or 0.0) <= now]
        for _ in range(min(len(due), self.settings.tasks_at_once - len(busy))):
            work = min(due, key=lambda each: under_way[each.claims[0]])
            due.remove(work)
            under_way[work.claims[0]] += 1
            work.phase, work.retry_at = _Phase.ASKED, None
            work.tries += 1
            self._effects.append(Want(job=work.claims[0], task=work.task, place=work.place))

    # -- jobs -----------------------------------------------------------------------------------------------------------

    def _on_resolved(self, event: Resolved, now: float) -> None:
        job = self.jobs.get(event.job)
        if job is None or job.state is not JobState.RUNNING or job.blobs:
            return
        if not event.blobs:
            self._end(job, JobState.FAILED, "there is nothing in it to preheat", now)
            return
        if job.spec.scope != "seed" and not event.hosts and not event.absent:
            self._end(job, JobState.FAILED, "no host is connected to this supernode: start dfdaemon on them with its --node", now)
            return
        job.blobs = {blob.task: blob for blob in event.blobs}
        job.hosts = {host.peer: host for host in event.hosts}
        job.hosts |= {name: Host(peer=name, name=name) for name in event.absent}
        for task, blob in job.blobs.items():
            for name in (SEED_HOST, *job.hosts):
                job.add_row(name, task, Row(length=blob.size))
            for name in event.absent:
                job.close_row(name, task, RowState.LOST, "no host of this name or address is connected to this supernode")
            self._claim(task, job.number, now)
        self._effects.append(Save(job=job.number, at_once=True))

    def _why(self, job: Job, code: ErrorCode | None, why: str) -> str:
        return f"{_RESTARTED} ({why})" if job.restarted and job.spec.had_secrets and code in _OF_CREDENTIALS else why

    def _end(self, job: Job, state: JobState, why: str, now: float) -> None:
        job.state, job.error, job.finished_at = state, why, now + self._wall_minus_now
        del self._live[job.number]
        for task in list(job.open_rows):
            for host, row in job.rows_of(task):
                if not row.state.is_final:
                    job.close_row(host, task, RowState.STOPPED, why)
            self._unclaim(task, job, now)
        self._effects.append(Save(job=job.number, at_once=True))
        self._may_begin = True
        self._forget(now)

    def _settle(self, job: Job, now: float) -> None:
        if not job.state.is_final and job.is_settled:
            self._end(job, *job.verdict(), now)

    def _on_deleted(self, number: int, now: float) -> None:
        job = self.jobs.get(number)
        if job is None:
            return
        if not job.state.is_final:
            self._end(job, JobState.STOPPED, "it was deleted", now)
        del self.jobs[number]
        self._effects.append(Erase(job=number))

    def _forget(self, now: float) -> None:
        wall = now + self._wall_minus_now
        too_many = len(self.jobs) - len(self._live) - self.settings.kept_jobs
        for job in [job for job in self.jobs.values() if job.state.is_final]:
            if too_many > 0 or wall - job.finished_at > self.settings.kept_s:
                too_many -= 1
                self._on_deleted(job.number, now)

    # -- tasks ----------------------------------------------------------------------------------------------------------

    def _claim(self, task: str, job: int, now: float) -> None:
        work = self._works.setdefault(task, _Work(task))
        work.claims.append(job)
        self._may_begin = True
        self._ask_hosts(work, now)

    def _unclaim(self, task: str, job: Job, now: float) -> None:
        """The job has no more to do with the task; who was warming it for nobody else is told to stop."""
        work = self._works[task]
        work.claims.remove(job.number)
        self._may_begin = True
        others = [self.jobs[number] for number in work.claims]
        for host in (SEED_HOST, *job.hosts):
            if not any(other.open_row(host, task) for other in others):
                self._effects += self._errands.end(host, task, now, cancel=host != SEED_HOST)
        if not work.claims:
            del self._works[task]
            self._effects.append(Release(task=task))

    def _open_rows(self, work: _Work, host: str) -> list[tuple[Job, Row]]:
        found = [(self.jobs[number], self.jobs[number].open_row(host, work.task)) for number in work.claims]
        return [(job, row) for job, row in found if row is not None]

    def _takes_room(self, work: _Work) -> bool:
        if work.phase in (_Phase.ASKED, _Phase.CACHING):
            return True
        return work.phase is _Phase.CACHED and self._errands.find(SEED_HOST, work.task) is not None

    def _on_task(self, news: TaskMoved, now: float) -> None:
        work = self._works.get(news.task)
        if work is None or work.phase is _Phase.QUEUED:
            return
        before = work.phase, work.seed
        match news.state:
            case TaskState.DEAD:
                self._on_dead(work, news.code or ErrorCode.INTERNAL, news.message, now)
                return
            case TaskState.PROBING:
                work.phase, work.seed = _Phase.ASKED, ""
                self._effects += self._errands.end(SEED_HOST, work.task, now)
            case TaskState.CACHING:
                work.phase, work.seed = _Phase.CACHING, news.seed
                self._note_progress(work, news)
            case TaskState.CACHED:
                work.phase, work.seed = _Phase.CACHED, news.seed
                self._note_progress(work, news)
        if (work.phase, work.seed) != before:
            self._ask_hosts(work, now)

    def _note_progress(self, work: _Work, news: TaskMoved) -> None:
        """What the seed has; it counts as proven only when the seed has said so."""
        share = news.pieces_cached / news.piece_count if news.piece_count else 0.0
        for job, row in self._open_rows(work, SEED_HOST):
            if news.length is not None:
                row.state, row.length, row.verified = RowState.RUNNING, news.length, int(news.length * share)
                self._effects.append(Save(job=job.number))

    def _ask_hosts(self, work: _Work, now: float) -> None:
        """Tell everybody whose row is open to have the task and to prove it; the seed, once it has all of it."""
        if work.phase not in (_Phase.CACHING, _Phase.CACHED):
            return
        for job in (self.jobs[number] for number in work.claims):
            for host, row in job.rows_of(work.task):
                if row.state.is_final or (host == SEED_HOST and work.phase is not _Phase.CACHED):
                    continue
                peer = work.seed if host == SEED_HOST else host
                errand = Errand(task=work.task, host=host, peer=peer, job=job.number, keep_s=job.spec.keep_s)
                self._effects += self._errands.ask(errand, now)

    def _on_dead(self, work: _Work, code: ErrorCode, why: str, now: float) -> None:
        """A task cannot be had, by the first claim's request: another place, once more, another job's request, or never."""
        self._queue(work, now)
        job = self.jobs[work.claims[0]]
        if work.place + 1 < job.blobs[work.task].places:
            work.place, work.tries = work.place + 1, 0
            return
        if work.tries < (self.settings.tries if code in _RETRYABLE else 2):
            work.retry_at = now + self.settings.pause_s * 2 ** (work.tries - 1)
            return
        work.tries, work.place, work.retry_at = 0, 0, None
        why = self._why(job, code, why)
        for host, row in job.rows_of(work.task):
            if not row.state.is_final:
                job.close_row(host, work.task, RowState.FAILED, why if host == SEED_HOST else "the seed does not have it")
        self._unclaim(work.task, job, now)
        self._effects.append(Save(job=job.number))
        self._settle(job, now)

    def _queue(self, work: _Work, now: float, retry_at: float | None = None) -> None:
        """The scheduler is to be asked for the task, again."""
        self._effects += self._errands.end(SEED_HOST, work.task, now)
        work.phase, work.seed, work.retry_at = _Phase.QUEUED, "", retry_at
        self._may_begin = True

    # -- proof ----------------------------------------------------------------------------------------------------------

    def _on_warmed(self, event: PeerWarmed, now: float) -> None:
        told = event.message
        errand = self._errands.heard(event.peer, told.task, now)
        if errand is None or not errand.is_told:
            return
        work = self._works[told.task]
        ends = told.done or told.code is not None
        if ends:
            self._effects += self._errands.end(errand.host, told.task, now)
            self._may_begin = self._may_begin or errand.host == SEED_HOST
        for job, row in self._open_rows(work, errand.host):
            row.length = told.length if told.length is not None else row.length
            row.verified = told.verified if told.done else max(row.verified, told.verified)
            row.received, row.state = told.received, RowState.RUNNING
            if ends:
                self._judge(work, job, errand.host, event)
            self._effects.append(Save(job=job.number))
        if self._open_rows(work, errand.host) and ends:
            if errand.host == SEED_HOST:
                self._queue(work, now, now + self.settings.pause_s)
            elif work.phase is not _Phase.QUEUED:
                work.retry_at = now + self.settings.pause_s
        self._close(work, now)

    def _judge(self, work: _Work, job: Job, host: str, event: PeerWarmed) -> None:
        """What a host said at the end: its row is proven, or will be tried again, or has failed."""
        wrong = _what_is_wrong(job.blobs[work.task], event)
        row = job.rows[host, work.task]
        if not wrong:
            job.close_row(host, work.task, RowState.DONE)
            return
        row.why = wrong
        if host != SEED_HOST and work.phase not in (_Phase.CACHING, _Phase.CACHED):
            return  # the seed has lost it, or cannot have it: nothing of the host's doing
        row.tries += 1
        if row.tries >= self.settings.tries or event.message.code is ErrorCode.UNEXPECTED_KIND:
            job.close_row(host, work.task, RowState.FAILED, wrong)

    def _close(self, work: _Work, now: float) -> None:
        """Jobs for which this task is done with let it go, and end with their last one."""
        for number in list(work.claims):
            job = self.jobs[number]
            if work.task not in job.open_rows:
                self._unclaim(work.task, job, now)
                self._settle(job, now)

    # -- time -----------------------------------------------------------------------------------------------------------

    def _on_tick(self, now: float) -> None:
        asked, lost = self._errands.tick(now)
        self._effects += asked
        self._may_begin = True
        for errand, why in lost:
            self._effects += self._errands.end(errand.host, errand.task, now)
            work = self._works[errand.task]
            for job, _ in self._open_rows(work, errand.host):
                job.close_row(errand.host, errand.task, RowState.LOST, why)
                self._effects.append(Save(job=job.number))
            self._close(work, now)
        for work in self._works.values():
            if work.retry_at is not None and work.retry_at <= now and work.phase is not _Phase.QUEUED:
                work.retry_at = None
                self._ask_hosts(work, now)
        wall = now + self._wall_minus_now
        for job in list(self._live.values()):
            limit_s = job.spec.timeout_s
            if limit_s and wall - job.created_at > limit_s:
                self._end(job, JobState.FAILED, f"it was not done within {limit_s:g} s", now)
        self._forget(now)

    def validate(self) -> None:
        """Raise AssertionError where the parts contradict each other."""
        self._errands.validate()
        for task, work in self._works.items():
            assert work.claims, task
            assert len(set(work.claims)) == len(work.claims)
            for number in work.claims:
                assert self.jobs[number].state is JobState.RUNNING, (task, number)
                assert task in self.jobs[number].open_rows, (task, number)
        for job in self.jobs.values():
            open_rows = Counter(task for (_, task), row in job.rows.items() if not row.state.is_final)
            assert open_rows == job.open_rows, job.number
            for task in open_rows:
                assert job.number in self._works[task].claims, (job.number, task)
            assert (job.number in self._live) == (not job.state.is_final)
            assert not job.state.is_final or all(row.state.is_final for row in job.rows.values())
            assert job.state.is_final or not job.is_settled, job.number
            if job.state is JobState.SUCCESS:
                assert all(row.state is RowState.DONE for row in job.rows.values()), "a success without its proof"


def _what_is_wrong(blob: Blob, event: PeerWarmed) -> str:
    """Why what a peer says at the end is no proof; empty: it is one."""
    told = event.message
    if not told.done:
        return told.message or (told.code.name.lower().replace("_", " ") if told.code is not None else "it did not come")
    if blob.digest is not None and told.digest != blob.digest:
        return f"the host has {told.digest or 'no digest'}, not {blob.digest}"
    if told.length is not None and told.verified != told.length:
        return f"the host has verified {told.verified} of {told.length} bytes"
    if blob.size is not None and told.length not in (None, blob.size):
        return f"the host has {told.length} bytes, and the manifest says {blob.size}"
    return ""
