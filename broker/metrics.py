"""/metrics of the supernode: read from the state when asked, so that nothing is counted twice or left behind."""

from collections import Counter
from collections.abc import Iterable
from math import inf

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from broker.core.state import State
from broker.router import Router
from broker.seed import SeedProcess
from wire.messages import Origin

_PREFIX = "dragonfly_supernode_"


class StateCollector(Collector):
    """The state as metrics."""

    def __init__(self, router: Router, seed: SeedProcess | None, version: str) -> None:
        self._router = router
        self._seed = seed
        self._version = version

    def collect(self) -> Iterable[Metric]:
        """Every figure."""
        state = self._router.scheduler.state
        build = GaugeMetricFamily(_PREFIX + "build_info", "Release", labels=["version"])
        build.add_metric([self._version], 1)
        yield build
        yield from self._of_peers_and_tasks(state)
        yield from _of_bytes(state)
        about = "Bytes that peers had from another zone, by the widest level at which the two differ (1 the widest)"
        entered = {str(level): count for level, count in state.counters.entered_zones.items()}
        yield _labelled("zone_bytes", about, "level", entered)
        yield from _of_leases(state)
        yield from _of_waiting(state)
        yield from self._of_messages()

    def _of_peers_and_tasks(self, state: State) -> Iterable[Metric]:
        peers = GaugeMetricFamily(_PREFIX + "peers", "Peers that are here", labels=["role"])
        for role, number in Counter(peer.role for peer in state.peers.values()).items():
            peers.add_metric([role.name.lower()], number)
        yield peers
        tasks = GaugeMetricFamily(_PREFIX + "tasks", "Tasks, by state", labels=["cdnstatus"])
        for name, number in Counter(task.state for task in state.tasks.values()).items():
            tasks.add_metric([name.name.lower()], number)
        yield tasks
        counters = state.counters
        yield _counter("tasks_registered", "Tasks that were new", counters.tasks_registered)
        yield _counter("registrations", "Registrations of peers for tasks", counters.registrations)
        yield _counter("cdn_trigger", "Times that the seed was asked to read a source", counters.seed_fetches)
        yield _counter("cdn_trigger_failed", "Times that it could not", counters.seed_failures)
        yield _counter("peers_joined", "Peers that said hello", counters.peers_joined)
        yield _counter("gc_peers", "Peers that were lost", counters.peers_lost)
        if self._seed is not None:
            yield _counter("seed_restarts", "Times that the seed's process had to be started again", self._seed.restarts)

    def _of_messages(self) -> Iterable[Metric]:
        messages = CounterMetricFamily(_PREFIX + "messages", "Messages of the broker", labels=["direction"])
        messages.add_metric(["in"], self._router.messages_in)
        messages.add_metric(["out"], self._router.messages_out)
        messages.add_metric(["dropped"], self._router.dropped)
        yield messages
        yield _labelled("refused_frames", "Frames that were no message", "reason", self._router.refused)
        unexpected = self._router.scheduler.state.counters.unexpected
        yield _labelled("unexpected_messages", "Messages that their sender may not say", "kind", unexpected)


def _of_bytes(state: State) -> Iterable[Metric]:
    received = state.received()
    yield _counter("source_bytes", "Bytes read from sources, by the seed and by peers", received[Origin.SOURCE])
    by_origin = CounterMetricFamily(_PREFIX + "peer_received_bytes", "Bytes that peers received", labels=["origin"])
    for origin in Origin:
        by_origin.add_metric([origin.name.lower()], received[origin])
    yield by_origin
    yield _counter("peer_sent_bytes", "Bytes that peers and the seed sent", state.sent())


def _of_leases(state: State) -> Iterable[Metric]:
    counters = state.counters
    yield _gauge("leases", "Leases in work", len(state.leases))
    yield _gauge("leased_pieces", "Pieces on their way", sum(len(lease.pieces) for lease in state.leases))
    yield _counter("leases_granted", "Lease messages sent", counters.leases_granted)
    yield _counter("leases_expired", "Leases that ended without a word of their child", counters.leases_expired)
    yield _counter("pieces_reported", "Pieces that peers reported", counters.pieces_reported)
    yield _labelled("pieces_failed", "Leased pieces that did not come", "failure", counters.pieces_failed)


def _of_waiting(state: State) -> Iterable[Metric]:
    """What the broker has still to decide. What ZeroMQ has still to send it tells nobody: see messages, dropped."""
    waiting = sum(task.matcher.waiting_children for task in state.tasks.values() if task.matcher is not None)
    yield _gauge("waiting_children", "Peers that could take another lease, once for each of their tasks", waiting)
    pending = sum(task.due_at < inf for task in state.tasks.values())
    yield _gauge("pending_decisions", "Tasks in which somebody waits for the next look", pending)


def _counter(name: str, about: str, value: float) -> Metric:
    return CounterMetricFamily(_PREFIX + name, about, value=value)


def _gauge(name: str, about: str, value: float) -> Metric:
    return GaugeMetricFamily(_PREFIX + name, about, value=value)


def _labelled(name: str, about: str, label: str, values: dict[str, int]) -> Metric:
    family = CounterMetricFamily(_PREFIX + name, about, labels=[label])
    for value, number in values.items():
        family.add_metric([value], number)
    return family


def registry_of(router: Router, seed: SeedProcess | None, version: str) -> CollectorRegistry:
    """The supernode's registry, with the process's own figures."""
    from prometheus_client import PlatformCollector, ProcessCollector

    registry = CollectorRegistry()
    registry.register(StateCollector(router, seed, version))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    return registry
