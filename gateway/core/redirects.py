"""Where blobs that go straight were sent on to: a storage's URL is of the image whose registry named it. Pure.

A registry answers a blob's request with a redirect to its storage, whose URL says nothing of the image. A client that
follows it asks the proxy for that URL, which some rule may give to the swarm: what `images` keep out of it would be in it.
So such a URL is remembered, as a hash (its query is a signature), for a bounded time.
"""

import hashlib
from collections import OrderedDict
from typing import Final
from urllib.parse import unquote

#: A client follows at once; a slow pull of many layers comes back for each of them.
_HELD_S: Final = 900.0
_MAX_HELD: Final = 4096


class Redirects:
    """URLs that registries have named, and by which rule their blobs go straight."""

    def __init__(self) -> None:
        self._held: OrderedDict[bytes, tuple[str, float]] = OrderedDict()

    def sent_on(self, url: str, rule: str, now: float) -> None:
        """What goes straight by `rule` is to be had at `url`, an absolute one."""
        key = _key(url)
        self._held[key] = (rule, now + _HELD_S)
        self._held.move_to_end(key)
        while len(self._held) > _MAX_HELD:
            self._held.popitem(last=False)

    def rule_for(self, url: str, now: float) -> str:
        """The rule that a URL goes straight by; empty: no registry has named it lately."""
        rule, until = self._held.get(_key(url), ("", 0.0))
        return rule if now < until else ""


def _key(url: str) -> bytes:
    """Of a URL as clients may spell it (RFC 3986 §6.2.2): host in any case, a default port or none, octets escaped or not."""
    scheme, _, rest = url.partition("#")[0].partition("://")
    host, slash, tail = rest.partition("/")
    scheme, host = scheme.lower(), host.lower().removesuffix(":443" if scheme.lower() == "https" else ":80")
    return hashlib.sha256(f"{scheme}://{host}{slash}{unquote(tail)}".encode("utf-8", "surrogateescape")).digest()
