"""Whether a registry that says yes has the content itself. Pure.

A content is one task whichever registry names it (its digest is its name), so a permit of one registry would open what
another one guards: whoever runs a registry of his own could say yes there to a digest that he has only heard of. A yes counts
from the registry that the swarm has read the content from, and from one that has shown some of its bytes.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from gateway.core.images import canonical_host
from gateway.core.rules import authority_of

#: Up to so many bytes a content is compared as a whole.
WHOLE_BYTES: Final = 64 << 10
#: Of a larger one so many, where the registry cannot know.
SAMPLE_BYTES: Final = 4 << 10
#: While the content is still coming, they are taken from its beginning, so that nobody waits for its end.
_EARLY_BYTES: Final = 1 << 20
#: Wrong bytes are shown for one content so often at most, by all registries together: whoever knows parts of a content
#: cannot try until a sample falls into them.
_MAX_WRONG: Final = 3
_MAX_KEPT: Final = 16384
_MAX_REGISTRIES: Final = 16


def registry_of(url: str) -> str:
    """The server that a URL names, the same for all ways of writing it (scheme, default port, Docker Hub's names)."""
    return canonical_host(str(authority_of(url) or ""))


def sample_of(length: int, pick: Callable[[int], int], *, is_here: bool) -> tuple[int, int]:
    """First byte and the one behind the last, to compare. `pick(n)`: unforeseeable, 0 <= it < n. `is_here`: all of it is."""
    if length <= WHOLE_BYTES:
        return 0, length
    start = pick((length if is_here else min(length, _EARLY_BYTES)) - SAMPLE_BYTES + 1)
    return start, start + SAMPLE_BYTES


class Possessions:
    """Who is known to have what. Bounded: the oldest is forgotten first."""

    def __init__(self) -> None:
        self._holders: OrderedDict[str, frozenset[str]] = OrderedDict()
        self._wrong: OrderedDict[str, int] = OrderedDict()

    def has(self, registry: str, digest: str) -> bool:
        """Whether the registry is known to have it."""
        return registry in self._holders.get(digest, frozenset())

    def is_anothers(self, registry: str, digest: str) -> bool:
        """Whether others are known to have it, and of this one nothing is known."""
        return bool(self._holders.get(digest)) and not self.has(registry, digest)

    def shown(self, registry: str, digest: str) -> None:
        """It has it."""
        known = self._holders.pop(digest, frozenset())
        self._holders[digest] = known | {registry} if len(known) < _MAX_REGISTRIES else known
        while len(self._holders) > _MAX_KEPT:
            self._holders.popitem(last=False)

    def may_show(self, digest: str) -> bool:
        """Whether a registry may still be asked to show some of it."""
        return self._wrong.get(digest, 0) < _MAX_WRONG

    def was_wrong(self, digest: str) -> None:
        """Some registry has shown other bytes."""
        self._wrong[digest] = self._wrong.pop(digest, 0) + 1
        while len(self._wrong) > _MAX_KEPT:
            self._wrong.popitem(last=False)
