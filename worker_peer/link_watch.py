"""Watches this host's link, so that the swarm yields to everybody else on it (core/yielding.py decides how far).

Driver, on the loop: a sample is one read of /proc/net/dev, 0.3 ms on a busy machine. Counted is the interface that has the
peer's address; what the peer moves over another one is then not seen, and what it moves on this one is its own.
"""

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Final

import psutil

from worker_peer.api import LinkUse, Moved
from worker_peer.core.yielding import Yielding, YieldSettings
from worker_peer.host.clock import Clock
from worker_peer.host_limits import HostLimits

_log = logging.getLogger("link")

_EVERY_S: Final = 0.25
#: A limit that has moved by this factor is told to the log, and not more often than this.
_TOLD_FACTOR: Final = 2.0
_TOLD_EVERY_S: Final = 10.0


class LinkWatch:
    """Keeps the host's limits at what the link has left."""

    def __init__(
        self,
        *,
        interface: str,
        link_rate: int,
        floor: int,
        limits: HostLimits,
        own: Callable[[], Moved],
        changed: Callable[[], None],
        clock: Clock,
    ) -> None:
        """`own`: what the peer has moved. `changed`: the limits have."""
        self.interface = interface
        card = psutil.net_if_stats().get(interface)
        guess = card.speed * 125_000 if card is not None else 0
        settings = YieldSettings(link_rate=link_rate, first_guess=0 if link_rate else guess, floor=floor)
        self._limits = limits
        self._own = own
        self._changed = changed
        self._clock = clock
        self._down, self._up = (Yielding(settings, clock.now()) for _ in range(2))
        self._told_at = clock.now() - _TOLD_EVERY_S
        self._told = (0, 0)
        what = f"{link_rate} bytes a second" if link_rate else "to be learned"
        _log.info("the peer yields to others on %s, whose rate is %s", interface, what)

    @property
    def use(self) -> dict[str, LinkUse]:
        """By direction, `down` and `up`."""
        return {
            name: LinkUse(limit=each.limit, own_rate=each.own_rate, other_rate=each.other_rate, link_rate=each.link_rate)
            for name, each in (("down", self._down), ("up", self._up))
        }

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            self.look()
            await asyncio.sleep(_EVERY_S)

    def look(self) -> None:
        """One sample."""
        counters = psutil.net_io_counters(pernic=True, nowrap=False).get(self.interface)
        if counters is None:
            return  # gone for now, as a link that is set up anew
        own, now = self._own(), self._clock.now()
        before = (self._down.limit, self._up.limit)
        down = self._down.sampled(counters.bytes_recv, own.down, now)
        up = self._up.sampled(counters.bytes_sent, own.up, now)
        if (down, up) != before:
            self._limits.yield_to(down, up, now)
            self._changed()
            self._tell((down, up), now)

    def _tell(self, limits: tuple[int, int], now: float) -> None:
        moved = any(max(new, old) > _TOLD_FACTOR * min(new, old) for new, old in zip(limits, self._told, strict=True))
        if moved and now - self._told_at >= _TOLD_EVERY_S:
            self._told, self._told_at = limits, now
            others = (self._down.other_rate, self._up.other_rate)
            _log.info("others take %.0f bytes a second down and %.0f up: limits %d and %d", *others, *limits)


def interface_of(address: str) -> str:
    """The network interface that has an address; empty: none of this host's."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for name, addresses in psutil.net_if_addrs().items():
        if any(each.family == family and each.address.partition("%")[0] == address for each in addresses):
            return name
    return ""
