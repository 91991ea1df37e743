"""Zones: what is in each, what enters it, and which are served first."""

from broker.core.swarm import Lease, Peer
from broker.core.zones import Zones


def zones(*names: str, pieces: int = 4) -> tuple[Zones, list[Peer]]:
    made, peers = Zones(pieces, wanted_entering=2), []
    for number, name in enumerate(names):
        peer = Peer(f"peer-{number}", zone_name=name)
        peer.want = made.full
        peers.append(peer)
        if made.enter(peer):
            made.rebuild()
    made.validate()
    return made, peers


def lease(of: Zones, parent: Peer, child: Peer) -> Lease:
    made = Lease(1, parent, child)
    child.fetching[made] = None
    of.opened(made)
    return made


def test_one_zone_is_not_tracked() -> None:
    made, _ = zones("a", "a")
    assert not made.aware


def test_a_zone_that_lacks_pieces_is_hungry_until_enough_leases_lead_into_it() -> None:
    made, (one, two, three) = zones("a", "b", "b")
    assert one.zone in made.hungry
    first = lease(made, two, one)
    assert one.zone in made.hungry
    lease(made, three, one)
    assert one.zone not in made.hungry
    made.validate()
    del one.fetching[first]
    made.closed(first)
    assert one.zone in made.hungry
    made.validate()


def test_leases_inside_a_zone_do_not_enter_it_and_the_seeds_do() -> None:
    made, (one, two, _) = zones("a", "a", "b")
    lease(made, one, two)
    assert one.zone.entering == 0
    lease(made, Peer("", is_seed=True), two)
    assert one.zone.entering == 1


def test_a_zone_with_everything_is_not_hungry() -> None:
    made, (one, _) = zones("a", "b")
    one.want = 0
    made.gain(one.zone, made.full)
    assert one.zone not in made.hungry
    made.validate()


def test_a_piece_is_lost_only_with_its_last_holder() -> None:
    made, (one, two, _) = zones("a", "a", "b")
    one.want = two.want = made.full & ~0b1
    made.gain(one.zone, 0b1)
    one.want |= 0b1
    made.lose(one.zone, 0)
    assert one.zone.has == 0b1
    two.want |= 0b1
    made.lose(one.zone, 0)
    assert one.zone.has == 0
    made.validate()


def test_a_zone_goes_with_its_last_peer() -> None:
    made, (one, two) = zones("a", "b")
    made.leave(two)
    assert list(made.by_name) == ["a"]
    assert not made.aware
    assert one.zone.name == "a"
    made.validate()
