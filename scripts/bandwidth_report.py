"""scripts/bandwidth: who uses this host's links. Rates of each network interface, by psutil, and what of them is the swarm's.

The swarm's share is asked of the dfdaemon that runs here (bytes received and sent by its peer), the whole swarm's rates of
the supernode, where one answers. Read only: it changes nothing and needs no root.
"""

import argparse
import json
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import Final

import psutil
from prometheus_client.parser import text_string_to_metric_families

_DFDAEMON: Final = "http://127.0.0.1:65001/metrics"
_SUPERNODE: Final = "http://127.0.0.1:8002/metrics"
#: What is asked of each: a counter of bytes, and the label that splits it (empty: none).
_COUNTERS: Final = {
    "dragonfly_dfdaemon_swarm_bytes_total": "direction",
    "dragonfly_supernode_source_bytes_total": "",
    "dragonfly_supernode_peer_received_bytes_total": "origin",
}
_TIMEOUT_S: Final = 2.0
# Loopback needs no proxy, and dfdaemon may be one.
_OPENER: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True, slots=True)
class Counted:
    """Bytes so far: (received, sent) of each interface, and the swarm's by counter and label."""

    at: float
    interfaces: dict[str, tuple[int, int]]
    swarm: dict[tuple[str, str], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Bytes per second. `host`: what this host's peer moves, by direction; `swarm`: what all peers receive, by origin."""

    interfaces: dict[str, tuple[float, float]]
    host: dict[str, float] = field(default_factory=dict)
    swarm: dict[str, float] = field(default_factory=dict)


def count(urls: list[str]) -> Counted:
    """All counters as they stand. What does not answer has none."""
    swarm: dict[tuple[str, str], float] = {}
    for url in urls:
        try:
            with _OPENER.open(url, timeout=_TIMEOUT_S) as answer:
                swarm.update(swarm_counters(answer.read().decode()))
        except (OSError, urllib.error.URLError, ValueError):
            continue
    found = psutil.net_io_counters(pernic=True, nowrap=False)
    return Counted(time.monotonic(), {name: (each.bytes_recv, each.bytes_sent) for name, each in found.items()}, swarm)


def swarm_counters(text: str) -> dict[tuple[str, str], float]:
    """The swarm's counters in a text of /metrics, by name and label. Raises ValueError for what is none."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name in _COUNTERS:
                found[sample.name, sample.labels.get(_COUNTERS[sample.name], "")] = sample.value
    return found


def rates(before: Counted, after: Counted) -> Rates:
    """What happened between two counts."""
    seconds = max(1e-9, after.at - before.at)
    interfaces = {
        name: tuple((new - old) / seconds for new, old in zip(counts, before.interfaces[name], strict=True))
        for name, counts in after.interfaces.items()
        if name in before.interfaces
    }
    moved = {key: (value - before.swarm[key]) / seconds for key, value in after.swarm.items() if key in before.swarm}
    return Rates(
        interfaces={name: (down, up) for name, (down, up) in interfaces.items()},
        host={label: rate for (name, label), rate in moved.items() if name.startswith("dragonfly_dfdaemon")},
        swarm={label or "source, read": rate for (name, label), rate in moved.items() if name.startswith("dragonfly_supernode")},
    )


def lines(found: Rates) -> list[str]:
    """What is printed: busiest interface first."""
    told = [f"{'Mbit/s':>16} {'down':>10} {'up':>10}"]
    for name, (down, up) in sorted(found.interfaces.items(), key=lambda each: (-sum(each[1]), each[0])):
        told.append(f"{name:>16} {_mbit(down):>10} {_mbit(up):>10}")
    if found.host:
        told.append(f"{'this peer':>16} {_mbit(found.host.get('down', 0.0)):>10} {_mbit(found.host.get('up', 0.0)):>10}")
        busiest = max((sum(each) for name, each in found.interfaces.items() if name != "lo"), default=0.0)
        if busiest > 0:
            told.append(f"{'its share':>16} {min(1.0, sum(found.host.values()) / busiest):>10.0%} of the busiest interface")
    for origin, rate in sorted(found.swarm.items()):
        told.append(f"{'whole swarm':>16} {_mbit(rate):>10} from {origin}")
    return told


def _mbit(rate: float) -> str:
    return f"{rate * 8 / 1e6:.1f}"


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="scripts/bandwidth", description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="how long rates are taken over (default 2)")
    parser.add_argument("--times", type=int, default=1, help="how often; 0: until Ctrl-C (default 1)")
    parser.add_argument("--dfdaemon", default=_DFDAEMON, help=f"its metrics (default {_DFDAEMON})")
    parser.add_argument("--supernode", default=_SUPERNODE, help=f"its metrics (default {_SUPERNODE})")
    parser.add_argument("--json", action="store_true", help="one JSON line each time, in bytes per second")
    flags = parser.parse_args(arguments)
    if not flags.seconds > 0 or flags.times < 0:
        parser.error("--seconds must be more than 0, --times 0 or more")
    urls = [flags.dfdaemon, flags.supernode]
    before, done = count(urls), 0
    try:
        while flags.times == 0 or done < flags.times:
            time.sleep(flags.seconds)
            after = count(urls)
            found = rates(before, after)
            told = {"interfaces": found.interfaces, "host": found.host, "swarm": found.swarm}
            print(json.dumps(told) if flags.json else "\n".join(lines(found)), flush=True)
            before, done = after, done + 1
    except KeyboardInterrupt:
        print(file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
