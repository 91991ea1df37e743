"""Links in virtual time: fluid flows that share them. Knows bytes and seconds only.

In a large network a flow gets the least of its links' equal shares. That wastes what a flow leaves of a share because
another link of its is narrower, which TCP would not: against max-min fairness results are 1 to 2 % worse, never better.
In a small one, where a whole link is a large part and computing is cheap, shares are max-min fair.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

_SAME = 1e-9


class Link:
    """A link of so many bytes per second, and the flows on it."""

    __slots__ = ("capacity", "flows")

    def __init__(self, capacity: float) -> None:
        self.capacity = capacity
        self.flows: dict[Flow, None] = {}


class Flow:
    """Bytes on their way over several links. `finished(flow)` is called when the last one has come."""

    __slots__ = ("ends_at", "finished", "links", "queued_at", "rate", "remaining", "since")

    def __init__(self, links: tuple[Link, ...], size: float, finished: Callable[[Any], None]) -> None:
        self.links = links
        self.remaining = size
        self.finished = finished
        self.rate = 0.0
        self.since = 0.0
        self.ends_at = 0.0
        self.queued_at = 0.0


class Network:
    """The clock, the calls that are due, and the flows."""

    def __init__(self, *, max_min: bool = False) -> None:
        self.now = 0.0
        self._max_min = max_min
        self._flows: dict[Flow, None] = {}
        self._due: list[tuple[float, int, Callable[[Any], None], Any]] = []
        self._number = 0

    def at(self, when: float, call: Callable[[Any], None], argument: Any) -> None:
        """Call at a time. Calls of one time happen in the order of their asking."""
        self._number += 1
        heapq.heappush(self._due, (when, self._number, call, argument))

    def step(self) -> bool:
        """Do what is next. False: nothing is."""
        if not self._due:
            return False
        self.now, _, call, argument = heapq.heappop(self._due)
        call(argument)
        return True

    def start(self, flow: Flow) -> None:
        """Bytes begin to move."""
        flow.since = self.now
        flow.rate = 0.0
        flow.queued_at = float("inf")
        for link in flow.links:
            link.flows[flow] = None
        if self._max_min:
            self._flows[flow] = None
        self._share(flow.links)

    def stop(self, flow: Flow) -> None:
        """They move no more: `remaining` is what has not come."""
        flow.remaining -= flow.rate * (self.now - flow.since)
        flow.rate = 0.0
        flow.ends_at = float("inf")
        for link in flow.links:
            del link.flows[flow]
        self._flows.pop(flow, None)
        self._share(flow.links)

    def replace(self, old: Flow, new: Flow) -> None:
        """`old` has ended and `new` goes on over the same links: nobody else's share changes."""
        for link in old.links:
            del link.flows[old]
            link.flows[new] = None
        if self._max_min:
            del self._flows[old]
            self._flows[new] = None
        new.since, new.rate = self.now, old.rate
        new.ends_at = new.queued_at = self.now + new.remaining / new.rate
        old.rate, old.ends_at = 0.0, float("inf")
        self.at(new.ends_at, self._end, new)

    def _share(self, links: tuple[Link, ...]) -> None:
        if self._max_min:
            for flow, rate in self._fair_rates():
                if abs(rate - flow.rate) > _SAME * rate:
                    self._set_rate(flow, rate)
            return
        for link in links:
            for flow in link.flows:
                rate = min([each.capacity / len(each.flows) for each in flow.links])
                if rate != flow.rate:
                    self._set_rate(flow, rate)

    def _set_rate(self, flow: Flow, rate: float) -> None:
        now = self.now
        flow.remaining -= flow.rate * (now - flow.since)
        flow.since, flow.rate = now, rate
        flow.ends_at = ends_at = now + flow.remaining / rate
        # A later end is found when the earlier one is due: that is cheaper than asking for every change.
        if ends_at < flow.queued_at - _SAME:
            flow.queued_at = ends_at
            self.at(ends_at, self._end, flow)

    def _fair_rates(self) -> list[tuple[Flow, float]]:
        """Max-min fair rates: the narrowest link gives its flows equal parts of what is left of it, then the next one."""
        left: dict[Link, list[float]] = {}
        for flow in self._flows:
            for link in flow.links:
                if link not in left:
                    left[link] = [link.capacity, len(link.flows)]
        rates: dict[Flow, float] = {}
        while left:
            narrowest = min(left, key=lambda link: left[link][0] / left[link][1])
            rate = max(_SAME, left[narrowest][0] / left[narrowest][1])
            for flow in narrowest.flows:
                if flow in rates:
                    continue
                rates[flow] = rate
                for link in flow.links:
                    if link is not narrowest:
                        share = left[link]
                        share[0] -= rate
                        share[1] -= 1
                        if not share[1]:
                            del left[link]
            del left[narrowest]
        return list(rates.items())

    def _end(self, flow: Flow) -> None:
        if not flow.rate or flow.queued_at > self.now + _SAME:
            return
        if flow.ends_at > self.now + _SAME:
            flow.queued_at = flow.ends_at
            self.at(flow.ends_at, self._end, flow)
            return
        flow.remaining = 0.0
        flow.since = self.now
        flow.finished(flow)
