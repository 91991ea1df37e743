"""The whole scheduler under any order of events: its indexes never contradict each other, nothing impossible is ever said,
and once the bad luck ends everybody who lives and wants a task gets it.
"""

from typing import Any

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from broker.core.events import TaskReleased, TaskWanted
from broker.core.scheduler_settings import SchedulerSettings
from tests.support.broker_words import OTHER_TASK, TASK, greeted, hello, register, scheduler, seeded
from tests.support.broker_world import Host, World
from wire.errors import ErrorCode
from wire.messages import (
    Alive,
    Drop,
    Fetch,
    Leave,
    LeaveReason,
    Message,
    NotKnown,
    PieceFailure,
    Report,
    SeedFailed,
)

TASKS = [TASK, OTHER_TASK]
PEERS, SEEDS, LIAR = ["a", "b", "c", "d", "e"], ["cdnnode:s", "cdnnode:t"], "liar"
#: From the end of all trouble: what lies longest is a lease that its child named as in work, and whose grant was lost.
LIMIT_S = 120.0

tasks = st.sampled_from(TASKS)
numbers, some_pieces = st.integers(0, 30), st.integers(0, 12)
done_rows = st.lists(st.tuples(numbers, some_pieces, st.just(1e6)), max_size=4).map(tuple)
failed_rows = st.lists(st.tuples(numbers, some_pieces, st.sampled_from(PieceFailure)), max_size=4).map(tuple)
#: Well-formed messages that make no sense, or are lies.
nonsense: st.SearchStrategy[Message] = st.one_of(
    st.builds(Report, task=tasks | st.just("c" * 64), done=done_rows, failed=failed_rows),
    st.builds(Alive, leases=st.lists(numbers, max_size=5).map(tuple), received=st.just((1, 2, 3)), sent=numbers),
    st.builds(Leave, task=tasks, reason=st.sampled_from(LeaveReason)),
    st.builds(lambda task, bits: register(task, have=frozenset(bits), pieces=8), tasks, st.sets(st.integers(0, 7), min_size=1)),
    st.builds(lambda task: seeded(0, 1, of=2, task=task), tasks),
    st.builds(lambda task: SeedFailed(task=task, code=ErrorCode.SOURCE_ERROR), tasks),
    st.builds(lambda task: Fetch(task=task, url="http://liar/"), tasks),
    st.builds(Drop, task=tasks),
    st.just(NotKnown()),
    st.just(hello(LIAR)),
)


class SchedulerMachine(RuleBasedStateMachine):
    """Five peers, two seeds, two tasks, a liar, and messages that get lost."""

    @initialize(pieces=st.tuples(st.sampled_from([1, 2, 8]), st.sampled_from([1, 3, 8])))
    def begin(self, pieces: tuple[int, int]) -> None:
        self.lost: set[str] = set()
        self.world = World(scheduler(SchedulerSettings(probe_after_s=1e6)), dict(zip(TASKS, pieces, strict=True)), self.loses)

    def loses(self, peer: str) -> bool:
        """The next message to this peer is lost, when the machine has said so."""
        if peer in self.lost:
            self.lost.discard(peer)
            return True
        return False

    def host(self, data: Any) -> Host:
        host: Host = self.world.hosts[data.draw(st.sampled_from(sorted(self.world.hosts)))]
        return host

    @rule(name=st.sampled_from(PEERS), rate=st.sampled_from([0, 0, 10_000, 1_000_000]), zone=st.sampled_from(["", "", "x", "y"]))
    def peer_greets(self, name: str, rate: int, zone: str) -> None:
        self.world.greets(self.world.hosts.get(name) or Host(name, rate, zone))

    @precondition(lambda self: self.world.hosts)
    @rule(data=st.data(), task=tasks)
    def peer_registers(self, data: Any, task: str) -> None:
        self.world.registers(self.host(data), task)

    @precondition(lambda self: self.world.hosts)
    @rule(data=st.data(), task=tasks)
    def peer_offers(self, data: Any, task: str) -> None:
        host = self.host(data)
        if task not in host.wanted:
            self.world.registers(host, task, serves_only=True)

    @precondition(lambda self: self.world.hosts)
    @rule(data=st.data(), task=tasks)
    def peer_leaves(self, data: Any, task: str) -> None:
        self.world.leaves(self.host(data), task)

    @precondition(lambda self: self.world.hosts)
    @rule(data=st.data(), noticed=st.booleans())
    def peer_dies(self, data: Any, noticed: bool) -> None:
        self.world.dies(self.host(data), noticed=noticed)

    @precondition(lambda self: self.world.hosts)
    @rule(data=st.data(), times=st.integers(1, 4), failure=st.none() | st.none() | st.sampled_from(PieceFailure))
    def peer_works(self, data: Any, times: int, failure: PieceFailure | None) -> None:
        host = self.host(data)
        for _ in range(times):
            self.world.works(host, failure)

    @precondition(lambda self: self.world.hosts)
    @rule(data=st.data())
    def next_message_is_lost(self, data: Any) -> None:
        self.lost.add(self.host(data).name)

    @rule(name=st.sampled_from(SEEDS))
    def seed_greets(self, name: str) -> None:
        self.world.seed_greets(name)

    @precondition(lambda self: self.world.seeds)
    @rule(data=st.data())
    def seed_dies(self, data: Any) -> None:
        self.world.seed_dies(data.draw(st.sampled_from(sorted(self.world.seeds))))

    @precondition(lambda self: any(seed.read for seed in self.world.seeds.values()))
    @rule(data=st.data(), count=st.integers(0, 8), fails=st.integers(0, 9).map(lambda dice: dice == 0))
    def seed_goes_on(self, data: Any, count: int, fails: bool) -> None:
        seed = data.draw(st.sampled_from([each for each in self.world.seeds.values() if each.read]))
        task = data.draw(st.sampled_from(sorted(seed.read)))
        if fails:
            self.world.seed_fails(seed, task)
        else:
            self.world.seed_reads(seed, task, count)

    @precondition(lambda self: self.world.seeds)
    @rule(data=st.data(), task=tasks)
    def seed_evicts(self, data: Any, task: str) -> None:
        seed = data.draw(st.sampled_from(list(self.world.seeds.values())))
        # It may say so of what it never had, too.
        self.world.seed_evicts(seed, task)

    @rule(task=tasks)
    def operator_drops(self, task: str) -> None:
        self.world.is_dropped(task)

    @rule(task=tasks, is_wanted=st.booleans())
    def preheat_wants_or_releases(self, task: str, is_wanted: bool) -> None:
        self.world.happens(TaskWanted(spec=register(task)) if is_wanted else TaskReleased(task=task))

    @rule(message=nonsense)
    def liar_lies(self, message: Message) -> None:
        if LIAR not in self.world.liars:
            self.world.liars.add(LIAR)
            self.world.happens(greeted(LIAR))
        self.world.says(LIAR, message)

    @rule(message=nonsense)
    def stranger_speaks(self, message: Message) -> None:
        self.world.says("stranger", message)

    @rule(seconds=st.sampled_from([0.05, 0.3, 3.0, 12.0, 200.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.time_passes(seconds)

    @invariant()
    def nothing_contradicts_itself(self) -> None:
        if hasattr(self, "world"):
            self.world.scheduler.validate()

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        self.world.goes_on_to_the_end(LIMIT_S)
        self.world.scheduler.validate()


SchedulerMachine.TestCase.settings = settings(
    max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestSchedulerMachine = SchedulerMachine.TestCase
