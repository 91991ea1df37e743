"""The truth about a roster, computed anew from its peers and leases, and compared with every index. For tests: it is slow."""

from math import isclose

from broker.core.roster import Roster
from broker.core.swarm import Lease, Peer


def validate(roster: Roster) -> None:
    """Raise AssertionError where any index contradicts another."""
    for members in (roster.free, roster.needy, roster.empty, roster.incomplete):
        members.validate()
        assert all(roster.peers.get(peer.name) is peer for peer in members.items), "a set holds a peer that is gone"
    _check_leases(roster)
    for name, peer in roster.peers.items():
        assert peer.name == name
        _check_peer(roster, peer)
    _check_seed(roster)
    _check_counts(roster)
    roster.rarity.validate()
    roster.zones.validate()
    _check_links(roster)


def _check_leases(roster: Roster) -> None:
    for number, lease in roster.leases.items():
        assert lease.number == number
        assert lease.pieces, f"{lease} promises nothing"
        assert len(set(lease.pieces)) == len(lease.pieces), lease
        assert lease in lease.parent.serving, lease
        assert lease in lease.child.fetching, lease
        assert lease.parent is not lease.child
        for piece in lease.pieces:
            _check_rooted(roster, lease, piece)


def _check_rooted(roster: Roster, lease: Lease, piece: int) -> None:
    """A promise leads, over peers that are receiving the piece, to one that has it."""
    bit, seen = 1 << piece, {lease.child}
    parent = lease.parent
    while not parent.have & bit:
        assert parent.offers & bit, f"{parent} does not offer {piece} of {lease}"
        assert parent not in seen, f"{piece} of {lease} waits for itself"
        seen.add(parent)
        (parent,) = [each.parent for each in parent.fetching if piece in each.pieces]
    assert lease.parent.have & bit or lease.following & bit, f"{lease} does not know that its parent has no {piece} yet"


def _check_peer(roster: Roster, peer: Peer) -> None:
    assert all(roster.leases.get(lease.number) is lease for lease in (*peer.serving, *peer.fetching)), peer
    assert all(lease.parent is peer for lease in peer.serving), peer
    assert all(lease.child is peer for lease in peer.fetching), peer
    promised = [piece for lease in peer.fetching for piece in lease.pieces]
    assert len(set(promised)) == len(promised), f"{peer} is promised a piece twice"
    assert peer.promised == len(promised), peer
    promised_bits = sum(1 << piece for piece in promised)
    assert peer.held == peer.have.bit_count(), peer
    assert peer.want == (roster.full & ~peer.have & ~promised_bits if peer.wants else 0), peer
    assert not peer.offers & ~(peer.have | promised_bits), f"{peer} offers what it does not get"
    assert peer.offers & peer.have == peer.have, peer
    assert peer.seed_leases == sum(lease.parent.is_seed for lease in peer.fetching), peer
    weight = sum(lease.weight for lease in peer.fetching)
    assert isclose(peer.fetching_weight, weight, abs_tol=1e-6), peer
    assert peer.slots >= 1, peer
    free = peer.offers != 0 and len(peer.serving) < peer.slots
    assert (peer in roster.free) == free, f"{peer} is free: {free}"
    assert (peer in roster.incomplete) == (peer.want != 0), peer
    assert (peer in roster.empty) == (peer.want == roster.full), peer
    assert peer not in roster.needy or peer.want, peer
    if peer.want and not peer.fetching:
        assert peer in roster.needy, f"{peer} has no lease, and nobody looks for one"
    assert peer in peer.zone.members
    assert peer in roster.zones.everywhere.members


def _check_seed(roster: Roster) -> None:
    seed = roster.seed
    assert seed.have == seed.offers
    assert roster.seed_here or not seed.have
    assert not seed.fetching
    assert all(roster.leases.get(lease.number) is lease for lease in seed.serving)


def _check_counts(roster: Roster) -> None:
    copies = [0] * roster.pieces
    for peer in roster.peers.values():
        counted = roster.full & ~peer.want if peer.wants else peer.have
        for piece in range(roster.pieces):
            copies[piece] += counted >> piece & 1
    assert roster.rarity.copies == copies
    peers = roster.peers.values()
    assert roster.held_sum == sum(peer.held for peer in peers)
    assert roster.complete == sum(peer.held == roster.pieces for peer in peers)
    behind = [peer for peer in peers if peer.wants and peer.held < roster.pieces]
    assert roster.progress_count == len(behind)
    assert isclose(roster.progress_sum, sum(peer.held + peer.offset for peer in behind), abs_tol=1e-3)
    assert roster.seed_sent >= 0


def _check_links(roster: Roster) -> None:
    links = roster.links
    assert links.unknown == sum(peer.uplink is None for peer in roster.peers.values())
    links.known.validate()
    assert set(links.known.items) == {peer for peer in roster.peers.values() if peer.uplink is not None}
    known = sum(peer.uplink or 0.0 for peer in roster.peers.values())
    assert isclose(links.total_known, known, rel_tol=1e-6, abs_tol=1.0)
