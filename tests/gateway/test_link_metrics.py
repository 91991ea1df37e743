"""The link's figures in /metrics: by direction, as they are now, and none where nobody looks."""

from prometheus_client import CollectorRegistry, generate_latest

from gateway.link_metrics import LinkCollector
from worker_peer.api import LinkUse, Moved


def told(registry: CollectorRegistry) -> list[str]:
    return [line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")]


def test_every_figure_has_both_directions_and_is_of_now() -> None:
    link: dict[str, LinkUse] = {}
    registry = CollectorRegistry()
    registry.register(LinkCollector(lambda: Moved(down=10, up=20), lambda: link))
    swarm = [
        'dragonfly_dfdaemon_swarm_bytes_total{direction="down"} 10.0',
        'dragonfly_dfdaemon_swarm_bytes_total{direction="up"} 20.0',
    ]
    assert told(registry) == swarm
    link["down"] = LinkUse(limit=1, own_rate=2.5, other_rate=3.5, link_rate=4)
    link["up"] = LinkUse(limit=5, own_rate=6.5, other_rate=7.5, link_rate=8)
    assert told(registry) == [
        *swarm,
        'dragonfly_dfdaemon_link_limit_bytes_per_second{direction="down"} 1.0',
        'dragonfly_dfdaemon_link_limit_bytes_per_second{direction="up"} 5.0',
        'dragonfly_dfdaemon_link_own_bytes_per_second{direction="down"} 2.5',
        'dragonfly_dfdaemon_link_own_bytes_per_second{direction="up"} 6.5',
        'dragonfly_dfdaemon_link_other_bytes_per_second{direction="down"} 3.5',
        'dragonfly_dfdaemon_link_other_bytes_per_second{direction="up"} 7.5',
        'dragonfly_dfdaemon_link_capacity_bytes_per_second{direction="down"} 4.0',
        'dragonfly_dfdaemon_link_capacity_bytes_per_second{direction="up"} 8.0',
    ]
