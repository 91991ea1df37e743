"""Zones that are learned: what counts as one, what never does, and for how long."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.core import learned_zones
from broker.core.learned_zones import CLEARLY, HARDLY, LearnedZones, subnet_of

MIB = float(1 << 20)


@pytest.mark.parametrize(
    ("endpoint", "found"),
    [
        ("tcp://10.1.2.3:4", ("subnet 10.1.2.*", "10.1.2.3")),
        ("tcp://[2001:db8::1:2]:9", ("subnet 2001:0db8:0000:0000:*", "2001:db8::1:2")),
        ("tcp://[::ffff:10.1.2.3]:9", ("subnet 10.1.2.*", "10.1.2.3")),
        ("tcp://127.0.0.1:4", None),
        ("tcp://[::1]:4", None),
        ("tcp://[fe80::1%eth0]:4", None),
        ("tcp://169.254.1.1:4", None),
        ("tcp://0.0.0.0:4", None),
        ("tcp://some.host:4", None),
        ("", None),
        ("ipc:///tmp/x", None),
    ],
)
def test_a_subnet_is_found_in_an_endpoint(endpoint: str, found: tuple[str, str] | None) -> None:
    assert subnet_of(endpoint) == found


@given(st.text(max_size=40))
def test_whatever_an_endpoint_says_it_is_read(endpoint: str) -> None:
    found = subnet_of(endpoint)
    assert found is None or found[0].startswith("subnet ")


def cluster(*, subnets: int = 3, hosts: int = 5) -> tuple[LearnedZones, list[str]]:
    made, peers = LearnedZones(), []
    for subnet in range(subnets):
        for host in range(1, hosts + 1):
            peer = f"{subnet}-{host}"
            assert made.enter(peer, f"tcp://10.0.{subnet}.{host}:1") == ""
            peers.append(peer)
    return made, peers


def transfer(
    of: LearnedZones, peers: list[str], *, inside: float, between: float, count: int = 3000, now: float = 0.0
) -> dict[str, str]:
    """So many pieces between random peers, at the rates given, each of them up to a third more or less."""
    rng = random.Random(7)
    moved: dict[str, str] = {}
    for _ in range(count):
        parent, child = rng.sample(peers, 2)
        rate = inside if parent.partition("-")[0] == child.partition("-")[0] else between
        moved |= of.observe(parent, child, rate * rng.uniform(0.67, 1.33), now)
    return moved


def test_subnets_that_are_clearly_faster_inside_are_zones() -> None:
    of, peers = cluster()
    moved = transfer(of, peers, inside=30 * MIB, between=10 * MIB)
    assert moved == {peer: f"subnet 10.0.{peer[0]}.*" for peer in peers}
    assert of.zone_of("1-1") == "subnet 10.0.1.*"
    assert of.enter("late", "tcp://10.0.2.99:5") == "subnet 10.0.2.*"
    assert of.enter("elsewhere", "tcp://10.9.9.9:5") == ""
    assert of.zone_of("nobody") == ""


@pytest.mark.parametrize("between", [1.0, 0.6, 0.55, 5.0])
def test_subnets_that_are_not_clearly_faster_inside_are_none(between: float) -> None:
    of, peers = cluster()
    assert transfer(of, peers, inside=10 * MIB, between=between * 10 * MIB) == {}


def test_a_few_samples_and_a_few_hosts_prove_nothing() -> None:
    of, peers = cluster()
    assert transfer(of, peers, inside=30 * MIB, between=1 * MIB, count=150) == {}
    of, peers = cluster(hosts=3)
    assert transfer(of, peers, inside=30 * MIB, between=1 * MIB) == {}


def test_peers_of_one_host_say_nothing_of_the_network() -> None:
    of = LearnedZones()
    for number in range(6):
        of.enter(f"0-{number}", "tcp://10.0.0.1:1")
        of.enter(f"1-{number}", f"tcp://10.0.1.{number}:1")
    peers = [f"{subnet}-{number}" for subnet in range(2) for number in range(6)]
    moved = transfer(of, peers, inside=30 * MIB, between=10 * MIB)
    assert set(moved.values()) == {"subnet 10.0.1.*"}


def test_what_was_not_measured_and_who_is_not_known_count_for_nothing() -> None:
    of, peers = cluster()
    for _ in range(1000):
        assert of.observe(peers[0], peers[1], 0.0, 0.0) == {}
        assert of.observe("stranger", peers[1], 1.0, 0.0) == {}
        assert of.observe(peers[0], "stranger", 1.0, 0.0) == {}


def test_a_zone_is_kept_while_its_time_lasts_then_given_up_and_kept_longer_the_next_time() -> None:
    of, peers = cluster()
    assert transfer(of, peers, inside=30 * MIB, between=10 * MIB, now=0.0)
    assert transfer(of, peers, inside=10 * MIB, between=10 * MIB, now=500.0) == {}, "its link is not full any more: of course"
    assert transfer(of, peers, inside=15 * MIB, between=10 * MIB, now=599.0) == {}
    assert transfer(of, peers, inside=15 * MIB, between=10 * MIB, now=601.0) == {}, "something still speaks for it"
    assert set(transfer(of, peers, inside=10 * MIB, between=10 * MIB, now=602.0).values()) == {""}
    assert transfer(of, peers, inside=30 * MIB, between=10 * MIB, now=1000.0)
    assert transfer(of, peers, inside=10 * MIB, between=10 * MIB, now=2199.0) == {}, "twice as long"
    assert set(transfer(of, peers, inside=10 * MIB, between=10 * MIB, now=2201.0).values()) == {""}


def test_a_subnet_is_remembered_while_its_peers_are_away_and_many_subnets_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learned_zones, "_MOST_SUBNETS", 3)
    of, peers = cluster()
    transfer(of, peers, inside=30 * MIB, between=10 * MIB)
    for peer in peers[:5]:
        of.leave(peer)
    assert of.enter("again", "tcp://10.0.0.8:1") == "subnet 10.0.0.*"
    assert of.enter("one too many", "tcp://10.7.0.1:1") == ""
    assert of.observe("again", "one too many", 5.0, 0.0) == {}, "and is not counted"
    of.leave("again")
    of.enter("another", "tcp://10.7.0.1:1")
    assert of.enter("again", "tcp://10.0.0.8:1") == "", "all three places are taken"


@settings(max_examples=30, deadline=None)
@given(
    spread=st.floats(1.0, 3.0),
    slow=st.floats(0.0, 0.5),
    inside_bias=st.floats(1 / 1.6, 1.6),
    seed=st.integers(0, 10_000),
    hosts=st.integers(4, 12),
)
def test_never_where_rates_do_not_differ(spread: float, slow: float, inside_bias: float, seed: int, hosts: int) -> None:
    """Rates that vary as they like, slow parents anywhere: as long as inside and between are alike, the network stays flat."""
    rng = random.Random(seed)
    of, peers = cluster(subnets=3, hosts=hosts)
    slow_peers = set(rng.sample(peers, round(slow * len(peers))))
    for step in range(3000):
        parent, child = rng.sample(peers, 2)
        rate = 10 * MIB * spread ** rng.uniform(-1, 1) / (10 if parent in slow_peers and rng.random() < 0.3 else 1)
        if parent.partition("-")[0] == child.partition("-")[0]:
            rate *= min(inside_bias, 1.2)
        assert of.observe(parent, child, rate, float(step)) == {}


@settings(max_examples=30, deadline=None)
@given(events=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 14), st.integers(0, 14), st.floats(1, 1e9)), max_size=300))
def test_what_it_says_changed_is_what_it_says(events: list[tuple[int, int, int, float]]) -> None:
    of, believed = LearnedZones(), {}
    for step, (kind, one, other, rate) in enumerate(events):
        peer = f"peer-{one}"
        if kind == 0:
            believed[peer] = of.enter(peer, f"tcp://10.0.{one // 5}.{one}:1")
        elif kind == 1:
            of.leave(peer)
            believed.pop(peer, None)
        else:
            for _ in range(40):
                moved = of.observe(f"peer-{other}", peer, rate, 100.0 * step)
                assert moved.keys() <= believed.keys()
                believed |= moved
        assert {each: of.zone_of(each) for each in believed} == believed


def test_the_two_bounds_leave_room_between_them() -> None:
    assert CLEARLY > 1.5 * HARDLY > 1.5
