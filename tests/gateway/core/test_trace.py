"""The account of a request: its parts make up the whole, to the microsecond, however it is turned."""

import dataclasses
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.subject import Kind, Subject
from gateway.core.trace import (
    OF_CAUSE,
    PART_OF,
    TOP_PEERS,
    Account,
    Given,
    Part,
    Place,
    Trace,
    Wait,
    from_line,
    given_of,
    parts_of,
)
from wire.messages import Origin
from worker_peer.api import Cause

_DIGEST: Final = "sha256:" + "a" * 64
_TURNS: Final = st.lists(st.tuples(st.sampled_from(Wait), st.floats(0, 1e4) | st.floats(0, 1e-2)), max_size=60)
_NAMES: Final = st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1, max_size=8)


def _played(turns: list[tuple[Wait, float]], last_s: float) -> tuple[Account, float]:
    """An account that was turned after so many seconds each time, and how long it lasted."""
    now = began = 1000.0
    account = Account(began)
    for wait, after_s in turns:
        now += after_s
        account.turn(wait, now)
    account.end(now + last_s)
    return account, now + last_s - began


@given(_TURNS, st.floats(0, 1e3))
def test_the_parts_make_up_the_whole_and_nothing_more(turns: list[tuple[Wait, float]], last_s: float) -> None:
    account, whole_s = _played(turns, last_s)
    assert account.whole_us <= whole_s * 1e6 + 1
    assert account.whole_us >= int(whole_s * 1e6) - 1
    assert sum(account.waits.values()) == account.whole_us
    assert sum(parts_of(account.waits).values()) == account.whole_us
    assert all(spent > 0 for spent in account.waits.values())


@given(_TURNS, st.floats(0, 1e3))
def test_the_picture_has_the_same_waits_in_equal_steps(turns: list[tuple[Wait, float]], last_s: float) -> None:
    account, _ = _played(turns, last_s)
    assert len(account.bins) <= 32
    summed: dict[Wait, int] = {}
    for number, found in enumerate(account.bins):
        length = min(account.bin_us, account.whole_us - number * account.bin_us)
        assert sum(found.values()) == length
        for wait, spent in found.items():
            summed[wait] = summed.get(wait, 0) + spent
    assert summed == account.waits


def test_each_wait_is_charged_for_what_it_took() -> None:
    account = Account(5.0)
    assert account.turn(Wait.ACCESS, 6.0) is Wait.OWN
    assert account.turn(Wait.ACCESS, 6.5) is Wait.ACCESS
    assert account.turn(Wait.SEED, 8.0) is Wait.ACCESS
    account.end(8.25)
    account.turn(Wait.PEERS, 100.0)
    account.end(100.0)
    assert account.waits == {Wait.OWN: 1_000_000, Wait.ACCESS: 2_000_000, Wait.SEED: 250_000}
    assert account.whole_us == 3_250_000


def test_one_can_be_looked_at_while_it_runs() -> None:
    account = Account(5.0)
    account.turn(Wait.SEED, 6.0)
    account.look(8.0)
    assert account.waits == {Wait.OWN: 1_000_000, Wait.SEED: 2_000_000}
    account.end(9.0)
    account.look(20.0)
    assert account.whole_us == 4_000_000


def test_a_clock_that_stands_charges_nobody() -> None:
    account = Account(5.0)
    account.turn(Wait.ACCESS, 5.0)
    account.turn(Wait.SEED, 4.0)
    account.end(5.0)
    assert account.waits == {}
    assert account.bins == ()


def test_every_wait_is_of_one_part_and_every_cause_is_a_wait() -> None:
    assert set(PART_OF) == set(Wait)
    assert set(PART_OF.values()) == set(Part)
    assert set(OF_CAUSE) == {None, *Cause}


@given(
    st.dictionaries(st.tuples(st.sampled_from(Origin), st.text(max_size=3)), st.integers(0, 1 << 40), max_size=20),
    st.integers(0, 1 << 40),
    st.integers(0, 1000),
)
def test_the_bytes_by_place_make_up_the_body(swarm: dict[tuple[Origin, str], int], registry: int, own: int) -> None:
    found = given_of(swarm, registry=registry, own=own)
    assert sum(each.size for each in found) == sum(swarm.values()) + registry + own
    assert all(each.size for each in found)
    assert [each.size for each in found] == sorted((each.size for each in found), reverse=True)
    peers = [each for each in found if each.place is Place.PEER]
    assert len(peers) <= TOP_PEERS + 1
    assert sum(each.size for each in peers) == sum(size for (origin, _), size in swarm.items() if origin is Origin.PEER)


def test_the_largest_peers_are_named_and_the_others_counted() -> None:
    swarm = {(Origin.PEER, f"p{number}"): 100 - number for number in range(TOP_PEERS + 2)}
    found = given_of(swarm, registry=0, own=0)
    assert [each.name for each in found] == ["2 others", "p0", "p1", "p2", "p3", "p4"]
    assert found[0].size == 95 + 94


_TRACES: Final = st.builds(
    Trace,
    id=_NAMES,
    began=st.floats(0, 2e9).map(lambda value: round(value, 6)),
    whole_us=st.integers(0, 1 << 40),
    waits=st.dictionaries(st.sampled_from(Wait), st.integers(1, 1 << 40)),
    bin_us=st.integers(1, 1 << 40),
    bins=st.lists(st.dictionaries(st.sampled_from(Wait), st.integers(1, 1000)), max_size=4).map(tuple),
    given=st.lists(st.builds(Given, place=st.sampled_from(Place), size=st.integers(1, 1 << 40), name=_NAMES), max_size=3).map(
        tuple
    ),
    subject=st.builds(Subject, kind=st.sampled_from(Kind), url=_NAMES, registry=_NAMES, repository=_NAMES, digest=_NAMES),
    method=st.just("GET"),
    status=st.integers(0, 599),
    end=st.sampled_from(["complete", "cut"]),
    way=st.sampled_from(["", "p2p"]),
    members=st.lists(_NAMES, max_size=2).map(tuple),
)


@given(_TRACES)
def test_what_is_written_is_read_again(trace: Trace) -> None:
    line = trace.to_line()
    assert "\n" not in line
    assert from_line(line) == trace
    assert trace.sent_bytes == sum(each.size for each in trace.given)


@pytest.mark.parametrize("line", ["", "{", "[]", "1", "{}", '{"v":2}', '{"v":1,"id":"x"}', '{"v":1,"began":[]}', "null"])
def test_what_is_no_trace_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        from_line(line)


def test_a_wait_of_another_release_is_refused() -> None:
    trace = dataclasses.replace(_example(), waits={Wait.SEED: 5})
    with pytest.raises(ValueError, match="moon"):
        from_line(trace.to_line().replace('"seed"', '"moon"'))


def _example() -> Trace:
    return Trace(
        id="1", began=1.0, whole_us=5, waits={}, bin_us=1000, bins=(), given=(), subject=Subject(digest=_DIGEST), method="GET",
        status=200, end="complete", way="p2p",
    )  # fmt: skip
