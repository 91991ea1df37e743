"""WARM and WARMED: a host, or the seed, is told to have contents ready, and says how far it is.

Driver, on the loop. What is done when is decided in core/warming.py; how a content comes here, the `WarmContents` know: a
peer's come through the swarm (swarm_contents.py), the seed's from their sources (seed_contents.py).
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final, Protocol, assert_never

from wire.errors import ErrorCode
from wire.messages import Warm
from worker_peer.api import DownloadFailed
from worker_peer.broker_link import BrokerLink
from worker_peer.cache_keeper import CacheKeeper, KeepRefused
from worker_peer.core.warming import Warming
from worker_peer.core.warming_events import (
    Asked,
    Begin,
    Check,
    Checked,
    Effect,
    Ended,
    Event,
    Failure,
    NodeDown,
    NodeUp,
    Progress,
    Proof,
    SetRate,
    Stop,
    Tell,
    Tick,
)
from worker_peer.host.background import Background
from worker_peer.host.clock import Clock

_log = logging.getLogger("warm")

_OWN_ERROR: Final = "an error of this host's own: look into its log"


class WarmContents(Protocol):
    """Where contents that are to be ready come from."""

    async def have(self, warm: Warm, link: BrokerLink) -> Proof:
        """Have the content here, every block verified and its digest confirmed. Raises DownloadFailed."""
        ...

    async def holds(self, task: str) -> bool:
        """Whether the content is here, and nobody has touched it since it was last proven."""
        ...

    def progress(self, task: str) -> Progress:
        """How much of a content is here while `have` runs."""
        ...


class Warmer:
    """All warming of one peer."""

    def __init__(
        self,
        contents: WarmContents,
        *,
        keeper: CacheKeeper,
        set_rate: Callable[[int], None],
        clock: Clock,
        background: Background,
    ) -> None:
        self._contents = contents
        self._keeper = keeper
        self._set_rate = set_rate
        self._clock = clock
        self._background = background
        self._core = Warming(contents.progress)
        self._links: dict[str, BrokerLink] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def __len__(self) -> int:
        """Contents that are to be ready and are not."""
        return len(self._core)

    def message(self, link: BrokerLink, warm: Warm) -> None:
        """A supernode wants a content ready, or no longer."""
        self._links[link.node] = link
        _log.info("job %s: task %s is to be %s", warm.job, warm.task[:16], "left" if warm.cancel else "here")
        self._happened(Asked(link.node, warm))

    def supernode_up(self, link: BrokerLink) -> None:
        """A supernode has welcomed this peer."""
        self._happened(NodeUp(link.node))

    def supernode_down(self, link: BrokerLink) -> None:
        """A supernode has fallen silent."""
        self._happened(NodeDown(link.node))

    def close(self) -> None:
        """Say nothing more."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()

    def _happened(self, event: Event) -> None:
        if self._closed:
            return
        for effect in self._core.handle(event, self._clock.now()):
            self._do(effect)
        if self._timer is not None:
            self._timer.cancel()
        due = self._core.next_deadline()
        if due is not None:
            wait = max(0.0, due - self._clock.now())
            self._timer = asyncio.get_running_loop().call_later(wait, self._happened, Tick())

    def _do(self, effect: Effect) -> None:
        match effect:
            case Begin():
                self._running[effect.task] = self._background.spawn(self._have(effect), f"warm {effect.task[:16]}")
            case Check():
                self._background.spawn(self._check(effect), f"check {effect.task[:16]}")
            case Stop():
                self._running.pop(effect.task).cancel()
            case SetRate():
                self._set_rate(effect.rate)
            case Tell():
                self._links[effect.node].send(effect.message)
            case _:
                assert_never(effect)

    async def _have(self, begin: Begin) -> None:
        try:
            with self._keeper.holding(begin.task):
                proof = await self._contents.have(begin.warm, self._links[begin.node])
                outcome = await self._kept(begin.task) or proof
        except DownloadFailed as error:
            outcome = Failure(code=error.code, status=error.status, message=str(error))
        except OSError as error:
            outcome = Failure(code=ErrorCode.INTERNAL, message=f"task {begin.task[:16]}: the store: {error}")
        except Exception:
            # Told all the same: else its turn is never over, and whoever wants it waits for ever.
            self._ended(begin, Failure(code=ErrorCode.INTERNAL, message=f"task {begin.task[:16]}: {_OWN_ERROR}"))
            raise
        if isinstance(outcome, Failure):
            _log.warning("task %s cannot be made ready: %s", begin.task[:16], outcome.message)
        else:
            _log.info("task %s is ready: %d bytes, %s", begin.task[:16], outcome.length, outcome.digest)
        self._ended(begin, outcome)

    def _ended(self, begin: Begin, outcome: Proof | Failure) -> None:
        if self._running.get(begin.task) is asyncio.current_task():
            del self._running[begin.task]
        self._happened(Ended(begin.task, begin.run, outcome))

    async def _check(self, check: Check) -> None:
        outcome: Proof | Failure | None = None
        try:
            with self._keeper.holding(check.task):
                if await self._contents.holds(check.task):
                    outcome = await self._kept(check.task) or check.proof
        except OSError as error:
            _log.warning("task %s cannot be looked at: %s", check.task[:16], error)
        except Exception:
            self._happened(Checked(check.task, check.run, None))
            raise
        self._happened(Checked(check.task, check.run, outcome))

    async def _kept(self, task: str) -> Failure | None:
        """Keep it for as long as anybody wants. Raises OSError."""
        keep_s = self._core.keep_s(task)
        try:
            if keep_s > 0 and not await self._keeper.keep(task, keep_s):
                return Failure(
                    code=ErrorCode.INTERNAL, message=f"task {task[:16]} was deleted before it could be kept: try again"
                )
        except KeepRefused as error:
            return Failure(code=ErrorCode.STORE_FULL, message=str(error))
        return None
