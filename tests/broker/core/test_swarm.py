"""The data of a swarm: whom a child avoids."""

from broker.core.swarm import Lease, Peer


def test_a_parent_is_avoided_until_its_time_is_over() -> None:
    child, parent, other = Peer("child"), Peer("parent"), Peer("other")
    child.avoids[parent] = (5.0, 1)
    assert child.avoids_now(parent, 4.9)
    assert not child.avoids_now(parent, 5.0)
    assert not child.avoids_now(other, 4.9)


def test_a_lease_is_worth_what_its_parent_was_when_it_was_granted() -> None:
    parent = Peer("parent")
    parent.weight = 0.3
    lease = Lease(1, parent, Peer("child"))
    parent.weight = 1.0
    assert lease.weight == 0.3
    assert "'parent' -> 'child'" in repr(lease)


def test_the_seed_is_proven_and_a_peer_is_not() -> None:
    assert Peer("", is_seed=True).proven
    assert not Peer("peer").proven
