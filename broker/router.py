"""The broker's ROUTER: frames in, events to the scheduler, effects out, one timer re-armed in one place.

Driver, on the loop. A connection is known by its ZeroMQ identity; which peer it is, its HELLO says. A message of nobody
who has said hello is answered by NOT_KNOWN: after a restart that is how peers learn to say hello again.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from typing import Final, assert_never

import zmq

from broker.core.effects import Effect, Forget, Note, Notice, PeerMoved, PeerWarmed, TaskMoved, Tell
from broker.core.events import Event, PeerGone, PeerGreeted, PeerSaid, Tick
from broker.core.scheduler import Scheduler
from wire.errors import ErrorCode, RemoteError
from wire.framing import MAX_FRAME_BYTES, from_frames, to_frames
from wire.handshake import agree
from wire.messages import CachePage, Hello, Message, NotKnown, Refused, Welcome
from wire.version import PROTOCOL
from worker_peer.host.clock import Clock
from worker_peer.host.loop_socket import LoopSocket, Sent
from worker_peer.host.values import bracketed

_log = logging.getLogger("broker")

#: Messages that may wait for one peer; what does not fit is dropped, and put right by its lease's end.
_SEND_HWM: Final = 10_000
#: Messages of one peer that wait to be read: it says little before it is answered; more of them wait on its own host.
_RECEIVE_HWM: Final = 256
_LEVELS: Final = {
    Notice.PEER_LOST: logging.WARNING,
    Notice.TASK_DEAD: logging.WARNING,
    Notice.STRIKE: logging.WARNING,
    Notice.LEASE_EXPIRED: logging.WARNING,
    Notice.UNEXPECTED: logging.WARNING,
}


class Router:
    """Owns the ROUTER and the scheduler's clock."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        scheduler: Scheduler,
        *,
        bind_ip: str,
        port: int,
        run_id: str,
        clock: Clock,
    ) -> None:
        """Binds at once. Raises OSError in words when the port cannot be had."""
        self.scheduler = scheduler
        #: Frames that were no message, by reason; for /metrics.
        self.refused: Counter[str] = Counter()
        #: Messages in and out; for /metrics and the benchmarks.
        self.messages_in = 0
        self.messages_out = 0
        self.dropped = 0
        #: Told of every CACHE_PAGE, with its sender.
        self.on_page: Callable[[str, CachePage], None] = lambda peer, page: None
        #: Told of every task that is wanted by nobody but it, of every WARMED, and of peers that come and go.
        self.on_news: Callable[[TaskMoved | PeerWarmed | PeerMoved], None] = lambda news: None
        self._run_id = run_id
        self._clock = clock
        self._peer_of: dict[bytes, str] = {}
        self._identity_of: dict[str, bytes] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at: float | None = None
        router = context.socket(zmq.ROUTER)
        router.setsockopt(zmq.LINGER, 0)
        router.setsockopt(zmq.SNDHWM, _SEND_HWM)
        router.setsockopt(zmq.RCVHWM, _RECEIVE_HWM)
        router.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
        router.setsockopt(zmq.ROUTER_MANDATORY, 1)
        router.setsockopt(zmq.IPV6, 1)
        router.setsockopt(zmq.BACKLOG, 4096)
        # No ZMTP heartbeats from here: libzmq searches all its timers for the one that it cancels, and with 15,000
        # connections that takes a whole core. Peers ping us; one that is silent is asked, and lost after its ALIVEs.
        for option, value in ((zmq.TCP_KEEPALIVE, 1), (zmq.TCP_KEEPALIVE_IDLE, 30), (zmq.TCP_KEEPALIVE_INTVL, 10)):
            router.setsockopt(option, value)
        host = bracketed(bind_ip)
        try:
            router.bind(f"tcp://{host}:{port or '*'}")
        except zmq.ZMQError as error:
            router.close(0)
            raise OSError(
                f"the broker cannot listen on {bind_ip}:{port}: {error.strerror}: choose another --broker-port"
            ) from None
        self.port = int(router.getsockopt_string(zmq.LAST_ENDPOINT).rpartition(":")[2])
        self._socket = LoopSocket(router, self._received)

    def close(self) -> None:
        """Stop."""
        if self._timer is not None:
            self._timer.cancel()
        self._socket.close()

    def handle(self, event: Event) -> None:
        """Give an event to the scheduler and carry out what it decides."""
        for effect in self.scheduler.handle(event, self._clock.now()):
            self._do(effect)
        self._arm()

    # -- in -------------------------------------------------------------------------------------------------------------

    def _received(self, frames: list[bytes]) -> None:
        self.messages_in += 1
        identity, *rest = frames
        try:
            message = from_frames(rest).message
        except RemoteError as error:
            self.refused[error.code.name.lower()] += 1
            if error.code is ErrorCode.MAJOR_MISMATCH:
                majors = (PROTOCOL[0], PROTOCOL[0])
                self._send(
                    identity, Refused(code=error.code, message=f"{error}: run the same release on both ends", majors=majors)
                )
            return
        if isinstance(message, Hello):
            self._greet(identity, message)
            return
        peer = self._peer_of.get(identity)
        if peer is None:
            self._send(identity, NotKnown())
            return
        if isinstance(message, CachePage):
            self.on_page(peer, message)
            return
        self.handle(PeerSaid(peer=peer, message=message))

    def tell(self, peer: str, message: Message) -> None:
        """Say something to a peer that decides nothing; to one that is gone, nothing."""
        self._do(Tell(peer=peer, message=message))

    def _greet(self, identity: bytes, hello: Hello) -> None:
        agreed = agree(hello)
        if isinstance(agreed, Refused):
            self.refused[agreed.code.name.lower()] += 1
            self._send(identity, agreed)
            return
        former = self._peer_of.get(identity)
        if former not in (None, hello.peer):
            self.handle(PeerGone(peer=former))  # whoever spoke over this connection is now somebody else
        before = self._identity_of.pop(hello.peer, None)
        if before is not None:
            self._peer_of.pop(before, None)
        self._peer_of[identity], self._identity_of[hello.peer] = hello.peer, identity
        settings = self.scheduler.settings
        self._send(
            identity,
            Welcome(
                protocol=agreed,
                supernode=self._run_id,
                alive_every_s=self.scheduler.alive_every_s,
                lost_after_s=settings.lost_after_s,
            ),
        )
        self.handle(PeerGreeted(hello=hello))

    # -- out ------------------------------------------------------------------------------------------------------------

    def _do(self, effect: Effect) -> None:
        match effect:
            case Tell():
                identity = self._identity_of.get(effect.peer)
                if identity is not None:
                    self._send(identity, effect.message)
            case Forget():
                identity = self._identity_of.pop(effect.peer, None)
                if identity is not None:
                    self._peer_of.pop(identity, None)
            case Note():
                subject = " ".join(part for part in (effect.task[:16], effect.peer) if part)
                level = _LEVELS.get(effect.notice, logging.INFO)
                _log.log(level, "%s %s: %s", effect.notice.name.lower().replace("_", " "), subject, effect.text)
            case TaskMoved() | PeerWarmed() | PeerMoved():
                self.on_news(effect)
            case _:
                assert_never(effect)

    def _send(self, identity: bytes, message: Message) -> None:
        self.messages_out += 1
        sent = self._socket.send([identity, *to_frames(message)])
        if sent is Sent.YES:
            return
        self.dropped += 1  # one that does not read: its leases' end, or its silence, will show it
        peer = self._peer_of.get(identity)
        if sent is Sent.UNREACHABLE and peer is not None:
            # Its connection is closed: it has ended. Told after what is being done now, which may be about many peers.
            asyncio.get_running_loop().call_soon(self._gone, identity, peer)

    def _gone(self, identity: bytes, peer: str) -> None:
        if self._peer_of.get(identity) == peer:
            self.handle(PeerGone(peer=peer))

    def _arm(self) -> None:
        """The one timer."""
        due = self.scheduler.next_deadline()
        if due is None or (self._timer_at is not None and self._timer_at <= due):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = due
        self._timer = asyncio.get_running_loop().call_later(max(0.0, due - self._clock.now()), self._tick)

    def _tick(self) -> None:
        self._timer = self._timer_at = None
        self.handle(Tick())
