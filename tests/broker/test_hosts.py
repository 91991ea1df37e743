"""Which peers a scope means."""

import pytest

from broker.core.scheduler import Scheduler
from broker.hosts import hosts_in_scope
from tests.support.broker_words import greeted, scheduler, seed_greeted


@pytest.fixture
def known() -> Scheduler:
    made = scheduler()
    for event in (greeted("10.0.0.1"), greeted("10.0.0.2"), seed_greeted()):
        made.handle(event, 0.0)
    return made


def named(known: Scheduler, scope: str) -> tuple[list[str], tuple[str, ...]]:
    hosts, absent = hosts_in_scope(known.state, scope)
    return [host.peer for host in hosts], absent


def test_seed_and_all(known: Scheduler) -> None:
    assert named(known, "seed") == ([], ())
    assert named(known, "all") == (["10.0.0.1", "10.0.0.2"], ())
    (first, _), _ = hosts_in_scope(known.state, "all")
    assert (first.name, first.ip) == ("host-10.0.0.1", "10.0.0.1")


@pytest.mark.parametrize("name", ["10.0.0.2", "host-10.0.0.2", "10.0.0.2:1"])
def test_by_id_name_address_and_endpoint(known: Scheduler, name: str) -> None:
    assert named(known, name) == (["10.0.0.2"], ())


def test_each_once_and_who_is_not_here_is_named(known: Scheduler) -> None:
    assert named(known, "10.0.0.2, host-10.0.0.2,nobody,,cdnnode:s") == (["10.0.0.2"], ("nobody", "cdnnode:s"))
