"""The store's figures in /metrics: as they are now, every reason of an eviction by its name."""

from prometheus_client import CollectorRegistry, generate_latest

from gateway.cache_metrics import CacheCollector
from worker_peer.api import CacheUse


def told(registry: CollectorRegistry) -> list[str]:
    """The lines with values."""
    return [line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")]


def test_every_figure_is_of_now() -> None:
    uses = [CacheUse(used=10, quota=40, kept=5, stored=2, evicted={"room": (3, 30), "expired": (0, 0)})]
    registry = CollectorRegistry()
    registry.register(CacheCollector(lambda: uses[-1]))
    assert told(registry) == [
        "dragonfly_dfdaemon_cache_bytes 10.0",
        "dragonfly_dfdaemon_cache_contents 2.0",
        "dragonfly_dfdaemon_cache_kept_bytes 5.0",
        "dragonfly_dfdaemon_cache_quota_bytes 40.0",
        'dragonfly_dfdaemon_cache_evicted_total{reason="room"} 3.0',
        'dragonfly_dfdaemon_cache_evicted_total{reason="expired"} 0.0',
        'dragonfly_dfdaemon_cache_evicted_bytes_total{reason="room"} 30.0',
        'dragonfly_dfdaemon_cache_evicted_bytes_total{reason="expired"} 0.0',
    ]
    uses.append(CacheUse(used=11))
    assert "dragonfly_dfdaemon_cache_bytes 11.0" in told(registry)
