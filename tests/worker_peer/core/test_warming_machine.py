"""Warming under any order of asking, stopping, ends, deaths and time: nothing is told that is not so, nothing is forgotten."""

from unittest import mock

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from wire.errors import ErrorCode
from wire.messages import Warm
from worker_peer.core import warming as module
from worker_peer.core.warming import AT_ONCE, State, Warming
from worker_peer.core.warming_events import (
    Asked,
    Begin,
    Check,
    Checked,
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

TASKS = tuple(f"{number:064x}" for number in range(8))
NODES = ("one:8002", "two:8002")
CODES = (ErrorCode.NO_SUPERNODE, ErrorCode.SOURCE_ERROR)
PROOF = Proof(length=1, digest="sha256:" + "1" * 64, received=())
tasks, nodes = st.sampled_from(TASKS), st.sampled_from(NODES)


class WarmingMachine(RuleBasedStateMachine):
    """Stands for the driver and for the supernodes: it does what it is told, and remembers who waits for an answer."""

    @initialize()
    def begin(self) -> None:
        self.now = 0.0
        self.warming = Warming(lambda _: Progress(verified=1))
        self.running: dict[str, int] = {}
        self.checking: dict[str, int] = {}
        #: What was proven and not found wrong since.
        self.proven: set[str] = set()
        self.up = set(NODES)
        #: (node, task) -> rate: asked, and neither answered nor stopped.
        self.waits: dict[tuple[str, str], int] = {}
        self.rate = 0

    def happens(self, event: Event) -> None:
        with mock.patch.object(module, "MOST_WAITING", 6):
            effects = self.warming.handle(event, self.now)
            self.warming.validate()
        for effect in effects:
            match effect:
                case Begin():
                    assert effect.task not in self.running, "begun twice"
                    assert (effect.node, effect.task) in self.waits, "nobody waits for it"
                    self.running[effect.task] = effect.run
                case Check():
                    assert effect.task not in self.checking
                    self.checking[effect.task] = effect.run
                case Stop():
                    del self.running[effect.task]
                case SetRate():
                    self.rate = effect.rate
                case Tell():
                    self.hears(effect)

    def hears(self, effect: Tell) -> None:
        message = effect.message
        assert (effect.node, message.task) in self.waits, "told to who has not asked, or was told the end already"
        if message.done:
            assert message.task in self.proven, "called done, and it was not proven"
        if message.done or message.code is not None:
            self.waits.pop((effect.node, message.task), None)

    @rule(node=nodes, task=tasks, rate=st.sampled_from([0, 5, 9]), keep_s=st.sampled_from([0.0, 60.0]))
    def ask(self, node: str, task: str, rate: int, keep_s: float) -> None:
        self.comes(node)
        self.waits[node, task] = rate
        self.happens(Asked(node, Warm(task=task, url="http://x/y", rate=rate, keep_s=keep_s)))

    @rule(node=nodes, task=tasks)
    def cancel(self, node: str, task: str) -> None:
        self.comes(node)
        self.waits.pop((node, task), None)
        self.happens(Asked(node, Warm(task=task, url="http://x/y", cancel=True)))

    @precondition(lambda self: self.running)
    @rule(place=st.integers(0, 7), code=st.sampled_from([None, None, *CODES]), stale=st.booleans())
    def ends(self, place: int, code: ErrorCode | None, stale: bool) -> None:
        task = sorted(self.running)[place % len(self.running)]
        if stale:
            self.happens(Ended(task, 0, PROOF))
            assert task in self.running
            return
        run = self.running.pop(task)
        if code is None:
            self.proven.add(task)
            self.happens(Ended(task, run, PROOF))
        else:
            self.happens(Ended(task, run, Failure(code=code, message="no")))

    @precondition(lambda self: self.checking)
    @rule(place=st.integers(0, 7), outcome=st.sampled_from([PROOF, None, Failure(code=ErrorCode.STORE_FULL, message="no")]))
    def is_checked(self, place: int, outcome: Proof | Failure | None) -> None:
        task = sorted(self.checking)[place % len(self.checking)]
        if outcome is None:
            self.proven.discard(task)
        self.happens(Checked(task, self.checking.pop(task), outcome))

    @rule(node=nodes)
    def goes(self, node: str) -> None:
        self.up.discard(node)
        self.happens(NodeDown(node))

    @rule(node=nodes)
    def comes(self, node: str) -> None:
        self.up.add(node)
        self.happens(NodeUp(node))

    @rule(seconds=st.sampled_from([0.5, 1.0, 601.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        due = self.warming.next_deadline()
        if due is not None and due <= self.now:
            if seconds > 600:
                self.waits = {key: rate for key, rate in self.waits.items() if key[0] in self.up}
            self.happens(Tick())
            again = self.warming.next_deadline()
            assert again is None or again > self.now

    @invariant()
    def as_many_run_as_may_and_no_more(self) -> None:
        if not hasattr(self, "warming"):
            return
        assert len(self.running) <= AT_ONCE
        states = {task: self.warming.state(task) for task in TASKS}
        assert {task for task, state in states.items() if state is State.RUNNING} == set(self.running)
        for node, task in self.waits:
            if node in self.up:
                assert states[task] is not None, f"{node} waits for {task[-1]} for ever"

    @invariant()
    def the_rate_is_one_that_somebody_wants(self) -> None:
        if hasattr(self, "warming"):
            assert self.rate in (0, 5, 9)
            if not len(self.warming):
                assert self.rate == 0


TestWarmingMachine = WarmingMachine.TestCase
TestWarmingMachine.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)
