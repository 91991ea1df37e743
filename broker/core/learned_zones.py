"""Zones that nobody told: subnets whose peers are clearly nearer to each other than to the others, as transfers show.

Peers of one subnet (/24, for IPv6 /64) are a first guess only. It counts once children there have received pieces at twice
the rate from inside as from outside: of the faster quarter of each, because behind a narrow link most parents inside wait
for pieces themselves. Simulated, 64 MiB for 240 peers in 12 subnets: in a flat network that quotient is 0.98 to 1.02, with a
fifth of slow peers too (0.6 to 1 of the first 64 pieces), so it does not count there. Behind links oversubscribed 4 and 10 times
it is 1.8 to 5 over a whole run, but 1.9 to 2.1 behind 2:1 links, and down to 1.3 in subnets of 6: those may stay unknown.

What counts is kept for a while whatever is measured: with the zone known its link is not full any more, and what still
crosses it is fast. It is given up when after that time nothing speaks for it, and kept longer each time it comes back.
"""

from collections import deque
from ipaddress import IPv4Address, ip_address
from typing import Final

#: Inside faster than between by this factor: a zone; by no more than that: none any more.
CLEARLY: Final = 2.0
HARDLY: Final = 1.2
#: Rates that are kept of each kind, how many are needed, and after how many new ones they are looked at.
_WINDOW: Final = 128
_NEEDED: Final = 64
_EVERY: Final = 32
#: A subnet of fewer hosts is no zone: it would save little, and it costs most (3 to a rack: 1.12 of the ideal time, not 1.06).
_HOSTS: Final = 4
_FIRST_HOLD_S: Final = 600.0
_LONGEST_HOLD_S: Final = 86_400.0
_MOST_SUBNETS: Final = 10_000


def subnet_of(endpoint: str) -> tuple[str, str] | None:
    """(subnet, host) of `tcp://10.1.2.3:4`; None for a name, and for an address that says nothing of where its host is."""
    host = endpoint.rpartition("://")[2].rpartition(":")[0].strip("[]").partition("%")[0]
    try:
        address = ip_address(host)
    except ValueError:
        return None
    if not isinstance(address, IPv4Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if address.is_loopback or address.is_link_local or address.is_unspecified or address.is_multicast:
        return None
    if isinstance(address, IPv4Address):
        return f"subnet {str(address).rpartition('.')[0]}.*", str(address)
    return f"subnet {':'.join(address.exploded.split(':')[:4])}:*", str(address)


class _Subnet:
    __slots__ = ("between", "confirmed", "fresh", "hold_s", "inside", "name", "peers", "until")

    def __init__(self, name: str) -> None:
        self.name = name
        self.peers: dict[str, str] = {}
        self.inside: deque[float] = deque(maxlen=_WINDOW)
        self.between: deque[float] = deque(maxlen=_WINDOW)
        self.fresh = 0
        self.confirmed = False
        self.hold_s = _FIRST_HOLD_S
        self.until = 0.0

    def quotient(self) -> float | None:
        """How much faster the faster quarter is from inside than from outside; None: too little is known."""
        if min(len(self.inside), len(self.between)) < _NEEDED:
            return None
        return _upper_quartile(self.inside) / _upper_quartile(self.between)


def _upper_quartile(rates: deque[float]) -> float:
    return sorted(rates)[len(rates) * 3 // 4]


class LearnedZones:
    """What is learned of all peers that have told no location. Seeds are not to be entered: they are near nobody."""

    def __init__(self) -> None:
        self._subnets: dict[str, _Subnet] = {}
        self._of: dict[str, tuple[_Subnet, str]] = {}

    def enter(self, peer: str, endpoint: str) -> str:
        """A peer that tells no location is here. Returns its zone; empty: none is known."""
        self.leave(peer)
        found = subnet_of(endpoint)
        if found is None or (found[0] not in self._subnets and not self._has_place()):
            return ""
        subnet = self._subnets.setdefault(found[0], _Subnet(found[0]))
        subnet.peers[peer] = found[1]
        self._of[peer] = subnet, found[1]
        return self.zone_of(peer)

    def leave(self, peer: str) -> None:
        """A peer is gone. What was learned of its subnet stays: it may come back."""
        known = self._of.pop(peer, None)
        if known is not None:
            del known[0].peers[peer]

    def zone_of(self, peer: str) -> str:
        """The peer's zone; empty: none is known."""
        known = self._of.get(peer)
        return known[0].name if known is not None and known[0].confirmed else ""

    def observe(self, parent: str, child: str, rate: float, now: float) -> dict[str, str]:
        """A child has received a piece at `rate` bytes per second (0: not measured). Returns who is in which zone from now on:
        of those only for whom that has changed."""
        here, there = self._of.get(child), self._of.get(parent)
        if here is None or there is None or rate <= 0 or here[1] == there[1]:
            return {}  # two peers of one host say nothing of a network
        subnet = here[0]
        (subnet.inside if there[0] is subnet else subnet.between).append(rate)
        subnet.fresh += 1
        return self._judge(subnet, now) if subnet.fresh >= _EVERY else {}

    def _judge(self, subnet: _Subnet, now: float) -> dict[str, str]:
        subnet.fresh = 0
        quotient = subnet.quotient()
        if quotient is None:
            return {}
        if not subnet.confirmed:
            if quotient < CLEARLY or len(set(subnet.peers.values())) < _HOSTS:
                return {}
            subnet.until = now + subnet.hold_s
            subnet.hold_s = min(_LONGEST_HOLD_S, 2 * subnet.hold_s)
        elif now < subnet.until or quotient > HARDLY:
            return {}
        subnet.confirmed = not subnet.confirmed
        # What was measured so far was measured under the other condition.
        subnet.inside.clear()
        subnet.between.clear()
        return dict.fromkeys(subnet.peers, subnet.name if subnet.confirmed else "")

    def _has_place(self) -> bool:
        """Whether another subnet may be kept: of many, one that nobody is in is forgotten."""
        if len(self._subnets) >= _MOST_SUBNETS:
            empty = next((name for name, subnet in self._subnets.items() if not subnet.peers), None)
            if empty is None:
                return False
            del self._subnets[empty]
        return True
