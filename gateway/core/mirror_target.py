"""Which registry a request means that names no host in its target: the mirror's four ways of saying so. Pure.

    X-Dragonfly-Registry: https://host     a header (Dragonfly 2)
    ?ns=host                               containerd's hosts.toml
    /v2/host/name/manifests/...            the image's name itself, as with Kraken: localhost:65001/host/name:tag
    none of them                           registry_mirror.remote

A name cannot hold a colon, so a port is written `host__port` in it.
"""

import re
from dataclasses import dataclass
from typing import Final

from gateway.core.headers import Headers, first
from gateway.core.rules import authority_of, parse_authority

HEADER: Final = "X-Dragonfly-Registry"
#: Docker Hub's names: the mirror's own registry stands for all of them.
_HUB: Final = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})
_BY_NAME: Final = re.compile(r"(/v2/)([^/?]+)/([^?]+/(?:manifests|blobs|tags|referrers)/[^?]*(?:\?.*)?)")
_SCOPE: Final = re.compile(r"(repository(?:\([a-z]+\))?:)([^/:]+)/([^:]+:.*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class MirrorTarget:
    """A registry and what to ask it for."""

    place: str
    """`host[:port]`; empty: registry_mirror.remote."""
    scheme: str
    """`http` or `https`; empty: what it speaks."""
    target: str
    """Path and query as that registry knows them."""
    said_by: str
    """For people: by what the registry was named."""
    by_name: bool = False
    """Named in the image's own name: its credentials are those of this gateway's own tokens."""


def mirror_target(target: str, headers: Headers) -> MirrorTarget | None:
    """`target`: origin-form. None: a registry is named, but not in a way that could be asked."""
    named = first(headers, HEADER)
    if named is not None:
        found = re.fullmatch(r"(https?)://([^/?#@]+)/?", named.strip(), re.IGNORECASE)
        if found is None or authority_of(named.strip()) is None:
            return None
        return _checked(MirrorTarget(place=found[2], scheme=found[1].lower(), target=target, said_by=HEADER))
    path, mark, query = target.partition("?")
    parts = query.split("&") if mark else []
    spaces = [part[3:] for part in parts if part.startswith("ns=")]
    if spaces and spaces[0]:
        rest = "&".join(part for part in parts if not part.startswith("ns="))
        place = spaces[0].replace("%3A", ":").replace("%3a", ":")
        if place in _HUB:
            return MirrorTarget(place="", scheme="", target=target, said_by="ns")
        return _checked(MirrorTarget(place=place, scheme="", target=path + (f"?{rest}" if rest else ""), said_by="ns"))
    found = _BY_NAME.fullmatch(target)
    if found is not None and (host := host_in_name(found[2])) is not None:
        rest = found[1] + found[3]
        return _checked(MirrorTarget(place=host, scheme="", target=rest, said_by="name", by_name=True))
    return MirrorTarget(place="", scheme="", target=target, said_by="")


def _checked(found: MirrorTarget) -> MirrorTarget | None:
    if found.place in _HUB:
        return MirrorTarget(place="", scheme="", target=found.target, said_by=found.said_by, by_name=found.by_name)
    return found if parse_authority(found.place, default_port=443) is not None else None


def host_in_name(component: str) -> str | None:
    """The registry that the first component of an image's name is, by docker's own rule; None: it is part of the name."""
    host, mark, port = component.partition("__")
    if mark and port.isdecimal():
        return f"{host}:{port}"
    return component if "." in component or ":" in component or component == "localhost" else None


def scope_target(scope: str) -> tuple[str, str] | None:
    """(registry, the scope as that registry knows it) of a token's scope; an empty registry: the mirror's. None: no scope."""
    found = _SCOPE.fullmatch(scope)
    if found is None:
        return ("", scope) if scope.startswith("repository") else None
    place = host_in_name(found[2])
    if place is None:
        return "", scope
    return ("" if place in _HUB else place), found[1] + found[3]
