"""Who is chosen, each rule by itself."""

import itertools
import random

import pytest

from broker.core.choice import Choice
from broker.core.links import Links
from broker.core.matcher_settings import LinkSettings
from broker.core.roster import Roster
from broker.core.swarm import Peer
from broker.core.zone_budget import ZoneBudget

PIECES = 100


def choice(*, zone_rate: float = 0.0) -> Choice:
    rng = random.Random(1)
    links = Links(1e6, PIECES, 1000, LinkSettings(), rng)
    budget = ZoneBudget(zone_rate) if zone_rate else None
    numbers = itertools.count(1)
    return Choice(Roster(PIECES, links, rng=rng, lease_numbers=numbers, cut_through=True, settle_s=0.01, budget=budget))


def enter(of: Choice, name: str, have: int = 0, *, zone: str = "", rate: float | None = None) -> Peer:
    made = Peer(name, location=zone)
    of.roster.enter(made, have, rate)
    return made


def bits(*pieces: int) -> int:
    return sum(1 << piece for piece in pieces)


def decided(of: Choice) -> list[tuple[str, str, int]]:
    return [(each.child, each.parent, each.piece) for each in of.roster.decided]


def test_the_rarest_piece_goes_first() -> None:
    of = choice()
    enter(of, "holder", bits(1, 2, 3))
    for number in range(5):
        enter(of, f"other-{number}", bits(1, 2) | bits(number + 10))
    child = enter(of, "child", bits(50))
    parent = of.roster.peers["holder"]
    assert of._best_parent(child, [parent]) == (parent, 3)


def test_the_less_busy_of_two_equal_parents_is_taken() -> None:
    of = choice()
    busy, free = enter(of, "busy", bits(1)), enter(of, "free", bits(1))
    of.grant(busy, enter(of, "other", bits(30)), 1)
    child = enter(of, "child", bits(40))
    found = of._best_parent(child, [busy, free])
    assert found is not None
    assert found[0] is free


def test_an_empty_child_is_served_before_one_that_has_something() -> None:
    of = choice()
    parent = enter(of, "parent", bits(0, 1, 2))
    enter(of, "has", bits(5, 6, 7))
    enter(of, "empty")
    assert of.match_up(parent)
    assert decided(of)[0][0] == "empty"


def test_a_slow_parent_gets_none_of_the_last_pieces() -> None:
    of = choice()
    slow = enter(of, "slow", of.roster.full, rate=1e5)
    nearly = enter(of, "nearly", of.roster.full & ~bits(7))
    far = enter(of, "far", bits(*range(20, 40)))
    assert slow.slow
    assert of.too_slow(slow, nearly)
    assert not of.match_down(nearly, 8)
    assert not of.too_slow(slow, far) or of.roster.behind(far) > of.roster.behind_from
    assert of.match_relaxed(nearly, [slow]), "rather that than nothing, after a long wait"


def test_a_child_that_is_ahead_yields_its_lease() -> None:
    of = choice()
    parent = enter(of, "parent", of.roster.full)
    ahead = enter(of, "ahead", bits(*range(60)))
    of.grant(parent, ahead, 70)
    (lease,) = ahead.fetching
    assert not of._should_yield(lease) or of.roster.needy.items
    behind = enter(of, "behind", bits(0))
    behind.offset = 0.0
    assert behind in of.roster.needy
    for _ in range(20):
        if of._should_yield(lease):
            break
    else:
        pytest.fail("a peer 60 pieces behind waits, and the lease goes on")


def test_first_copies_go_to_good_uploaders() -> None:
    of = choice()
    enter(of, "slow", rate=1e5)
    enter(of, "good", rate=1e6)
    of.roster.seed.have = of.roster.seed.offers = bits(3)
    of.inject()
    assert decided(of) == [("good", "", 3)]


def test_the_seed_repeats_nothing_while_something_has_no_copy() -> None:
    of = choice()
    full = of.roster.full
    of.roster.seed.have = of.roster.seed.offers = full
    enter(of, "holder", full & ~bits(2))
    assert not of.may_repeat(), "piece 2 has no copy"
    enter(of, "other", bits(2))
    assert of.may_repeat()
    of.roster.seed.have = of.roster.seed.offers = full & ~bits(7)
    assert not of.may_repeat(), "piece 7 is still to come from the source"


def test_the_ration_of_repeats_ends_except_for_a_seed_that_is_much_of_the_swarm() -> None:
    of = choice()
    roster = of.roster
    roster.seed.have = roster.seed.offers = roster.full
    for number in range(10):
        enter(of, f"peer-{number}", roster.full, rate=1e6)
    roster.seed_sent = PIECES + 4
    assert not of.may_repeat()
    roster.links.learned = True
    roster.seed.uplink = 1e6
    assert not of.may_repeat(), "a seed like a peer has a share of less than one content"
    roster.seed.uplink = 1e7
    assert of.may_repeat(), "its share of half of everything is one of the ten contents' time"
    roster.seed_sent = 4 * PIECES
    assert not of.may_repeat(), "but never more than two fifths"


def test_into_a_zone_goes_only_what_it_has_not() -> None:
    of = choice()
    far = enter(of, "far", bits(1, 2), zone="a")
    enter(of, "near", bits(1), zone="b")
    child = enter(of, "child", bits(9), zone="b")
    assert of.useful(far, child) == bits(2)
    assert of.useful(far, child, relaxed=True) == bits(1, 2)


def test_between_two_racks_of_a_row_the_rack_counts_and_from_elsewhere_the_row() -> None:
    of = choice()
    far = enter(of, "far", bits(1, 2, 3), zone="other")
    other_rack = enter(of, "other rack", bits(1, 2), zone="row/2")
    enter(of, "near", bits(1), zone="row/1")
    child = enter(of, "child", bits(9), zone="row/1")
    assert of.useful(far, child) == bits(3), "somebody in the row has the others"
    assert of.useful(other_rack, child) == bits(2), "somebody in the rack has 1"
    assert of.useful(child, far) == bits(9), "alone where it is: nothing is kept from it"


def test_a_child_that_is_behind_may_have_anything_from_anywhere() -> None:
    of = choice()
    far = enter(of, "far", bits(*range(50)), zone="a")
    near = enter(of, "near", bits(*range(50)), zone="b")
    child = enter(of, "child", zone="b")
    assert not of.useful(far, child)
    child.offset = 0.0
    of.roster.progress_sum = float(near.held + far.held)
    assert of.roster.behind(child) > 2 * of.roster.behind_from
    assert of.useful(far, child) == bits(*range(50))


def test_parents_are_looked_for_from_the_nearest_zone_outwards_and_right_around_a_hungry_one_first() -> None:
    of = choice()
    child = enter(of, "child", zone="a/1")
    for number, zone in enumerate(["a/1", "a/2", "a/2", "b"]):
        enter(of, f"other-{number}", zone=zone)
    rack, dc = child.zones
    rack.has = dc.has = of.roster.full
    assert of._parents_for(child) == [rack.free, dc.free, of.roster.free]
    rack.has = 0
    assert of._parents_for(child) == [dc.free, rack.free, of.roster.free]
    dc.has = 0
    assert of._parents_for(child) == [of.roster.free, dc.free, rack.free]
    rack.has = of.roster.full
    assert of._parents_for(child) == [of.roster.free, rack.free, dc.free]


def test_no_more_leases_enter_a_zone_than_its_link_carries() -> None:
    of = choice(zone_rate=1e6)
    far = enter(of, "far", of.roster.full, zone="a")
    child = enter(of, "child", bits(9), zone="b/1")
    assert of.useful(far, child)
    child.zones[0].entering = 4
    assert not of.useful(far, child)
    assert of.useful(far, child, relaxed=True), "it has waited for long"


def test_nothing_enters_a_zone_whose_budget_is_spent_not_even_from_the_seed() -> None:
    of = choice(zone_rate=1e5)
    far = enter(of, "far", of.roster.full, zone="a")
    near, child = enter(of, "near", bits(9), zone="b/1"), enter(of, "child", bits(8), zone="b/1")
    of.roster.seed.have = of.roster.seed.offers = of.roster.full
    budget = of.roster.zones.budget
    assert budget is not None
    budget.spend("b", 2e5, 0.0)
    assert not of.useful(far, child, relaxed=True)
    assert not of.from_seed(child)
    assert of.useful(near, child) == bits(9)
    of.roster.now = 1.5
    assert of.useful(far, child, relaxed=True)
    assert of.from_seed(child)


def test_a_parent_that_failed_the_child_lately_gives_it_nothing() -> None:
    of = choice()
    parent, child = enter(of, "parent", bits(1)), enter(of, "child", bits(2))
    child.avoids[parent] = (1.0, 1)
    assert not of.match_down(child, 8)
    of.roster.now = 1.0
    assert of.match_down(child, 8)
