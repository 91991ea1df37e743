"""/metrics: the names that dashboards and tests read, their values after a run that is known, and that it can be parsed."""

from types import SimpleNamespace
from typing import cast

import pytest
from prometheus_client.parser import text_string_to_metric_families

from broker.core.effects import Tell
from broker.core.events import PeerGone
from broker.seed import SeedProcess
from tests.support.broker_http import VERSION, LoopbackApi, loopback_api
from tests.support.broker_words import (
    CONTENT_DIGEST,
    OTHER_TASK,
    SEED,
    TASK,
    done,
    failed,
    greeted,
    leases_in,
    register,
    said,
    seed_greeted,
    seeded,
)
from wire.errors import ErrorCode
from wire.messages import Alive, Cancel, NotKnown, SeedFailed

PREFIX = "dragonfly_supernode_"


async def figures(api: LoopbackApi) -> dict[str, float]:
    """Every figure: `name{label=value}` without the prefix."""
    answer = await api.ask("/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    found = {}
    for family in text_string_to_metric_families(answer.body.decode()):
        for sample in family.samples:
            if sample.name.startswith(PREFIX):
                labels = ",".join(f"{name}={value}" for name, value in sample.labels.items())
                found[sample.name.removeprefix(PREFIX) + (f"{{{labels}}}" if labels else "")] = sample.value
    return found


async def test_a_supernode_where_nothing_has_happened() -> None:
    async with loopback_api() as api:
        found = await figures(api)
    assert found == {
        f"build_info{{version={VERSION}}}": 1,
        "tasks_registered_total": 0,
        "registrations_total": 0,
        "cdn_trigger_total": 0,
        "cdn_trigger_failed_total": 0,
        "peers_joined_total": 0,
        "gc_peers_total": 0,
        "source_bytes_total": 0,
        "peer_received_bytes_total{origin=source}": 0,
        "peer_received_bytes_total{origin=seed}": 0,
        "peer_received_bytes_total{origin=peer}": 0,
        "peer_received_bytes_total{origin=disk}": 0,
        "peer_sent_bytes_total": 0,
        "leases": 0,
        "leased_pieces": 0,
        "waiting_children": 0,
        "pending_decisions": 0,
        "leases_granted_total": 0,
        "leases_expired_total": 0,
        "pieces_reported_total": 0,
        "messages_total{direction=in}": 0,
        "messages_total{direction=out}": 0,
        "messages_total{direction=dropped}": 0,
    }


async def test_the_figures_after_a_run_that_is_known() -> None:
    async with loopback_api() as api:
        handle = api.broker.router.handle
        handle(seed_greeted())
        for peer in ("a", "b", "c"):
            handle(greeted(peer))
        handle(said("a", register()))
        handle(said("b", register(OTHER_TASK)))
        handle(said(SEED, SeedFailed(task=OTHER_TASK, code=ErrorCode.SOURCE_ERROR)))
        effects = api.broker.scheduler.handle(said(SEED, seeded(0, of=1, digest=CONTENT_DIGEST)), api.broker.clock.now())
        (lease,) = leases_in(effects)
        handle(said("a", failed(lease.lease, 0)))
        handle(said(SEED, Alive(received=(1024,), sent=700)))
        handle(said("a", Alive(received=(0, 24, 300, 4000), sent=1)))
        handle(said("c", Alive(received=(6, 1, 1, 1), sent=2)))
        handle(said("c", Cancel()))
        handle(PeerGone(peer="c"))
        handle(said("a", done(0, 0)))
        dealer = api.broker.connect()
        dealer.say_frames([b"garbage"])
        dealer.say_frames([b"garbage, longer than a head"])
        dealer.say(Alive())
        await dealer.hears(NotKnown)
        found = await figures(api)
    wanted = {
        "peers{role=peer}": 2,
        "peers{role=seed}": 1,
        "tasks{cdnstatus=cached}": 1,
        "tasks{cdnstatus=dead}": 1,
        "tasks_registered_total": 2,
        "registrations_total": 2,
        "cdn_trigger_total": 2,
        "cdn_trigger_failed_total": 1,
        "peers_joined_total": 4,
        "gc_peers_total": 1,
        "source_bytes_total": 1030,
        "peer_received_bytes_total{origin=source}": 1030,
        "peer_received_bytes_total{origin=seed}": 25,
        "peer_received_bytes_total{origin=peer}": 301,
        "peer_received_bytes_total{origin=disk}": 4001,
        "peer_sent_bytes_total": 703,
        "pieces_reported_total": 1,
        "pieces_failed_total{failure=stalled}": 1,
        "messages_total{direction=in}": 3,
        "messages_total{direction=out}": 1,
        "refused_frames_total{reason=short_head}": 1,
        "refused_frames_total{reason=bad_magic}": 1,
        "unexpected_messages_total{kind=CANCEL}": 1,
    }
    assert {name: found.get(name) for name in wanted} == wanted
    assert found["leases_granted_total"] >= 1
    assert TASK not in str(found)


async def test_what_enters_zones_is_counted_by_the_widest_level_that_differs() -> None:
    async with loopback_api() as api:
        handle = api.broker.router.handle
        for event in (seed_greeted(), greeted("a", location="x/1"), greeted("b"), said("a", register()), said("b", register())):
            handle(event)
        lease = 0
        for effect in api.broker.scheduler.handle(said(SEED, seeded(0, of=1, digest=CONTENT_DIGEST)), api.broker.clock.now()):
            if (found := leases_in([effect])) and isinstance(effect, Tell) and effect.peer == "a":
                lease = found[0].lease
        assert lease, "the first to join is served first"
        handle(said("a", done(lease, 0)))
        found_figures = await figures(api)
    assert found_figures["zone_bytes_total{level=1}"] == 1024


async def test_leases_are_shown_while_they_run() -> None:
    async with loopback_api() as api:
        for event in (seed_greeted(), greeted("a"), said("a", register()), said(SEED, seeded(0, of=1))):
            api.broker.router.handle(event)
        found = await figures(api)
        assert (found["leases"], found["leased_pieces"], found["tasks{cdnstatus=caching}"]) == (1, 1, 1)


async def test_who_waits_for_work_is_shown_until_there_is_some() -> None:
    async with loopback_api() as api:
        # The seed has the first of two pieces, and "a" is fetching it: for the second both have room, and nobody has it.
        for event in (seed_greeted(), greeted("a"), greeted("b"), said("a", register()), said("b", register())):
            api.broker.router.handle(event)
        assert (await figures(api))["waiting_children"] == 0
        api.broker.router.handle(said(SEED, seeded(of=2)))
        found = await figures(api)
        assert (found["waiting_children"], found["leases"]) == (2, 0)
        effects = api.broker.scheduler.handle(said(SEED, seeded(0, 1, of=2, digest=CONTENT_DIGEST)), api.broker.clock.now())
        assert leases_in(effects)
        assert (await figures(api))["pending_decisions"] == 1
        for peer in ("a", "b"):
            api.broker.router.handle(said(peer, done(1, 0, 1)))
        assert (await figures(api))["waiting_children"] == 0


@pytest.mark.parametrize("restarts", [0, 3])
async def test_a_seed_of_our_own_shows_its_restarts(restarts: int) -> None:
    async with loopback_api(cast("SeedProcess", SimpleNamespace(restarts=restarts))) as api:
        assert (await figures(api))["seed_restarts_total"] == restarts


async def test_the_process_shows_itself_too() -> None:
    async with loopback_api() as api:
        body = (await api.ask("/metrics")).body.decode()
    assert "process_resident_memory_bytes" in body
    assert "python_info" in body
