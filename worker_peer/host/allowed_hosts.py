"""Which hosts may be asked for somebody else: by the supernode for a preheat, by its seed for whoever wants a content.

Pure: names and addresses in, a verdict in words out. Whoever may name a URL has it asked from inside of the network (CWE-918).
Without a list everything is allowed but what no source has: link-local addresses and the other places of a cloud's metadata,
multicast, and 0.0.0.0; also where they are written as, or in, an IPv6 address.
"""

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

#: A list is a handful of names; it goes with each FETCH.
MAX_ENTRIES: Final = 64
MAX_ENTRY_LENGTH: Final = 256

_PATTERN: Final = re.compile(r"(?:\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.*?_-]+)(?::[0-9]{1,5})?")
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: Metadata that is not link-local: of AWS and Google by IPv6, Alibaba, Oracle, Azure's WireServer.
_METADATA: Final = frozenset(
    map(ipaddress.ip_address, ("fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "192.0.0.192", "168.63.129.16"))
)
#: IPv6 addresses whose last 32 bits are an IPv4 one: NAT64 (RFC 6052), RFC 8215, IPv4-compatible (RFC 4291 §2.5.5.1).
_WITH_IPV4_LAST: Final = tuple(map(ipaddress.IPv6Network, ("64:ff9b::/96", "64:ff9b:1::/48", "::/96")))
_WHERE: Final = "preheat.allow (for jobs) or base.sourceAllow (for what hosts pull) in supernode.yml"


class NotAllowed(OSError):
    """The verdict, on its way through an HTTP library. The text says which host, and what the operator may do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowedHosts:
    """`names`: patterns with or without a port; `networks`: what a name may resolve to. Both empty: no list."""

    names: tuple[str, ...] = ()
    networks: tuple[_Network, ...] = ()
    #: As they were given: `parse_allowed` makes the same of them.
    entries: tuple[str, ...] = ()

    def refusal(self, host: str, port: int, addresses: list[str]) -> str:
        """Why a host that has these addresses may not be asked; empty: it may."""
        found = [ipaddress.ip_address(each.partition("%")[0]) for each in addresses]
        in_networks = bool(found) and all(self._covers(each) for each in found)
        if (self.names or self.networks) and not in_networks and not self._names_it(host, port):
            return f"the host {host[:200]} is not allowed: the operator may add it to {_WHERE}"
        for address in found:
            if not in_networks and any(map(_is_of_no_source, _forms(address))):
                return (
                    f"the host {host[:200]} leads to {address}, which no registry has: "
                    f"the operator may add that address to {_WHERE}"
                )
        return ""

    def check_literal(self, host: str, port: int) -> None:
        """A host that is an address is resolved by nobody: look at it. Raises NotAllowed."""
        try:
            ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            if ":" in host or host.replace(".", "").isdigit():
                # `127.1`, `2852039166`: an HTTP library may give it to the system, which makes an address of it.
                raise NotAllowed(f"the host {host[:200]} is no address as it should be written: check the URL") from None
            return
        self.check(host, port, [host])

    def check(self, host: str, port: int, addresses: list[str]) -> None:
        """Raises NotAllowed for a host that may not be asked."""
        if refusal := self.refusal(host, port, addresses):
            raise NotAllowed(refusal)

    def _covers(self, address: _Address) -> bool:
        return any(address in network for network in self.networks)

    def _names_it(self, host: str, port: int) -> bool:
        shown = f"[{host}]" if ":" in host else host
        return any(fnmatchcase(shown.lower(), name) or fnmatchcase(f"{shown.lower()}:{port}", name) for name in self.names)


def _forms(address: _Address) -> Iterator[_Address]:
    """The address, and the IPv4 one that is in it."""
    yield address
    if isinstance(address, ipaddress.IPv6Address):
        for inner in (address.ipv4_mapped, address.sixtofour):
            if inner is not None:
                yield inner
        if int(address) > 1 and any(address in network for network in _WITH_IPV4_LAST):
            yield ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)


def _is_of_no_source(address: _Address) -> bool:
    return address.is_link_local or address.is_multicast or address.is_unspecified or address in _METADATA


def parse_allowed(entries: tuple[str, ...]) -> AllowedHosts:
    """`registry.example`, `*.example:5000`, `10.0.0.0/8`, `169.254.169.254`. Raises ValueError."""
    if len(entries) > MAX_ENTRIES:
        raise ValueError(f"{len(entries)} hosts are allowed; a list has at most {MAX_ENTRIES} entries: use patterns and networks")
    names, networks = [], []
    for entry in entries:
        text = entry.strip().lower()
        try:
            networks.append(ipaddress.ip_network(text.strip("[]") if text.endswith("]") else text))
            continue
        except ValueError:
            pass
        if not _PATTERN.fullmatch(text) or len(text) > MAX_ENTRY_LENGTH:
            raise ValueError(f"{entry[:80]!r} is no host; allowed: registry.example, *.example:5000, 10.0.0.0/8")
        names.append(text.replace("[", "[[]"))
    return AllowedHosts(names=tuple(names), networks=tuple(networks), entries=entries)


def allowed_as_told(entries: tuple[str, ...]) -> AllowedHosts:
    """What somebody else has parsed, who may be of another release: of a list that cannot be read nobody may be asked."""
    try:
        return parse_allowed(entries)
    except ValueError:
        return AllowedHosts(names=("",), entries=entries)


def refusal_in(error: BaseException) -> str:
    """The verdict's words, where a library has wrapped them; empty: it is another error."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, NotAllowed):
            return str(seen)
        seen = getattr(seen, "os_error", None) or seen.__cause__
    return ""
