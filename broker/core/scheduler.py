"""The supernode's decisions: who is here, what is wanted, who fetches which pieces from whom until when.

Pure. `handle(event, now)` returns what to do; `next_deadline()` says when a Tick is due. Which parent feeds which child
with which piece is the matcher's business (matcher.py), one per task; here is everything around it: a task's life, the
seed's part, leases and their ends, peers that come and go.

A task: PROBING (the seed asks the source) → CACHING (length known, pieces come) → CACHED (all here, digest right); or
DEAD (with the reason; the next one who asks makes the seed try again).
"""

from collections import defaultdict
from collections.abc import Iterator
from itertools import count
from typing import TYPE_CHECKING, Final, assert_never

from broker.core.due import DueTasks
from broker.core.effects import Effect, Forget, Note, Notice, PeerMoved, PeerWarmed, Tell
from broker.core.events import Event, PeerGone, PeerGreeted, PeerSaid, TaskDropped, TaskReleased, TaskWanted, Tick, WarmWanted
from broker.core.freshness import check_again, is_stale
from broker.core.matcher import SEED, Assignment, Matcher
from broker.core.members import join, prove_claims
from broker.core.scheduler_settings import SchedulerSettings
from broker.core.silence import is_to_be_asked, why_lost
from broker.core.small_contents import SmallContents
from broker.core.state import PeerRecord, State, TaskRecord
from broker.core.telling import claimed_bits, fetch_asked, lease_granted, peer_greeted, split_digests, task_told
from broker.core.wanted import lacks_seed, says_progress, task_gone, task_moved, warm_told
from broker.core.zone_budget import ZoneBudget
from wire.errors import ErrorCode
from wire.messages import (
    Alive,
    Drop,
    Hello,
    Leave,
    Message,
    PieceFailure,
    Register,
    Report,
    Role,
    Seeded,
    SeedFailed,
    Task,
    TaskState,
    Warmed,
)
from wire.pieces import PieceLayout

if TYPE_CHECKING:
    from random import Random

__all__ = ["Scheduler", "SchedulerSettings"]

#: The matcher learns real rates from reports; this is what it begins with, bytes per second (1 Gbit/s).
_NOMINAL_RATE: Final = 125e6
_TICK_S: Final = 0.05
_HOUSEKEEPING_S: Final = 0.5
_MAX_TASKS: Final = 100_000
_MAX_PEERS: Final = 200_000


class Scheduler:
    """The one writer of the state."""

    def __init__(self, *, rng: "Random", settings: SchedulerSettings | None = None) -> None:
        self.settings = settings or SchedulerSettings()
        self.state = State()
        self._rng = rng
        self._lease_numbers: Iterator[int] = count(1)
        self._effects: list[Effect] = []
        self._tidied_at = 0.0
        self._ticked_at = 0.0
        self._due = DueTasks()
        self._budget = ZoneBudget(self.settings.zone_rate) if self.settings.zone_rate > 0 else None
        self._small = SmallContents()

    # -- the front ------------------------------------------------------------------------------------------------------

    def handle(self, event: Event, now: float) -> list[Effect]:
        """What to do about what happened."""
        match event:
            case PeerGreeted():
                self._on_greeted(event.hello, now)
            case PeerSaid():
                self._on_said(event.peer, event.message, now)
            case PeerGone():
                self._lose_peer(event.peer, now, "its process has ended")
            case TaskDropped():
                self._drop_task(event.task, now)
            case TaskWanted():
                self._on_wanted(event.spec, event.allow, now)
            case TaskReleased():
                self._on_released(event.task, now)
            case WarmWanted():
                self._effects.append(warm_told(self.state, event.peer, event.message))
            case Tick():
                self._on_tick(now)
            case _:
                assert_never(event)
        effects, self._effects = self._effects, []
        return effects

    def next_deadline(self) -> float | None:
        """When a Tick is due; None: nothing is waiting for time to pass."""
        first = self._due.first()
        if first is None:
            return self._tidied_at + _HOUSEKEEPING_S if self.state.peers or self.state.tasks else None
        return max(min(first, self._tidied_at + _HOUSEKEEPING_S), self._ticked_at + _TICK_S)

    @property
    def alive_every_s(self) -> float:
        """How often a peer is to say ALIVE, seconds: less often the more peers there are."""
        return max(self.settings.alive_every_s, len(self.state.peers) / self.settings.alives_per_s)

    def validate(self) -> None:
        """Raise AssertionError where parts of the state contradict each other."""
        self.state.validate()
        self._due.validate(self.state.tasks)

    def _tell(self, peer: str, message: Message) -> None:
        self._effects.append(Tell(peer=peer, message=message))

    def _note(self, notice: Notice, *, task: str = "", peer: str = "", text: str = "") -> None:
        self._effects.append(Note(notice=notice, task=task, peer=peer, text=text))

    # -- peers ----------------------------------------------------------------------------------------------------------

    def _on_greeted(self, hello: Hello, now: float) -> None:
        if hello.peer in self.state.peers:
            self._lose_peer(hello.peer, now, "it says hello again", forget=False)
        if len(self.state.peers) >= _MAX_PEERS:
            self._effects.append(Forget(peer=hello.peer))
            self._note(Notice.UNEXPECTED, peer=hello.peer, text=f"more than {_MAX_PEERS} peers")
            return
        record = peer_greeted(hello, now)
        record.alive_every_s = self.alive_every_s
        self.state.enter(record)
        self._note(Notice.PEER_JOINED, peer=hello.peer, text=hello.data_endpoint)
        self._effects.append(PeerMoved(peer=hello.peer, here=True))
        if hello.role is Role.SEED:
            for task in list(self.state.tasks.values()):
                if task.seed is None and not task.evicted and task.state is not TaskState.DEAD:
                    self._ask_seed(task, now)

    def _lose_peer(self, peer: str, now: float, why: str, *, forget: bool = True) -> None:
        record = self.state.peers.get(peer)
        if record is None:
            return
        for task in list(record.tasks):
            self._remove_member(self.state.tasks[task], peer, now)
        self.state.leave(record)
        if forget:
            self._effects.append(Forget(peer=peer))
        self._note(Notice.PEER_LOST, peer=peer, text=why)
        self._effects.append(PeerMoved(peer=peer, here=False, why=why))
        if record.role is Role.SEED:
            self._lose_seed(peer, now)

    def _lose_seed(self, peer: str, now: float) -> None:
        for task in list(self.state.tasks.values()):
            if task.seed != peer:
                continue
            self.state.unseed(task, now)
            self._moved(task, now)
            self._ask_seed(task, now)
            self._grant(task, now)

    def _ask_seed_again(self, task: TaskRecord, now: float, *, peers_do: bool = True) -> None:
        """For what it has evicted, if somebody lacks it. `peers_do`: those who have all of it do give it."""
        if task.evicted and lacks_seed(task, peers_do=peers_do):
            self._ask_seed(task, now)

    def _on_said(self, peer: str, message: Message, now: float) -> None:
        record = self.state.peers.get(peer)
        if record is None:
            self._effects.append(Forget(peer=peer))
            return
        record.heard_at, record.doubted_at = now, None
        match message:
            case Register() if record.role is Role.PEER:
                self._on_register(record, message, now)
            case Report():
                self._on_report(record, message, now)
            case Alive():
                self._on_alive(record, message, now)
            case Leave():
                if message.task in record.tasks:
                    self._remove_member(self.state.tasks[message.task], peer, now)
                elif (task := self.state.tasks.get(message.task)) is not None and task.seed == peer:
                    self.state.unseed(task, now)
                    task.evicted = True
                    self._moved(task, now)
                    self._ask_seed_again(task, now)
                    self._grant(task, now)
            case Seeded() if record.role is Role.SEED:
                self._on_seeded(record, message, now)
            case SeedFailed() if record.role is Role.SEED:
                self._on_seed_failed(record, message, now)
            case Warmed():
                self._effects.append(PeerWarmed(peer=peer, message=message))
            case _:
                self.state.counters.unexpected[message.KIND.name] += 1
                self._note(Notice.UNEXPECTED, peer=peer, text=message.KIND.name)

    def _on_alive(self, record: PeerRecord, message: Alive, now: float) -> None:
        self.state.count(record, message.received, message.sent)
        until = now + self.settings.renewed_lease_s
        for number in message.leases:
            self.state.leases.renew(record.peer, number, until)
        self._tell(record.peer, Alive(every_s=record.new_alive_every_s(self.alive_every_s)))

    # -- tasks ----------------------------------------------------------------------------------------------------------

    def _on_register(self, record: PeerRecord, message: Register, now: float) -> None:
        self.state.counters.registrations += 1
        task = self._known_or_new(message, record.peer, now)
        if task is None:
            self._tell(record.peer, Task(task=message.task, state=TaskState.DEAD, code=ErrorCode.INTERNAL, message=_TOO_MANY))
            return
        if task.state is TaskState.DEAD and (task.allow is not None or now - task.died_at >= self.settings.retry_s):
            task.revive(message)  # at once where a job's list was in force
        if task.state is TaskState.DEAD:
            self._tell(record.peer, task_told(task))
            return
        if is_stale(task, message, self.settings.fresh_s, now):
            check_again(task, message, self.state.leases)
        task.heed(message)
        if task.seed is None and not task.evicted:
            self._ask_seed(task, now)
        self._add_member(task, record, message, now)
        self._ask_seed_again(task, now)
        self._tell(record.peer, self._small.told(task, record.peer))
        self._grant(task, now)

    def _known_or_new(self, spec: Register, peer: str, now: float) -> TaskRecord | None:
        """The task that is asked for. None: there are too many."""
        task = self.state.tasks.get(spec.task)
        if task is None:
            if len(self.state.tasks) >= _MAX_TASKS // (2 if spec.serves_only else 1):  # offers leave room for what is wanted
                return None
            task = self.state.tasks[spec.task] = TaskRecord(task=spec.task, spec=spec, born_at=now, used_at=now)
            self.state.counters.tasks_registered += 1
            self._note(Notice.TASK_NEW, task=spec.task, peer=peer)
        task.used_at = now
        return task

    def _on_wanted(self, spec: Register, allow: tuple[str, ...] | None, now: float) -> None:
        task = self._known_or_new(spec, "", now)
        if task is None:
            self._effects.append(task_gone(spec.task, ErrorCode.INTERNAL, _TOO_MANY))
            return
        task.is_wanted, (task.spec, task.allow) = True, (spec, allow) if task.seed is None else (task.spec, task.allow)
        if task.state is TaskState.DEAD:
            task.revive(spec, allow)  # at once: whoever died of it before may have had other credentials
        if task.seed is None:
            self._ask_seed(task, now)
        self._moved(task, now)

    def _on_released(self, task: str, now: float) -> None:
        if (record := self.state.tasks.get(task)) is not None:
            record.is_wanted, record.used_at = False, now

    def _moved(self, task: TaskRecord, now: float) -> None:
        """Say what has become of a task, where somebody wants it without being a peer."""
        if task.is_wanted:
            task.told_at = now
            self._effects.append(task_moved(task))

    def _add_member(self, task: TaskRecord, record: PeerRecord, message: Register, now: float) -> None:
        record.tasks.add(task.task)
        self.state.leases.end_of_member(record.peer, task.task)
        task.enlist(record.peer, message, claimed_bits(message))
        if task.matcher is not None and not self._small.give(task, record.peer):
            join(task, record, now)

    def _remove_member(self, task: TaskRecord, peer: str, now: float) -> None:
        task.dismiss(peer)
        self.state.peers[peer].tasks.discard(task.task)
        self.state.leases.end_of_member(peer, task.task)
        if task.matcher is not None:
            task.matcher.gone(peer, now)
            self._ask_seed_again(task, now)
        self._grant(task, now)

    def _tell_members(self, task: TaskRecord) -> None:
        for peer in task.members:
            self._tell(peer, self._small.told(task, peer))

    def _kill(self, task: TaskRecord, code: ErrorCode, status: int, message: str, now: float) -> None:
        task.die(code, status, message, now)
        self._small.forget(task.task)
        self._moved(task, now)
        self._note(Notice.TASK_DEAD, task=task.task, text=message)
        self._tell_members(task)
        for peer in list(task.members):
            self._remove_member(task, peer, now)

    def _drop_task(self, task: str, now: float) -> None:
        record = self.state.tasks.get(task)
        if record is None:
            return
        for peer in (*record.members, *filter(None, [record.seed])):
            self._tell(peer, Drop(task=task))
        record.layout, record.matcher = None, None
        self._small.forget(task)
        for peer in list(record.members):
            self._remove_member(record, peer, now)
        del self.state.tasks[task]
        self._note(Notice.TASK_FORGOTTEN, task=task, text="an operator dropped it")
        if record.is_wanted:
            self._effects.append(task_gone(task, ErrorCode.CANCELLED, "an operator dropped the task"))

    # -- the seed -------------------------------------------------------------------------------------------------------

    def _ask_seed(self, task: TaskRecord, now: float) -> None:
        seed = self.state.seed_for(task.task)
        if seed is None:
            task.asked_at = task.asked_at if task.asked_at is not None else now
            return
        task.seed, task.asked_at, task.evicted = seed.peer, now, False
        self.state.counters.seed_fetches += 1
        if task.matcher is not None:
            task.matcher.seed_joined(now, upload_rate=float(seed.upload_rate) if seed.upload_rate else None)
            self._due.note(task)
        self._tell(seed.peer, fetch_asked(task, self.settings.source_allow))

    def _on_seeded(self, record: PeerRecord, message: Seeded, now: float) -> None:
        task = self.state.tasks.get(message.task)
        if task is None or task.seed != record.peer or task.state is TaskState.DEAD:
            return
        try:
            layout = PieceLayout(message.length, message.piece_length, message.block_length)
            fresh = split_digests(layout, message)
        except (ValueError, IndexError) as error:
            self._kill(task, ErrorCode.INTERNAL, 0, f"the seed told a cut that cannot be: {error}", now)
            return
        if task.layout is not None and task.layout != layout:
            self._kill(task, ErrorCode.SOURCE_CHANGED, 0, _CHANGED, now)
            return
        record.note_source_bytes(message.source_bytes)
        task.content_type = message.content_type
        is_new = task.layout is None
        if is_new:
            self._small.seeded(task.task, layout, message)
            self._begin_caching(task, record, layout, now)
        if not self._take_digests(task, fresh, now):
            return
        if message.digest is None or message.digest == task.digest:
            if is_new:
                self._tell_members(task)
        elif task.digest is not None:
            self._kill(task, ErrorCode.SOURCE_CHANGED, 0, _CHANGED, now)
        elif len(task.digests) < layout.piece_count:
            self._kill(task, ErrorCode.INTERNAL, 0, "the seed told the content's digest, and not all of its pieces", now)
        else:
            task.complete(message.digest, now)
            self._note(Notice.TASK_CACHED, task=task.task, text=message.digest)
            self._tell_members(task)
        if is_new or message.digest is not None or says_progress(task, now):
            self._moved(task, now)
        self._grant(task, now)

    def _begin_caching(self, task: TaskRecord, seed: PeerRecord, layout: PieceLayout, now: float) -> None:
        task.layout, task.state = layout, TaskState.CACHING
        task.matcher = Matcher(
            layout.piece_count,
            layout.piece_length,
            rng=self._rng,
            nominal_rate=_NOMINAL_RATE,
            lease_numbers=self._lease_numbers,
            budget=self._budget,
        )
        task.matcher.seed_joined(now, upload_rate=float(seed.upload_rate) if seed.upload_rate else None)
        self._note(Notice.TASK_CACHING, task=task.task, text=f"{layout.length} bytes, {layout.piece_count} pieces")
        for peer in task.members:
            if not self._small.give(task, peer):
                join(task, self.state.peers[peer], now)

    def _take_digests(self, task: TaskRecord, fresh: dict[int, bytes], now: float) -> bool:
        """Pieces that the seed has. False: one of them differs from what it was, and the task is dead."""
        assert task.matcher is not None
        for piece, digests in fresh.items():
            if task.digests.setdefault(piece, digests) != digests:
                self._kill(task, ErrorCode.SOURCE_CHANGED, 0, _CHANGED, now)
                return False
        # Who has them already is told first: else the seed would give them away, and be asked for what is here.
        prove_claims(task, fresh, now)
        task.matcher.seed_has(fresh, now)
        return True

    def _on_seed_failed(self, record: PeerRecord, message: SeedFailed, now: float) -> None:
        task = self.state.tasks.get(message.task)
        if task is None or task.seed != record.peer or task.state is TaskState.DEAD:
            return
        record.note_source_bytes(message.source_bytes)
        self.state.counters.seed_failures += 1
        self._kill(task, message.code, message.status, message.message, now)

    # -- leases ---------------------------------------------------------------------------------------------------------

    def _grant(self, task: TaskRecord, now: float) -> None:
        """Turn what the matcher has decided into leases, one message per lease."""
        if task.matcher is None or task.layout is None:
            return
        granted: dict[tuple[str, int], list[Assignment]] = defaultdict(list)
        for assignment in task.matcher.drain():
            granted[assignment.child, assignment.lease].append(assignment)
        for (child, number), assignments in granted.items():
            parent = assignments[0].parent
            serving = self.state.peers[task.seed or "" if parent == SEED else parent]
            pieces = [assignment.piece for assignment in assignments]
            self.state.leases.grant(
                number, task=task.task, child=child, parent=serving.peer, pieces=pieces, until=now + self.settings.lease_s
            )
            self.state.counters.leases_granted += 1
            self._tell(child, lease_granted(task, number, serving, pieces, self.settings.lease_s))
        self._due.note(task)

    def _on_report(self, record: PeerRecord, message: Report, now: float) -> None:
        task = self.state.tasks.get(message.task)
        if task is None or task.matcher is None or record.peer not in task.members or task.layout is None:
            return
        task.used_at = now
        pieces = task.layout.piece_count
        done = [each for each in message.done if each[1] < pieces and each[1] in task.digests]
        for number, piece, rate in done:
            self.state.arrived(record, task, number, piece, rate, now)
        if done and record.peer in task.given:
            self._small.taken(task, record.peer, {piece for _, piece, _ in done})
            join(task, record, now)
        if done:
            task.matcher.done(record.peer, done, now)
        for number, piece, failure in message.failed:
            self._on_piece_failed(task, record.peer, number, piece, failure, now)
        self._grant(task, now)

    def _on_piece_failed(self, task: TaskRecord, child: str, number: int, piece: int, failure: PieceFailure, now: float) -> None:
        assert task.matcher is not None
        self.state.counters.pieces_failed[failure.name.lower()] += 1
        parent = self.state.leases.take_back(child, task.task, number, piece)
        if parent is None:
            return
        blamed = self.state.peers[parent]
        blamed.strikes.add(child)
        self._note(Notice.STRIKE, task=task.task, peer=parent, text=f"{failure.name.lower()}, by {child}, piece {piece}")
        if failure is PieceFailure.GONE and blamed.doubted_at is None:
            blamed.doubted_at = now
            self._tell(blamed.peer, Alive(answer=True))
        task.matcher.failed(child, number, piece, now, blame=True)
        self._ask_seed_again(task, now, peers_do=False)

    # -- time -----------------------------------------------------------------------------------------------------------

    def _on_tick(self, now: float) -> None:
        self._ticked_at = now
        for task in self._due.take(self.state.tasks, now):
            assert task.matcher is not None
            task.matcher.tick(now)
            self._grant(task, now)
        if now - self._tidied_at >= _HOUSEKEEPING_S:
            self._tidied_at = now
            self._expire_peers(now)
            self._expire_leases(now)
            self._expire_tasks(now)

    def _expire_peers(self, now: float) -> None:
        for record in list(self.state.peers.values()):
            if why := why_lost(record, self.settings, now):
                self._lose_peer(record.peer, now, why)
            elif is_to_be_asked(record, self.settings, now):
                self._tell(record.peer, Alive())

    def _expire_leases(self, now: float) -> None:
        for lease in self.state.leases.expire(now):
            task = self.state.tasks[lease.task]
            self.state.counters.leases_expired += 1
            self._note(Notice.LEASE_EXPIRED, task=lease.task, peer=lease.child, text=f"from {lease.parent}")
            assert task.matcher is not None
            for piece in lease.pieces:
                task.matcher.failed(lease.child, lease.lease, piece, now, blame=False)
            self._ask_seed_again(task, now, peers_do=False)
            self._grant(task, now)

    def _expire_tasks(self, now: float) -> None:
        for task in list(self.state.tasks.values()):
            if task.members or task.is_wanted:
                task.used_at = now
            needs_seed = task.seed is None and task.state in (TaskState.PROBING, TaskState.CACHING)
            if needs_seed and task.asked_at is not None and now - task.asked_at > self.settings.seed_patience_s:
                self._kill(task, ErrorCode.NO_SEED, 0, "the supernode has no seed: look into its log", now)
            if not task.members and now - task.used_at > self.settings.task_expire_s:
                if task.seed is not None and task.state in (TaskState.PROBING, TaskState.CACHING):
                    self._tell(task.seed, Drop(task=task.task))  # nobody waits for the rest of it
                del self.state.tasks[task.task]
                self._small.forget(task.task)
                self._note(Notice.TASK_FORGOTTEN, task=task.task, text="nobody has asked for it for long")


_CHANGED = "the source's content changed: ask again"
_TOO_MANY = "the supernode keeps as many tasks as it can: try again later, or use another supernode"
