"""Which requests a question is about, and what several requests together say. Pure: traces in, an explanation out.

A question is an image (`name:tag`, `registry/name:tag`, `name@sha256:...`), a digest, a trace id, or the beginning of one of
the latter two. An image's requests are those of its last pull: its manifests, and the blobs that these name.
"""

import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

from gateway.core.images import canonical_host
from gateway.core.mirror_target import host_in_name
from gateway.core.subject import Kind
from gateway.core.trace import Given, Place, Trace, Wait, given_of
from gateway.core.verdict import outcome, seconds, verdict, verdict_of
from wire.messages import Origin

_HEX: Final = re.compile(r"(?:sha256:)?[0-9a-f]{4,64}")
_NEAREST: Final = 5
_ORIGINS: Final = {Place.SEED: Origin.SEED, Place.PEER: Origin.PEER, Place.STORE: Origin.DISK}


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What is said about a question."""

    title: str
    began: float
    whole_us: int
    waits: Mapping[Wait, int]
    """In the wall clock's time: of requests that ran side by side each has its share. `whole_us` in all."""
    given: tuple[Given, ...]
    traces: tuple[Trace, ...]
    verdict: str


class NotKnown(Exception):
    """Nothing is known that the question could mean, or too much. The text says what to do."""

    def __init__(self, message: str, nearest: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.nearest = tuple(nearest)


def explain(traces: Sequence[Trace], question: str) -> Explanation:
    """`traces` in the order of their ends. Raises NotKnown."""
    asked = question.strip()
    if not asked:
        raise NotKnown("ask for an image, a digest or a trace id", _latest(traces))
    if _HEX.fullmatch(asked) and (found := _by_id(traces, asked)) is not None:
        return found
    return _of_image(traces, asked)


def shown_name(trace: Trace) -> str:
    """What a trace is called in a list: a question that finds it."""
    subject = trace.subject
    if subject.kind is Kind.MANIFEST:
        mark = "@" if subject.reference.startswith("sha256:") else ":"
        return f"{subject.name}{mark}{subject.reference}"
    if subject.kind is Kind.BLOB:
        return subject.digest
    return trace.id


def _latest(traces: Sequence[Trace]) -> list[str]:
    return list(dict.fromkeys(shown_name(each) for each in reversed(traces)))[:_NEAREST]


# -- a digest or a trace id -----------------------------------------------------------------------------------------------


def _by_id(traces: Sequence[Trace], asked: str) -> Explanation | None:
    """None: no id begins so."""
    digest = asked.removeprefix("sha256:")
    ids = {each.id for each in traces if each.id.startswith(asked)}
    digests = {each.subject.digest for each in traces if each.subject.digest.removeprefix("sha256:").startswith(digest)} - {""}
    if len(ids) + len(digests) > 1:
        raise NotKnown(f"{asked} begins several: give more of it", sorted(ids | digests)[: 2 * _NEAREST])
    if ids:
        (found,) = ids
        return _together([each for each in traces if each.id == found], f"trace {found}")
    if not digests:
        return None
    (named,) = digests
    of_it = [each for each in traces if each.subject.digest == named]
    if any(each.members for each in of_it):
        # An image by its manifest.
        root = of_it[-1]
        return _pull(traces, root, lambda each: each.subject.digest == named, f"image {root.subject.name}@{named}")
    last = of_it[-1]
    return _together([last], f"blob {named}")


# -- an image -------------------------------------------------------------------------------------------------------------


def _of_image(traces: Sequence[Trace], asked: str) -> Explanation:
    name, reference = _parsed(asked)
    manifests = [each for each in traces if each.subject.kind is Kind.MANIFEST]
    of_name = [each for each in manifests if _is_named(each.subject.name, name)] or [
        # A mirror's host is not the one in the image's name.
        each for each in manifests if each.subject.repository == _repository(name)
    ]  # fmt: skip
    found = [each for each in of_name if _is_referred(each, reference)]
    if not found:
        known = list(dict.fromkeys(shown_name(each) for each in reversed(manifests)))
        nearest = get_close_matches(asked, known, _NEAREST, 0.3) or known[:_NEAREST]
        raise NotKnown(
            f"nothing is known of {asked}: it was not pulled through this dfdaemon of late, or in a tunnel, which is passed "
            "through unread (name its registry in hijack_https.hosts)",
            nearest,
        )
    root = found[-1]
    title = f"image {shown_name(root)}"
    return _pull(
        traces, root, lambda each: each.subject.name == root.subject.name and _is_referred(each, reference), title
    )  # fmt: skip


def _parsed(asked: str) -> tuple[str, str]:
    """(name, tag or digest) as docker reads it: without a tag `latest` is meant."""
    name, at, digest = asked.partition("@")
    place, slash, rest = name.rpartition("/")
    last, colon, tag = rest.partition(":")
    name = f"{place}{slash}{last}"
    if at:
        return name, digest
    return name, tag if colon else "latest"


def _is_named(full: str, name: str) -> bool:
    """Whether a name means `registry/repository`: all of it, or its end from a slash on; the gateway's own name left out."""
    first, slash, rest = name.partition("/")
    names = {name, f"library/{name}"}
    if slash and host_in_name(first) is not None:
        host = canonical_host(host_in_name(first) or first)
        if full == f"{host}/{rest}":
            return True
        # localhost:65001/registry.example/team/app; and localhost:65001/team/app for the mirror's own.
        is_own = first.partition(":")[0] == "localhost"
        names = {f"{canonical_host(host_in_name(rest.partition('/')[0]) or '')}/{rest.partition('/')[2]}"}
        return is_own and full in names
    return any(full == each or full.endswith(f"/{each}") for each in names)


def _repository(name: str) -> str:
    first, slash, rest = name.partition("/")
    if not slash or host_in_name(first) is None:
        return name
    if first.partition(":")[0] == "localhost" and host_in_name(rest.partition("/")[0]) is not None:
        return rest.partition("/")[2]
    return rest


def _is_referred(trace: Trace, reference: str) -> bool:
    if trace.subject.reference == reference:
        return True
    # The beginning of a digest is enough, where it is no tag.
    return len(reference) > len("sha256:") and reference.startswith("sha256:") and trace.subject.digest.startswith(reference)


def _pull(traces: Sequence[Trace], root: Trace, is_root: Callable[[Trace], bool], title: str) -> Explanation:
    """The last pull that `root` is of: by one client, and no blob before the last time that it asked for the root."""
    repository = root.subject.repository
    closure = _closure(traces, [each for each in traces if is_root(each)], repository)
    knows_blobs = any(each.members for each in traces if each.subject.digest in closure or is_root(each))

    def is_member(trace: Trace) -> bool:
        subject = trace.subject
        if subject.kind is Kind.TOKEN:
            return subject.repository == repository or subject.repository.endswith(f"/{repository}")
        if is_root(trace) or subject.digest in closure:
            return True
        return not knows_blobs and subject.kind is Kind.BLOB and subject.repository == repository

    pull: list[Trace] = []
    had_blob = False
    for trace in sorted((each for each in traces if each.client == root.client and is_member(each)), key=lambda each: each.began):
        if had_blob and is_root(trace):
            pull, had_blob = [], False
        pull.append(trace)
        had_blob = had_blob or trace.subject.kind is Kind.BLOB
    return _together(pull, title)


def _closure(traces: Sequence[Trace], roots: Iterable[Trace], repository: str) -> set[str]:
    """Digests of everything that the roots name, and what these name."""
    manifests: dict[str, set[str]] = {}
    for each in traces:
        if each.members and each.subject.repository == repository:
            manifests.setdefault(each.subject.digest, set()).update(each.members)
    found: set[str] = set()
    left = [digest for root in roots for digest in (root.subject.digest, *root.members) if digest]
    while left:
        digest = left.pop()
        if digest not in found:
            found.add(digest)
            left += manifests.get(digest, ())
    return found


# -- several requests together --------------------------------------------------------------------------------------------


def _together(traces: Sequence[Trace], title: str) -> Explanation:
    began, whole_us, waits = wall_clock(traces)
    swarm: dict[tuple[Origin, str], int] = {}
    registry = own = 0
    for each in (given for trace in traces for given in trace.given):
        if each.place in _ORIGINS:
            key = (_ORIGINS[each.place], each.name)
            swarm[key] = swarm.get(key, 0) + each.size
        elif each.place is Place.REGISTRY:
            registry += each.size
        else:
            own += each.size
    given = given_of(swarm, registry=registry, own=own)
    if len(traces) == 1:
        said = verdict_of(traces[0])
    else:
        slowest = max(traces, key=lambda each: each.whole_us)
        # A client that is refused and comes again with a token has not been refused.
        last = {each.subject.reference or each.subject.digest: each for each in sorted(traces, key=lambda each: each.began)}
        told = [f"{_short(each)}: {outcome(each)}" for each in last.values() if outcome(each)][:_NEAREST]
        told.append(verdict(whole_us, waits, given))
        if whole_us >= 1_000_000:
            told.append(f"the longest of {len(traces)} requests was {_short(slowest)} with {seconds(slowest.whole_us)}")
        said = "; ".join(told)
    return Explanation(
        title=title, began=began, whole_us=whole_us, waits=waits, given=given, traces=tuple(traces), verdict=said
    )  # fmt: skip


def _short(trace: Trace) -> str:
    subject = trace.subject
    reference = subject.digest or subject.reference
    return f"{subject.kind.value} {reference[:19]}".strip() if subject.kind is not Kind.OTHER else f"trace {trace.id[:12]}"


def wall_clock(traces: Sequence[Trace]) -> tuple[float, int, dict[Wait, int]]:
    """(begin, whole, waits) of requests that overlap: at each moment those that run share the time, and where none runs the
    client had its own work. The waits add up to the whole."""
    if len(traces) == 1:
        return traces[0].began, traces[0].whole_us, dict(traces[0].waits)
    began = min(each.began for each in traces)
    stretches: list[tuple[int, int, Mapping[Wait, int]]] = []
    for trace in traces:
        offset = round((trace.began - began) * 1e6)
        for number, waits in enumerate(trace.bins):
            start = number * trace.bin_us
            if waits:
                stretches.append((offset + start, offset + min(start + trace.bin_us, trace.whole_us), waits))
    whole_us = max((stop for _, stop, _ in stretches), default=0)
    found: dict[Wait, int] = {}
    edges = sorted({0, whole_us} | {edge for start, stop, _ in stretches for edge in (start, stop)})
    stretches.sort(key=lambda each: each[0])
    running: list[tuple[int, Mapping[Wait, int]]] = []
    following = 0
    for start, stop in itertools.pairwise(edges):
        running = [each for each in running if each[0] > start]
        while following < len(stretches) and stretches[following][0] <= start:
            running.append((stretches[following][1], stretches[following][2]))
            following += 1
        _share(found, stop - start, [waits for _, waits in running])
    return began, whole_us, found


def _share(into: dict[Wait, int], length: int, running: Sequence[Mapping[Wait, int]]) -> None:
    """`length` microseconds to what ran in them, to the last one."""
    if not running:
        into[Wait.BETWEEN] = into.get(Wait.BETWEEN, 0) + length
        return
    weights: dict[Wait, float] = {}
    for waits in running:
        total = sum(waits.values())
        for wait, spent in waits.items():
            weights[wait] = weights.get(wait, 0.0) + spent / total / len(running)
    left = length
    first = max(weights, key=lambda wait: weights[wait])
    for wait, weight in weights.items():
        if wait is not first:
            share = min(left, int(length * weight))
            into[wait] = into.get(wait, 0) + share
            left -= share
    into[first] = into.get(first, 0) + left
