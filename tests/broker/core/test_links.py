"""Beliefs about uplinks: what raises them, what lowers them, and what is usual."""

import random

import pytest

from broker.core.links import Links
from broker.core.matcher_settings import LinkSettings
from broker.core.swarm import Lease, Peer

U = 1e6


def links(pieces: int = 256, settings: LinkSettings | None = None, nominal: float = U) -> Links:
    return Links(nominal, pieces, 100_000, settings or LinkSettings(), random.Random(1))


def peer(of: Links, name: str, rate: float | None = None, *, proven: bool = True) -> Peer:
    made = Peer(name)
    made.proven = proven
    of.enter(made, rate)
    return made


def lease(parent: Peer, child: Peer, number: int = 1) -> Lease:
    made = Lease(number, parent, child)
    made.pieces = [0]
    parent.serving[made] = None
    child.fetching[made] = None
    made.shared_by = len(parent.serving)
    return made


def learn(of: Links, rate: float = U) -> None:
    """Eight peers are known to upload at `rate`."""
    for number in range(8):
        peer(of, f"known-{number}", rate)
    parent, child = peer(of, "teacher", rate), peer(of, "pupil")
    given = lease(parent, child)
    while not of.learned:
        of.observe(given, rate, followed=False)
    assert of.nominal == pytest.approx(rate)


def test_an_unknown_peer_is_held_for_a_usual_one() -> None:
    of = links()
    made = peer(of, "new")
    assert (made.slots, made.goodness, made.weight, made.slow) == (3, 1.0, 1.0, False)
    assert of.total == U


def test_a_peer_that_nothing_has_come_from_serves_two_at_most() -> None:
    of = links()
    learn(of)
    new, child = peer(of, "new", proven=False), peer(of, "child")
    assert new.slots == 2
    mine = lease(new, child)
    of.observe(mine, 0.1 * U, followed=False)
    before = new.proven
    of.observe(mine, 0.6 * U, followed=False)
    assert (before, new.proven) == (False, True), "the first one was slow"
    assert new.slots == 3
    assert new in of.changed


def test_a_peer_that_is_ten_times_slower_has_one_slot_and_counts_for_less() -> None:
    made = peer(links(), "slow", U / 10)
    assert made.slots == 1
    assert made.slow
    assert made.weight == pytest.approx(0.3)


def test_a_peer_that_is_much_faster_has_more_slots_up_to_a_bound() -> None:
    of = links()
    assert peer(of, "fast", 3 * U).slots == 9
    assert peer(of, "faster", 300 * U).slots == 12


def test_what_a_child_measures_with_room_on_its_link_lowers_the_belief() -> None:
    of = links()
    learn(of)
    child = peer(of, "child")
    slow, good = lease(peer(of, "slow"), child), lease(peer(of, "good"), child, 2)
    of.observe(good, 0.5 * U, followed=False)
    of.observe(slow, 0.05 * U, followed=False)
    assert slow.parent.uplink == pytest.approx(0.05 * U)
    assert slow.parent.slow
    assert good.parent.uplink is None, "it is the fastest of the child's leases: perhaps the child's own link is full"


def test_what_was_shared_counts_for_all_that_shared_it() -> None:
    of = links()
    learn(of)
    parent, child = peer(of, "parent"), peer(of, "child")
    lease(parent, peer(of, "other"), 7)
    mine, fast = lease(parent, child), lease(peer(of, "fast"), child, 2)
    of.observe(fast, 1.0 * U, followed=False)
    of.observe(mine, 0.4 * U, followed=False)
    assert parent.uplink == pytest.approx(0.8 * U)


def test_a_piece_that_its_parent_waited_for_lowers_nothing() -> None:
    of = links()
    learn(of)
    child = peer(of, "child")
    mine, fast = lease(peer(of, "parent"), child), lease(peer(of, "fast"), child, 2)
    of.observe(fast, U, followed=False)
    of.observe(mine, 0.01 * U, followed=True)
    assert mine.parent.uplink is None


def test_more_than_was_believed_always_raises() -> None:
    of = links()
    learn(of)
    mine = lease(peer(of, "parent", None), peer(of, "child"))
    mine.parent.uplink_limit = None
    of.observe(mine, 5 * U, followed=False)
    assert mine.parent.uplink == pytest.approx(5 * U)


def test_no_report_makes_a_peer_faster_than_its_limit_or_than_any_link() -> None:
    of = links()
    limited = lease(peer(of, "limited", U), peer(of, "child"))
    of.observe(limited, 1e15, followed=False)
    assert limited.parent.uplink == U
    wild = lease(peer(of, "wild"), peer(of, "other"))
    learn(of)
    of.observe(wild, 1e15, followed=False)
    assert wild.parent.uplink is not None
    assert wild.parent.uplink <= 64 * of.nominal


def test_a_lease_that_lasts_too_long_shows_a_slow_parent_without_a_report() -> None:
    of = links()
    learn(of)
    mine = lease(peer(of, "parent"), peer(of, "child"))
    assert not of.overdue(mine, 0.1), "100,000 bytes in 0.1 s are what is usual"
    assert of.overdue(mine, 1.0)
    assert mine.parent.uplink == pytest.approx(0.1 * U)


def test_blame_halves_the_belief() -> None:
    of = links()
    made = peer(of, "parent")
    of.slow_down(made)
    assert made.uplink == U / 2
    of.slow_down(made)
    assert made.uplink == U / 4


def test_the_usual_rate_is_the_median_of_peers_whatever_was_guessed() -> None:
    of = links(nominal=77 * U)
    for number in range(9):
        peer(of, f"peer-{number}", U if number % 3 else U / 10)
    given = lease(peer(of, "parent"), peer(of, "child"))
    while not of.learned:
        of.observe(given, U / 3, followed=False)
    assert of.nominal == U


def test_leases_are_longer_where_pieces_take_no_time() -> None:
    of = links()
    assert (of.lease_pieces, of.refill_at) == (2, 1)
    learn(of, 600 * U)
    assert of.lease_pieces == 16
    assert of.refill_at == 8


def test_the_seed_begins_with_few_leases_and_gets_what_its_link_is_worth() -> None:
    of = links()
    seed = Peer("", is_seed=True)
    of.derive(seed)
    assert seed.slots == 2
    learn(of)
    given = lease(seed, peer(of, "child"))
    given.shared_by = 4
    for number in range(3):
        lease(seed, peer(of, f"other-{number}"), 10 + number)
    of.observe(given, U, followed=False)
    assert seed.uplink == 4 * U
    of.derive(seed)
    assert seed.slots == 16


def test_leaving_takes_the_uplink_out_of_the_total() -> None:
    of = links()
    one, two = peer(of, "one", 3 * U), peer(of, "two")
    assert of.total == 4 * U
    of.leave(one)
    of.leave(two)
    assert of.total == 0


def test_small_contents_are_passed_on_to_two_at_once() -> None:
    assert peer(links(pieces=16), "peer").slots == 2
    assert peer(links(pieces=32), "peer").slots == 3


def test_a_usual_uplink_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError):
        links(nominal=0.0)
