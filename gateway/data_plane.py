"""The data plane of this host's peer, in /metrics: read when it is asked for, counted where it happens."""

from collections.abc import Callable, Iterator
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from worker_peer.api import DataPlane

_PREFIX: Final = "dragonfly_dfdaemon"


class DataPlaneCollector(Collector):
    """One peer's."""

    def __init__(self, look: Callable[[], DataPlane]) -> None:
        self._look = look

    def describe(self) -> Iterator[Metric]:
        """Prometheus' client asks for names when this is registered; the peer need not be looked at for them."""
        return iter(self._metrics(DataPlane()))

    def collect(self) -> Iterator[Metric]:
        """Prometheus' client asks for values."""
        return iter(self._metrics(self._look()))

    @staticmethod
    def _metrics(plane: DataPlane) -> list[Metric]:
        refused = CounterMetricFamily(
            f"{_PREFIX}_refused_frames", "Frames of other peers that were not accepted, by reason.", labels=["reason"]
        )
        for reason, count in sorted(plane.refused.items()):
            refused.add_metric([reason], count)
        return [
            GaugeMetricFamily(
                f"{_PREFIX}_serving_requests", "Requests of other peers that wait for blocks.", value=plane.serving
            ),
            GaugeMetricFamily(
                f"{_PREFIX}_fetching_pieces", "Pieces granted to this peer that are not here yet.", value=plane.fetching
            ),
            CounterMetricFamily(f"{_PREFIX}_served_bytes", "Bytes of blocks given to other peers.", value=plane.sent_bytes),
            refused,
        ]
