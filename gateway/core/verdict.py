"""One sentence about where the time went: it names the part that took most. Pure."""

from collections.abc import Mapping, Sequence
from typing import Final

from gateway.core.trace import PART_OF, UNDER_WAY, Given, Part, Place, Trace, Wait, parts_of

#: What takes less is slow for nobody.
_SLOW_US: Final = 1_000_000
#: Who is spoken of.
_WHO: Final[Mapping[Part, str]] = {
    Part.ACCESS: "the registry's access check",
    Part.WAITING: "dfdaemon itself (waiting)",
    Part.SUPERNODE: "the supernode",
    Part.REGISTRY: "the registry",
    Part.SEED: "the seed",
    Part.PEERS: "the network between the peers",
    Part.DISK: "this host's disk",
    Part.CLIENT: "the client",
}
_DOING: Final[Mapping[Wait, str]] = {
    Wait.ACCESS: "waiting for its word that this client may have it",
    Wait.OWN: "inside it",
    Wait.SUPERNODE: "waiting for its answer",
    Wait.SEED_OPENS: "waiting for the seed's first byte",
    Wait.SEED_READS: "waiting while the seed read from it",
    Wait.SOURCE: "waiting while this host's peer read from it without the swarm",
    Wait.HEAD: "waiting for its answer",
    Wait.BODY: "waiting for its bytes",
    Wait.SEED: "waiting for pieces that it was sending",
    Wait.PEERS: "waiting for pieces from them",
    Wait.DISK: "in its reads and writes",
    Wait.CLIENT: "waiting until it had taken what was there",
    Wait.BETWEEN: "in its own work between its requests",
}
_FALLBACKS: Final[Mapping[str, str]] = {
    "refused": "the swarm could not have it",
    "not_permitted": "the registry answers this client itself",
    "not_shown": "the swarm has it from another registry, and this one has not shown that it has it too",
    "no_swarm": "no supernode answered",
    "changed": "the registry has another content by now",
    "slow_open": "the swarm did not know its length in time",
    "slow_start": "no byte came from the swarm in time",
    "broken": "this host's peer failed: see dfdaemon.log",
    "conditional": "the client's condition is the registry's to judge",
}


def dominant(waits: Mapping[Wait, int]) -> tuple[Part, Wait]:
    """The part that took most, and what was waited for most in it."""
    parts = parts_of(waits)
    part = max(parts, key=lambda each: parts[each])
    waited = max((wait for wait in Wait if PART_OF[wait] is part), key=lambda wait: waits.get(wait, 0))
    return part, waited


def verdict(whole_us: int, waits: Mapping[Wait, int], given: Sequence[Given] = ()) -> str:
    """The sentence, without a full stop."""
    part, waited = dominant(waits)
    spent = parts_of(waits)[part]
    if not whole_us or not spent:
        return "nothing was waited for"
    share = f"{100 * spent / whole_us:.0f} % of {seconds(whole_us)}"
    doing = _DOING[waited]
    if part is Part.PEERS and (best := next((each for each in given if each.place is Place.PEER and each.name), None)):
        doing += f", most of them from {best.name}"
    if whole_us < _SLOW_US:
        return f"nothing was slow: {share} went to {_WHO[part]}: {doing}"
    return f"{_WHO[part]} was slow: {share} {doing}"


def outcome(trace: Trace) -> str:
    """How a request ended, where that is worth a word; else empty."""
    told = []
    if trace.status in (401, 403, 407):
        told.append(f"refused: {'dfdaemon' if _is_own(trace) else 'the registry'} answered {trace.status} to this client")
    elif trace.status >= 400:
        told.append(f"{'dfdaemon' if _is_own(trace) else 'the registry'} answered {trace.status}")
    if trace.end == UNDER_WAY:
        told.append(f"still under way with {size(trace.sent_bytes)}")
    elif trace.end != "complete":
        told.append(f"{'broken off' if trace.end == 'cut' else 'the client went away'} after {size(trace.sent_bytes)}")
    if trace.fallback and trace.status not in (401, 403):
        told.append(f"it came straight from the registry, because {_FALLBACKS.get(trace.fallback, trace.fallback)}")
    return "; ".join(told)


def _is_own(trace: Trace) -> bool:
    """Whether dfdaemon answered without the registry."""
    return not trace.way or (trace.status == 502 and all(each.place is Place.OWN for each in trace.given))


def verdict_of(trace: Trace) -> str:
    """Outcome and time of one request."""
    told = [outcome(trace), verdict(trace.whole_us, trace.waits, trace.given)]
    return "; ".join(each for each in told if each)


def seconds(microseconds: int) -> str:
    """For people."""
    if microseconds < 999_500:
        return f"{microseconds / 1000:.0f} ms" if microseconds >= 9_500 else f"{microseconds / 1000:.1f} ms"
    return f"{microseconds / 1e6:.1f} s"


def size(count: int) -> str:
    """Bytes for people."""
    if count < 1024:
        return f"{count} B"
    value, unit = count / 1024, "KiB"
    for larger in ("MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.1f} {unit}"
