"""Peers that come and go: hello, hello again, silence, and what stays counted of those that are gone."""

import pytest

from broker.core import scheduler as scheduler_module
from broker.core.effects import Forget, Notice, Tell
from broker.core.events import PeerGone, Tick
from broker.core.scheduler import SchedulerSettings
from tests.support.broker_words import (
    SEED,
    TASK,
    done,
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
from wire.messages import Alive, Origin

ALIVE = Alive()


def test_a_peer_that_falls_silent_is_lost_and_its_children_find_another_parent() -> None:
    made = scheduler(SchedulerSettings(lost_after_s=10.0, probe_after_s=1e6))
    for event in (
        seed_greeted(),
        greeted("a"),
        said("a", register()),
        said(SEED, seeded(0, of=1)),
        said("a", done(1, 0)),
        greeted("b"),
        said("b", register()),
    ):
        made.handle(event, 0.0)
    assert [(lease.child, lease.parent) for lease in made.state.leases] == [("b", "a")]
    for peer in ("b", SEED):
        made.handle(said(peer, Alive(leases=(2,))), 9.0)
    script = (
        Playbook(made)
        >> At(10.0, Tick())
        >> At(10.5, Tick()) << leased("b", 3, SEED, 0) << Forget(peer="a")
        << Noticed(Notice.PEER_LOST, peer="a", text="silent for 10.5 s")
        >> At(10.6, said("a", ALIVE)) << Forget(peer="a")
    )  # fmt: skip
    script.check()
    assert "a" not in made.state.tasks[TASK].members


def test_a_peer_that_is_silent_is_spoken_to() -> None:
    """If its connection is closed the driver learns it by that, long before the silence says so."""
    script = (
        Playbook(scheduler(SchedulerSettings(probe_after_s=1.5, lost_after_s=10.0)))
        >> At(0.0, greeted("a"))
        >> At(0.0, greeted("b"))
        >> At(1.0, said("b", ALIVE)) << Tell(peer="b", message=ALIVE)
        >> At(1.5, Tick())
        >> At(2.0, Tick()) << Tell(peer="a", message=ALIVE)
        >> At(2.2, said("a", ALIVE)) << Tell(peer="a", message=ALIVE)
        >> At(2.6, Tick()) << Tell(peer="b", message=ALIVE)
        >> At(2.7, PeerGone(peer="b")) << Forget(peer="b")
        >> At(3.1, Tick())
    )  # fmt: skip
    assert set(script.check().state.peers) == {"a"}


def test_what_a_stranger_says_changes_nothing() -> None:
    made = scheduler()
    for message in (register(), ALIVE, done(1, 0), seeded(0, of=1)):
        assert made.handle(said("stranger", message), 0.0) == [Forget(peer="stranger")]
    assert made.state.tasks == {}
    assert made.state.peers == {}


def test_hello_again_is_a_new_beginning() -> None:
    made = scheduler()
    for event in (seed_greeted(), greeted("a"), said("a", register()), said(SEED, seeded(0, of=1))):
        made.handle(event, 0.0)
    script = (
        Playbook(made)
        >> At(1.0, greeted("a", upload_rate=7, location="x"))
        << Noticed(Notice.PEER_LOST, peer="a", text="hello again") << Noticed(Notice.PEER_JOINED, peer="a", text="tcp://a:1")
    )  # fmt: skip
    script.check()
    record = made.state.peers["a"]
    assert (record.upload_rate, record.location, record.tasks, record.joined_at) == (7, "x", set(), 1.0)
    assert len(made.state.leases) == 0
    assert leases_in(made.handle(said("a", register()), 1.5)) != []
    counters = made.state.counters
    assert (counters.peers_joined, counters.peers_lost, len(made.state.peers)) == (3, 1, 2)


def test_there_are_only_so_many_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler_module, "_MAX_PEERS", 1)
    script = (
        Playbook(scheduler())
        >> At(0.0, greeted("a"))
        >> At(0.0, greeted("b")) << Forget(peer="b") << Noticed(Notice.UNEXPECTED, peer="b", text="more than 1 peers")
        >> At(0.1, greeted("a"))
        >> At(0.2, said("a", ALIVE)) << Tell(peer="a", message=ALIVE)
    )  # fmt: skip
    assert set(script.check().state.peers) == {"a"}


def test_alive_is_answered_and_its_counts_are_kept() -> None:
    made = scheduler()
    for event in (greeted("a"), greeted("b"), seed_greeted()):
        made.handle(event, 0.0)
    said_a = Alive(received=(1, 20, 300, 4000), sent=50)
    assert made.handle(said("a", said_a), 1.0) == [Tell(peer="a", message=ALIVE)]
    made.handle(said("b", Alive(received=(2, 0, 5, 0), sent=7)), 1.0)
    made.handle(said(SEED, Alive(received=(1000,), sent=600)), 1.0)
    assert made.state.received() == {Origin.SOURCE: 1003, Origin.SEED: 20, Origin.PEER: 305, Origin.DISK: 4000}
    assert made.state.sent() == 657
    made.handle(PeerGone(peer="a"), 2.0)
    assert made.state.received() == {Origin.SOURCE: 1003, Origin.SEED: 20, Origin.PEER: 305, Origin.DISK: 4000}
    assert made.state.sent() == 657


@pytest.mark.parametrize("gone", [True, False], ids=["held for dead", "hello again at once"])
def test_a_peer_that_comes_back_goes_on_counting_and_nothing_counts_twice(gone: bool) -> None:
    made = scheduler()
    made.handle(greeted("a"), 0.0)
    made.handle(said("a", Alive(received=(10, 20, 30, 40), sent=5)), 1.0)
    if gone:
        made.handle(PeerGone(peer="a"), 2.0)
    made.handle(greeted("a"), 3.0)
    assert made.state.received() == {Origin.SOURCE: 10, Origin.SEED: 20, Origin.PEER: 30, Origin.DISK: 40}
    made.handle(said("a", Alive(received=(11, 20, 35, 40), sent=6)), 4.0)
    assert made.state.received() == {Origin.SOURCE: 11, Origin.SEED: 20, Origin.PEER: 35, Origin.DISK: 40}
    assert made.state.sent() == 6


def test_another_process_of_the_same_name_begins_at_nothing_and_adds_up() -> None:
    """A seed that was started again has the name of the one before."""
    made = scheduler()
    made.handle(seed_greeted(), 0.0)
    made.handle(said(SEED, Alive(received=(100,), sent=70)), 1.0)
    made.handle(PeerGone(peer=SEED), 2.0)
    made.handle(seed_greeted(), 3.0)
    made.handle(said(SEED, Alive(received=(0,), sent=0)), 3.1)
    assert (made.state.received()[Origin.SOURCE], made.state.sent()) == (100, 70)
    made.handle(said(SEED, Alive(received=(5,), sent=3)), 4.0)
    assert (made.state.received()[Origin.SOURCE], made.state.sent()) == (105, 73)
    made.handle(PeerGone(peer=SEED), 5.0)
    assert (made.state.received()[Origin.SOURCE], made.state.sent()) == (105, 73)


def test_next_to_nothing_is_kept_of_a_peer_that_is_gone() -> None:
    made = scheduler()
    for event in (seed_greeted(), greeted("a"), said("a", register()), PeerGone(peer="a"), PeerGone(peer=SEED)):
        made.handle(event, 0.0)
    assert made.state.peers == {}
    assert made.state.tasks[TASK].members == {}
    assert set(made.state.former) == {"a", SEED}
    made.validate()


def test_the_more_peers_there_are_the_less_often_each_says_that_it_is_alive() -> None:
    made = scheduler(SchedulerSettings(alive_every_s=1.0, alives_per_s=10.0, lost_after_s=4.0, probe_after_s=1e6))
    made.handle(greeted("first"), 0.0)
    for number in range(39):
        made.handle(greeted(f"peer-{number}"), 0.0)
    assert made.alive_every_s == 4.0
    assert made.handle(said("first", Alive()), 0.5) == [Tell(peer="first", message=Alive(every_s=4.0))]
    assert made.handle(said("first", Alive()), 4.5) == [Tell(peer="first", message=Alive())], "it knows already"
    made.handle(Tick(), 16.4)
    assert list(made.state.peers) == ["first"], "three of its own ALIVEs, for the others what they were told at first"
    made.handle(Tick(), 17.0)
    assert not made.state.peers
