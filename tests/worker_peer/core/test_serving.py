"""Who is served next, who waits, and who hears no: the parent's side without a socket."""

from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from wire.errors import ErrorCode
from wire.messages import GetBlocks, NoBlocks
from worker_peer.core.serving import MAX_CHILDREN, MAX_REQUESTS_PER_CHILD, PARKED_S, Presence, Refuse, Send, Serving

TASK, OTHER = "a" * 64, "b" * 64


class Disk:
    """What is here, by (task, piece); the rest is unknown."""

    def __init__(self, **pieces: Presence) -> None:
        self.pieces = {(TASK, int(name[1:])): presence for name, presence in pieces.items()}

    def __call__(self, request: GetBlocks) -> Presence:
        return self.pieces.get((request.task, request.piece), Presence.UNKNOWN_TASK)


def ask(piece: int, first: int = 0, task: str = TASK) -> GetBlocks:
    return GetBlocks(task=task, piece=piece, first=first, count=1)


def refusal(child: bytes, piece: int, code: ErrorCode, task: str = TASK) -> Refuse:
    return Refuse(child, NoBlocks(task=task, piece=piece, code=code))


def test_children_take_turns() -> None:
    serving = Serving(Disk(p0=Presence.HERE))
    for child, firsts in ((b"one", (0, 1, 2)), (b"two", (3,)), (b"three", (4, 5))):
        for first in firsts:
            assert serving.asked(child, ask(0, first), 0.0) is None
    order = []
    while (send := serving.next()) is not None:
        order.append((send.child, send.request.first))
        serving.validate()
    assert order == [(b"one", 0), (b"two", 3), (b"three", 4), (b"one", 1), (b"three", 5), (b"one", 2)]
    assert len(serving) == 0


def in_background(first: int) -> GetBlocks:
    return GetBlocks(task=TASK, piece=0, first=first, count=1, background=True)


def test_what_somebody_waits_for_comes_first_and_the_background_has_one_block_in_five() -> None:
    serving = Serving(Disk(p0=Presence.HERE))
    for first in range(20):
        for child in (b"two", b"three", b"four"):
            assert serving.asked(child, in_background(first), 0.0) is None
    for first in range(12):
        assert serving.asked(b"one", ask(0, first), 0.0) is None
    order = []
    while (send := serving.next()) is not None:
        order.append(send.child)
        serving.validate()
    while_somebody_waits = order[: 1 + max(place for place, child in enumerate(order) if child == b"one")]
    assert while_somebody_waits.count(b"one") == 12
    assert len(while_somebody_waits) - 12 == 3, "one block in five"
    assert len(order) == 72


def test_the_background_saves_nothing_up_for_later() -> None:
    serving = Serving(Disk(p0=Presence.HERE))
    for first in range(40):
        serving.asked(b"one", ask(0, first), 0.0)
        serving.next()
    serving.asked(b"two", in_background(0), 0.0)
    serving.asked(b"one", ask(0), 0.0)
    assert [serving.next(), serving.next()] == [Send(b"one", ask(0)), Send(b"two", in_background(0))]


def test_a_child_that_is_gone_wants_nothing_of_either_kind() -> None:
    serving = Serving(Disk(p0=Presence.HERE))
    serving.asked(b"one", ask(0), 0.0)
    serving.asked(b"one", in_background(1), 0.0)
    serving.validate()
    serving.gone(b"one")
    serving.validate()
    assert (serving.next(), len(serving)) == (None, 0)


def test_what_is_not_here_is_refused_at_once_with_the_reason() -> None:
    serving = Serving(Disk(p0=Presence.MISSING))
    assert serving.asked(b"one", ask(0), 0.0) == refusal(b"one", 0, ErrorCode.BLOCKS_MISSING)
    assert serving.asked(b"one", ask(7), 0.0) == refusal(b"one", 7, ErrorCode.TASK_UNKNOWN)
    assert serving.next() is None
    assert len(serving) == 0


def test_what_is_coming_waits_until_it_is_here() -> None:
    disk = Disk(p0=Presence.COMING)
    serving = Serving(disk)
    assert serving.asked(b"one", ask(0), 5.0) is None
    assert serving.next() is None
    assert serving.next_deadline() == 5.0 + PARKED_S
    disk.pieces[TASK, 0] = Presence.HERE
    assert serving.changed(OTHER, 0) == []
    assert serving.changed(TASK, 1) == []
    assert serving.next() is None
    assert serving.changed(TASK, 0) == []
    assert serving.next() == Send(b"one", ask(0))
    assert serving.next_deadline() is None


@pytest.mark.parametrize("presence", [Presence.MISSING, Presence.UNKNOWN_TASK])
def test_what_was_coming_and_is_lost_is_refused(presence: Presence) -> None:
    disk = Disk(p0=Presence.COMING, p1=Presence.COMING)
    serving = Serving(disk)
    serving.asked(b"one", ask(0), 0.0)
    serving.asked(b"one", ask(1), 0.0)
    disk.pieces[TASK, 0] = presence
    assert serving.changed(TASK, 0) == [refusal(b"one", 0, ErrorCode.BLOCKS_MISSING)]
    assert len(serving) == 1
    serving.validate()


def test_who_waits_for_a_task_that_goes_is_told() -> None:
    disk = Disk(p0=Presence.COMING, p1=Presence.COMING)
    serving = Serving(disk)
    serving.asked(b"one", ask(0), 0.0)
    serving.asked(b"two", ask(1), 0.0)
    disk.pieces.clear()
    assert serving.task_gone(OTHER) == []
    assert serving.task_gone(TASK) == [
        refusal(b"one", 0, ErrorCode.BLOCKS_MISSING),
        refusal(b"two", 1, ErrorCode.BLOCKS_MISSING),
    ]
    assert len(serving) == 0
    assert serving.next_deadline() is None
    serving.validate()


def test_what_does_not_come_in_time_is_refused() -> None:
    serving = Serving(Disk(p0=Presence.COMING))
    serving.asked(b"one", ask(0, 1), 0.0)
    serving.asked(b"two", ask(0, 2), 1.0)
    assert serving.expire(PARKED_S - 0.001) == []
    assert serving.expire(PARKED_S) == [refusal(b"one", 0, ErrorCode.BLOCKS_MISSING)]
    assert serving.next_deadline() == 1.0 + PARKED_S
    assert len(serving) == 1


def test_a_child_that_asks_too_much_is_told_that_we_are_busy() -> None:
    serving = Serving(Disk(p0=Presence.HERE))
    for first in range(MAX_REQUESTS_PER_CHILD):
        assert serving.asked(b"greedy", ask(0, first), 0.0) is None
    assert serving.asked(b"greedy", ask(0, 999), 0.0) == refusal(b"greedy", 0, ErrorCode.BUSY)
    assert serving.asked(b"modest", ask(0), 0.0) is None
    assert len(serving) == MAX_REQUESTS_PER_CHILD + 1
    serving.next()
    assert serving.asked(b"greedy", ask(0, 999), 0.0) is None


def test_too_many_children_are_told_that_we_are_busy() -> None:
    serving = Serving(Disk(p0=Presence.HERE))
    for number in range(MAX_CHILDREN):
        assert serving.asked(b"%d" % number, ask(0), 0.0) is None
    assert serving.asked(b"late", ask(0), 0.0) == refusal(b"late", 0, ErrorCode.BUSY)
    assert serving.asked(b"7", ask(0, 1), 0.0) is None


def test_a_child_that_is_gone_leaves_nothing_behind() -> None:
    serving = Serving(Disk(p0=Presence.HERE, p1=Presence.COMING))
    for child in (b"one", b"two"):
        serving.asked(child, ask(0), 0.0)
        serving.asked(child, ask(1), 0.0)
    serving.gone(b"one")
    serving.gone(b"never seen")
    serving.validate()
    assert len(serving) == 2
    assert serving.next() == Send(b"two", ask(0))
    assert serving.next() is None


CHILDREN, PIECES = st.sampled_from([b"one", b"two", b"three"]), st.integers(0, 3)


class ServingMachine(RuleBasedStateMachine):
    """Every request is answered exactly once: sent, refused, or dropped with its child."""

    def __init__(self) -> None:
        super().__init__()
        self.disk = Disk(p0=Presence.HERE, p1=Presence.COMING, p2=Presence.MISSING, p3=Presence.COMING)
        self.serving = Serving(self.disk)
        self.now = 0.0
        self.number = 0
        #: Requests whose blocks were here, when they were asked for or later: what goes again after that is the sender's to find.
        self.were_here: set[int] = set()
        self.unanswered: dict[bytes, set[int]] = {b"one": set(), b"two": set(), b"three": set()}

    def settle(self, refused: list[Refuse]) -> None:
        for each in refused:
            # A refusal names the piece only: the request of that piece that waits for longest is meant.
            waiting = [first for first in self.unanswered[each.child] if first % 4 == each.answer.piece]
            self.unanswered[each.child].remove(min(waiting))

    @rule(child=CHILDREN, piece=PIECES)
    def asks(self, child: bytes, piece: int) -> None:
        self.number += 1
        first = self.number * 4 + piece
        self.unanswered[child].add(first)
        if self.disk(ask(piece, first)) is Presence.HERE:
            self.were_here.add(first)
        refused = self.serving.asked(child, replace(ask(piece, first), background=self.number % 2 == 1), self.now)
        if refused is not None:
            assert refused.answer.piece == piece
            self.unanswered[child].remove(first)

    @rule()
    def sends(self) -> None:
        send = self.serving.next()
        if send is not None:
            assert send.request.first in self.were_here
            self.unanswered[send.child].remove(send.request.first)

    @rule(piece=PIECES, presence=st.sampled_from(list(Presence)))
    def changes(self, piece: int, presence: Presence) -> None:
        self.disk.pieces[TASK, piece] = presence
        if presence is Presence.HERE:
            self.were_here |= {first for waiting in self.unanswered.values() for first in waiting if first % 4 == piece}
        self.settle(self.serving.changed(TASK, piece))

    @rule(seconds=st.sampled_from([0.5, PARKED_S]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.settle(self.serving.expire(self.now))
        due = self.serving.next_deadline()
        assert due is None or due > self.now

    @rule(child=CHILDREN)
    def goes(self, child: bytes) -> None:
        self.serving.gone(child)
        self.unanswered[child].clear()

    @invariant()
    def counts_agree(self) -> None:
        self.serving.validate()
        assert len(self.serving) == sum(len(waiting) for waiting in self.unanswered.values())


TestServingMachine = ServingMachine.TestCase
TestServingMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
