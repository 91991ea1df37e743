"""The host's link in /metrics: what of it the swarm may have, what it takes, and what others take. Read when asked."""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from worker_peer.api import LinkUse, Moved

_PREFIX: Final = "dragonfly_dfdaemon_link_"
_MOVED: Final = "dragonfly_dfdaemon_swarm_bytes"
_FIGURES: Final = (
    ("limit", "limit", "Bytes of content per second that the swarm may move now; 0: not limited."),
    ("own", "own_rate", "Bytes per second on the wire that are the swarm's."),
    ("other", "other_rate", "Bytes per second on the wire that are others'."),
    ("capacity", "link_rate", "Bytes per second that the link carries, stated or learned; 0: not known."),
)


class LinkCollector(Collector):
    """What the peer has moved; and one gauge for each figure and direction, none where it looks at no link."""

    def __init__(self, moved: Callable[[], Moved], link: Callable[[], Mapping[str, LinkUse]]) -> None:
        self._moved = moved
        self._link = link

    def collect(self) -> Iterable[Metric]:
        """Every figure as it is now."""
        link, moved = self._link(), self._moved()
        counter = CounterMetricFamily(
            _MOVED, "Bytes of contents that this host's peer has received and sent.", labels=["direction"]
        )
        counter.add_metric(["down"], moved.down)
        counter.add_metric(["up"], moved.up)
        yield counter
        for name, figure, about in _FIGURES if link else ():
            gauge = GaugeMetricFamily(f"{_PREFIX}{name}_bytes_per_second", about, labels=["direction"])
            for direction, use in link.items():
                gauge.add_metric([direction], getattr(use, figure))
            yield gauge
