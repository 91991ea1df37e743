"""Where the time of one request went, and where its bytes came from. Pure: what is waited for from when on, a summary out.

A request waits for exactly one thing at each moment, so its times add up to the whole; they are kept in whole microseconds,
so that they do so to the last one. Bytes are accounted for once, when it ends.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from gateway.core.subject import Kind, Subject
from wire.messages import Origin
from worker_peer.api import Cause, Giver


class Part(Enum):
    """A part of the time, as people see it: a closed set."""

    ACCESS = "access"
    WAITING = "waiting"
    SUPERNODE = "supernode"
    REGISTRY = "registry"
    SEED = "seed"
    PEERS = "peers"
    DISK = "disk"
    CLIENT = "client"


class Wait(Enum):
    """What a request waits for. The value stands in files: never changed."""

    ACCESS = "access"
    """The registry's word that this client may have it."""
    OWN = "own"
    """This process."""
    SUPERNODE = "supernode"
    SEED_OPENS = "seed_opens"
    """The seed's first byte from the registry."""
    SEED_READS = "seed_reads"
    """What the seed is still reading from the registry."""
    SOURCE = "source"
    """The registry, read by this host's peer, the swarm being gone."""
    HEAD = "head"
    """The registry's answer to the request itself."""
    BODY = "body"
    """The registry's bytes."""
    SEED = "seed"
    PEERS = "peers"
    DISK = "disk"
    CLIENT = "client"
    """That it takes what is there."""
    BETWEEN = "between"
    """Nothing is asked: the client's own work between its requests. Of several requests together only."""


PART_OF: Final[Mapping[Wait, Part]] = {
    Wait.ACCESS: Part.ACCESS,
    Wait.OWN: Part.WAITING,
    Wait.SUPERNODE: Part.SUPERNODE,
    Wait.SEED_OPENS: Part.REGISTRY,
    Wait.SEED_READS: Part.REGISTRY,
    Wait.SOURCE: Part.REGISTRY,
    Wait.HEAD: Part.REGISTRY,
    Wait.BODY: Part.REGISTRY,
    Wait.SEED: Part.SEED,
    Wait.PEERS: Part.PEERS,
    Wait.DISK: Part.DISK,
    Wait.CLIENT: Part.CLIENT,
    Wait.BETWEEN: Part.CLIENT,
}
#: What the host's peer calls it.
OF_CAUSE: Final[Mapping[Cause | None, Wait]] = {
    None: Wait.OWN,
    Cause.STORE: Wait.DISK,
    Cause.SUPERNODE: Wait.SUPERNODE,
    Cause.SEED_OPENS: Wait.SEED_OPENS,
    Cause.SEED_READS: Wait.SEED_READS,
    Cause.SEED: Wait.SEED,
    Cause.PEERS: Wait.PEERS,
    Cause.SOURCE: Wait.SOURCE,
}


class Place(Enum):
    """Where bytes came from. The value stands in files: never changed."""

    REGISTRY = "registry"
    SEED = "seed"
    PEER = "peer"
    STORE = "store"
    OWN = "dfdaemon"
    """Words of its own: errors, boundaries between ranges."""


_PLACE_OF: Final[Mapping[Origin, Place]] = {
    Origin.SOURCE: Place.REGISTRY,
    Origin.SEED: Place.SEED,
    Origin.PEER: Place.PEER,
    Origin.DISK: Place.STORE,
}
#: A trace names so many peers; what more of them gave stands in one entry.
TOP_PEERS: Final = 5
#: How a request ends that has not.
UNDER_WAY: Final = "under way"
_BINS: Final = 32
#: Made once: it costs as much as what it encodes.
_encode: Final = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode
_FIRST_BIN_US: Final = 1000
#: Rows of a picture: waits by microseconds.
Bins = tuple[Mapping[Wait, int], ...]


class Account:
    """The time of one request that is under way. Times in seconds of a clock that only goes forward."""

    def __init__(self, began_at: float) -> None:
        self.wait = Wait.OWN
        self._began_at = began_at
        self._at_us = 0
        self._ended = False
        self.waits: dict[Wait, int] = {}
        self.bin_us = _FIRST_BIN_US
        self._bins: list[dict[Wait, int]] = [{} for _ in range(_BINS)]

    def turn(self, wait: Wait, now: float) -> Wait:
        """From now on that is waited for. Returns what was. After `end`: nothing changes any more."""
        before = self.wait
        if wait is not before and not self._ended:
            self._spend(now)
            self.wait = wait
        return before

    def look(self, now: float) -> None:
        """Count what is waited for just now up to this moment."""
        if not self._ended:
            self._spend(now)

    def end(self, now: float) -> None:
        """The request is over."""
        if not self._ended:
            self._spend(now)
            self._ended = True

    @property
    def whole_us(self) -> int:
        """From its beginning to its end, or to the last turn."""
        return self._at_us

    @property
    def bins(self) -> Bins:
        """The same waits in time: equal stretches of `bin_us`, the last one perhaps shorter."""
        return tuple(self._bins[: -(-self._at_us // self.bin_us)])

    def _spend(self, now: float) -> None:
        start, end = self._at_us, int((now - self._began_at) * 1e6)
        if end <= start:
            return
        self._at_us = end
        self.waits[self.wait] = self.waits.get(self.wait, 0) + end - start
        while end > self.bin_us * _BINS:
            self._widen()
        while start < end:
            number = start // self.bin_us
            stop = min(end, (number + 1) * self.bin_us)
            found = self._bins[number]
            found[self.wait] = found.get(self.wait, 0) + stop - start
            start = stop

    def _widen(self) -> None:
        pairs = zip(self._bins[::2], self._bins[1::2], strict=True)
        merged = [{wait: one.get(wait, 0) + two.get(wait, 0) for wait in (*one, *two)} for one, two in pairs]
        self._bins = merged + [{} for _ in range(_BINS - len(merged))]
        self.bin_us *= 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """Bytes of a body from one place."""

    place: Place
    size: int
    name: str = ""
    """Which seed or peer; of the peers that are not named one by one how many there are."""


def given_of(swarm: Mapping[Giver, int], *, registry: int, own: int) -> tuple[Given, ...]:
    """All bytes of a body, the largest part first: out of the swarm by who gave them, the registry's, dfdaemon's own."""
    found = [Given(place=_PLACE_OF[origin], name=name, size=size) for (origin, name), size in swarm.items() if size]
    peers = sorted((each for each in found if each.place is Place.PEER), key=lambda each: -each.size)
    if len(peers) > TOP_PEERS:
        rest = peers[TOP_PEERS:]
        found = [each for each in found if each not in rest]
        found.append(Given(place=Place.PEER, name=f"{len(rest)} others", size=sum(each.size for each in rest)))
    registry += sum(each.size for each in found if each.place is Place.REGISTRY)
    found = [each for each in found if each.place is not Place.REGISTRY]
    if registry:
        found.append(Given(place=Place.REGISTRY, size=registry))
    if own:
        found.append(Given(place=Place.OWN, size=own))
    return tuple(sorted(found, key=lambda each: -each.size))


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """One request that is over. Nothing in it is secret: no query, no header of the client's but the name of its program."""

    id: str
    began: float
    """Unix seconds."""
    whole_us: int
    waits: Mapping[Wait, int]
    bin_us: int
    bins: Bins
    given: tuple[Given, ...]
    subject: Subject
    method: str
    status: int
    """0: no answer was begun."""
    end: str
    """complete, cut, client gone, or UNDER_WAY."""
    way: str
    """p2p or direct, as the rules say; empty: no rule was asked."""
    rule: str = ""
    fallback: str = ""
    """Why what the rules give to the swarm came straight from the registry."""
    client: str = ""
    members: tuple[str, ...] = field(default=(), repr=False)
    """Digests that a manifest names."""

    @property
    def sent_bytes(self) -> int:
        """Of the body."""
        return sum(each.size for each in self.given)

    def to_line(self) -> str:
        """JSON without a line end."""
        told: dict[str, Any] = {
            "v": 1, "id": self.id, "began": round(self.began, 6), "whole_us": self.whole_us,
            "waits": _named(self.waits), "bin_us": self.bin_us, "bins": [_named(each) for each in self.bins],
            "given": [[each.place.value, each.name, each.size] for each in self.given],
            "kind": self.subject.kind.value, "url": self.subject.url, "registry": self.subject.registry,
            "repository": self.subject.repository, "reference": self.subject.reference, "digest": self.subject.digest,
            "method": self.method, "status": self.status, "end": self.end, "way": self.way, "rule": self.rule,
            "fallback": self.fallback, "client": self.client, "members": list(self.members),
        }  # fmt: skip
        return _encode({name: value for name, value in told.items() if value not in ("", [])})


def from_line(line: str) -> Trace:
    """What `to_line` wrote. Raises ValueError for anything else."""
    try:
        told = json.loads(line)
        if told["v"] != 1:
            raise ValueError("of another release")
        return Trace(
            id=str(told["id"]), began=float(told["began"]), whole_us=int(told["whole_us"]), waits=_waits(told["waits"]),
            bin_us=int(told["bin_us"]), bins=tuple(_waits(each) for each in told.get("bins", ())),
            given=tuple(Given(place=Place(place), name=str(name), size=int(size)) for place, name, size in told.get("given", ())),
            subject=Subject(
                kind=Kind(told["kind"]), url=str(told.get("url", "")), registry=str(told.get("registry", "")),
                repository=str(told.get("repository", "")), reference=str(told.get("reference", "")),
                digest=str(told.get("digest", "")),
            ),
            method=str(told["method"]), status=int(told["status"]), end=str(told["end"]), way=str(told.get("way", "")),
            rule=str(told.get("rule", "")), fallback=str(told.get("fallback", "")), client=str(told.get("client", "")),
            members=tuple(str(each) for each in told.get("members", ())),
        )  # fmt: skip
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no trace: {error!r}") from None


def _named(waits: Mapping[Wait, int]) -> dict[str, int]:
    return {wait.value: spent for wait, spent in waits.items()}


def _waits(told: Mapping[str, int]) -> dict[Wait, int]:
    return {Wait(name): int(spent) for name, spent in told.items() if int(spent) > 0}


def parts_of(waits: Mapping[Wait, int]) -> dict[Part, int]:
    """Microseconds by part, every part named."""
    found = dict.fromkeys(Part, 0)
    for wait, spent in waits.items():
        found[PART_OF[wait]] += spent
    return found
