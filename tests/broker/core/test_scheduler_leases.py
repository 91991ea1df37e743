"""Leases: granted, renewed, expired, lost on the way, reported done or failed; and what becomes of the parents."""

import pytest

from broker.core.effects import Forget, Notice, Tell
from broker.core.events import Event, Tick
from broker.core.scheduler import Scheduler, SchedulerSettings
from tests.support.broker_words import (
    CONTENT_DIGEST,
    OTHER_TASK,
    SEED,
    TASK,
    done,
    failed,
    greeted,
    leased,
    leases_in,
    register,
    said,
    scheduler,
    seed_greeted,
    seeded,
)
from tests.support.playbook import At, Noticed, Playbook
from wire.messages import Alive, Lease, PieceFailure, Report

SETTINGS = SchedulerSettings(lost_after_s=1e6, probe_after_s=1e6, lease_s=10.0, renewed_lease_s=60.0)


def after(*events: Event, now: float = 0.0, settings: SchedulerSettings = SETTINGS) -> Scheduler:
    """A scheduler to which these things have happened."""
    made = scheduler(settings)
    for event in events:
        made.handle(event, now)
        made.validate()
    return made


def one_lease() -> Scheduler:
    """`a` is to get the only piece from the seed by lease 1, until 10 s."""
    made = after(seed_greeted(), greeted("a"), said("a", register()), said(SEED, seeded(0, of=1)))
    assert [(lease.lease, lease.until) for lease in made.state.leases] == [(1, 10.0)]
    return made


def until(made: Scheduler, begin: float, end: float) -> list[Lease]:
    """The timer fires every 50 ms; all that was granted meanwhile."""
    leases, now = [], begin
    while now <= end:
        leases += leases_in(made.handle(Tick(), now))
        made.validate()
        now = round(now + 0.05, 6)
    return leases


def test_a_lease_that_was_lost_on_its_way_is_granted_again() -> None:
    """The child has never heard of it, so it never names it in an ALIVE."""
    made = one_lease()
    for now in range(1, 10):
        made.handle(said("a", Alive()), float(now))
        assert leases_in(made.handle(Tick(), float(now))) == []
    script = Playbook(made) >> At(10.0, Tick()) << Noticed(Notice.LEASE_EXPIRED, task=TASK, peer="a", text=SEED)
    script.check()
    assert made.state.counters.leases_expired == 1
    (again,) = until(made, 10.05, 11.0)
    assert (again.pieces, again.parent) == ((0,), SEED)
    assert again.lease != 1


def test_a_lease_that_its_child_names_goes_on() -> None:
    made = one_lease()
    made.handle(said("a", Alive(leases=(1, 99))), 9.0)
    assert until(made, 9.0, 12.0) == []
    assert made.state.counters.leases_expired == 0
    made.handle(said("a", Alive(leases=(1,))), 60.0)
    made.handle(Tick(), 119.0)
    assert made.state.counters.leases_expired == 0
    made.handle(Tick(), 120.5)
    assert made.state.counters.leases_expired == 1


def test_a_lease_of_another_is_not_renewed() -> None:
    made = one_lease()
    made.handle(greeted("b"), 1.0)
    made.handle(said("b", Alive(leases=(1,))), 9.0)
    made.handle(Tick(), 10.0)
    assert made.state.counters.leases_expired == 1


@pytest.mark.parametrize("why", PieceFailure)
def test_a_piece_that_did_not_come_is_tried_again(why: PieceFailure) -> None:
    made = one_lease()
    strike = Noticed(Notice.STRIKE, peer=SEED, text=f"{why.name.lower()}, by a")
    script = Playbook(made) >> At(1.0, said("a", failed(1, 0, why=why))) << strike
    if why is PieceFailure.GONE:
        script = script << Tell(peer=SEED, message=Alive(answer=True))
    script.check()
    assert made.state.counters.pieces_failed == {why.name.lower(): 1}
    assert made.state.peers[SEED].strikes == {"a"}
    assert (made.state.peers[SEED].doubted_at is not None) == (why is PieceFailure.GONE)
    made.handle(said(SEED, Alive()), 1.1)
    assert made.state.peers[SEED].doubted_at is None
    (again,) = until(made, 1.15, 4.0)
    assert again.pieces == (0,)
    made.handle(said("a", done(again.lease, 0)), 4.1)
    assert made.state.peers[SEED].strikes == set(), "it has delivered since"
    made.validate()


def pair(*, pieces: int = 1) -> Scheduler:
    """`a` has all of the content and serves it; `b` gets piece 0 from it by lease 1; there is no seed any more."""
    everything = frozenset(range(pieces))
    made = after(
        seed_greeted(),
        greeted("a"),
        said("a", register(have=everything, pieces=pieces)),
        said(SEED, seeded(*everything, of=pieces, digest=CONTENT_DIGEST)),
        greeted("b"),
        said("b", register()),
    )
    assert {(lease.child, lease.parent) for lease in made.state.leases} == {("b", "a")}
    return made


def test_a_child_that_a_peer_failed_turns_to_another_parent() -> None:
    made = pair()
    effects = made.handle(said("b", failed(1, 0, why=PieceFailure.DIGEST)), 0.1)
    leases = leases_in(effects) + until(made, 0.15, 5.0)
    assert [(lease.pieces, lease.parent) for lease in leases[:1]] == [((0,), SEED)]


def test_a_parent_that_is_held_for_gone_must_speak_soon() -> None:
    made = pair()
    made.handle(said("b", failed(1, 0, why=PieceFailure.GONE)), 1.0)
    made.handle(Tick(), 3.4)
    assert "a" in made.state.peers
    script = (
        Playbook(made)
        >> At(3.5, said(SEED, Alive())) << Tell(peer=SEED, message=Alive())
        >> At(3.95, Tick()) << Forget(peer="a") << Noticed(Notice.PEER_LOST, peer="a", text="cannot reach it")
    )  # fmt: skip
    script.check()
    assert set(made.state.peers) == {SEED, "b"}


def test_a_parent_that_is_held_for_gone_and_speaks_is_here() -> None:
    made = pair()
    made.handle(said("b", failed(1, 0, why=PieceFailure.GONE)), 1.0)
    made.handle(said("a", Alive()), 2.0)
    until(made, 2.0, 6.0)
    assert made.state.peers["a"].doubted_at is None
    assert made.state.peers["a"].strikes == {"b"}


def test_a_second_doubt_does_not_put_off_the_first() -> None:
    made = pair(pieces=2)
    by_piece = {piece: lease.lease for lease in made.state.leases for piece in lease.pieces}
    for piece in (0, 1):
        made.handle(said("b", failed(by_piece[piece], piece, why=PieceFailure.GONE)), 1.0 + piece)
    assert made.state.peers["a"].doubted_at == 1.0
    assert made.state.peers["a"].strikes == {"b"}


def test_who_registers_again_begins_anew_as_child_and_as_parent() -> None:
    made = pair()
    effects = made.handle(said("b", register()), 0.1)
    assert [lease.lease for lease in leases_in(effects)] == [2]
    assert [(lease.lease, lease.child) for lease in made.state.leases] == [(2, "b")]
    made.handle(said("a", register(have=frozenset({0}), pieces=1)), 0.2)
    made.validate()
    assert all(lease.lease > 2 for lease in made.state.leases), "what it was to serve it may have forgotten"
    assert made.handle(said("b", failed(1, 0)), 0.3) == [], "a report of before"
    assert made.state.peers["a"].strikes == set()


def test_what_a_peer_claims_to_have_counts_when_its_digests_are_known() -> None:
    made = after(seed_greeted(), greeted("a"), said("a", register(have=frozenset({0, 2}), pieces=3)), greeted("b"))
    task = made.state.tasks[TASK]
    made.handle(said(SEED, seeded(of=3)), 0.1)
    assert task.matcher is not None
    assert [task.matcher.holders(piece) for piece in range(3)] == [0, 0, 0]
    assert task.members["a"].bits == 0b101
    made.handle(said(SEED, seeded(0, 1, of=3)), 0.2)
    assert [task.matcher.holders(piece) for piece in range(3)] == [1, 0, 0]
    assert task.members["a"].bits == 0b100
    made.handle(said(SEED, seeded(2, of=3)), 0.3)
    assert [task.matcher.holders(piece) for piece in range(3)] == [1, 0, 1]
    assert task.members["a"].bits == 0
    assert {piece for lease in made.state.leases if lease.child == "a" for piece in lease.pieces} == {1}
    made.validate()


def test_a_claim_that_is_made_when_the_length_is_known_counts_at_once() -> None:
    made = after(seed_greeted(), greeted("b"), said("b", register()), said(SEED, seeded(0, of=3)), greeted("a"))
    made.handle(said("a", register(have=frozenset({0, 1}), pieces=3)), 0.1)
    task = made.state.tasks[TASK]
    assert task.matcher is not None
    assert [task.matcher.holders(piece) for piece in range(3)] == [1, 0, 0]
    assert task.members["a"].bits == 0b010, "only what has no digest yet still waits"
    assert not any(0 in lease.pieces for lease in made.state.leases if lease.child == "a")
    made.validate()


def test_pieces_of_another_cut_or_content_do_not_count() -> None:
    made = after(seed_greeted(), greeted("a"), said("a", register(have=frozenset({0}), pieces=9)), said(SEED, seeded(0, of=1)))
    assert made.state.tasks[TASK].members["a"].bits == 0
    assert [(lease.child, lease.pieces) for lease in made.state.leases] == [("a", {0})]


def test_a_peer_that_only_serves_is_given_nothing_and_may_change_its_mind() -> None:
    offer = register(have=frozenset({0}), pieces=2, serves_only=True)
    made = after(seed_greeted(), greeted("a"), said("a", register()), said("a", offer), said(SEED, seeded(0, 1, of=2)))
    assert until(made, 0.0, 1.0) == []
    effects = made.handle(said("a", register(have=frozenset({0}), pieces=2)), 1.0)
    leases = leases_in(effects)
    assert [lease.pieces for lease in leases] == [(1,)]
    made.handle(said("a", offer), 1.1)
    assert len(made.state.leases) == 0
    assert until(made, 1.1, 2.0) == []


def test_a_report_may_hold_both_what_came_and_what_did_not() -> None:
    made = pair(pieces=2)
    by_piece = {piece: lease.lease for lease in made.state.leases for piece in lease.pieces}
    assert set(by_piece) == {0, 1}
    report = Report(task=TASK, done=((by_piece[0], 0, 1e6),), failed=((by_piece[1], 1, PieceFailure.STALLED),))
    made.handle(said("b", report), 0.1)
    task = made.state.tasks[TASK]
    assert task.matcher is not None
    assert [task.matcher.holders(piece) for piece in range(2)] == [2, 1]
    assert made.state.peers["a"].strikes == {"b"}
    made.validate()


def test_pieces_that_came_by_another_way_count_once() -> None:
    made = one_lease()
    made.handle(said("a", done(0, 0)), 0.1)
    task = made.state.tasks[TASK]
    assert task.matcher is not None
    assert task.matcher.complete_peers == 1
    made.handle(said("a", done(1, 0)), 0.2)
    assert task.matcher.holders(0) == 1
    assert len(made.state.leases) == 0


def test_a_lease_of_another_task_is_not_taken_back() -> None:
    """Else the promise of the other task would have no lease, and nothing would ever end it."""
    made = one_lease()
    for event in (said("a", register(OTHER_TASK)), said(SEED, seeded(0, of=1, task=OTHER_TASK))):
        made.handle(event, 0.1)
    of_other = [lease.lease for lease in made.state.leases if lease.task == OTHER_TASK]
    made.handle(said("a", done(of_other[0], 0)), 0.2)
    made.validate()
    assert of_other[0] in [lease.lease for lease in made.state.leases]


def test_the_next_deadline_is_soon_while_somebody_waits_and_rare_otherwise() -> None:
    made = scheduler()
    assert made.next_deadline() is None
    made.handle(greeted("a"), 0.2)
    assert made.next_deadline() == 0.5
    made.handle(Tick(), 0.5)
    assert made.next_deadline() == 1.0
    made.handle(seed_greeted(), 0.6)
    made.handle(said("a", register()), 0.7)
    assert made.next_deadline() == 1.0, "the seed is at work: there is nothing to grant"
    made.handle(said(SEED, seeded(0, of=1)), 0.8)
    for peer in ("b", "c"):
        made.handle(greeted(peer), 0.8)
        made.handle(said(peer, register()), 0.8)
    assert made.next_deadline() == pytest.approx(0.55), "peers wait for the piece that one is getting: a look every 50 ms"
    made.handle(Tick(), 0.95)
    for child in ("a", "b", "c"):
        for lease in [each for each in made.state.leases if each.child == child]:
            made.handle(said(child, done(lease.lease, 0)), 1.0)
    assert made.next_deadline() == 1.0, "everybody has it: only the housekeeping is due"


def test_all_that_a_lease_has_is_told_in_one_message() -> None:
    made = pair(pieces=8)
    granted = made.state.counters.leases_granted
    assert granted == len({lease.lease for lease in made.state.leases}) <= 8
    (first, *_) = sorted(made.state.leases, key=lambda lease: lease.lease)
    pieces = sorted(first.pieces)
    leases = leases_in(made.handle(said("b", done(first.lease, *pieces)), 0.1))
    assert leases, "what it has got makes room for more"
    assert len({lease.lease for lease in leases}) == len(leases)
    for lease in leases:
        assert leased("b", lease.lease, lease.parent, *lease.pieces).message == lease
    assert made.state.counters.leases_granted == granted + len(leases)
