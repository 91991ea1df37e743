"""Zones: which are tracked, what is in each, what enters it, and which are served first."""

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core.idset import IdSet
from broker.core.swarm import Lease, Peer, Zone
from broker.core.zone_budget import ZoneBudget
from broker.core.zones import LEVELS, Zones, entered, level_between, path_of

RNG = random.Random(1)


def zones(*locations: str, pieces: int = 4, budget: ZoneBudget | None = None) -> tuple[Zones, list[Peer]]:
    made = Zones(pieces, 2, free=IdSet(), needy=IdSet(), budget=budget)
    peers = [enter(made, f"peer-{number}", location) for number, location in enumerate(locations)]
    made.validate()
    return made, peers


def enter(of: Zones, name: str, location: str) -> Peer:
    peer = Peer(name, location=location)
    peer.want = of.full
    of.enter(peer)
    return peer


def lease(of: Zones, parent: Peer, child: Peer) -> Lease:
    made = Lease(1, parent, child)
    child.fetching[made] = None
    of.opened(made)
    return made


def end(of: Zones, ended: Lease) -> None:
    del ended.child.fetching[ended]
    of.closed(ended)


def names(peer: Peer) -> list[str]:
    return [zone.name for zone in peer.zones]


def hungry(of: Zones, around: Zone | None = None) -> set[str]:
    return {zone.name for zone in (around or of.everywhere).hungry.items}


@pytest.mark.parametrize(
    ("location", "path"),
    [
        ("", ("",)),
        (" / ", ("",)),
        ("a", ("a",)),
        ("a/b/c", ("a", "a/b", "a/b/c")),
        ("/a//b /", ("a", "a/b")),
        ("a/b/c/d", ("a", "a/b", "a/b/c", "a/b/c/d")),
        ("a/b/c/d/e/f", ("a", "a/b", "a/b/c", "a/b/c/d/e/f")),
    ],
)
def test_a_location_is_a_path_of_bounded_depth(location: str, path: tuple[str, ...]) -> None:
    assert path_of(location) == path


@given(st.text(alphabet="ab/ ", max_size=30))
def test_every_location_has_a_path(location: str) -> None:
    path = path_of(location)
    assert 1 <= len(path) <= LEVELS
    for wider, narrower in pairwise(path):
        assert narrower.startswith(wider + "/")
    assert path_of(path[-1]) == path


@pytest.mark.parametrize(
    ("parent", "child", "level"),
    [
        ("", "", 0),
        ("", "a/b", 1),
        ("a/b", "", 1),
        ("a/b", "a/b", 0),
        ("a/b", " a / b/", 0),
        ("a/b", "a/c", 2),
        ("a/b", "c/b", 1),
        ("a/b/c/d", "a/b/c/e", 4),
        ("a", "a/b", 2),
        ("a/b", "a", 0),
        ("1/2/3/4/5", "1/2/3/4/6", 4),
    ],
)
def test_the_widest_level_at_which_two_differ(parent: str, child: str, level: int) -> None:
    assert level_between(parent, child) == level


@pytest.mark.parametrize("locations", [[], ["a"], ["a", "a"], ["a/b", "a/b"], ["a", "b"], ["a/1", "b/1", "c", ""]])
def test_what_divides_nobody_is_not_tracked(locations: list[str]) -> None:
    made, peers = zones(*locations)
    assert not made.aware
    assert all(peer.zones == () for peer in peers)


def test_a_zone_is_tracked_from_its_second_peer_on_and_while_there_is_somebody_elsewhere() -> None:
    made, (one,) = zones("a")
    two = enter(made, "two", "a")
    assert not made.aware
    far = enter(made, "far", "b")
    made.validate()
    assert (made.aware, names(one), names(two), names(far)) == (True, ["a"], ["a"], [])
    made.leave(far)
    made.validate()
    assert (made.aware, names(one)) == (False, [])
    enter(made, "nowhere", "")
    made.leave(two)
    made.validate()
    assert not made.aware


def test_levels_that_divide_nobody_are_passed_over() -> None:
    made, (one, *_) = zones("dc/row/r1", "dc/row/r1", "dc/row/r2", "dc/row/r2", "dc/row/r3")
    made.validate()
    assert names(one) == ["dc/row/r1"]
    alone = made.everywhere.members.items[-1]
    assert names(alone) == [], "it is alone in its rack"
    enter(made, "far", "elsewhere")
    made.validate()
    assert names(one) == ["dc/row/r1", "dc/row", "dc"]
    assert names(alone) == ["dc/row", "dc"]


def test_the_widest_zone_that_only_the_child_is_in_is_entered() -> None:
    _, (here, near, same_dc, alone, far, nowhere, _) = zones("a/1", "a/1", "a/2", "a/3", "b/1", "", "a/2")
    assert entered(near, here) is None
    assert str(entered(same_dc, here)) == "Zone('a/1', 2 members)"
    assert str(entered(far, here)) == "Zone('a', 5 members)"
    assert str(entered(nowhere, here)) == "Zone('a', 5 members)"
    assert str(entered(Peer("", is_seed=True), here)) == "Zone('a', 5 members)"
    assert str(entered(alone, here)) == "Zone('a/1', 2 members)"
    assert entered(here, alone) is None, "its rack is nothing to keep bytes out of"
    assert entered(here, far) is None
    assert str(entered(far, alone)) == "Zone('a', 5 members)"


def test_a_zone_that_lacks_pieces_is_hungry_until_enough_leases_lead_into_it() -> None:
    made, (one, two, three, _) = zones("a", "a", "b", "b")
    assert hungry(made) == {"a", "b"}
    first = lease(made, three, one)
    assert hungry(made) == {"a", "b"}
    lease(made, three, two)
    assert hungry(made) == {"b"}
    made.validate()
    end(made, first)
    assert hungry(made) == {"a", "b"}
    made.validate()


def test_a_lease_enters_every_zone_that_its_parent_is_not_in() -> None:
    made, (one, *_, same_dc, _, far) = zones("a/1", "a/1", "a/2", "a/2", "b")
    rack, dc = one.zones
    lease(made, same_dc, one)
    assert (rack.entering, dc.entering) == (1, 0)
    lease(made, far, one)
    lease(made, Peer("", is_seed=True), one)
    lease(made, next(each for each in rack.members.items if each is not one), one)
    assert (rack.entering, dc.entering) == (3, 2)
    made.validate()


def test_hungry_zones_are_picked_from_the_widest_inwards_and_never_those_that_one_is_in() -> None:
    made, (one, *_) = zones("a/1", "a/1", "a/2", "a/2", "b/1", "b/1", "b/2", "b/2")
    rack, dc = one.zones
    assert hungry(made) == {"a", "b"}
    assert hungry(made, dc) == {"a/1", "a/2"}
    assert {zone.name for zone in made.pick_hungry(one, RNG)} == {"b", "a/2"}, "not b's racks: what they lack enters b"
    far = made.everywhere.below["b"]
    far.has = made.full
    made._judge(far)
    assert {zone.name for zone in made.pick_hungry(one, RNG)} == {"a/2"}
    assert rack.hungry.items == []


def test_a_lease_yields_only_to_zones_wider_than_what_it_enters() -> None:
    made, (one, two, other, *_) = zones("a/1", "a/1", "a/2", "a/2", "b", "b")
    inside, into_rack = Lease(1, two, one), Lease(2, other, one)
    a, b = made.everywhere.below["a"], made.everywhere.below["b"]
    assert {str(made.hungry_for(inside, RNG)) for _ in range(50)} == {"None", str(b)}
    b.has = made.full
    made._judge(b)
    assert made.hungry_for(inside, RNG) is None, "the one that it is in"
    a.has = made.full
    made._judge(a)
    assert {str(made.hungry_for(inside, RNG)) for _ in range(50)} == {"None", "Zone('a/2', 2 members)"}
    assert made.hungry_for(into_rack, RNG) is None


def test_a_zone_with_everything_is_not_hungry() -> None:
    made, (one, *_) = zones("a", "a", "b")
    one.want = 0
    made.gain(one, made.full)
    assert hungry(made) == set()
    made.validate()


def test_a_piece_is_lost_only_with_its_last_holder_at_each_level() -> None:
    made, (one, two, third, *_) = zones("a/1", "a/1", "a/2", "a/2", "b")
    rack, dc = one.zones
    for peer in (one, two, third):
        peer.want = made.full & ~0b1
        made.gain(peer, 0b1)
    made.validate()
    for peer, left in ((one, (1, 1)), (two, (0, 1)), (third, (0, 0))):
        peer.want = made.full
        made.lose(peer, 0)
        assert (rack.has, dc.has) == left
        made.validate()


def test_what_a_peer_had_goes_with_it() -> None:
    made, (one, two, *_) = zones("a", "a", "a", "b")
    for peer, want in ((one, 0b1001), (two, 0b1100)):
        peer.want = want
        made.gain(peer, made.full & ~want)
    zone = one.zones[0]
    assert zone.has == 0b111 & zone.has == 0b0111
    made.leave(one)
    made.validate()
    assert zone.has == 0b0011


def test_a_zone_goes_with_its_last_peer() -> None:
    made, (_, two) = zones("a/1", "b/1")
    made.leave(two)
    assert list(made.everywhere.below) == ["a"]
    made.validate()


def test_peers_that_are_elsewhere_now_are_placed_anew_with_their_leases() -> None:
    made, (one, two, three, four) = zones("", "", "", "")
    made.aware = False
    inside, across = lease(made, two, one), lease(made, three, one)
    for peer, location in ((one, "x"), (two, "x"), (three, "y"), (four, "y")):
        peer.location = location
    made.place([one, two, three, four])
    made.validate()
    assert made.aware
    assert one.zones[0].entering == 1
    end(made, across)
    end(made, inside)
    made.validate()
    assert one.zones[0].entering == 0


def test_with_a_budget_even_a_single_peers_zone_counts() -> None:
    budget = ZoneBudget(100.0)
    made, (one, far) = zones("a/1", "b", budget=budget)
    assert names(one) == ["a/1", "a"]
    made.spend(Lease(1, far, one), 60.0, 0.0)
    assert [budget.left(name, 0.0) for name in ("a/1", "a", "b")] == [40.0, 40.0, 100.0]
    made.leave(far)
    made.validate()
    made.leave(one)
    made.validate()
    assert made.everywhere.below == {}


PLACES = ["", "a", "a/1", "a/1/x", "a/2", "b", "b/1", "b/2/y/p/q"]


@given(
    steps=st.lists(st.tuples(st.integers(0, 5), st.sampled_from(PLACES), st.integers(0, 15)), max_size=40),
    budget=st.booleans(),
)
def test_whoever_comes_and_goes_every_zone_says_what_its_peers_do(steps: list[tuple[int, str, int]], budget: bool) -> None:
    made, _ = zones(budget=ZoneBudget(1.0) if budget else None)
    here: dict[int, Peer] = {}
    for number, location, want in steps:
        if number in here:
            made.leave(here.pop(number))
        else:
            here[number] = peer = Peer(str(number), location=location)
            peer.want = want
            made.enter(peer)
        made.validate()
    for one in here.values():
        for other in here.values():
            zone = entered(one, other)
            assert zone is None or (other in zone.members and one not in zone.members)
            if one.zone is other.zone:
                assert zone is None
    made.place(here.values())
    made.validate()
