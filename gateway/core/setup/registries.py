"""Which registry a pattern of `hijack_https.hosts` stands for, where it stands for one. Pure."""

import re
from typing import Final

from gateway.core.images import HUB, HUB_HOSTS
from gateway.core.rules import Authority, parse_authority

_HTTPS: Final = 443


def named_by(pattern: str) -> str | None:
    """The registry as images name it; None: the pattern is no plain name, so it may stand for many."""
    plain = pattern.removeprefix("^").removesuffix("$").replace("[.]", ".")
    plain = re.sub(r"\\([.:-])", r"\1", plain)
    if not re.fullmatch(r"[A-Za-z0-9._:-]+", plain) or plain.startswith("."):
        return None
    found = parse_authority(plain, default_port=_HTTPS)
    if found is None:
        return None
    if found.host in HUB_HOSTS or found.host.endswith((".docker.io", ".docker.com")):
        # Its tokens' and storage's hosts stand beside it.
        return HUB
    return found.host if found.port == _HTTPS else str(found)


def authority_of_registry(name: str) -> Authority | None:
    """Where a registry's HTTPS is."""
    return parse_authority("registry-1.docker.io" if name == HUB else name, default_port=_HTTPS)
