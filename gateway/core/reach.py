"""Where a server may send its clients on to: not to addresses that mean another machine to each who asks. Pure.

127.0.0.1 is this host and 169.254.169.254 the cloud's word on it (its credentials among them). Whoever asks for a client
must not be led there by a registry that is not there itself.
"""

import ipaddress
from collections.abc import Iterable
from enum import Enum


class Scope(Enum):
    """Addresses that mean something else on each host."""

    LOOPBACK = "loopback"
    LINK_LOCAL = "link-local"


def scope_of(address: str) -> Scope | None:
    """Of an IP address in text, with or without a zone. None: the same machine for everybody, or no address."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None
    mapped = getattr(found, "ipv4_mapped", None) or found
    # The unspecified address is connected to as loopback (Linux).
    if mapped.is_loopback or mapped.is_unspecified:
        return Scope.LOOPBACK
    return Scope.LINK_LOCAL if mapped.is_link_local else None


def scopes_of(addresses: Iterable[str]) -> frozenset[Scope]:
    """Of all addresses of one name."""
    return frozenset(scope for address in addresses if (scope := scope_of(address)) is not None)
