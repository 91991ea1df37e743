"""A world of peers and seeds around one scheduler: what they are told and do, with messages that get lost. No clock.

Honest peers fetch what they are leased from who has it, and report it; a liar says anything. Used by the property test
of the whole scheduler. Every effect is looked at on its way: what may never be decided is asserted here.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from broker.core.effects import Effect, Forget, Tell
from broker.core.events import Event, PeerGone, TaskDropped, Tick
from broker.core.scheduler import Scheduler
from tests.support.broker_words import CONTENT_DIGEST, PIECE, block_digests, greeted, register, said, seed_greeted, seeded
from wire.errors import ErrorCode
from wire.messages import (
    Alive,
    Drop,
    Fetch,
    Lease,
    Leave,
    LeaveReason,
    Message,
    PieceFailure,
    Report,
    SeedFailed,
    Task,
    TaskState,
)

#: How long a child waits for a parent that does not have the piece itself, and between two looks at everybody.
WAIT_S, STEP_S = 1.0, 0.1


@dataclass(slots=True)
class Promise:
    """A piece on its way to a peer; with lease 0 it came with the task, and is yet to be reported."""

    task: str
    lease: int
    parent: str
    piece: int
    since: float


@dataclass(slots=True)
class Host:
    """A living peer."""

    name: str
    upload_rate: int = 0
    location: str = ""
    have: dict[str, set[int]] = field(default_factory=dict)
    wanted: set[str] = field(default_factory=set)
    promised: list[Promise] = field(default_factory=list)


@dataclass(slots=True)
class SeedHost:
    """A living seed: how many pieces of each task that it was asked for it has read."""

    name: str
    read: dict[str, int] = field(default_factory=dict)


class World:
    """`pieces`: each task's number of pieces. `loses(peer)`: whether the message on its way to a peer is lost."""

    def __init__(self, scheduler: Scheduler, pieces: dict[str, int], loses: Callable[[str], bool] = lambda _: False) -> None:
        self.scheduler = scheduler
        self.pieces = pieces
        self.loses = loses
        self.now = 0.0
        self.hosts: dict[str, Host] = {}
        self.seeds: dict[str, SeedHost] = {}
        self.liars: set[str] = set()
        self._alive_at = 0.0

    # -- what happens ---------------------------------------------------------------------------------------------------

    def happens(self, event: Event) -> list[Effect]:
        """Give the scheduler an event, and everybody what it decides."""
        effects = self.scheduler.handle(event, self.now)
        for effect in effects:
            self._carry_out(effect)
        return effects

    def says(self, peer: str, message: Message) -> None:
        """A peer says something, whether the supernode knows it or not."""
        self.happens(said(peer, message))

    def greets(self, host: Host) -> None:
        """A peer says HELLO, and registers what it wants."""
        self.hosts[host.name] = host
        host.promised.clear()
        self.happens(greeted(host.name, upload_rate=host.upload_rate, location=host.location))
        for task in sorted(host.wanted):
            self.registers(host, task)

    def registers(self, host: Host, task: str, *, serves_only: bool = False) -> None:
        """A peer wants a task."""
        have = frozenset(host.have.setdefault(task, set()))
        if not serves_only:
            host.wanted.add(task)
        self.says(host.name, register(task, have=have, pieces=self.pieces[task], serves_only=serves_only))

    def leaves(self, host: Host, task: str) -> None:
        """A peer has no more to do with a task."""
        self._gives_up(host, task)
        host.have.pop(task, None)
        self.says(host.name, Leave(task=task, reason=LeaveReason.CANCELLED))

    def dies(self, host: Host, *, noticed: bool) -> None:
        """A peer's process ends."""
        del self.hosts[host.name]
        if noticed:
            self.happens(PeerGone(peer=host.name))

    def seed_greets(self, name: str) -> None:
        """A seed says HELLO, with nothing read: FETCHes follow."""
        self.seeds[name] = SeedHost(name)
        self.happens(seed_greeted(name))

    def seed_dies(self, name: str) -> None:
        """A seed's process ends, and that is seen."""
        del self.seeds[name]
        self.happens(PeerGone(peer=name))

    def seed_reads(self, seed: SeedHost, task: str, count: int) -> None:
        """A seed has read so many pieces more, and says so; with the last one it tells the digest, if all come at once the
        content too."""
        first, size = seed.read[task], self.pieces[task]
        seed.read[task] = last = min(size, first + count)
        digest = CONTENT_DIGEST if last == size else None
        content = bytes(size * PIECE) if (first, last) == (0, size) else b""
        self.says(seed.name, seeded(*range(first, last), of=size, task=task, digest=digest, content=content))

    def seed_fails(self, seed: SeedHost, task: str) -> None:
        """A task cannot be had from its source."""
        seed.read.pop(task, None)
        self.says(seed.name, SeedFailed(task=task, code=ErrorCode.SOURCE_NOT_FOUND, status=404, message="no such file"))

    def seed_evicts(self, seed: SeedHost, task: str) -> None:
        """A seed gives a content up for want of room. What it was asked for meanwhile it reads from the beginning."""
        seed.read.pop(task, None)
        self.says(seed.name, Leave(task=task, reason=LeaveReason.EVICTED))

    def is_dropped(self, task: str) -> None:
        """An operator drops a task."""
        self.happens(TaskDropped(task=task))

    def time_passes(self, seconds: float) -> None:
        """The timer fires as often as it is due; who lives says ALIVE every second."""
        until = self.now + seconds
        while self.now < until:
            self.now += min(STEP_S, until - self.now)
            if self.now - self._alive_at >= 1.0:
                self._alive_at = self.now
                self._everybody_is_alive()
            due = self.scheduler.next_deadline()
            if due is not None and due <= self.now:
                self.happens(Tick())

    def _everybody_is_alive(self) -> None:
        for host in list(self.hosts.values()):
            self.says(host.name, Alive(leases=tuple({promise.lease for promise in host.promised})))
        for seed in [*self.seeds, *self.liars]:
            self.says(seed, Alive())

    # -- work -----------------------------------------------------------------------------------------------------------

    def works(self, host: Host, failure: PieceFailure | None = None) -> bool:
        """A peer's first promise is kept, or fails. Returns whether anything came of it."""
        for promise in list(host.promised):
            parent_has = self._has(promise.parent, promise.task, promise.piece)
            if promise.lease and failure is None and not parent_has and self.now - promise.since < WAIT_S:
                continue
            host.promised.remove(promise)
            if promise.lease == 0:
                host.have.setdefault(promise.task, set()).add(promise.piece)
                self.says(host.name, Report(task=promise.task, done=((0, promise.piece, 0.0),)))
            elif failure is None and parent_has:
                host.have.setdefault(promise.task, set()).add(promise.piece)
                self.says(host.name, Report(task=promise.task, done=((promise.lease, promise.piece, 1e6),)))
            else:
                why = PieceFailure.REFUSED if failure is None else failure
                self.says(host.name, Report(task=promise.task, failed=((promise.lease, promise.piece, why),)))
            return True
        return False

    def _has(self, parent: str, task: str, piece: int) -> bool:
        if parent in self.seeds:
            return piece < self.seeds[parent].read.get(task, 0)
        return parent in self.hosts and piece in self.hosts[parent].have.get(task, ())

    def goes_on_to_the_end(self, limit_s: float) -> None:
        """Nothing bad happens any more, a seed is here: everybody who wants something gets it, within so many seconds."""
        self.loses = lambda _: False
        if not self.seeds:
            self.seed_greets("cdnnode:last")
        self.time_passes(1.5)  # those that the supernode does not know are told so, and a dead task may be tried again
        for host in list(self.hosts.values()):
            self.greets(host)
        until = self.now + limit_s
        while self.unfinished():
            assert self.now < until, f"still waiting after {limit_s:g} s: {self.unfinished()}"
            for seed in self.seeds.values():
                for task in list(seed.read):
                    self.seed_reads(seed, task, 2)
            for host in list(self.hosts.values()):
                while self.works(host):
                    pass
            self.time_passes(STEP_S)

    def unfinished(self) -> list[str]:
        """Who still waits for what."""
        return [
            f"{host.name} has {sorted(host.have[task])} of {self.pieces[task]} of {task[:4]}"
            for host in self.hosts.values()
            for task in sorted(host.wanted)
            if len(host.have[task]) < self.pieces[task]
        ]

    # -- what is decided ------------------------------------------------------------------------------------------------

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Tell():
                self._check(effect)
                if not self.loses(effect.peer):
                    self._hears(effect.peer, effect.message)
            case Forget():
                assert effect.peer not in self.scheduler.state.peers

    def _check(self, effect: Tell) -> None:
        """What may never be said."""
        message, state = effect.message, self.scheduler.state
        if isinstance(message, Lease):
            task = state.tasks[message.task]
            assert task.state in (TaskState.CACHING, TaskState.CACHED), f"a lease of a task that is {task.state.name}"
            assert message.parent != effect.peer
            assert len(set(message.pieces)) == len(message.pieces) > 0
            assert max(message.pieces) < self.pieces[message.task]
            assert message.digests == block_digests(*message.pieces)
        elif isinstance(message, Task) and message.content:
            assert message.state is TaskState.CACHED
            assert len(message.content) == message.length
            assert not state.tasks[message.task].matcher.outstanding(effect.peer), "given, and leased besides"  # type: ignore[union-attr]
        elif isinstance(message, Fetch):
            assert state.tasks[message.task].seed == effect.peer

    def _hears(self, peer: str, message: Message) -> None:
        host, seed = self.hosts.get(peer), self.seeds.get(peer)
        match message:
            case Lease() if host is not None:
                for piece in message.pieces:
                    host.promised.append(Promise(message.task, message.lease, message.parent, piece, self.now))
            case Task() if host is not None and message.state is TaskState.DEAD:
                self._gives_up(host, message.task)
            case Task() if host is not None and message.content:
                given = [Promise(message.task, 0, "", piece, self.now) for piece in range(self.pieces[message.task])]
                host.promised += given
            case Drop() if host is not None:
                self._gives_up(host, message.task)
                host.have.pop(message.task, None)
            case Fetch() if seed is not None:
                # Idempotent: what is read already is told again.
                had = seed.read.get(message.task, 0)
                seed.read[message.task] = 0
                if had:
                    self.seed_reads(seed, message.task, had)
            case Drop() if seed is not None:
                seed.read.pop(message.task, None)

    def _gives_up(self, host: Host, task: str) -> None:
        host.wanted.discard(task)
        host.promised = [promise for promise in host.promised if promise.task != task]
