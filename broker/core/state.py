"""What the supernode knows: peers, tasks, leases. Mutated by the scheduler only; read by the HTTP API between its turns.

All of it is soft: after a restart it is rebuilt from what peers and the seed say.
"""

from collections import Counter
from dataclasses import dataclass, field
from math import inf
from typing import Final
from zlib import crc32

from broker.core.learned_zones import LearnedZones
from broker.core.leases import LeaseBook
from broker.core.matcher import Matcher
from broker.core.zones import level_between
from wire.errors import ErrorCode
from wire.messages import Origin, Register, Role, TaskState
from wire.pieces import PieceLayout


@dataclass(slots=True)
class PeerRecord:
    """One peer."""

    peer: str
    role: Role
    host: str
    software: str
    data_endpoint: str
    hint_endpoint: str
    location: str
    upload_rate: int
    #: Where it is, as it says or as was learned (learned_zones.py); empty: not known.
    zone: str
    #: The minor of the protocol that it speaks: what is newer is not said to it.
    minor: int
    joined_at: float
    heard_at: float
    tasks: set[str] = field(default_factory=set)
    #: Bytes received by origin and sent, as the peer last said.
    received: tuple[int, ...] = ()
    sent: int = 0
    #: Distinct children that it failed; emptied when it delivers again.
    strikes: set[str] = field(default_factory=set)
    #: A child says that it is gone: it must say something soon.
    doubted_at: float | None = None
    #: How often it says ALIVE, as it was last told.
    alive_every_s: float = 0.0

    def new_alive_every_s(self, wanted: float) -> float:
        """What it is to be told about how often to say ALIVE, and then knows; 0: nothing."""
        # A quarter more or less is not worth a word: it would be said to everybody with each peer that comes.
        if 0.8 * wanted <= self.alive_every_s <= 1.25 * wanted:
            return 0.0
        self.alive_every_s = wanted
        return wanted

    def note_source_bytes(self, count: int) -> None:
        """What a seed has read from sources, told with its news: not a heartbeat late."""
        self.received = (count, *self.received[1:])


@dataclass(slots=True)
class Claim:
    """Pieces that a peer says to have and whose digests are not known here yet."""

    bits: int
    length: int | None
    piece_length: int


@dataclass(slots=True)
class TaskRecord:
    """One task."""

    task: str
    #: The registration whose source request is used. Its headers are secret: never logged, shown or stored.
    spec: Register
    born_at: float
    used_at: float
    #: Whom the seed may ask by `spec`, where that is a preheat's; None: it is a peer's.
    allow: tuple[str, ...] | None = None
    state: TaskState = TaskState.PROBING
    layout: PieceLayout | None = None
    content_type: str = ""
    #: Block digests of each piece, as the seed told them.
    digests: dict[int, bytes] = field(default_factory=dict)
    #: sha256 of the content by the seed.
    digest: str | None = None
    #: When the seed said so.
    checked_at: float = 0.0
    #: Digests as they were before the source was asked again, and whose claims are of those pieces.
    former: dict[int, bytes] = field(default_factory=dict)
    former_holders: set[str] = field(default_factory=set)
    matcher: Matcher | None = None
    #: Peers that want it or serve it, and what they claim to have.
    members: dict[str, Claim] = field(default_factory=dict)
    serves_only: set[str] = field(default_factory=set)
    #: Members that were told the whole content with the task: they take no part in the swarm before they say that it is here.
    given: set[str] = field(default_factory=set)
    #: When the seed was asked; None: no seed was there to ask.
    asked_at: float | None = None
    seed: str | None = None
    #: The seed has given it up for want of room, or it was only offered so far: it is read (again) only when somebody wants
    #: what no peer has whole.
    evicted: bool = False
    #: Why it is dead.
    code: ErrorCode | None = None
    status: int = 0
    message: str = ""
    died_at: float = 0.0
    #: Somebody who is no peer wants it, a preheat: it is kept, and what becomes of it is said (effects.TaskMoved).
    is_wanted: bool = False
    #: When that was last said.
    told_at: float = 0.0
    #: When its matcher has something to do although nobody says anything, as the scheduler noted it.
    due_at: float = inf

    @property
    def is_asked_for(self) -> bool:
        """Whether somebody wants it: a peer that does not only offer it, or a preheat."""
        return self.is_wanted or len(self.members) > len(self.serves_only)

    @property
    def pieces_cached(self) -> int:
        """Pieces that the seed has told."""
        return len(self.digests)

    def heed(self, message: Register) -> None:
        """A peer registers: an offer makes nobody read the source; what a new asker may send to it counts."""
        if message.serves_only:
            self.evicted = self.evicted or (self.seed is None and not self.is_asked_for)
        elif self.evicted:
            self.spec, self.allow = message, None

    def dismiss(self, peer: str) -> None:
        """A member is none any more."""
        del self.members[peer]
        self.serves_only.discard(peer)
        self.given.discard(peer)

    def enlist(self, peer: str, message: Register, bits: int) -> None:
        """A peer takes part, and claims to have these pieces."""
        self.members[peer] = Claim(bits, message.length, message.piece_length)
        self.former_holders.discard(peer)
        if message.serves_only:
            self.serves_only.add(peer)
        else:
            self.serves_only.discard(peer)

    def complete(self, digest: str, now: float) -> None:
        """The seed has all of it, and this is its digest."""
        self.digest, self.state, self.checked_at = digest, TaskState.CACHED, now
        self.former.clear()
        self.former_holders.clear()

    def revive(self, spec: Register, allow: tuple[str, ...] | None = None) -> None:
        """A dead task is asked for again: the seed tries again, with what the new asker may send to the source."""
        self.spec, self.allow, self.state = spec, allow, TaskState.PROBING
        self.code, self.status, self.message, self.seed, self.asked_at, self.evicted = None, 0, "", None, None, False
        self.layout, self.matcher, self.digest = None, None, None
        self.digests.clear()

    def die(self, code: ErrorCode, status: int, message: str, now: float) -> None:
        """It cannot be had. Its members are the caller's to tell and to remove."""
        self.state, self.code, self.status, self.message = TaskState.DEAD, code, status, message
        self.died_at, self.seed = now, None
        self.layout, self.matcher = None, None


@dataclass(slots=True)
class Counters:
    """What /metrics shows, beside the state itself. Only ever grows."""

    peers_joined: int = 0
    peers_lost: int = 0
    tasks_registered: int = 0
    registrations: int = 0
    seed_fetches: int = 0
    seed_failures: int = 0
    pieces_reported: int = 0
    pieces_failed: Counter[str] = field(default_factory=Counter)
    leases_granted: int = 0
    leases_expired: int = 0
    unexpected: Counter[str] = field(default_factory=Counter)
    #: Bytes that came to a peer from another zone, by the widest level at which the two differ: 1 to LEVELS.
    entered_zones: dict[int, int] = field(default_factory=dict)
    #: Bytes received by peers that are gone, by origin; and sent.
    past_received: dict[Origin, int] = field(default_factory=lambda: dict.fromkeys(Origin, 0))
    past_sent: int = 0


#: Peers that are gone whose counts are kept apart: the same process may come back and go on counting.
_MAX_FORMER: Final = 10_000


@dataclass(slots=True)
class State:
    """Everything."""

    peers: dict[str, PeerRecord] = field(default_factory=dict)
    #: What peers that are gone had received and sent, oldest first.
    former: dict[str, tuple[tuple[int, ...], int]] = field(default_factory=dict)
    tasks: dict[str, TaskRecord] = field(default_factory=dict)
    leases: LeaseBook = field(default_factory=LeaseBook)
    learned: LearnedZones = field(default_factory=LearnedZones)
    counters: Counters = field(default_factory=Counters)

    def enter(self, record: PeerRecord) -> None:
        """A peer is here. What it counted before it was lost is its own again, so that nothing is counted twice."""
        if not record.location and record.role is Role.PEER:
            record.zone = self.learned.enter(record.peer, record.data_endpoint)
        record.received, record.sent = self.former.pop(record.peer, ((), 0))
        self._count_past(record, -1)
        self.peers[record.peer] = record
        self.counters.peers_joined += 1

    def leave(self, record: PeerRecord) -> None:
        """A peer is gone; what it received and sent stays counted."""
        del self.peers[record.peer]
        self.learned.leave(record.peer)
        self._count_past(record, +1)
        self.counters.peers_lost += 1
        self.former[record.peer] = (record.received, record.sent)
        while len(self.former) > _MAX_FORMER:
            del self.former[next(iter(self.former))]

    def count(self, record: PeerRecord, received: tuple[int, ...], sent: int) -> None:
        """What a peer has received and sent since it began. Less than before: another process, of the same name."""
        if sent < record.sent or any(now < before for now, before in zip(received, record.received, strict=False)):
            self._count_past(record, +1)
        record.received, record.sent = received, sent

    def arrived(self, child: PeerRecord, task: TaskRecord, number: int, piece: int, rate: float, now: float) -> None:
        """A child has reported a piece of a lease, received at `rate` bytes per second (0: not measured)."""
        self.counters.pieces_reported += 1
        name = self.leases.take_back(child.peer, task.task, number, piece)
        if name is None or task.layout is None:
            return
        parent = self.peers[name]
        parent.strikes.discard(child.peer)
        if level := level_between(parent.zone, child.zone):
            size = task.layout.piece_span(piece)[1]
            self.counters.entered_zones[level] = self.counters.entered_zones.get(level, 0) + size
        if moved := self.learned.observe(name, child.peer, rate, now):
            self._relocate(moved, now)

    def _relocate(self, zones: dict[str, str], now: float) -> None:
        """These peers are in other zones than was believed."""
        for peer, zone in zones.items():
            self.peers[peer].zone = zone
        for task in self.tasks.values():
            if task.matcher is not None and not task.members.keys().isdisjoint(zones):
                task.matcher.relocate(zones, now)

    def _count_past(self, record: PeerRecord, sign: int) -> None:
        for origin, amount in zip(Origin, record.received, strict=False):
            self.counters.past_received[origin] += sign * amount
        self.counters.past_sent += sign * record.sent

    def seed_for(self, task: str) -> PeerRecord | None:
        """The seed that a task is asked of: the same one whenever the same seeds are there. None: there is none."""
        seeds = [peer for peer in self.peers.values() if peer.role is Role.SEED]
        return max(seeds, key=lambda each: crc32(f"{each.peer} {task}".encode()), default=None)

    def unseed(self, task: TaskRecord, now: float) -> None:
        """Its seed has it no longer: what was leased from it fails."""
        seed, task.seed, task.asked_at = task.seed or "", None, now
        if task.matcher is not None:
            task.matcher.seed_gone(now)
            self.leases.end_of_parent(seed, task.task)

    def received(self) -> dict[Origin, int]:
        """Bytes received by all peers ever, by origin. What the seed reads from sources is under SOURCE."""
        total = dict(self.counters.past_received)
        for peer in self.peers.values():
            for origin, count in zip(Origin, peer.received, strict=False):
                total[origin] += count
        return total

    def sent(self) -> int:
        """Bytes sent by all peers ever, the seed among them."""
        return self.counters.past_sent + sum(peer.sent for peer in self.peers.values())

    def validate(self) -> None:
        """Raise AssertionError where the indexes contradict each other."""
        for task, record in self.tasks.items():
            for peer in record.members:
                assert task in self.peers[peer].tasks, (task, peer)
            assert record.serves_only <= record.members.keys(), task
            assert record.given <= record.members.keys() - record.serves_only, task
            assert (record.matcher is not None) == (record.layout is not None)
            assert record.seed is None or record.seed in self.peers, (task, record.seed)
            assert record.state is not TaskState.DEAD or not (record.members or record.seed or record.matcher), task
            if record.matcher is not None:
                record.matcher.validate()
                self._validate_promises(record, record.matcher)
        for peer, told in self.peers.items():
            for task in told.tasks:
                assert peer in self.tasks[task].members, (task, peer)
        self.leases.validate()
        for lease in self.leases:
            record = self.tasks[lease.task]
            assert lease.child in record.members, lease
            assert lease.parent in record.members or lease.parent == record.seed, lease
            assert lease.pieces <= record.digests.keys(), lease

    def _validate_promises(self, record: TaskRecord, matcher: Matcher) -> None:
        """Whatever the matcher waits for has a lease, so that it ends some day."""
        leased = {(lease.child, lease.lease, piece) for lease in self.leases for piece in lease.pieces}
        for peer in record.members:
            for number, piece in matcher.outstanding(peer):
                assert (peer, number, piece) in leased, f"{record.task}: {peer} waits for {piece} without a lease"
