"""The seeds' stores in /metrics: a seed has no HTTP of its own, so it is asked when somebody reads. Who is silent is left out.

Driver, on the loop.
"""

import asyncio
from collections.abc import Iterable
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from broker.cache.questions import CacheQuestions, TooManyQuestions
from broker.router import Router
from wire.messages import CacheList, CachePage, Role

_PREFIX: Final = "dragonfly_supernode_cache"
#: Prometheus gives up a scrape after ten seconds; a figure that is missing once is better than all of them.
_PATIENCE_S: Final = 2.0
_GAUGES: Final = (
    ("bytes", "used", "Bytes on disk of all contents that a seed has."),
    ("contents", "stored", "Contents that a seed has."),
    ("kept_bytes", "kept", "Bytes on disk of contents that are kept (pinned)."),
    ("quota_bytes", "quota", "Bytes that they may take; 0: not limited."),
    ("free_bytes", "free", "Bytes that are free on the seed's disk."),
)


class SeedStores(Collector):
    """What seeds said of their stores when they were asked last."""

    def __init__(self, router: Router, questions: CacheQuestions, *, patience_s: float = _PATIENCE_S) -> None:
        self._router = router
        self._questions = questions
        self._patience_s = patience_s
        self._asking: asyncio.Task[None] | None = None
        #: By the endpoint, which a seed has again after a restart.
        self._pages: dict[str, CachePage] = {}

    async def look(self) -> None:
        """Ask every seed. Who reads at the same time waits for the same answers."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.ensure_future(self._ask())
        await asyncio.shield(self._asking)

    async def _ask(self) -> None:
        seeds = [record for record in self._router.scheduler.state.peers.values() if record.role is Role.SEED]
        try:
            answers = await self._questions.ask(
                seeds, lambda number: CacheList(number=number, limit=1), within_s=self._patience_s
            )
        except TooManyQuestions:
            answers = {}
        names = {record.peer: record.data_endpoint.removeprefix("tcp://") or record.peer for record in seeds}
        self._pages = {names[peer]: page for peer, page in answers.items() if isinstance(page, CachePage)}

    def collect(self) -> Iterable[Metric]:
        """Every figure of every seed that answered."""
        for name, figure, about in _GAUGES:
            gauge = GaugeMetricFamily(f"{_PREFIX}_{name}", about, labels=["seed"])
            for seed, page in self._pages.items():
                gauge.add_metric([seed], getattr(page, figure))
            yield gauge
        contents = CounterMetricFamily(
            f"{_PREFIX}_evicted", "Contents that a seed has deleted, by reason.", labels=["seed", "reason"]
        )
        sizes = CounterMetricFamily(f"{_PREFIX}_evicted_bytes", "Their bytes on disk.", labels=["seed", "reason"])
        for seed, page in self._pages.items():
            for reason, count, size in {row[0]: row for row in page.evicted}.values():
                contents.add_metric([seed, reason], count)
                sizes.add_metric([seed, reason], size)
        yield contents
        yield sizes
