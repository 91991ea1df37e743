"""The roster's steps, one by one, each followed by the whole check."""

import itertools
import random

import pytest

from broker.core.links import Links
from broker.core.matcher_check import validate
from broker.core.matcher_settings import LinkSettings
from broker.core.roster import Roster
from broker.core.swarm import Peer
from broker.core.zone_budget import ZoneBudget


def roster(pieces: int = 40, *, budget: ZoneBudget | None = None) -> Roster:
    rng = random.Random(1)
    links = Links(1e6, pieces, 1000, LinkSettings(), rng)
    numbers = itertools.count(1)
    return Roster(pieces, links, rng=rng, lease_numbers=numbers, cut_through=True, settle_s=0.01, budget=budget)


def enter(of: Roster, name: str, have: int = 0, *, zone: str = "", wants: bool = True) -> Peer:
    made = Peer(name, wants=wants, location=zone)
    of.enter(made, have, None)
    return made


def grant(of: Roster, parent: Peer, child: Peer, *pieces: int) -> int:
    lease = of.open_lease(parent, child)
    for piece in pieces:
        of.promise(lease, piece)
    of.sync(parent)
    of.sync(child)
    return lease.number


def test_a_promise_takes_the_piece_out_of_what_is_wanted_and_counts_as_a_copy() -> None:
    of = roster()
    parent, child = enter(of, "parent", 0b11), enter(of, "child")
    grant(of, parent, child, 0, 1)
    validate(of)
    assert child.want & 0b11 == 0
    assert of.rarity.copies[:2] == [2, 2]
    assert [(each.child, each.parent, each.lease, each.piece) for each in of.decided] == [
        ("child", "parent", 1, 0),
        ("child", "parent", 1, 1),
    ]


def test_what_is_undone_before_it_was_told_is_never_told() -> None:
    of = roster()
    parent, child = enter(of, "parent", 0b111), enter(of, "child")
    lease = of.leases[grant(of, parent, child, 0, 1, 2)]
    of.unpromise(lease, 1, {})
    of.unpromise(lease, 0, {})
    of.promise(lease, 0)
    assert [(each.lease, each.piece) for each in of.take_decided()] == [(1, 0), (1, 2)], "given again, told once"
    of.promise(lease, 1)
    for each in of.leave(parent):
        of.sync(each)
    assert of.take_decided() == [], "its lease has ended"


def test_a_broken_promise_breaks_those_that_wait_for_it() -> None:
    of = roster()
    root, middle, last = enter(of, "root", 1), enter(of, "middle"), enter(of, "last")
    root.proven = middle.proven = True
    first = of.leases[grant(of, root, middle, 0)]
    assert of.offer_start(first, 0)
    of.sync(middle)
    grant(of, middle, last, 0)
    validate(of)
    touched: dict[Peer, None] = {}
    of.unpromise(first, 0, touched)
    for peer in touched:
        of.sync(peer)
    validate(of)
    assert set(touched) == {root, middle, last}
    assert of.leases == {}
    assert of.rarity.copies[0] == 1
    assert last.want & 1
    assert middle.offers == 0


def test_a_promise_is_kept_though_its_own_root_is_gone_once_the_parent_has_the_piece() -> None:
    of = roster()
    root, middle, last = enter(of, "root", 1), enter(of, "middle"), enter(of, "last")
    root.proven = True
    first = of.leases[grant(of, root, middle, 0)]
    of.offer_start(first, 0)
    second = grant(of, middle, last, 0)
    of.arrived(middle, 0, 1)
    for peer in of.leave(root):
        of.sync(peer)
    of.sync(middle)
    validate(of)
    assert list(of.leases) == [second]


@pytest.mark.parametrize("proven", [True, False])
def test_only_what_a_known_parent_sends_is_offered_on(proven: bool) -> None:
    of = roster()
    parent, child = enter(of, "parent", 1), enter(of, "child")
    parent.proven = proven
    lease = of.leases[grant(of, parent, child, 0)]
    assert of.offer_start(lease, 0) is proven
    assert child.offers == int(proven)


def test_a_late_joiner_starts_with_everybodys_progress() -> None:
    of = roster()
    for number in range(3):
        enter(of, f"old-{number}", (1 << 20) - 1)
    late = enter(of, "late")
    assert of.behind(late) == pytest.approx(0)
    enter(of, "complete", of.full)
    assert of.behind(late) == pytest.approx(0), "who has everything is nobody's measure"
    validate(of)


def test_a_child_that_is_behind_has_more_room() -> None:
    of = roster()
    ahead, behind = enter(of, "ahead", (1 << 30) - 1), enter(of, "behind")
    behind.offset = 0.0
    ahead.offset = 0.0
    of.progress_sum = float(ahead.held + behind.held)
    assert of.room(behind) > of.room(ahead)


def test_everything_is_forgotten_with_a_peer() -> None:
    of = roster()
    parent, child = enter(of, "parent", of.full), enter(of, "child", 0b100)
    grant(of, parent, child, 0, 1)
    assert of.complete == 1
    assert of.leave(child) == [parent]
    of.sync(parent)
    validate(of)
    assert of.leave(parent) == []
    validate(of)
    assert of.complete == 0
    assert of.rarity.copies == [0] * 40
    assert of.held_sum == 0


def test_a_second_zone_makes_zones_count() -> None:
    of = roster()
    here, child = enter(of, "here", 0b1, zone="a"), enter(of, "child", zone="a")
    grant(of, here, child, 0)
    before = of.zones.aware
    there = enter(of, "there", 0b10, zone="b")
    validate(of)
    assert (before, of.zones.aware) == (False, True)
    (zone,) = child.zones
    assert zone.has == 0b1
    grant(of, there, child, 1)
    validate(of)
    assert zone.entering == 1
    assert zone.has == 0b11


def test_what_is_promised_into_a_zone_is_spent_and_given_back_when_it_does_not_come() -> None:
    budget = ZoneBudget(10_000.0)
    of = roster(budget=budget)
    near, far, child = enter(of, "near", 0b1, zone="a"), enter(of, "far", 0b110, zone="b"), enter(of, "child", zone="a")
    grant(of, near, child, 0)
    lease = of.leases[grant(of, far, child, 1, 2)]
    assert budget.left("a", of.now) == 8_000, "two pieces of 1000 bytes from far, none from near"
    of.unpromise(lease, 2, {})
    assert budget.left("a", of.now) == 9_000
    assert budget.left("b", of.now) == 10_000
