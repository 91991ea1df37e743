"""What this host is to have ready: which contents are got or looked at now, which wait, and what is said of each to whom.

Pure. `handle(event, now)` returns what to do; `next_deadline()` says when a Tick is due. A content's warming:

    WAITING    its turn comes            → RUNNING
    RUNNING    here and verified         → READY
               cannot be had             → forgotten, after the reason was told
               its supernode went away   → AWAY, until it is back
    READY      asked for again           → CHECKING: is it still as it was proven?
    CHECKING   as it was                 → READY, told at once
               it is not                 → WAITING, to be proven anew

Whoever asked is told at the begin, every second while it runs, and at the end (not when he stops it); what could not be told
because the supernode was away is told when it is back.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, assert_never

from wire.errors import ErrorCode
from wire.messages import Warm, Warmed
from worker_peer.core.warming_events import (
    Asked,
    Begin,
    Check,
    Checked,
    Effect,
    Ended,
    Event,
    Failure,
    NodeDown,
    NodeUp,
    Progress,
    Proof,
    SetRate,
    Stop,
    Tell,
    Tick,
)

#: Contents got at the same time: enough to fill a link although one of them waits, few enough that each is soon whole.
AT_ONCE: Final = 4
#: Contents that may wait, and those that are remembered as ready.
MOST_WAITING: Final = 10_000
MOST_READY: Final = 10_000
TELL_EVERY_S: Final = 1.0
#: A supernode that has been away for so long has no claim to anything here any more.
AWAY_S: Final = 600.0
#: A supernode that seems to be there, and does not answer, is tried so often.
_MOST_MISSES: Final = 10


class State(Enum):
    """Where a content's warming is."""

    WAITING = auto()
    RUNNING = auto()
    AWAY = auto()
    READY = auto()
    CHECKING = auto()


@dataclass(slots=True, eq=False)
class _Warming:
    """One content."""

    task: str
    state: State
    #: Who wants it and has not been told its end, and how.
    askers: dict[str, Warm]
    #: Number of the Begin or Check that runs.
    run: int = 0
    #: The supernode that it runs through, and how often in a row that one was not there.
    node: str = ""
    misses: int = 0
    proof: Proof | None = None


_BUSY: Final = (State.WAITING, State.RUNNING, State.AWAY)
_TOO_MANY: Final = Failure(
    code=ErrorCode.INTERNAL,
    message=f"{MOST_WAITING} contents wait to be preheated on this host already: send the job again later",
)


class Warming:
    """All of a host's warming. `progress(task)` says how much of a running one is here."""

    def __init__(self, progress: Callable[[str], Progress]) -> None:
        self._progress = progress
        self._busy: dict[str, _Warming] = {}
        #: READY and CHECKING, least recently asked for first.
        self._ready: OrderedDict[str, _Warming] = OrderedDict()
        #: WAITING, in the order of their turns.
        self._waiting: OrderedDict[str, _Warming] = OrderedDict()
        self._running: dict[str, _Warming] = {}
        self._rates: Counter[int] = Counter()
        self._rate = 0
        self._runs = 0
        self._told_at = 0.0
        #: Supernodes that are away, and since when.
        self._away: dict[str, float] = {}
        #: Failures that they could not be told, by supernode and task.
        self._owed: dict[tuple[str, str], Failure] = {}
        self._effects: list[Effect] = []

    # -- the front ------------------------------------------------------------------------------------------------------

    def handle(self, event: Event, now: float) -> list[Effect]:
        """What to do about what happened."""
        match event:
            case Asked():
                self._on_asked(event.node, event.warm)
            case Ended():
                self._on_ended(event)
            case Checked():
                self._on_checked(event)
            case NodeUp():
                self._on_up(event.node)
            case NodeDown():
                if self._wanted_by(event.node):
                    self._away.setdefault(event.node, now)
            case Tick():
                self._on_tick(now)
            case _:
                assert_never(event)
        self._begin_waiting(now)
        self._note_rate()
        effects, self._effects = self._effects, []
        return effects

    def next_deadline(self) -> float | None:
        """When a Tick is due, or None."""
        times = [since + AWAY_S for since in self._away.values()]
        if self._running:
            times.append(self._told_at + TELL_EVERY_S)
        return min(times, default=None)

    def __len__(self) -> int:
        """Contents that are not ready yet."""
        return len(self._busy)

    def state(self, task: str) -> State | None:
        """Where a content is; None: nobody wants it warm."""
        warming = self._busy.get(task) or self._ready.get(task)
        return warming.state if warming is not None else None

    def keep_s(self, task: str) -> float:
        """For how long the content is to be kept: the longest that anybody wants who has not been told its end."""
        warming = self._busy.get(task) or self._ready.get(task)
        return max((warm.keep_s for warm in warming.askers.values()), default=0.0) if warming is not None else 0.0

    # -- what is asked for ----------------------------------------------------------------------------------------------

    def _on_asked(self, node: str, warm: Warm) -> None:
        self._on_up(node)
        self._owed.pop((node, warm.task), None)
        if warm.cancel:
            self._cancel(node, warm.task)
        elif warm.task in self._ready:
            self._ask_again(self._ready[warm.task], node, warm)
        elif warm.task in self._busy:
            warming = self._busy[warm.task]
            self._count_rate(warming, -1)
            warming.askers[node] = warm
            self._count_rate(warming, +1)
            if warming.state is State.AWAY:
                self._enqueue(warming)
            self._tell_state(warming, node)
        elif len(self._busy) >= MOST_WAITING:
            self._tell_failure(warm.task, node, _TOO_MANY)
        else:
            warming = self._busy[warm.task] = _Warming(warm.task, State.WAITING, {node: warm})
            self._count_rate(warming, +1)
            self._enqueue(warming)
            self._tell_state(warming, node)

    def _ask_again(self, warming: _Warming, node: str, warm: Warm) -> None:
        """It was ready: whether it still is costs a look, not a download."""
        warming.askers[node] = warm
        self._ready.move_to_end(warming.task)
        if warming.state is State.READY and warming.proof is not None:
            warming.state = State.CHECKING
            warming.run = self._next_run()
            self._effects.append(Check(warming.task, warming.run, warming.proof))

    def _cancel(self, node: str, task: str) -> None:
        """Not answered: whoever stops it waits for nothing, and may want it again in the next moment."""
        ready = self._ready.get(task)
        if ready is not None:
            ready.askers.pop(node, None)
        warming = self._busy.get(task)
        if warming is not None and node in warming.askers:
            self._drop_asker(warming, node)

    def _drop_asker(self, warming: _Warming, node: str) -> None:
        self._count_rate(warming, -1)
        del warming.askers[node]
        self._count_rate(warming, +1)
        is_running_there = warming.state is State.RUNNING and warming.node == node
        if is_running_there or not warming.askers:
            self._stop(warming)
        if not warming.askers:
            self._leave_busy(warming)
        elif is_running_there:
            self._enqueue(warming)  # through another one that wants it

    def _stop(self, warming: _Warming) -> None:
        if self._running.pop(warming.task, None) is not None:
            self._effects.append(Stop(warming.task))

    # -- what became of it ----------------------------------------------------------------------------------------------

    def _on_ended(self, event: Ended) -> None:
        warming = self._running.get(event.task)
        if warming is None or warming.run != event.run:
            return  # stopped, or begun anew
        if isinstance(event.outcome, Proof):
            self._leave_busy(warming)
            warming.proof = event.outcome
            self._become_ready(warming)
        elif event.outcome.code is ErrorCode.NO_SUPERNODE and warming.misses < _MOST_MISSES:
            del self._running[warming.task]
            warming.misses += 1
            warming.state = State.AWAY
            if any(node not in self._away for node in warming.askers):
                self._enqueue(warming)
        else:
            self._leave_busy(warming)
            for node in warming.askers:
                self._tell_failure(warming.task, node, event.outcome)

    def _on_checked(self, event: Checked) -> None:
        warming = self._ready.get(event.task)
        if warming is None or warming.state is not State.CHECKING or warming.run != event.run:
            return
        if isinstance(event.outcome, Proof):
            self._become_ready(warming)
            return
        del self._ready[warming.task]
        failure = event.outcome
        if failure is None and warming.askers and len(self._busy) >= MOST_WAITING:
            failure = _TOO_MANY
        if failure is not None:
            for node in warming.askers:
                self._tell_failure(warming.task, node, failure)
        elif warming.askers:
            warming.proof = None
            self._busy[warming.task] = warming
            self._count_rate(warming, +1)
            self._enqueue(warming)
            for node in warming.askers:
                self._tell_state(warming, node)

    def _become_ready(self, warming: _Warming) -> None:
        warming.state = State.READY
        self._ready[warming.task] = warming
        self._tell_ready(warming)
        while len(self._ready) > MOST_READY:
            self._ready.popitem(last=False)

    def _tell_ready(self, warming: _Warming) -> None:
        """To each that asked, and is there, once."""
        for node in [node for node in warming.askers if node not in self._away]:
            self._tell_state(warming, node)
            del warming.askers[node]

    # -- supernodes -----------------------------------------------------------------------------------------------------

    def _wanted_by(self, node: str) -> bool:
        return any(node in warming.askers for warming in (*self._busy.values(), *self._ready.values()))

    def _on_up(self, node: str) -> None:
        if self._away.pop(node, None) is None:
            return
        for warming in list(self._busy.values()):
            if warming.state is State.AWAY and node in warming.askers:
                warming.misses = 0
                self._enqueue(warming)
        for warming in self._ready.values():
            if warming.state is State.READY and node in warming.askers:
                self._tell_ready(warming)
        for owed in [owed for owed in self._owed if owed[0] == node]:
            self._tell_failure(owed[1], node, self._owed.pop(owed))

    def _on_tick(self, now: float) -> None:
        for node, since in list(self._away.items()):
            if now >= since + AWAY_S:
                del self._away[node]
                self._forget_asker(node)
        if self._running and now >= self._told_at + TELL_EVERY_S:
            self._told_at = now
            for warming in self._running.values():
                for node in warming.askers:
                    self._tell_state(warming, node)

    def _forget_asker(self, node: str) -> None:
        for warming in [each for each in self._busy.values() if node in each.askers]:
            self._drop_asker(warming, node)
        for warming in self._ready.values():
            warming.askers.pop(node, None)
        self._owed = {owed: failure for owed, failure in self._owed.items() if owed[0] != node}

    # -- turns ----------------------------------------------------------------------------------------------------------

    def _enqueue(self, warming: _Warming) -> None:
        warming.state = State.WAITING
        self._waiting[warming.task] = warming

    def _begin_waiting(self, now: float) -> None:
        while self._waiting and len(self._running) < AT_ONCE:
            _, warming = self._waiting.popitem(last=False)
            if not self._running:
                self._told_at = now
            warming.state, warming.run = State.RUNNING, self._next_run()
            self._running[warming.task] = warming
            # Through one that is there.
            node = min(warming.askers, key=lambda each: each in self._away)
            warming.node = node
            self._effects.append(Begin(warming.task, warming.run, node, warming.askers[node]))

    def _leave_busy(self, warming: _Warming) -> None:
        self._count_rate(warming, -1)
        del self._busy[warming.task]
        self._running.pop(warming.task, None)
        self._waiting.pop(warming.task, None)

    def _next_run(self) -> int:
        self._runs += 1
        return self._runs

    # -- the rate -------------------------------------------------------------------------------------------------------

    def _count_rate(self, warming: _Warming, sign: int) -> None:
        for warm in warming.askers.values():
            if warm.rate:
                self._rates[warm.rate] += sign

    def _note_rate(self) -> None:
        """The lowest that anybody wants of what is not ready yet: a limit that is asked for holds."""
        self._rates += Counter()  # without those that are no more
        rate = min(self._rates, default=0)
        if rate != self._rate:
            self._rate = rate
            self._effects.append(SetRate(rate))

    # -- telling --------------------------------------------------------------------------------------------------------

    def _tell(self, node: str, message: Warmed) -> None:
        self._effects.append(Tell(node, message))

    def _tell_state(self, warming: _Warming, node: str) -> None:
        if node in self._away:
            return  # what is ready is told when it is back
        proof = warming.proof
        if proof is not None:
            done = Warmed(
                task=warming.task,
                done=True,
                verified=proof.length,
                length=proof.length,
                digest=proof.digest,
                received=proof.received,
            )
            self._tell(node, done)
            return
        progress = self._progress(warming.task) if warming.state is State.RUNNING else Progress()
        told = Warmed(task=warming.task, verified=progress.verified, length=progress.length, received=progress.received)
        self._tell(node, told)

    def _tell_failure(self, task: str, node: str, failure: Failure) -> None:
        if node not in self._away:
            self._tell(node, Warmed(task=task, code=failure.code, status=failure.status, message=failure.message[:1024]))
        elif len(self._owed) < MOST_WAITING:
            self._owed[node, task] = failure

    def validate(self) -> None:
        """Raise AssertionError where the parts of the state contradict each other."""
        assert len(self._running) <= AT_ONCE
        assert not self._busy.keys() & self._ready.keys()
        assert self._waiting.keys() <= self._busy.keys(), "what was stopped has its turn still"
        for task, warming in self._busy.items():
            assert warming.task == task
            assert warming.state in _BUSY, warming
            assert warming.askers, "nobody wants it"
            assert (warming.state is State.RUNNING) == (self._running.get(task) is warming)
            assert (warming.state is State.WAITING) == (self._waiting.get(task) is warming)
        for warming in self._ready.values():
            assert warming.state in (State.READY, State.CHECKING)
            assert warming.proof is not None
            assert warming.state is State.CHECKING or warming.askers.keys() <= self._away.keys()
        waits = any(each.state is State.WAITING for each in self._busy.values())
        assert not waits or len(self._running) == AT_ONCE, "one waits although there is room"
        wanted = Counter(warm.rate for each in self._busy.values() for warm in each.askers.values() if warm.rate)
        assert self._rates == wanted
