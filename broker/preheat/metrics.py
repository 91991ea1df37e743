"""Preheat jobs in /metrics: read from the jobs when asked."""

from collections import Counter
from collections.abc import Iterable

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from broker.core.preheat_records import JobState
from broker.core.preheating import Preheating

_NAME = "dragonfly_supernode_preheats"


class PreheatCollector(Collector):
    """The jobs that are remembered, by state."""

    def __init__(self, core: Preheating) -> None:
        self._core = core

    def collect(self) -> Iterable[Metric]:
        """Every state, those that no job is in too."""
        found = Counter(job.state for job in self._core.jobs.values())
        family = GaugeMetricFamily(_NAME, "Preheat jobs that are remembered, by state", labels=["state"])
        for state in JobState:
            family.add_metric([state.value], found[state])
        yield family
