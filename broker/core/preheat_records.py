"""A preheat job as it is kept: what was asked, the blobs it found, and what is proven of each blob on each host.

Pure. Nothing secret is in a record: a URL has no query here, headers are the driver's, in memory. A record goes to JSON and
back, for the history on disk and for whoever asks over HTTP.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any, Final

#: The row of the cluster's seed, whichever process that is at the time.
SEED_HOST: Final = "seed"


class JobState(Enum):
    """A job's life."""

    WAITING = "waiting"
    RUNNING = "running"
    #: Every block of every blob was verified on every host of the job.
    SUCCESS = "success"
    #: Every blob is on the seed; a host lacks something.
    PARTIAL = "partial"
    #: A blob cannot be had, or nothing was found to have.
    FAILED = "failed"
    STOPPED = "stopped"

    @property
    def is_final(self) -> bool:
        """Whether nothing follows."""
        return self not in (JobState.WAITING, JobState.RUNNING)


class RowState(Enum):
    """One blob on one host."""

    WAITING = "waiting"
    #: It comes, or is being read again.
    RUNNING = "running"
    #: Every block is there and was verified.
    DONE = "done"
    FAILED = "failed"
    #: The host has gone, or says nothing.
    LOST = "lost"
    STOPPED = "stopped"

    @property
    def is_final(self) -> bool:
        """Whether nothing follows."""
        return self not in (RowState.WAITING, RowState.RUNNING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """One content of a job."""

    #: Its task's id.
    task: str
    #: Where it is, as it may be shown: no query, no user information.
    url: str
    digest: str | None = None
    #: Bytes, where the manifest tells them.
    size: int | None = None
    media_type: str = ""
    #: How many places there are to try, one after the other.
    places: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A host of a job, as it was when the job began."""

    #: The peer's id.
    peer: str
    name: str = ""
    ip: str = ""


@dataclass(slots=True, kw_only=True)
class Row:
    """What is known of one blob on one host."""

    state: RowState = RowState.WAITING
    #: Bytes of verified blocks.
    verified: int = 0
    length: int | None = None
    #: Bytes by Origin's number.
    received: tuple[int, ...] = ()
    #: Why it is not there.
    why: str = ""
    tries: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """What was asked for."""

    #: Jobs of the same key want the same thing.
    key: str
    #: `image` or `file`.
    kind: str
    #: As it may be shown.
    url: str
    #: Platforms of an image, `os/architecture[/variant]`; empty: all.
    platforms: tuple[str, ...] = ()
    #: `seed`, `all`, or hosts' names, addresses or peer ids with commas between.
    scope: str = "seed"
    #: Keep the blobs for so long, seconds; 0: as any other content.
    keep_s: float = 0.0
    #: Not done within so many seconds, it has failed; 0: it takes as long as it takes.
    timeout_s: float = 0.0
    filter: str = ""
    identifier: str = ""
    #: Whether there were headers, a query or a password, which nobody knows any more after a restart.
    had_secrets: bool = False
    #: Which dialect asked, for people.
    asked_by: str = ""


@dataclass(slots=True, kw_only=True)
class Job:
    """One job. Times are Unix seconds, 0: not yet."""

    number: int
    spec: JobSpec
    created_at: float
    state: JobState = JobState.WAITING
    started_at: float = 0.0
    finished_at: float = 0.0
    #: Why it is not SUCCESS.
    error: str = ""
    #: It was interrupted by a restart of the supernode.
    restarted: bool = False
    blobs: dict[str, Blob] = field(default_factory=dict)
    hosts: dict[str, Host] = field(default_factory=dict)
    #: By host (SEED_HOST, or a peer's id) and task.
    rows: dict[tuple[str, str], Row] = field(default_factory=dict)
    #: Rows that are not final, by task; tasks without one are not named.
    open_rows: dict[str, int] = field(default_factory=dict)

    def rows_of(self, task: str) -> Iterator[tuple[str, Row]]:
        """A blob's rows by their hosts, the seed's first."""
        for host in (SEED_HOST, *self.hosts):
            yield host, self.rows[host, task]

    def open_row(self, host: str, task: str) -> Row | None:
        """The row, where something is still to follow in it."""
        row = self.rows.get((host, task))
        return row if row is not None and not row.state.is_final else None

    def add_row(self, host: str, task: str, row: Row) -> None:
        """A blob is to be on a host."""
        self.rows[host, task] = row
        if not row.state.is_final:
            self.open_rows[task] = self.open_rows.get(task, 0) + 1

    def close_row(self, host: str, task: str, state: RowState, why: str = "") -> None:
        """An open row comes to its end."""
        row = self.rows[host, task]
        assert state.is_final
        assert not row.state.is_final, (self.number, host, task)
        row.state, row.why = state, why
        self.open_rows[task] -= 1
        if not self.open_rows[task]:
            del self.open_rows[task]

    @property
    def is_settled(self) -> bool:
        """Whether it has rows, and nothing follows in any."""
        return bool(self.rows) and not self.open_rows

    @property
    def progress(self) -> tuple[int, int | None]:
        """Verified bytes of all rows, and how many there will be; None: not known yet."""
        verified = sum(row.verified for row in self.rows.values())
        lengths = [row.length if row.length is not None else self.blobs[task].size for (_, task), row in self.rows.items()]
        known = [length for length in lengths if length is not None]
        return verified, sum(known) if self.rows and len(known) == len(lengths) else None

    def verdict(self) -> tuple[JobState, str]:
        """What its rows, all final, make of it, and why."""
        missing = [(host, task, row) for (host, task), row in self.rows.items() if row.state is not RowState.DONE]
        of_seed = [each for each in missing if each[0] == SEED_HOST]
        if of_seed:
            _, task, row = of_seed[0]
            return JobState.FAILED, f"{len(of_seed)} of {len(self.blobs)} blobs cannot be had; {self.blobs[task].url}: {row.why}"
        if missing:
            host, task, row = missing[0]
            hosts = {each[0] for each in missing}
            named = self.hosts[host].name or host
            told = f"{len(hosts)} of {len(self.hosts)} hosts lack something; {named}, {self.blobs[task].url}: {row.why}"
            return JobState.PARTIAL, told
        return JobState.SUCCESS, ""


def as_row(where: tuple[str, str], row: Row) -> list[Any]:
    """A row as JSON's types."""
    return [*where, row.state.value, row.verified, row.length, list(row.received), row.why]


def without_rows(job: Job) -> dict[str, Any]:
    """A job as JSON's types, but for its rows, which may be a hundred thousand."""
    return {
        "number": job.number,
        "spec": asdict(job.spec),
        "created_at": job.created_at,
        "state": job.state.value,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "error": job.error,
        "blobs": [asdict(blob) for blob in job.blobs.values()],
        "hosts": [{"peer": host.peer, "name": host.name, "ip": host.ip} for host in job.hosts.values()],
    }


def from_document(told: dict[str, Any]) -> Job:
    """The job that `without_rows` told, its `rows` by `as_row`. Raises KeyError, TypeError, ValueError for what is none."""
    spec = dict(told["spec"])
    spec["platforms"] = tuple(spec.get("platforms", ()))
    job = Job(
        number=int(told["number"]),
        spec=JobSpec(**spec),
        created_at=float(told["created_at"]),
        state=JobState(told["state"]),
        started_at=float(told["started_at"]),
        finished_at=float(told["finished_at"]),
        error=str(told["error"]),
        blobs={each["task"]: Blob(**each) for each in told["blobs"]},
        hosts={each["peer"]: Host(**each) for each in told["hosts"]},
    )
    for host, task, state, verified, length, received, why in told["rows"]:
        if task not in job.blobs or (host != SEED_HOST and host not in job.hosts):
            raise ValueError(f"job {job.number}: a row of nothing")
        row = Row(state=RowState(state), verified=verified, length=length, received=tuple(received), why=why)
        job.add_row(host, task, row)
    return job
