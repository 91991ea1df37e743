"""Whether the swarm is worth waiting for: asks the supernodes when a client has waited, and remembers outages.

Driver of core/breaker.py. A wait that lasts is no proof of anything: the source may be slow, and then the direct way would
be no faster. So a waiting request asks a supernode for a sign of life; only its silence sends the client straight.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from gateway.core.breaker import Breaker, Trial
from gateway.core.rules import Trust
from gateway.upstream import Upstream, UpstreamFailed
from worker_peer.host.background import Background
from worker_peer.host.clock import Clock

#: Of waiting, before the supernodes are asked for a sign of life; and then from time to time again.
SUSPECT_AFTER_S: Final = 0.2
_ASK_AGAIN_S: Final = 2.0
#: A supernode that takes longer for it is no help.
_SIGN_OF_LIFE_S: Final = 0.4
#: How long a blob that this host has may take to be found, while nothing else is waited for.
LOCAL_S: Final = 0.05

_LOG = logging.getLogger("dfdaemon")
_Result = TypeVar("_Result")


class NoSwarm(Exception):
    """No supernode gives a sign of life: nothing more is to be waited for."""


class SwarmHealth:
    """The supernodes of this gateway."""

    def __init__(self, nodes: tuple[str, ...], upstream: Upstream, clock: Clock, background: Background) -> None:
        self._nodes = nodes
        self._upstream = upstream
        self._clock = clock
        self._background = background
        self._breaker = Breaker()
        self._asking: asyncio.Task[bool] | None = None

    def begin(self) -> Trial:
        """A request begins: how it may use the swarm."""
        return self._breaker.begin(self._clock.now())

    def succeeded(self) -> None:
        """The swarm has answered in time."""
        if self._breaker.is_open:
            _LOG.warning("the swarm answers again")
        self._breaker.succeeded()

    def failed(self, *, probe: bool = False) -> None:
        """The swarm has not."""
        if not self._breaker.is_open:
            _LOG.warning("no supernode answers (%s): blobs go straight to their upstreams until one does", ", ".join(self._nodes))
        self._breaker.failed(self._clock.now(), probe=probe)

    async def patient(self, wanted: Awaitable[_Result], at_most_s: float, *, progress: Callable[[], int] = lambda: 0) -> _Result:
        """Wait for it as long as there is a swarm. `progress`: bytes that have come; while they grow, there is one.

        Raises NoSwarm, TimeoutError after `at_most_s`, and what `wanted` raises. Then `wanted` has been cancelled.
        """
        work = asyncio.ensure_future(wanted)
        ends_at = self._clock.now() + at_most_s
        pause, came = min(SUSPECT_AFTER_S, at_most_s), progress()
        try:
            while True:
                done, _ = await asyncio.wait({work}, timeout=pause)
                if done:
                    return work.result()
                if self._clock.now() >= ends_at:
                    raise TimeoutError
                before, came = came, progress()
                if came == before and not await self._is_alive(work):
                    raise NoSwarm
                pause = max(0.0, min(_ASK_AGAIN_S, ends_at - self._clock.now()))
        finally:
            if not work.done():
                work.cancel()
                await asyncio.wait({work})

    async def _is_alive(self, work: "asyncio.Future[_Result]") -> bool:
        """Whether any supernode gives a sign of life; or the work is done meanwhile. Those who wait at once share it."""
        if self._asking is None or self._asking.done():
            self._asking = self._background.spawn(self._any_answers(), "sign of life")
        asking = self._asking
        both: set[asyncio.Future[Any]] = {asking, work}
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        return work.done() or asking.result()

    async def _any_answers(self) -> bool:
        asked = [self._background.spawn(self._answers(node), f"ping {node}") for node in dict.fromkeys(self._nodes)]
        try:
            for found in asyncio.as_completed(asked):
                if await found:
                    return True
            return False
        finally:
            for each in asked:
                each.cancel()

    async def _answers(self, node: str) -> bool:
        try:
            async with asyncio.timeout(_SIGN_OF_LIFE_S):
                async with self._upstream.request("GET", f"http://{node}/_ping", (("Host", node),), Trust()) as response:
                    return response.status == 200
        except (UpstreamFailed, TimeoutError):
            return False
