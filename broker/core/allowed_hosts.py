"""Which hosts a preheat may make the supernode ask. Pure: names and addresses in, a verdict in words out.

Whoever may send a job chooses a URL that is asked from inside of the network (CWE-918). Without a list everything is
allowed but what no registry has: link-local addresses (a cloud's metadata), multicast, and 0.0.0.0.
"""

import ipaddress
import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

_PATTERN: Final = re.compile(r"(?:\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.*?_-]+)(?::[0-9]{1,5})?")
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowedHosts:
    """`names`: patterns with or without a port; `networks`: what a name may resolve to. Both empty: no list."""

    names: tuple[str, ...] = ()
    networks: tuple[_Network, ...] = ()

    def refusal(self, host: str, port: int, addresses: list[str]) -> str:
        """Why a host that has these addresses may not be asked; empty: it may."""
        found = [ipaddress.ip_address(each.partition("%")[0]) for each in addresses]
        in_networks = bool(found) and all(self._covers(each) for each in found)
        if (self.names or self.networks) and not in_networks and not self._names_it(host, port):
            return f"the host {host[:200]} is not allowed: the operator may add it to preheat.allow in supernode.yml"
        for address in found:
            mapped = getattr(address, "ipv4_mapped", None) or address
            if (mapped.is_link_local or mapped.is_multicast or mapped.is_unspecified) and not in_networks:
                return (
                    f"the host {host[:200]} leads to {address}, which no registry has: "
                    "the operator may add that address to preheat.allow in supernode.yml"
                )
        return ""

    def _covers(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
        return any(address in network for network in self.networks)

    def _names_it(self, host: str, port: int) -> bool:
        shown = f"[{host}]" if ":" in host else host
        return any(fnmatchcase(shown.lower(), name) or fnmatchcase(f"{shown.lower()}:{port}", name) for name in self.names)


def parse_allowed(entries: tuple[str, ...]) -> AllowedHosts:
    """`registry.example`, `*.example:5000`, `10.0.0.0/8`, `169.254.169.254`. Raises ValueError."""
    names, networks = [], []
    for entry in entries:
        text = entry.strip().lower()
        try:
            networks.append(ipaddress.ip_network(text.strip("[]") if text.endswith("]") else text))
            continue
        except ValueError:
            pass
        if not _PATTERN.fullmatch(text):
            raise ValueError(f"{entry[:80]!r} is no host; allowed: registry.example, *.example:5000, 10.0.0.0/8")
        names.append(text.replace("[", "[[]"))
    return AllowedHosts(names=tuple(names), networks=tuple(networks))
