"""Image names in rules: one registry, repository or image switched between the swarm and the registry. Pure.

Names are docker's (distribution/reference): `registry.example:5000/team/app`; without a registry they are Docker Hub's.
"""

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

_BLOB_OF: Final = re.compile(r"^/v2/(?P<name>.+)/blobs/sha256")
#: Docker Hub, whose images have no registry in their names; and its hosts.
HUB: Final = "docker.io"
HUB_HOSTS: Final = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"})
_PATTERN: Final = re.compile(r"[a-z0-9*?._:\[\]-]+(/[a-z0-9*?._:@-]+)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRule:
    """One of `images`: `pattern` as `parse_pattern` returns it."""

    pattern: str
    direct: bool

    def covers(self, image: str) -> bool:
        """Whether it speaks of an image, a name as `image_of` returns it."""
        return fnmatchcase(image, self.pattern)


def parse_pattern(text: str) -> str:
    """An image name, a repository (`team/*`) or a registry alone, as a pattern of whole names. Raises ValueError."""
    return _whole_name(text).replace("[", "[[]")


def _whole_name(text: str) -> str:
    if not _PATTERN.fullmatch(text):
        raise ValueError(f"{text[:60]!r} is no image name; allowed: registry.example, registry.example/team/*, team/app")
    first, slash, rest = text.partition("/")
    if ":" in rest or "@" in rest:
        raise ValueError(f"{text[:60]!r}: a blob's request tells no tag or digest of its image; name the repository alone")
    is_registry = first == "localhost" or any(mark in first for mark in ".:*") or first in HUB_HOSTS
    if not slash:
        if is_registry:
            return f"{canonical_host(first)}/*"
        return f"{HUB}/library/{first}"
    return f"{canonical_host(first)}/{rest}" if is_registry else f"{HUB}/{text}"


def image_of(url: str) -> str | None:
    """`registry/repository` of a blob's URL in the registry API (OCI distribution spec, end-2). None: it is another URL."""
    host, slash, tail = url.partition("://")[2].partition("/")
    found = _BLOB_OF.match(slash + tail.partition("?")[0])
    return f"{canonical_host(host.rpartition('@')[2].lower())}/{found['name']}" if found else None


def canonical_host(host: str) -> str:
    """A host, in small letters, as images name it: Docker Hub is `docker.io`."""
    # A default port is left out, as docker does in a name.
    bare = host.removesuffix(":443").removesuffix(":80")
    return HUB if bare in HUB_HOSTS else bare
