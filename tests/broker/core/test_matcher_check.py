"""The check itself: it finds what it is for."""

from collections.abc import Callable

import pytest

from broker.core.roster import Roster
from tests.support.small_swarm import SmallSwarm


def _one(roster: Roster) -> None:
    roster.rarity.copies[0] += 1


def _two(roster: Roster) -> None:
    roster.peers["first"].want ^= 1


def _three(roster: Roster) -> None:
    roster.free.put(roster.peers["second"], roster.peers["second"] not in roster.free)


def _four(roster: Roster) -> None:
    next(iter(roster.leases.values())).pieces.append(3)


def _five(roster: Roster) -> None:
    roster.held_sum += 1


def _six(roster: Roster) -> None:
    del roster.leases[next(iter(roster.leases))]


def _seven(roster: Roster) -> None:
    roster.links.unknown += 1


def _eight(roster: Roster) -> None:
    child = next(iter(roster.leases.values())).child
    child.fetching_weight += 1


@pytest.mark.parametrize("breaks", [_one, _two, _three, _four, _five, _six, _seven, _eight])
def test_what_is_broken_is_found(breaks: Callable[[Roster], None]) -> None:
    swarm = SmallSwarm(4)
    swarm.join("first", "second")
    swarm.matcher.validate()
    breaks(swarm.matcher._roster)
    with pytest.raises(AssertionError):
        swarm.matcher.validate()
