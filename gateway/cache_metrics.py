"""The store of this host's peer, in /metrics: how full it is, and what it has given up, by why. Read when asked."""

from collections.abc import Callable, Iterator
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from worker_peer.api import CacheUse

_PREFIX: Final = "dragonfly_dfdaemon_cache"


class CacheCollector(Collector):
    """One peer's."""

    def __init__(self, look: Callable[[], CacheUse]) -> None:
        self._look = look

    def describe(self) -> Iterator[Metric]:
        """Prometheus' client asks for names when this is registered; the store need not be looked at for them."""
        return iter(self._metrics(CacheUse()))

    def collect(self) -> Iterator[Metric]:
        """Prometheus' client asks for values."""
        return iter(self._metrics(self._look()))

    @staticmethod
    def _metrics(use: CacheUse) -> list[Metric]:
        evicted = CounterMetricFamily(f"{_PREFIX}_evicted", "Contents that were deleted, by reason.", labels=["reason"])
        evicted_bytes = CounterMetricFamily(
            f"{_PREFIX}_evicted_bytes", "Bytes on disk of contents that were deleted, by reason.", labels=["reason"]
        )
        for reason, (contents, size) in use.evicted.items():
            evicted.add_metric([reason], contents)
            evicted_bytes.add_metric([reason], size)
        return [
            GaugeMetricFamily(f"{_PREFIX}_bytes", "Bytes on disk of all stored contents.", value=use.used),
            GaugeMetricFamily(f"{_PREFIX}_contents", "Contents that are stored.", value=use.stored),
            GaugeMetricFamily(f"{_PREFIX}_kept_bytes", "Bytes on disk of contents that are kept (pinned).", value=use.kept),
            GaugeMetricFamily(f"{_PREFIX}_quota_bytes", "Bytes that they may take; 0: not limited.", value=use.quota),
            evicted,
            evicted_bytes,
        ]
