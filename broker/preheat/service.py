"""Preheating as a whole: the pure jobs, their driver, and what stands around them.

Driver, on the broker's loop. Requests become jobs; effects become questions to registries, events of the scheduler and
rows on disk; the scheduler's news become the jobs' events, after the scheduler is done with what it was doing. Secrets
(headers, tokens, whole URLs) are here, by job, for as long as the job runs.
"""

import asyncio
import dataclasses
import hashlib
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, assert_never

from broker.core.effects import PeerMoved, PeerWarmed, TaskMoved
from broker.core.events import TaskReleased, TaskWanted, WarmWanted
from broker.core.manifests import ACCEPT, Platform
from broker.core.preheat_events import (
    AskWarm,
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
from broker.core.preheat_records import Job, JobSpec
from broker.core.preheating import Preheating, PreheatSettings
from broker.hosts import hosts_in_scope
from broker.preheat.config import PreheatConfig
from broker.preheat.history import History
from broker.preheat.registry_client import Access, RegistryClient
from broker.preheat.resolver import Found, find_file, find_image
from broker.router import Router
from wire.errors import ErrorCode
from wire.ids import is_seed_id, url_without_secrets
from wire.messages import Register, TaskState, Warm
from worker_peer.host.background import Background
from worker_peer.host.clock import Clock
from worker_peer.host.source_rules import HeaderPairs, SourceError, basic_of, target_of

_log = logging.getLogger("preheat")

#: A job that changes all the time is written this often, less often the more rows it has, seconds.
_SAVE_S: Final = 1.0
_ROWS_PER_S: Final = 5000
_RESOLVE_S: Final = 120.0
_MAX_WAITING: Final = 1000
_MAX_ROWS: Final = 500_000


class TooMany(Exception):
    """More jobs wait than are taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreheatRequest:
    """What somebody asks for. `headers`, `url` and `certificates` stay in memory."""

    #: `image` or `file`.
    kind: str
    url: str = field(repr=False)
    headers: HeaderPairs = field(default=(), repr=False)
    filter: str = ""
    identifier: str = ""
    platforms: tuple[Platform, ...] = ()
    #: `seed`, `all`, or hosts with commas between.
    scope: str = "seed"
    #: None: as the operator says.
    keep_s: float | None = None
    timeout_s: float = 0.0
    insecure: bool = False
    certificates: tuple[bytes, ...] = ()
    asked_by: str = ""

    @property
    def filters(self) -> tuple[str, ...]:
        """Query keys that do not count; 1.x separates them by `&`, its API by commas too."""
        return tuple(filter(None, self.filter.replace(",", "&").split("&")))

    def with_headers(self, headers: HeaderPairs) -> "PreheatRequest":
        """The same with other headers."""
        return dataclasses.replace(self, headers=headers)

    def key(self) -> str:
        """Jobs of the same key want the same: 64 hexadecimal digits. No header enters, as in 1.x."""
        platforms = ",".join(sorted(map(str, self.platforms)))
        parts = [self.kind, self.url, "&".join(self.filters), self.identifier, platforms, self.scope]
        sealed = "".join(f"{len(part)}:{part}," for part in ["damselfly-preheat-1", *parts])
        return hashlib.sha256(sealed.encode()).hexdigest()


@dataclass(slots=True)
class _Secrets:
    """What a running job needs and nobody may see."""

    request: PreheatRequest
    access: Access
    places: dict[str, tuple[str, ...]] = field(default_factory=dict)


class Preheat:
    """All of it."""

    def __init__(
        self,
        *,
        router: Router,
        client: RegistryClient,
        history: History,
        background: Background,
        clock: Clock,
        config: PreheatConfig,
    ) -> None:
        """Jobs of before a restart go on at once; call on a running loop."""
        self.config = config
        self._router = router
        self._client = client
        self._history = history
        self._background = background
        self._clock = clock
        self._secrets: dict[int, _Secrets] = {}
        self._news: deque[TaskMoved | PeerWarmed | PeerMoved] = deque()
        self._is_reading_news = False
        self._timer: asyncio.TimerHandle | None = None
        self._saved_at: dict[int, float] = {}
        self._unsaved: set[int] = set()
        self._watchers: set[Callable[[], None]] = set()
        jobs, last = history.load()
        self.core = Preheating(
            settings=PreheatSettings(tasks_at_once=config.tasks_at_once, kept_jobs=config.kept_jobs, kept_s=config.kept_s),
            first_number=last + 1,
            wall_minus_now=clock.wall() - clock.now(),
        )
        router.on_news = self._on_news
        for job in jobs:
            if not job.state.is_final:
                self._secrets[job.number] = self._without_secrets(job)
        self._do(self.core.restore(jobs, clock.now()))
        self._arm()

    # -- what others ask -------------------------------------------------------------------------------------------------

    def ask(self, request: PreheatRequest) -> Job:
        """The job that this request is: the one that runs already for the same, else a new one. Raises TooMany."""
        key = request.key()
        known = self.core.newest(key)
        if known is not None and not known.state.is_final:
            if request.headers and known.number in self._secrets:
                # The newer token lives longer.
                self._secrets[known.number].access = self._access_of(request)
            return known
        if self.core.unfinished >= _MAX_WAITING:
            raise TooMany(f"{_MAX_WAITING} jobs wait already: try again later, or stop some (supernode preheat ls)")
        secret_url = url_without_secrets(request.url) != request.url
        spec = JobSpec(
            key=key,
            kind=request.kind,
            url=url_without_secrets(request.url),
            platforms=tuple(map(str, request.platforms or (self.config.platforms if request.kind == "image" else ()))),
            scope=request.scope,
            keep_s=self.config.keep_s if request.keep_s is None else request.keep_s,
            timeout_s=request.timeout_s,
            # A filter or an identifier may be a secret part of a URL: they are names, and short.
            filter=request.filter[:1024],
            identifier=request.identifier[:1024],
            had_secrets=bool(request.headers) or secret_url,
            asked_by=request.asked_by,
        )
        number = self.core.next_number
        self._secrets[number] = _Secrets(request, self._access_of(request))
        self.handle(JobAsked(spec=spec))
        return self.core.jobs[number]

    def handle(self, event: PreheatEvent) -> None:
        """Give the jobs an event and carry out what they decide."""
        self._do(self.core.handle(event, self._clock.now()))
        self._arm()
        for watcher in list(self._watchers):
            watcher()

    def stop(self, job: int) -> None:
        """An operator stops it."""
        self.handle(JobStopped(job=job))

    def delete(self, job: int) -> None:
        """An operator wants it forgotten."""
        self.handle(JobDeleted(job=job))

    async def ended(self, job: Job, timeout_s: float) -> bool:
        """Wait until a job has ended, for so long at most. Returns whether it has."""
        moved = asyncio.Event()
        self._watchers.add(moved.set)
        try:
            async with asyncio.timeout(timeout_s):
                while not job.state.is_final:
                    moved.clear()
                    await moved.wait()
        except TimeoutError:
            pass
        finally:
            self._watchers.discard(moved.set)
        return job.state.is_final

    async def on_disk(self) -> None:
        """Wait until every job is on disk as it is now."""
        loop = asyncio.get_running_loop()
        written = loop.create_future()

        def tell() -> None:
            loop.call_soon_threadsafe(lambda: None if written.done() else written.set_result(None))

        self._history.when_written(tell)
        await written

    async def close(self) -> None:
        """Write what is not written. What runs goes on after the next start."""
        if self._timer is not None:
            self._timer.cancel()
        self._router.on_news = lambda news: None
        for number in self._unsaved:
            self._save(number)
        await self._client.close()
        await asyncio.to_thread(self._history.close)

    # -- effects --------------------------------------------------------------------------------------------------------

    def _do(self, effects: list[PreheatEffect]) -> None:
        for effect in effects:
            match effect:
                case Resolve():
                    self._background.spawn(self._resolve(effect.job), f"resolve job {effect.job}")
                case Want():
                    self._background.spawn(self._want(effect), f"want {effect.task[:16]}")
                case Release():
                    self._router.handle(TaskReleased(task=effect.task))
                case AskWarm():
                    self._warm(effect)
                case Save():
                    self._note_save(effect)
                case Erase():
                    self._secrets.pop(effect.job, None)
                    self._unsaved.discard(effect.job)
                    self._saved_at.pop(effect.job, None)
                    self._history.erase(effect.job)
                case _:
                    assert_never(effect)

    def _note_save(self, effect: Save) -> None:
        job = self.core.jobs.get(effect.job)
        if job is None:
            return
        if effect.at_once:
            self._save(effect.job)
            _log.info("job %d (%s) is %s%s", job.number, job.spec.url, job.state.value, f": {job.error}" if job.error else "")
        else:
            self._unsaved.add(effect.job)
        if job.state.is_final:
            self._secrets.pop(effect.job, None)

    def _save(self, number: int) -> None:
        job = self.core.jobs.get(number)
        if job is not None:
            self._history.save(job)
            self._saved_at[number] = self._clock.now()

    def _save_what_is_due(self, now: float) -> None:
        for number in list(self._unsaved):
            job = self.core.jobs.get(number)
            pause_s = max(_SAVE_S, len(job.rows) / _ROWS_PER_S) if job is not None else 0.0
            if now - self._saved_at.get(number, 0.0) >= pause_s:
                self._unsaved.discard(number)
                self._save(number)

    def _arm(self) -> None:
        now = self._clock.now()
        if self._timer is None:
            delay = self.core.next_deadline(now) - now
            self._timer = asyncio.get_running_loop().call_later(delay, self._tick)
        elif self._timer.when() - asyncio.get_running_loop().time() > self.core.next_deadline(now) - now:
            self._timer.cancel()
            self._timer = None
            self._arm()

    def _tick(self) -> None:
        self._timer = None
        self._save_what_is_due(self._clock.now())
        self.handle(PreheatTick())

    # -- registries ------------------------------------------------------------------------------------------------------

    async def _resolve(self, number: int) -> None:
        job = self.core.jobs.get(number)
        secrets = self._secrets.get(number)
        if job is None or secrets is None:
            return
        try:
            async with asyncio.timeout(_RESOLVE_S):
                found = await self._find(job, secrets)
        except SourceError as error:
            self.handle(ResolveFailed(job=number, why=str(error), code=error.code))
            return
        except TimeoutError:
            self.handle(ResolveFailed(job=number, why=f"its registry did not tell what is in it within {_RESOLVE_S:g} s"))
            return
        except Exception:
            self.handle(
                ResolveFailed(job=number, why="an error of the supernode's own: look into its log", code=ErrorCode.INTERNAL)
            )
            raise
        secrets.places = {each.blob.task: each.places for each in found}
        hosts, absent = hosts_in_scope(self._router.scheduler.state, job.spec.scope)
        if len(found) * (1 + len(hosts)) > _MAX_ROWS:
            why = f"{len(found)} blobs on {len(hosts)} hosts are more than {_MAX_ROWS} rows: name fewer hosts"
            self.handle(ResolveFailed(job=number, why=why))
            return
        self.handle(Resolved(job=number, blobs=tuple(each.blob for each in found), hosts=hosts, absent=absent))

    async def _find(self, job: Job, secrets: _Secrets) -> tuple[Found, ...]:
        request = secrets.request
        if request.kind == "file":
            return find_file(request.url, filters=request.filters, identifier=request.identifier or None)
        platforms = request.platforms or self.config.platforms
        return await find_image(self._client, request.url, platforms, secrets.access)

    async def _want(self, want: Want) -> None:
        """A task's request to the scheduler. Whatever goes wrong is told: nobody else would ask for this task again."""
        try:
            await self._request(want)
        except SourceError as error:
            self.handle(WantFailed(task=want.task, code=error.code, why=str(error)))
        except Exception:
            why = "an error of the supernode's own: look into its log"
            self.handle(WantFailed(task=want.task, code=ErrorCode.INTERNAL, why=why))
            raise

    async def _request(self, want: Want) -> None:
        """With credentials that are valid now. Raises SourceError."""
        job, secrets = self.core.jobs.get(want.job), self._secrets.get(want.job)
        if job is None or secrets is None or want.task not in job.blobs:
            # It ended before this began; others may share the task.
            raise SourceError(ErrorCode.SOURCE_UNREACHABLE, "the job whose credentials were to be used has ended")
        blob = job.blobs[want.task]
        # After a restart only the shown URL is known; a registry's URL has nothing else.
        url = secrets.places.get(want.task, (blob.url,))[want.place :][:1]
        if not url or url[0].endswith("?..."):
            raise SourceError(ErrorCode.SOURCE_NEEDS_AUTH, "its URL had a query, which is not stored")
        await self._client.check(url[0])
        headers = await self._headers(url[0], blob.media_type, secrets, is_first=want.place == 0)
        if not self.core.wants(want.task):
            return
        request, access = secrets.request, secrets.access
        is_file = request.kind == "file"
        self._router.handle(
            TaskWanted(
                spec=Register(
                    task=want.task,
                    url=url[0],
                    headers=headers,
                    filters=request.filters if is_file else (),
                    digest=blob.digest,
                    identifier=(request.identifier or None) if is_file else None,
                    insecure=access.insecure,
                    certificates=access.certificates,
                    caller="preheat",
                ),
                allow=self.config.allowed.entries,
            )
        )

    async def _headers(self, url: str, media_type: str, secrets: _Secrets, *, is_first: bool) -> HeaderPairs:
        """What the seed may send to this place. A place that the manifest names besides is another host's: nothing secret."""
        if not is_first:
            return ()
        await self._client.refresh(url, secrets.access)
        headers = secrets.access.request_headers()
        if "/manifests/" in url and secrets.request.kind == "image":
            headers = (*(pair for pair in headers if pair[0].lower() != "accept"), ("Accept", media_type or ACCEPT))
        return headers

    def _warm(self, effect: AskWarm) -> None:
        job = self.core.jobs.get(effect.job)
        if job is None or effect.task not in job.blobs:
            return
        blob = job.blobs[effect.task]
        message = Warm(
            task=effect.task,
            job=str(effect.job),
            # Hosts get the content from the seed, which has the credentials: they need none, and get none.
            url=blob.url.removesuffix("?..."),
            digest=blob.digest,
            keep_s=effect.keep_s,
            rate=self.config.rate,
            cancel=effect.cancel,
            allow=self.config.allowed.entries if is_seed_id(effect.peer) else (),
        )
        self._router.handle(WarmWanted(peer=effect.peer, message=message))

    def _access_of(self, request: PreheatRequest) -> Access:
        """The caller's, and what the operator has set for this registry."""
        access = Access(headers=request.headers, insecure=request.insecure, certificates=request.certificates)
        try:
            _, host, port = target_of(request.url).origin
        except SourceError:
            return access
        for each in self.config.registries:
            if not each.covers(host, port):
                continue
            access.insecure = access.insecure or each.insecure
            access.certificates = access.certificates or each.certificates
            if each.credentials and access.basic is None:
                access.basic = basic_of(each.credentials)
        return access

    def _without_secrets(self, job: Job) -> _Secrets:
        """A job of before a restart: what is stored of its request."""
        spec = job.spec
        request = PreheatRequest(
            kind=spec.kind,
            url=spec.url,
            filter=spec.filter,
            identifier=spec.identifier,
            platforms=tuple(
                Platform(os=each[0], architecture=each[1], variant="/".join(each[2:])) for each in _split(spec.platforms)
            ),
            scope=spec.scope,
        )
        return _Secrets(request, self._access_of(request))

    # -- the scheduler's news --------------------------------------------------------------------------------------------

    def _on_news(self, news: TaskMoved | PeerWarmed | PeerMoved) -> None:
        """Read after the scheduler's effects are all carried out: what follows from it may be an event of its own."""
        self._news.append(news)
        if not self._is_reading_news:
            self._is_reading_news = True
            asyncio.get_running_loop().call_soon(self._read_news)

    def _read_news(self) -> None:
        self._is_reading_news = False
        while self._news:
            news = self._news.popleft()
            if isinstance(news, TaskMoved) and news.state is TaskState.DEAD and news.code is ErrorCode.SOURCE_NEEDS_AUTH:
                self._distrust_tokens(news.task)
            self.handle(news)

    def _distrust_tokens(self, task: str) -> None:
        """A token that the source does not take is not used again."""
        for number, secrets in self._secrets.items():
            if task in self.core.jobs[number].blobs:
                secrets.access.token_ends_at = 0.0


def _split(platforms: tuple[str, ...]) -> list[list[str]]:
    return [each.split("/") for each in platforms]
