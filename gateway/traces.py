"""Keeps what became of the last requests: in memory, and in a file, so that a restart does not forget it.

Driver of core/trace.py. `Watch` goes with one request; `Traces` takes it when the request is over.
"""

import asyncio
import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from gateway.core.headers import Headers, first
from gateway.core.manifest import MAX_BYTES, members_of
from gateway.core.subject import Kind, Subject, subject_of
from gateway.core.trace import OF_CAUSE, UNDER_WAY, Account, Trace, Wait, from_line, given_of
from gateway.core.traceparent import trace_id
from worker_peer.api import Cause, Giver, Waits
from worker_peer.host.background import Background
from worker_peer.host.clock import Clock, SystemClock

#: Requests for images, and others, that are remembered. A pull is some ten of the first.
KEPT: Final = 1000
_OTHERS_KEPT: Final = 200
#: The file is begun anew at this size, and the one before it is kept.
FILE_BYTES: Final = 2 << 20
_MAX_PENDING: Final = 4096
#: Of requests that are under way so many are told.
_RUNNING_TOLD: Final = 500
#: What a process that is killed may lose.
_GATHER_S: Final = 0.25
_CLIENT_CHARACTERS: Final = 64

_LOG = logging.getLogger("dfdaemon")


def traces_file(home: Path) -> Path:
    """Where in a workHome what became of the last requests outlives the process."""
    return home / "meta" / "traces.jsonl"


class Watch:
    """One request under way: what it waits for, and what is learnt about it."""

    def __init__(self, headers: Headers = (), *, method: str = "", clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self.id = trace_id(headers, os.urandom(16).hex())
        self.account = Account(self._clock.now())
        self.began_at = self._clock.now()
        self.method = method
        # The first word is the program's; what follows may be anything.
        self.client = (first(headers, "User-Agent") or "").partition(" ")[0][:_CLIENT_CHARACTERS]
        self.way = self.rule = self.fallback = ""
        self._url = ""
        self._subject: Subject | None = Subject()
        self.swarm: dict[Giver, int] = {}
        self.own_bytes = 0
        self.is_own = False
        """One of this gateway's pages: nobody asks for its trace."""
        self.coming: Callable[[], Mapping[Giver, int]] | None = None
        """What has come out of the swarm beside `swarm`, while it comes."""
        self._manifest: bytearray | None = None
        self._encoding = self._digest = ""

    # -- time -----------------------------------------------------------------------------------------------------------

    def turn(self, wait: Wait) -> Wait:
        """That is waited for from now on. Returns what was."""
        return self.account.turn(wait, self._clock.now())

    @contextmanager
    def on(self, wait: Wait) -> Iterator[None]:
        """Inside, that is waited for."""
        before = self.turn(wait)
        try:
            yield
        finally:
            self.turn(before)

    def attach(self, waits: Waits) -> Waits:
        """From now on what the peer waits for is what this request waits for."""
        waits.on_turn = self._turned
        self._turned(waits.cause, self._clock.now())
        return waits

    def _turned(self, cause: Cause | None, now: float) -> None:
        self.account.turn(OF_CAUSE[cause], now)

    # -- what it is about -----------------------------------------------------------------------------------------------

    def judged(self, url: str, *, way: str = "", rule: str = "") -> None:
        """Where the request goes."""
        self._url, self._subject, self.way, self.rule = url, None, way, rule

    @property
    def subject(self) -> Subject:
        """What it is about, as far as it is known."""
        if self._subject is None:
            self._subject = subject_of(self._url)
        return self._subject

    def gave(self, swarm: Mapping[Giver, int]) -> None:
        """Bytes of the body that came out of the swarm."""
        for giver, size in swarm.items():
            self.swarm[giver] = self.swarm.get(giver, 0) + size

    def settle(self) -> None:
        """What has come beside is all that comes so."""
        if self.coming is not None:
            self.gave(self.coming())
            self.coming = None

    def answered(self, status: int, headers: Headers) -> None:
        """The answer's head goes out."""
        if self.subject.kind is Kind.MANIFEST and status == 200:
            self._digest = first(headers, "Docker-Content-Digest") or ""
            self._encoding = first(headers, "Content-Encoding") or ""
            self._manifest = bytearray()

    def wrote(self, chunk: bytes | memoryview) -> None:
        """A part of the body has gone out."""
        if self._manifest is not None:
            # One byte more than is looked into tells that it is too long.
            self._manifest += chunk[: MAX_BYTES + 1 - len(self._manifest)]

    def ended(self, *, status: int, end: str, sent: int) -> Trace:
        """What became of it."""
        self.account.end(self._clock.now())
        return self._told(status, end, sent)

    def so_far(self, *, status: int, sent: int) -> Trace:
        """What has become of it until now."""
        self.account.look(self._clock.now())
        coming, before = self.coming, dict(self.swarm)
        if coming is not None:
            self.gave(coming())
        told = self._told(status, UNDER_WAY, sent)
        self.swarm = before
        return told

    def _told(self, status: int, end: str, sent: int) -> Trace:
        members: tuple[str, ...] = ()
        subject = self.subject
        if self._manifest is not None and end == "complete" and len(self._manifest) <= MAX_BYTES:
            members = members_of(bytes(self._manifest), self._encoding)
        if subject.kind is Kind.MANIFEST and not subject.digest and self._digest.startswith("sha256:"):
            subject = Subject(
                kind=subject.kind, url=subject.url, registry=subject.registry, repository=subject.repository,
                reference=subject.reference, digest=self._digest[:71],
            )  # fmt: skip
        swarm = sum(self.swarm.values())
        # Of a client that goes away not all that was written was sent.
        own = min(self.own_bytes, max(0, sent - swarm))
        return Trace(
            id=self.id,
            # Not the wall clock of its beginning: that may have been set since, and traces are compared with each other.
            began=self._clock.wall() - (self._clock.now() - self.began_at),
            whole_us=self.account.whole_us,
            waits=dict(self.account.waits),
            bin_us=self.account.bin_us,
            bins=tuple(dict(each) for each in self.account.bins),
            given=given_of(self.swarm, registry=max(0, sent - swarm - own), own=own),
            subject=subject,
            method=self.method,
            status=status,
            end=end,
            way=self.way,
            rule=self.rule,
            fallback=self.fallback,
            client=self.client,
            members=members,
        )


class Traces:
    """The last requests that are over."""

    def __init__(self, background: Background, file: Path | None = None) -> None:
        """`file`: where they outlive this process; `load` reads it."""
        self._background = background
        self._file = file
        # As lines: a quarter of the memory, and the file wants them so.
        self._of_images: deque[str] = deque(maxlen=KEPT)
        self._others: deque[str] = deque(maxlen=_OTHERS_KEPT)
        #: Requests under way, and how far their answers are: status and bytes.
        self._running: dict[Watch, Callable[[], tuple[int, int]]] = {}
        self._pending: deque[str] = deque(maxlen=_MAX_PENDING)
        self._writing = False
        self._is_broken = False

    def begin(self, watch: Watch, answer: Callable[[], tuple[int, int]]) -> None:
        """A request begins. `answer` tells its answer's status and bytes so far."""
        self._running[watch] = answer

    def end(self, watch: Watch) -> None:
        """It is over; what became of it is `add`ed, or nobody's business."""
        self._running.pop(watch, None)

    def add(self, trace: Trace) -> None:
        """One more."""
        line = trace.to_line()
        self._keep(trace, line)
        if self._file is not None:
            self._pending.append(line)
            # Requests that end because this process does are written by `close`.
            if not self._writing and not self._background.is_closed:
                self._writing = True
                self._background.spawn(self._write_all(), "traces")

    def _keep(self, trace: Trace, line: str) -> None:
        (self._others if trace.subject.kind is Kind.OTHER else self._of_images).append(line)

    async def all(self) -> list[Trace]:
        """In the order of their ends; those under way end now."""
        running = []
        for watch, answer in list(self._running.items())[:_RUNNING_TOLD]:
            if not watch.is_own:
                status, sent = answer()
                running.append(watch.so_far(status=status, sent=sent))
        return [*await asyncio.to_thread(_parsed, [*self._of_images, *self._others]), *running]

    async def load(self) -> None:
        """Take over what an earlier run has left. What cannot be read is left out."""
        if self._file is not None:
            for trace, line in await asyncio.to_thread(_with_lines, self._file):
                self._keep(trace, line)

    async def close(self) -> None:
        """Write what has not been written."""
        await self._write()

    async def _write_all(self) -> None:
        try:
            while self._pending:
                # One write for all that end in a moment: a thread for each request would cost more than the request.
                await asyncio.sleep(_GATHER_S)
                await self._write()
        finally:
            self._writing = False

    async def _write(self) -> None:
        lines = "".join(f"{line}\n" for line in self._pending)
        self._pending.clear()
        if not lines or self._file is None:
            return
        try:
            await asyncio.to_thread(_append, self._file, lines)
            self._is_broken = False
        except OSError as error:
            if not self._is_broken:
                _LOG.warning("%s cannot be written (%s): `dfdaemon why` will not know it after a restart", self._file, error)
            self._is_broken = True


def _parsed(lines: Iterable[str]) -> list[Trace]:
    """Blocking, for many lines. Those that are no traces are left out."""
    found = []
    for line in lines:
        try:
            found.append(from_line(line))
        except ValueError:
            continue
    return sorted(found, key=lambda each: each.began + each.whole_us / 1e6)


def _older(file: Path) -> Path:
    return file.with_name(f"{file.name}.1")


def read_file(file: Path) -> list[Trace]:
    """What `Traces` has written, in the order of their ends. Blocking; what cannot be read is left out."""
    lines: list[str] = []
    for path in (_older(file), file):
        try:
            with path.open("rb") as opened:
                # A file of somebody else's making is not read for ever.
                lines += opened.read(2 * FILE_BYTES).decode("utf-8", "replace").splitlines()
        except OSError:
            continue
    return _parsed(lines[-(KEPT + _OTHERS_KEPT) * 2 :])


def _with_lines(file: Path) -> list[tuple[Trace, str]]:
    return [(trace, trace.to_line()) for trace in read_file(file)]


def _append(file: Path, lines: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    # Which images a host pulls is its own affair.
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "ab") as opened:
        opened.write(lines.encode())
        size = opened.tell()
    if size > FILE_BYTES:
        file.replace(_older(file))
