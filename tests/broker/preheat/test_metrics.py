"""Jobs by state in /metrics."""

from prometheus_client import CollectorRegistry, generate_latest

from broker.core.preheat_events import JobAsked
from broker.core.preheating import Preheating
from broker.preheat.metrics import PreheatCollector
from tests.support.preheat_world import spec


def test_every_state_has_its_number() -> None:
    jobs = Preheating()
    registry = CollectorRegistry()
    registry.register(PreheatCollector(jobs))
    assert b'dragonfly_supernode_preheats{state="running"} 0.0' in generate_latest(registry)
    jobs.handle(JobAsked(spec=spec()), 0.0)
    shown = generate_latest(registry)
    assert b'dragonfly_supernode_preheats{state="running"} 1.0' in shown
    assert b'dragonfly_supernode_preheats{state="partial"} 0.0' in shown
