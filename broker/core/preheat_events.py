"""What happens to preheat jobs, and what is to be done about it. The scheduler's news come as its own effects."""

from dataclasses import dataclass

from broker.core.effects import PeerMoved, PeerWarmed, TaskMoved
from broker.core.preheat_records import Blob, Host, JobSpec
from wire.errors import ErrorCode


@dataclass(frozen=True, slots=True, kw_only=True)
class JobAsked:
    """Somebody wants a job."""

    spec: JobSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """What a job is made of, and the hosts that it is for, as they are now. `absent`: names that nobody here has."""

    job: int
    blobs: tuple[Blob, ...]
    hosts: tuple[Host, ...] = ()
    absent: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolveFailed:
    """What a job is made of cannot be found out."""

    job: int
    why: str
    code: ErrorCode | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WantFailed:
    """The request for a task's source cannot be made: no token is given, or its host is not allowed."""

    task: str
    code: ErrorCode
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStopped:
    """An operator stops a job."""

    job: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JobDeleted:
    """An operator wants a job forgotten; one that runs is stopped first."""

    job: int


@dataclass(frozen=True, slots=True)
class PreheatTick:
    """Time has passed."""


PreheatEvent = (
    JobAsked | Resolved | ResolveFailed | WantFailed | JobStopped | JobDeleted | TaskMoved | PeerWarmed | PeerMoved | PreheatTick
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolve:
    """Find out what the job is made of; answered by Resolved or ResolveFailed."""

    job: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Want:
    """The seed is to have this task, by this job's request, from its blob's place number `place`."""

    job: int
    task: str
    place: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """No job wants the task any more."""

    task: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AskWarm:
    """Tell a peer, or the seed, to have the task and to prove it; or to stop that."""

    peer: str
    task: str
    job: int
    keep_s: float
    cancel: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Save:
    """The job has changed. `now`: its state has, which must not be lost."""

    job: int
    at_once: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Erase:
    """The job is forgotten."""

    job: int


PreheatEffect = Resolve | Want | Release | AskWarm | Save | Erase
