"""Who is chosen, each rule by itself."""

import itertools
import random

import pytest

from broker.core.choice import Choice
from broker.core.links import Links
from broker.core.matcher_settings import LinkSettings
from broker.core.roster import Roster
from broker.core.swarm import Peer

PIECES = 100


def choice(*, zone_rate: float = 0.0) -> Choice:
    rng = random.Random(1)
    links = Links(1e6, PIECES, 1000, LinkSettings(), rng)
    roster = Roster(PIECES, links, rng=rng, lease_numbers=itertools.count(1), cut_through=True, settle_s=0.01)
    return Choice(roster, zone_rate=zone_rate)


def enter(of: Choice, name: str, have: int = 0, *, zone: str = "", rate: float | None = None) -> Peer:
    made = Peer(name, zone_name=zone)
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


def test_across_zones_goes_only_what_the_zone_has_not() -> None:
    of = choice()
    far = enter(of, "far", bits(1, 2), zone="a")
    enter(of, "near", bits(1), zone="b")
    child = enter(of, "child", bits(9), zone="b")
    assert of.useful(far, child) == bits(2)
    assert of.useful(far, child, relaxed=True) == bits(1, 2)


def test_no_more_leases_enter_a_zone_than_its_link_carries() -> None:
    of = choice(zone_rate=1e6)
    far = enter(of, "far", of.roster.full, zone="a")
    child = enter(of, "child", bits(9), zone="b")
    assert of.useful(far, child)
    child.zone.entering = 4
    assert not of.useful(far, child)


def test_a_parent_that_failed_the_child_lately_gives_it_nothing() -> None:
    of = choice()
    parent, child = enter(of, "parent", bits(1)), enter(of, "child", bits(2))
    child.avoids[parent] = (1.0, 1)
    assert not of.match_down(child, 8)
    of.roster.now = 1.0
    assert of.match_down(child, 8)
