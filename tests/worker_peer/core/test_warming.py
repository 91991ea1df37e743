"""What a host is told to have ready: whose turn it is, what is told to whom, what is remembered."""

from typing import Any

import pytest

from wire.errors import ErrorCode
from wire.messages import Warm, Warmed
from worker_peer.core import warming as module
from worker_peer.core.warming import AT_ONCE, AWAY_S, TELL_EVERY_S, State, Warming
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

ONE, TWO = "one:8002", "two:8002"
DIGEST = "sha256:" + "1" * 64
PROOF = Proof(length=100, digest=DIGEST, received=(0, 40, 60, 0))


def task(number: int) -> str:
    return f"{number:064x}"


class Host:
    """A host's warming, and what it wants done."""

    def __init__(self) -> None:
        self.now = 50.0
        self.here: dict[str, Progress] = {}
        self.warming = Warming(lambda each: self.here.get(each, Progress()))
        self.done: list[Effect] = []
        self.runs: dict[str, int] = {}

    def happens(self, *events: Event) -> list[Effect]:
        done: list[Effect] = []
        for event in events:
            done += self.warming.handle(event, self.now)
            self.warming.validate()
        for effect in done:
            if isinstance(effect, Begin | Check):
                self.runs[effect.task] = effect.run
        return done

    def asked(self, *numbers: int, node: str = ONE, **more: Any) -> list[Effect]:
        return self.happens(*(Asked(node, Warm(task=task(each), url="http://x/y", **more)) for each in numbers))

    def ends(self, number: int, outcome: Proof | Failure = PROOF) -> list[Effect]:
        return self.happens(Ended(task(number), self.runs[task(number)], outcome))

    def checked(self, number: int, outcome: Proof | Failure | None = PROOF) -> list[Effect]:
        return self.happens(Checked(task(number), self.runs[task(number)], outcome))


@pytest.fixture
def host() -> Host:
    """Nothing is asked for."""
    return Host()


def begun(effects: list[Effect]) -> list[int]:
    return [int(each.task, 16) for each in effects if isinstance(each, Begin)]


def told(effects: list[Effect], node: str = ONE) -> list[Warmed]:
    return [each.message for each in effects if isinstance(each, Tell) and each.node == node]


def done(number: int) -> Warmed:
    return Warmed(task=task(number), done=True, verified=100, length=100, digest=DIGEST, received=PROOF.received)


def test_it_is_told_at_the_begin_every_second_and_at_the_end(host: Host) -> None:
    effects = host.asked(1)
    assert told(effects) == [Warmed(task=task(1), received=(0, 0, 0, 0))]
    assert begun(effects) == [1]
    host.here[task(1)] = Progress(verified=40, length=100, received=(0, 40, 0, 0))
    assert host.warming.next_deadline() == host.now + TELL_EVERY_S
    assert told(host.happens(Tick())) == []
    host.now += TELL_EVERY_S
    assert told(host.happens(Tick())) == [Warmed(task=task(1), verified=40, length=100, received=(0, 40, 0, 0))]
    assert told(host.ends(1)) == [done(1)]
    assert host.warming.next_deadline() is None
    assert (len(host.warming), host.warming.state(task(1))) == (0, State.READY)


def test_a_few_at_a_time_in_the_order_of_the_asking(host: Host) -> None:
    assert begun(host.asked(*range(AT_ONCE + 2))) == list(range(AT_ONCE))
    assert begun(host.ends(2)) == [AT_ONCE]
    assert begun(host.ends(1, Failure(code=ErrorCode.SOURCE_ERROR, message="no"))) == [AT_ONCE + 1]
    assert begun(host.ends(0)) == []


def test_more_than_the_queue_holds_is_told_with_the_next_step(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 6)
    host.asked(*range(6))
    (refused,) = told(host.asked(6))
    assert refused.code is ErrorCode.INTERNAL
    assert "send the job again later" in refused.message
    assert host.warming.state(task(6)) is None
    host.ends(0)
    assert host.warming.state(task(6)) is None
    host.asked(6)
    assert host.warming.state(task(6)) is State.WAITING


def test_asking_again_starts_nothing_twice_and_is_answered_at_once(host: Host) -> None:
    host.asked(1)
    host.here[task(1)] = Progress(verified=7)
    effects = host.asked(1)
    assert told(effects) == [Warmed(task=task(1), verified=7, received=(0, 0, 0, 0))]
    assert begun(effects) == []


def test_what_is_ready_is_looked_at_and_told_without_its_turn(host: Host) -> None:
    host.asked(1)
    host.ends(1)
    host.asked(*range(2, 2 + AT_ONCE))
    effects = host.asked(1, keep_s=60.0)
    assert [type(each) for each in effects] == [Check]
    assert host.asked(1, keep_s=60.0) == [], "it is being looked at"
    assert host.warming.keep_s(task(1)) == 60.0
    assert host.checked(1) == [Tell(ONE, done(1))]
    assert host.happens(Checked(task(1), 0, None)) == [], "an answer to nothing"


def test_what_is_ready_no_more_is_got_again(host: Host) -> None:
    host.asked(1)
    host.ends(1)
    host.asked(1)
    effects = host.checked(1, None)
    assert begun(effects) == [1]
    assert told(effects) == [Warmed(task=task(1), received=(0, 0, 0, 0))]
    assert told(host.ends(1)) == [done(1)]


def test_what_cannot_be_kept_any_longer_is_told_and_forgotten(host: Host) -> None:
    host.asked(1)
    host.ends(1)
    host.asked(1, keep_s=9.0)
    effects = host.checked(1, Failure(code=ErrorCode.STORE_FULL, message="no room to keep it"))
    assert effects == [Tell(ONE, Warmed(task=task(1), code=ErrorCode.STORE_FULL, message="no room to keep it"))]
    assert host.warming.state(task(1)) is None


def test_who_goes_while_what_is_ready_is_looked_at_is_told_when_it_is_back(host: Host) -> None:
    host.asked(1)
    host.ends(1)
    host.asked(1)
    host.happens(NodeDown(ONE))
    assert host.checked(1) == []
    assert told(host.happens(NodeUp(ONE))) == [done(1)]


def test_a_failure_while_the_supernode_is_away_is_told_when_it_is_back(host: Host) -> None:
    host.asked(1)
    host.happens(NodeDown(ONE))
    assert told(host.ends(1, Failure(code=ErrorCode.SOURCE_ERROR, message="no"))) == []
    assert [each.code for each in told(host.happens(NodeUp(ONE)))] == [ErrorCode.SOURCE_ERROR]
    assert told(host.happens(NodeDown(ONE), NodeUp(ONE))) == []


def test_it_is_kept_for_the_longest_time_that_anybody_wants(host: Host) -> None:
    host.asked(1, keep_s=10.0)
    host.asked(1, node=TWO, keep_s=99.0)
    assert (host.warming.keep_s(task(1)), host.warming.keep_s(task(2))) == (99.0, 0.0)
    effects = host.ends(1)
    assert told(effects) == told(effects, TWO) == [done(1)]


def test_a_failure_is_told_in_words_and_asking_again_tries_again(host: Host) -> None:
    host.asked(1)
    effects = host.ends(1, Failure(code=ErrorCode.SOURCE_FORBIDDEN, status=403, message="no"))
    assert effects == [Tell(ONE, Warmed(task=task(1), code=ErrorCode.SOURCE_FORBIDDEN, status=403, message="no"))]
    assert begun(host.asked(1)) == [1]


def test_a_stopped_job_stops_what_runs_and_what_waits(host: Host) -> None:
    host.asked(*range(AT_ONCE + 1))
    assert host.asked(AT_ONCE, cancel=True) == []
    run = host.runs[task(0)]
    assert host.asked(0, cancel=True) == [Stop(task(0))]
    assert host.happens(Ended(task(0), run, PROOF)) == [], "it was stopped"
    assert host.warming.state(task(0)) is None
    assert begun(host.asked(9)) == [9], "there is room again"


def test_a_stopped_job_of_one_supernode_leaves_the_others(host: Host) -> None:
    host.asked(1)
    host.asked(1, node=TWO)
    effects = host.asked(1, cancel=True)
    assert told(effects) == []
    assert [type(each) for each in effects if isinstance(each, Stop | Begin)] == [Stop, Begin], "it goes on through the other"
    effects = host.ends(1)
    assert (told(effects), told(effects, TWO)) == ([], [done(1)])


def test_a_stopped_job_leaves_what_is_ready(host: Host) -> None:
    host.asked(1)
    host.ends(1)
    host.asked(1, cancel=True)
    assert host.warming.state(task(1)) is State.READY


def test_the_lowest_rate_that_is_asked_for_holds_while_it_is_wanted(host: Host) -> None:
    assert SetRate(100) in host.asked(1, rate=100)
    assert not any(isinstance(each, SetRate) for each in host.asked(2))
    assert SetRate(50) in host.asked(3, rate=50)
    assert SetRate(100) in host.ends(3)
    assert SetRate(70) in host.asked(1, rate=70)
    assert SetRate(0) in host.asked(1, cancel=True)


# -- supernodes that go and come --------------------------------------------------------------------------------------------


def test_what_becomes_ready_while_the_supernode_is_away_is_told_when_it_is_back(host: Host) -> None:
    host.asked(1)
    host.happens(NodeDown(ONE))
    assert told(host.ends(1)) == []
    assert told(host.happens(NodeUp(ONE))) == [done(1)]
    assert told(host.happens(NodeUp(ONE))) == []


def test_without_its_supernode_it_waits_for_it_and_lets_others_go_on(host: Host) -> None:
    host.asked(*range(AT_ONCE))
    host.asked(9, node=TWO)
    host.happens(NodeDown(ONE))
    gone = Failure(code=ErrorCode.NO_SUPERNODE, message="no supernode answers")
    effects = host.ends(0, gone)
    assert begun(effects) == [9]
    assert told(effects) == []
    assert host.warming.state(task(0)) is State.AWAY
    host.ends(1)
    assert begun(host.happens(NodeUp(ONE))) == [0]
    assert told(host.ends(0)) == [done(0)]


def test_a_supernode_that_is_there_and_never_answers_is_not_tried_for_ever(host: Host) -> None:
    host.asked(1)
    gone = Failure(code=ErrorCode.NO_SUPERNODE, message="no supernode answers")
    tries = 1
    while begun(effects := host.ends(1, gone)):
        tries += 1
        assert tries < 100
    assert tries > 2
    assert [each.code for each in told(effects)] == [ErrorCode.NO_SUPERNODE]


def test_a_supernode_that_stays_away_has_no_claim_any_more(host: Host) -> None:
    host.asked(1, rate=5)
    host.asked(2, node=TWO)
    host.happens(NodeDown(ONE), NodeDown("never asked"))
    host.now += AWAY_S - 1
    host.happens(Tick())
    assert host.warming.state(task(1)) is State.RUNNING
    host.now += 1
    assert host.warming.next_deadline() is not None
    effects = host.happens(Tick())
    assert Stop(task(1)) in effects
    assert SetRate(0) in effects
    assert host.warming.state(task(1)) is None
    assert host.warming.state(task(2)) is State.RUNNING


def test_a_supernode_that_has_restarted_asks_again_and_nothing_begins_twice(host: Host) -> None:
    host.asked(1, 2)
    host.ends(1)
    host.happens(NodeDown(ONE), NodeUp(ONE))
    effects = host.asked(1, 2)
    assert begun(effects) == []
    assert told(effects) == [Warmed(task=task(2), received=(0, 0, 0, 0))]
    assert told(host.checked(1)) == [done(1)]


def test_only_so_many_are_remembered_as_ready(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_READY", 2)
    for number in (1, 2, 3):
        host.asked(number)
        host.ends(number)
    assert [host.warming.state(task(number)) for number in (1, 2, 3)] == [None, State.READY, State.READY]
    assert begun(host.asked(1)) == [1]
