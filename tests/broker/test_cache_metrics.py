"""Seeds' stores in /metrics: what they answer when somebody reads; who is silent is left out, and holds nothing up."""

import asyncio
import time

from prometheus_client.parser import text_string_to_metric_families

from tests.support.broker_http import LoopbackApi, loopback_api
from tests.support.broker_words import SEED
from wire.messages import CacheList, CachePage, Role

PREFIX = "dragonfly_supernode_cache_"


async def figures(api: LoopbackApi) -> dict[str, float]:
    """The cache's: `name` or `name{reason}`."""
    text = (await api.ask("/metrics")).body.decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {
        sample.name.removeprefix(PREFIX) + (f"{{{sample.labels['reason']}}}" if "reason" in sample.labels else ""): sample.value
        for sample in samples
        if sample.name.startswith(PREFIX) and sample.labels["seed"]
    }


async def test_a_seed_is_asked_once_for_all_who_read() -> None:
    async with loopback_api(patience_s=10.0) as api:
        assert await figures(api) == {}
        seed, peer = await api.broker.join(SEED, Role.SEED), await api.broker.join("p")
        reading = [asyncio.ensure_future(figures(api)) for _ in range(3)]
        question = await seed.hears(CacheList)
        await seed.is_answered()
        evicted = (("room", 2, 50), ("asked", 1, 7))
        seed.say(CachePage(number=question.number, used=9, stored=3, kept=4, quota=20, free=100, evicted=evicted))
        wanted = {"bytes": 9, "contents": 3, "kept_bytes": 4, "quota_bytes": 20, "free_bytes": 100}
        wanted |= {"evicted_total{room}": 2, "evicted_total{asked}": 1}
        wanted |= {"evicted_bytes_total{room}": 50, "evicted_bytes_total{asked}": 7}
        assert await asyncio.gather(*reading) == [wanted] * 3
        await peer.is_answered()  # hosts have /metrics of their own


async def test_a_silent_seed_is_left_out() -> None:
    async with loopback_api(patience_s=0.1) as api:
        await api.broker.join(SEED, Role.SEED)
        began = time.monotonic()
        assert await figures(api) == {}
        assert time.monotonic() - began < 1.5
