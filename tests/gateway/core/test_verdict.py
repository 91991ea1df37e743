"""The sentence names the part that took most, and says how it ended."""

import dataclasses
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.subject import Subject
from gateway.core.trace import PART_OF, UNDER_WAY, Given, Part, Place, Trace, Wait, parts_of
from gateway.core.verdict import dominant, outcome, seconds, size, verdict, verdict_of

#: How a sentence about the part is recognised: no other part's has it.
_NAMES: Final = {
    Part.ACCESS: "access check",
    Part.WAITING: "dfdaemon itself",
    Part.SUPERNODE: "the supernode",
    Part.REGISTRY: "the registry",
    Part.SEED: "the seed",
    Part.PEERS: "between the peers",
    Part.DISK: "this host's disk",
    Part.CLIENT: "the client",
}
_WAITS: Final = st.dictionaries(st.sampled_from(Wait), st.integers(1, 10**9), min_size=1)


@given(_WAITS)
def test_the_sentence_names_the_part_that_took_most(waits: dict[Wait, int]) -> None:
    whole_us = sum(waits.values())
    part, waited = dominant(waits)
    assert parts_of(waits)[part] == max(parts_of(waits).values())
    assert PART_OF[waited] is part
    said = verdict(whole_us, waits)
    slow = whole_us >= 1_000_000
    who = said.partition(" was slow: ")[0] if slow else said.partition(" went to ")[2].partition(": ")[0]
    assert _NAMES[part] in who
    assert f"{100 * parts_of(waits)[part] / whole_us:.0f} % of {seconds(whole_us)}" in said
    assert said.startswith("nothing was slow: ") is not slow


def test_the_briefs_own_sentence() -> None:
    waits = {Wait.SEED_OPENS: 9_840_000, Wait.SEED: 2_460_000}
    assert verdict(12_300_000, waits) == "the registry was slow: 80 % of 12.3 s waiting for the seed's first byte"


def test_of_peers_the_largest_is_named() -> None:
    given = (Given(place=Place.SEED, size=9, name="s"), Given(place=Place.PEER, size=5, name="10.0.0.7-1-2"))
    assert verdict(2_000_000, {Wait.PEERS: 2_000_000}, given).endswith(
        "waiting for pieces from them, most of them from 10.0.0.7-1-2"
    )
    assert verdict(2_000_000, {Wait.PEERS: 2_000_000}).endswith("waiting for pieces from them")


def test_nothing_is_said_of_nothing() -> None:
    assert verdict(0, {}) == "nothing was waited for"


_TRACE: Final = Trace(
    id="1", began=1.0, whole_us=2_000_000, waits={Wait.HEAD: 2_000_000}, bin_us=1000, bins=(), given=(), subject=Subject(),
    method="GET", status=200, end="complete", way="p2p",
)  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, ""),
        ({"status": 401, "fallback": "not_permitted"}, "refused: the registry answered 401 to this client"),
        ({"status": 407, "way": ""}, "refused: dfdaemon answered 407 to this client"),
        ({"status": 404}, "the registry answered 404"),
        ({"status": 508, "way": ""}, "dfdaemon answered 508"),
        ({"status": 502}, "dfdaemon answered 502"),
        ({"status": 502, "given": (Given(place=Place.REGISTRY, size=3),)}, "the registry answered 502"),
        ({"end": "client gone", "given": (Given(place=Place.SEED, size=2048),)}, "the client went away after 2.0 KiB"),
        ({"end": UNDER_WAY}, "still under way with 0 B"),
        ({"end": "cut"}, "broken off after 0 B"),
        ({"fallback": "no_swarm"}, "it came straight from the registry, because no supernode answered"),
        ({"fallback": "of tomorrow"}, "it came straight from the registry, because of tomorrow"),
    ],
)
def test_an_end_that_deserves_a_word_gets_one(changed: dict[str, object], said: str) -> None:
    trace = dataclasses.replace(_TRACE, **changed)  # type: ignore[arg-type]
    assert outcome(trace) == said
    assert verdict_of(trace) == "; ".join(each for each in (said, verdict(2_000_000, {Wait.HEAD: 2_000_000})) if each)


@pytest.mark.parametrize(
    ("microseconds", "said"),
    [(0, "0.0 ms"), (1234, "1.2 ms"), (9_600, "10 ms"), (250_000, "250 ms"), (999_600, "1.0 s"), (12_340_000, "12.3 s")],
)
def test_times_for_people(microseconds: int, said: str) -> None:
    assert seconds(microseconds) == said


@pytest.mark.parametrize(
    ("count", "said"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 20, "5.0 MiB"), (3 << 30, "3.0 GiB"), (1 << 45, "32.0 TiB")],
)
def test_sizes_for_people(count: int, said: str) -> None:
    assert size(count) == said
