"""The peer's connection to one supernode: finds it, says hello, stays alive, notices when it is gone, comes back.

Driver. The cluster document over HTTP says where the broker is (so that 1.x's `--node host:8002` works unchanged); then
a DEALER speaks to it. What arrives goes to `on_message`; ups and downs to `on_up` and `on_down`.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import zmq
from tornado.escape import json_decode
from tornado.httpclient import AsyncHTTPClient

from wire.errors import LocalError, RemoteError
from wire.framing import MAX_FRAME_BYTES, from_frames, to_frames
from wire.messages import Alive, Hello, Message, NotKnown, Refused, Welcome
from worker_peer.host.background import Background
from worker_peer.host.clock import Clock
from worker_peer.host.loop_socket import LoopSocket, Sent

_log = logging.getLogger("supernode")

_ASK_S: Final = 0.8
_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 2.0
_SEND_HWM: Final = 10_000


@dataclass(slots=True, kw_only=True)
class LinkHandlers:
    """Whom the link tells. Called on the loop; they must not block."""

    on_up: Callable[["BrokerLink"], None]
    on_down: Callable[["BrokerLink"], None]
    on_message: Callable[["BrokerLink", Message], None]
    #: What ALIVE says: leases in work, bytes received by origin, bytes sent.
    alive: Callable[[], Alive]


class SupernodeUnreachable(Exception):
    """The supernode did not answer, or not with what a supernode answers."""


class BrokerLink:
    """One supernode, as this peer sees it. `node` is its HTTP `host:port`."""

    def __init__(
        self,
        node: str,
        *,
        context: zmq.Context[zmq.Socket[bytes]],
        hello: Callable[[], Hello],
        handlers: LinkHandlers,
        clock: Clock,
        background: Background,
    ) -> None:
        self.node = node
        self.is_up = False
        #: When the last attempt to reach it failed; None: it has not been tried, or it is up.
        self.failed_at: float | None = None
        #: Set while it is up, or has just failed: whoever waits for a verdict on this supernode waits for that.
        self.decided = asyncio.Event()
        self.supernode_run = ""
        self._context = context
        self._hello = hello
        self._handlers = handlers
        self._clock = clock
        self._socket: LoopSocket | None = None
        self._monitor: LoopSocket | None = None
        #: Set when the connection has been closed by the other end.
        self._cut = asyncio.Event()
        self._heard_at = 0.0
        self._alive_every_s = 1.0
        self._welcome: asyncio.Future[Welcome] | None = None
        self._task = background.spawn(self._run(), f"supernode {node}")

    def send(self, message: Message) -> bool:
        """Send without waiting. False: the supernode is not there; what was said has to be said again when it is."""
        try:
            frames = to_frames(message)
        except LocalError as error:
            # A URL or a header longer than the protocol carries: the task goes without the supernode.
            _log.warning("supernode %s cannot be told: %s", self.node, error)
            return False
        return self._socket is not None and self._socket.send(frames) is Sent.YES

    def close(self) -> None:
        """Hang up."""
        self._task.cancel()
        self._hang_up()

    def _hang_up(self) -> None:
        for socket in (self._monitor, self._socket):
            if socket is not None:
                socket.close()
        self._monitor = self._socket = None

    async def _run(self) -> None:
        pause = _FIRST_PAUSE_S
        while True:
            try:
                welcome = await self._connect()
            except (SupernodeUnreachable, OSError, zmq.ZMQError) as error:
                if self.failed_at is None:
                    _log.warning("supernode %s cannot be reached: %s", self.node, error)
                self.failed_at = self._clock.now()
                self._hang_up()
                self.decided.set()
                await asyncio.sleep(pause)
                pause = min(_LONGEST_PAUSE_S, pause * 2)
                continue
            pause = _FIRST_PAUSE_S
            await self._stay(welcome)

    async def _connect(self) -> Welcome:
        """Ask for the cluster document, connect to the broker that it names, and be welcomed."""
        document = await _cluster_document(self.node)
        endpoint = document.get("broker")
        if not isinstance(endpoint, str):
            raise SupernodeUnreachable("its cluster document names no broker: is this a supernode's HTTP port?")
        dealer = self._context.socket(zmq.DEALER)
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.setsockopt(zmq.SNDHWM, _SEND_HWM)
        dealer.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
        dealer.setsockopt(zmq.IPV6, 1)
        dealer.setsockopt(zmq.HEARTBEAT_IVL, 2000)
        dealer.setsockopt(zmq.HEARTBEAT_TIMEOUT, 8000)
        try:
            dealer.connect(endpoint)
        except zmq.ZMQError:
            dealer.close(0)
            raise
        self._welcome = asyncio.get_running_loop().create_future()
        self._cut.clear()
        # A supernode that ends, however it ends, closes its connections: that is known at once, its silence much later.
        monitor = dealer.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        self._monitor = LoopSocket(monitor, lambda frames: self._cut.set())
        self._socket = LoopSocket(dealer, self._received)
        self.send(self._hello())
        try:
            return await asyncio.wait_for(self._welcome, _ASK_S)
        except TimeoutError:
            raise SupernodeUnreachable("its broker does not answer") from None
        finally:
            self._welcome = None

    async def _stay(self, welcome: Welcome) -> None:
        """Up: say ALIVE until the supernode falls silent."""
        self._go_up(welcome)
        while not self._cut.is_set() and not self._is_silent(welcome):
            self.send(self._handlers.alive())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._cut.wait(), self._alive_every_s)
        _log.warning(
            "supernode %s %s: going on without it, and trying to reach it again",
            self.node,
            "has hung up" if self._cut.is_set() else "is silent",
        )
        self.is_up, self.failed_at = False, self._clock.now()
        self._hang_up()
        self._handlers.on_down(self)

    def _is_silent(self, welcome: Welcome) -> bool:
        return self._clock.now() - self._heard_at > max(welcome.lost_after_s, 3 * self._alive_every_s)

    def _go_up(self, welcome: Welcome) -> None:
        self._heard_at = self._clock.now()
        self._alive_every_s = welcome.alive_every_s
        self.supernode_run = welcome.supernode
        self.is_up, self.failed_at = True, None
        self.decided.set()
        _log.info("supernode %s welcomes this peer", self.node)
        self._handlers.on_up(self)

    def _received(self, frames: list[bytes]) -> None:
        self._heard_at = self._clock.now()
        try:
            message = from_frames(frames).message
        except RemoteError as error:
            _log.warning("supernode %s sent what is no message: %s", self.node, error)
            return
        match message:
            case Welcome():
                if self._welcome is not None and not self._welcome.done():
                    self._welcome.set_result(message)
                else:
                    self._go_up(message)  # it had forgotten this peer: everything is to be registered again
            case Refused():
                if self._welcome is not None and not self._welcome.done():
                    self._welcome.set_exception(SupernodeUnreachable(message.message))
                _log.error("supernode %s refuses: %s", self.node, message.message)
            case NotKnown():
                self.send(self._hello())
            case Alive():
                if message.every_s:
                    self._alive_every_s = message.every_s
                if message.answer:
                    self.send(self._handlers.alive())
            case _:
                self._handlers.on_message(self, message)


async def _cluster_document(node: str) -> dict[str, Any]:
    """GET http://node/cluster. Raises SupernodeUnreachable."""
    try:
        answer = await AsyncHTTPClient().fetch(
            f"http://{node}/cluster", connect_timeout=_ASK_S, request_timeout=_ASK_S, raise_error=True
        )
        document = json_decode(answer.body)
    except Exception as error:
        raise SupernodeUnreachable(f"http://{node}/cluster: {error}") from None
    if not isinstance(document, dict):
        raise SupernodeUnreachable(f"http://{node}/cluster is not a cluster document")
    return document
