"""A router on loopback with a scheduler that remembers what happened to it, and dealers that speak to it."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from random import Random

import zmq

from broker.core.effects import Effect
from broker.core.events import Event
from broker.core.scheduler import Scheduler, SchedulerSettings
from broker.router import Router
from tests.support.broker_words import hello
from tests.support.dealer import Dealer, zmq_context
from wire.messages import Role, Welcome
from worker_peer.host.clock import SystemClock

RUN_ID = "127.0.0.1-run"


class RememberingScheduler(Scheduler):
    """Notes every event; `happened` waits for some. `deadline` replaces its own next deadline, where it is set."""

    def __init__(self, settings: SchedulerSettings | None = None) -> None:
        super().__init__(rng=Random(3), settings=settings)
        self.events: list[Event] = []
        self.deadline: float | None = None
        self._changed = asyncio.Event()

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Handle it, and note it."""
        self.events.append(event)
        self._changed.set()
        return super().handle(event, now)

    def next_deadline(self) -> float | None:
        """The test's, or its own."""
        return super().next_deadline() if self.deadline is None else self.deadline

    async def happened_with(self, condition: Callable[[], bool]) -> None:
        """Return when a condition holds, looked at after every event. Fails when it never does."""
        async with asyncio.timeout(15):
            while not condition():
                self._changed.clear()
                with suppress(TimeoutError):
                    # What follows from an event may follow a moment later.
                    await asyncio.wait_for(self._changed.wait(), 0.05)

    async def happened(self, kind: type[Event], times: int = 1) -> None:
        """Return when events of this kind have happened so often. Fails when they do not."""
        async with asyncio.timeout(10):
            while sum(isinstance(event, kind) for event in self.events) < times:
                self._changed.clear()
                await self._changed.wait()


class LoopbackBroker:
    """A router and its scheduler; `connect` gives dealers to it."""

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], settings: SchedulerSettings | None = None, ip: str = "127.0.0.1"
    ) -> None:
        self.scheduler = RememberingScheduler(settings)
        self.clock = SystemClock()
        self.router = Router(context, self.scheduler, bind_ip=ip, port=0, run_id=RUN_ID, clock=self.clock)
        self._context = context
        self._host = f"[{ip}]" if ":" in ip else ip
        self._dealers: list[Dealer] = []

    def connect(self) -> Dealer:
        """A new connection that has said nothing."""
        dealer = Dealer(self._context, self.router.port, self._host)
        self._dealers.append(dealer)
        return dealer

    async def join(self, peer: str, role: Role = Role.PEER) -> Dealer:
        """A connection that has said HELLO and was welcomed."""
        dealer = self.connect()
        dealer.say(hello(peer, role=role))
        await dealer.hears(Welcome)
        return dealer

    def close(self) -> None:
        """End the router and its dealers."""
        for dealer in self._dealers:
            dealer.close()
        self.router.close()


@contextmanager
def loopback_broker(settings: SchedulerSettings | None = None, ip: str = "127.0.0.1") -> Iterator[LoopbackBroker]:
    """One that ends with the context. Needs a running event loop."""
    with zmq_context() as context:
        broker = LoopbackBroker(context, settings, ip)
        try:
            yield broker
        finally:
            broker.close()
