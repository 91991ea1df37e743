"""The data plane: one thread that owns every data socket of this peer, serves blocks and fetches them.

ROUTER (serves) and one DEALER per parent (fetches), PUB (tells HAVE) and SUB (hears it). Commands come from the event
loop by `Exchange`'s methods, which return at once; what became of them goes back as `ExchangeEvent`s, in batches, on the
loop. What to ask and whom to answer is decided in core/fetching.py and core/serving.py; here is only the I/O: receive,
verify, write, read, send. Payloads are views of ZeroMQ's frames on the way in and of what was read on the way out.
"""

import asyncio
import logging
import os
import queue
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import zmq
from zmq.utils.monitor import recv_monitor_message

from wire.bitmap import PieceSet
from wire.errors import RemoteError
from wire.framing import MAX_FRAME_BYTES, Received, from_frames, to_frames
from wire.messages import MAX_PIECES_PER_MESSAGE, Blocks, GetBlocks, Have, Message, NoBlocks, PieceFailure
from worker_peer.core.fetching import Done, Fate, Fetching, Job
from worker_peer.core.hints import Hints
from worker_peer.core.serving import Presence, Refuse, Send, Serving
from worker_peer.host.clock import Clock
from worker_peer.host.digests import block_digest
from worker_peer.host.limits import TokenBucket
from worker_peer.host.store import ContentChanged, StoreFull, TaskFile

_log = logging.getLogger("exchange")

#: Messages taken from one socket before the others have their turn.
_TURN: Final = 32
#: Frames that may wait for one child in ZeroMQ; a child within its credit never has more.
_SEND_HWM: Final = 1024
#: A parent's connection without work is closed after so long.
_IDLE_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class BlocksStored:
    """Some blocks of a piece are verified and stored."""

    task: str
    piece: int
    first: int
    count: int


@dataclass(frozen=True, slots=True)
class StoreBroke:
    """A content can no longer be written or read."""

    task: str
    message: str
    full: bool


ExchangeEvent = Fate | BlocksStored | StoreBroke


@dataclass(slots=True)
class _Shared:
    """A content that the exchange reads from and writes to."""

    file: TaskFile
    #: Verified pieces that may be served. Not the file's own: a stored piece may be of an older content.
    have: PieceSet
    bucket: TokenBucket
    #: Blocks here of pieces that are not whole yet.
    partial: dict[int, int]


@dataclass(slots=True)
class _Link:
    """A connection to one parent."""

    dealer: zmq.Socket[bytes]
    monitor: zmq.Socket[bytes]
    endpoint: str
    hint_endpoint: str
    used_at: float


class Exchange:
    """The peer's data sockets and their thread. All methods may be called from the loop; none of them blocks."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        *,
        peer_id: str,
        bind_ip: str,
        port: int,
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
        on_events: Callable[[list[ExchangeEvent]], None],
        total_rate: int = 0,
        upload_rate: int = 0,
    ) -> None:
        """Binds at once. Raises OSError with the endpoint's name when the port cannot be had."""
        self.peer_id = peer_id
        self.sent_bytes = 0
        #: When each task was last served, by the clock.
        self.served_at: dict[str, float] = {}
        self.received_bytes: Counter[str] = Counter()
        #: Frames and messages that were refused, by reason; for /metrics.
        self.refused: Counter[str] = Counter()
        self._context = context
        self._clock = clock
        self._loop = loop
        self._on_events = on_events
        self._router = context.socket(zmq.ROUTER)
        _prepare(self._router)
        self._router.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._publisher = context.socket(zmq.PUB)
        _prepare(self._publisher)
        try:
            self.data_port = _bind(self._router, bind_ip, port)
            self.hint_port = _bind(self._publisher, bind_ip, 0)
        except zmq.ZMQError as error:
            self._router.close(0)
            self._publisher.close(0)
            raise OSError(f"cannot serve blocks on {bind_ip}:{port}: {error.strerror}; choose another port") from None
        self._subscriber = context.socket(zmq.SUB)
        _prepare(self._subscriber)
        self._subscribed: set[str] = set()
        self._links: dict[str, _Link] = {}
        self._shared: dict[str, _Shared] = {}
        self._total = TokenBucket(total_rate)
        self._upload = TokenBucket(upload_rate)
        self._upload_waits_until: float | None = None
        self._hints = Hints()
        self._fetching = Fetching(self._wait_for, self._hints.holders)
        self._serving = Serving(self._presence)
        self._leases: frozenset[int] = frozenset()
        self._events: list[ExchangeEvent] = []
        self._commands: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poller = zmq.Poller()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="exchange", daemon=True)
        self._thread.start()

    # -- commands, from the loop ----------------------------------------------------------------------------------------

    def share(self, task: str, file: TaskFile, have: PieceSet, *, rate: int) -> None:
        """From now on serve the pieces in `have`, and write what is fetched, into this file. `rate`: bytes per second, 0: any."""
        shared = _Shared(file, have.copy(), TokenBucket(rate), {})
        self._do(lambda: self._share(task, shared))

    def unshare(self, task: str) -> None:
        """Neither serve nor fetch the task any more. The file is closed."""
        self._do(lambda: self._unshare(task))

    def set_rate(self, task: str, rate: int) -> None:
        """Another limit for one download."""
        self._do(lambda: self._set_rate(task, rate))

    def set_total_rate(self, rate: int) -> None:
        """Another limit for all downloads together."""
        self._do(lambda: self._total.set_rate(rate, self._clock.now()))

    def fetch(
        self, task: str, lease: int, parent: str, endpoint: str, hint_endpoint: str, pieces: list[tuple[int, bytes]]
    ) -> None:
        """Fetch pieces (number, digests of its blocks) from a parent."""
        self._do(lambda: self._fetch(task, lease, parent, endpoint, hint_endpoint, pieces))

    def stop_fetching(self, task: str) -> None:
        """Ask for nothing more of the task; go on serving it."""
        self._do(lambda: self._fetching.drop_task(task))

    def piece_available(self, task: str, piece: int) -> None:
        """A piece has come another way (the source, the disk): serve it."""
        self._do(lambda: self._have(task, piece))

    def mark_linked(self, task: str) -> None:
        """Somebody may edit the file from now on: look whether it changed before each read."""
        self._do(lambda: self._mark_linked(task))

    def leases(self) -> frozenset[int]:
        """Leases with pieces on their way, as of a moment ago."""
        return self._leases

    async def close(self) -> None:
        """End the thread and close the sockets. Files stay open: who opened them closes them."""
        if not self._closing:
            self._do(self._stop)
            await asyncio.get_running_loop().run_in_executor(None, self._thread.join)

    def _do(self, command: Callable[[], None]) -> None:
        self._commands.put(command)
        os.eventfd_write(self._wake, 1)

    def _stop(self) -> None:
        self._closing = True

    # -- the thread -----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        for reader in (self._router, self._subscriber, self._wake):
            self._poller.register(reader, zmq.POLLIN)
        try:
            while not self._closing:
                self._round()
        except Exception:
            _log.exception("the exchange of %s ends: nothing is served or fetched any more", self.peer_id)
        finally:
            self._closing = True
            for parent in list(self._links):
                self._close_link(parent)
            for socket in (self._router, self._publisher, self._subscriber):
                socket.close(0)

    def _round(self) -> None:
        """Wait for something to do, and do all of it once."""
        ready = dict(self._poller.poll(self._timeout_ms()))
        if ready.pop(self._wake, None):
            os.eventfd_read(self._wake)
        self._run_commands()
        if ready.pop(self._router, None):
            self._receive_requests()
        if ready.pop(self._subscriber, None):
            self._receive_hints()
        for parent, link in list(self._links.items()):
            if link.monitor in ready:
                self._watch(parent, link)
            if link.dealer in ready and parent in self._links:
                self._receive_blocks(parent, link)
        now = self._clock.now()
        for refusal in self._serving.expire(now):
            self._refuse(refusal)
        for parent in self._fetching.stalled(now):
            self._lose_parent(parent, PieceFailure.STALLED)
        self._send_asks()
        self._serve()
        self._close_idle(now)
        self._leases = frozenset(self._fetching.leases())
        self._flush()

    def _timeout_ms(self) -> int:
        if not self._commands.empty():
            return 0
        times = (self._fetching.next_deadline(), self._serving.next_deadline(), self._upload_waits_until)
        due = min((time for time in times if time is not None), default=None)
        if due is None:
            return 1000 if self._links else -1
        # Rounded up: waking a moment early would only spin until the moment has come.
        return max(0, min(1000, int((due - self._clock.now()) * 1000) + 1))

    def _run_commands(self) -> None:
        while True:
            try:
                command = self._commands.get_nowait()
            except queue.Empty:
                return
            command()

    def _flush(self) -> None:
        if self._events:
            events, self._events = self._events, []
            try:
                self._loop.call_soon_threadsafe(self._on_events, events)
            except RuntimeError:
                self._closing = True  # the loop has ended without closing this exchange

    # -- contents -------------------------------------------------------------------------------------------------------

    def _share(self, task: str, shared: _Shared) -> None:
        self._shared[task] = shared
        self._publish(task, list(shared.have))

    def _unshare(self, task: str) -> None:
        self._fetching.drop_task(task)
        self._hints.drop_task(task)
        shared = self._shared.pop(task, None)
        if shared is not None:
            shared.file.close()
        for refusal in self._serving.changed(task):
            self._refuse(refusal)

    def _set_rate(self, task: str, rate: int) -> None:
        if task in self._shared:
            self._shared[task].bucket.set_rate(rate, self._clock.now())

    def _mark_linked(self, task: str) -> None:
        if task in self._shared:
            self._shared[task].file.mark_linked()

    def _have(self, task: str, piece: int) -> None:
        shared = self._shared.get(task)
        if shared is None:
            return
        shared.have.add(piece)
        shared.partial.pop(piece, None)
        self._publish(task, [piece])
        self._unpark(task)

    def _unpark(self, task: str) -> None:
        for refusal in self._serving.changed(task):
            self._refuse(refusal)

    def _broke(self, task: str, error: Exception) -> None:
        self._events.append(StoreBroke(task, str(error), isinstance(error, StoreFull)))
        self._unshare(task)

    def _wait_for(self, task: str, size: int, now: float) -> float:
        """How long `size` bytes of the task must wait for its limit and the host's; 0: they have been taken."""
        shared = self._shared.get(task)
        if shared is None:
            return 0.0
        wait = max(shared.bucket.ready_in(now), self._total.ready_in(now))
        if wait > 0:
            return wait
        shared.bucket.take(size, now)
        self._total.take(size, now)
        return 0.0

    # -- serving --------------------------------------------------------------------------------------------------------

    def _presence(self, request: GetBlocks) -> Presence:
        shared = self._shared.get(request.task)
        if shared is None:
            return Presence.UNKNOWN_TASK
        layout = shared.file.layout
        if request.piece >= layout.piece_count or request.first + request.count > layout.block_count(request.piece):
            return Presence.MISSING
        if request.piece in shared.have:
            return Presence.HERE
        wanted = ((1 << request.count) - 1) << request.first
        if request.piece not in shared.partial:
            return Presence.MISSING
        return Presence.HERE if shared.partial[request.piece] & wanted == wanted else Presence.COMING

    def _receive_requests(self) -> None:
        now = self._clock.now()
        for _ in range(_TURN):
            try:
                child, *frames = self._router.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            received = self._understood([frame.buffer for frame in frames])
            if received is None:
                continue
            if not isinstance(received.message, GetBlocks):
                self.refused["unexpected_kind"] += 1
                continue
            refusal = self._serving.asked(child.bytes, received.message, now)
            if refusal is not None:
                self._refuse(refusal)

    def _understood(self, frames: list[memoryview]) -> Received | None:
        try:
            return from_frames(frames)
        except RemoteError as error:
            self.refused[error.code.name.lower()] += 1
            return None

    def _refuse(self, refusal: Refuse) -> None:
        self._send_to_child(refusal.child, refusal.answer, None)

    def _serve(self) -> None:
        """Answer requests in their order, as far as the upload limit allows."""
        self._upload_waits_until = None
        for _ in range(_TURN):
            now = self._clock.now()
            wait = self._upload.ready_in(now)
            if wait > 0 and len(self._serving):
                self._upload_waits_until = now + wait
                return
            send = self._serving.next()
            if send is None:
                return
            self._send_blocks(send, now)
        self._upload_waits_until = self._clock.now()  # more may wait: come back after the other sockets' turn

    def _send_blocks(self, send: Send, now: float) -> None:
        request = send.request
        shared = self._shared.get(request.task)
        if shared is None:
            return
        offset, size = shared.file.layout.run_span(request.piece, request.first, request.count)
        try:
            payload = shared.file.read(offset, size)
        except (ContentChanged, OSError, ValueError) as error:
            self._broke(request.task, error)
            return
        self._upload.take(size, now)
        head = Blocks(task=request.task, piece=request.piece, first=request.first, count=request.count)
        if self._send_to_child(send.child, head, payload):
            self.sent_bytes += size
            self.served_at[request.task] = now

    def _send_to_child(self, child: bytes, message: Message, payload: memoryview | None) -> bool:
        try:
            self._router.send_multipart([child, *to_frames(message, payload)], zmq.NOBLOCK, copy=False)
        except zmq.Again:
            self.refused["child_full"] += 1  # it asked for more than its credit: it will see a stall
            return False
        except zmq.ZMQError:
            self._serving.gone(child)
            return False
        return True

    def _publish(self, task: str, pieces: list[int]) -> None:
        """Tell who listens which pieces are served now. May be lost: a hint."""
        for at in range(0, len(pieces), MAX_PIECES_PER_MESSAGE):
            hint = Have(task=task, peer=self.peer_id, pieces=tuple(pieces[at : at + MAX_PIECES_PER_MESSAGE]))
            try:
                self._publisher.send_multipart([task.encode(), *to_frames(hint)], zmq.NOBLOCK)
            except zmq.Again:
                return

    # -- fetching -------------------------------------------------------------------------------------------------------

    def _fetch(
        self, task: str, lease: int, parent: str, endpoint: str, hint_endpoint: str, pieces: list[tuple[int, bytes]]
    ) -> None:
        shared = self._shared.get(task)
        if shared is None:
            return
        now = self._clock.now()
        self._connect(parent, endpoint, hint_endpoint, now)
        self._subscriber.subscribe(task.encode()) if task not in self._subscribed else None
        self._subscribed.add(task)
        for piece, _ in pieces:
            shared.partial[piece] = 0  # asked of this peer, it is coming
        self._fetching.lease(task, lease, parent, shared.file.layout, pieces, now)

    def _connect(self, parent: str, endpoint: str, hint_endpoint: str, now: float) -> None:
        link = self._links.get(parent)
        if link is not None and link.endpoint == endpoint:
            link.used_at = now
            return
        if link is not None:
            self._lose_parent(parent, PieceFailure.GONE)
        dealer = self._context.socket(zmq.DEALER)
        _prepare(dealer)
        dealer.setsockopt(zmq.RECONNECT_IVL, -1)  # a parent that hung up is left; the supernode names another
        monitor = dealer.get_monitor_socket(
            zmq.EVENT_DISCONNECTED | zmq.EVENT_CLOSED | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_CONNECT_RETRIED
        )
        dealer.connect(endpoint)
        self._links[parent] = _Link(dealer, monitor, endpoint, hint_endpoint, now)
        self._poller.register(dealer, zmq.POLLIN)
        self._poller.register(monitor, zmq.POLLIN)
        if hint_endpoint:
            self._subscriber.connect(hint_endpoint)

    def _send_asks(self) -> None:
        now = self._clock.now()
        for ask in self._fetching.asks(now):
            link = self._links.get(ask.parent)
            if link is None:
                self._tell(self._fetching.parent_gone(ask.parent))
                continue
            link.used_at = now
            try:
                link.dealer.send_multipart(to_frames(ask.request), zmq.NOBLOCK)
            except zmq.ZMQError:
                self._lose_parent(ask.parent, PieceFailure.GONE)

    def _receive_blocks(self, parent: str, link: _Link) -> None:
        for _ in range(_TURN):
            try:
                frames = link.dealer.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            received = self._understood([frame.buffer for frame in frames])
            if received is None:
                continue
            now = self._clock.now()
            link.used_at = now
            match received.message:
                case Blocks() if received.payload is not None:
                    self._take_blocks(parent, received.message, received.payload, now)
                case NoBlocks():
                    self._tell(self._fetching.refused(parent, received.message.task, received.message.piece))
                case _:
                    self.refused["unexpected_kind"] += 1

    def _take_blocks(self, parent: str, message: Blocks, payload: memoryview, now: float) -> None:
        """Verify what came, store it, pass it on to whoever waits for it."""
        job = self._fetching.expects(parent, message, len(payload), now)
        shared = self._shared.get(message.task)
        if job is None or shared is None:
            self.refused["not_asked_for"] += 1
            return
        self.received_bytes[parent] += len(payload)
        if not _right(job, message, payload):
            self.refused["wrong_digest"] += 1
            self._tell(self._fetching.wrong(job))
            return
        try:
            shared.file.write(job.layout.block_span(message.piece, message.first)[0], payload)
            fates = self._fetching.stored(job, message.count, now)
            for fate in fates:
                if isinstance(fate, Done):
                    shared.file.commit(fate.piece, fate.digests)
        except (StoreFull, OSError, ValueError) as error:
            self._broke(message.task, error)
            return
        self._events.append(BlocksStored(message.task, message.piece, message.first, message.count))
        if fates:
            self._tell(fates)
        else:
            shared.partial[message.piece] = shared.partial.get(message.piece, 0) | ((1 << message.count) - 1) << message.first
            self._unpark(message.task)

    def _tell(self, fates: list[Fate]) -> None:
        for fate in fates:
            if isinstance(fate, Done):
                self._have(fate.task, fate.piece)
            elif fate.task in self._shared:
                self._shared[fate.task].partial.pop(fate.piece, None)
                self._unpark(fate.task)
            self._events.append(fate)

    def _receive_hints(self) -> None:
        for _ in range(_TURN):
            try:
                _topic, *frames = self._subscriber.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            received = self._understood([memoryview(frame) for frame in frames])
            if received is not None and isinstance(received.message, Have) and received.message.task in self._shared:
                self._hints.note(received.message.task, received.message.peer, received.message.pieces)

    # -- parents that go ------------------------------------------------------------------------------------------------

    def _watch(self, parent: str, link: _Link) -> None:
        """A connection's own events: a parent that died is known at once, not after a silence."""
        while link.monitor.poll(0):
            recv_monitor_message(link.monitor)
            self._lose_parent(parent, PieceFailure.GONE)
            return

    def _lose_parent(self, parent: str, failure: PieceFailure) -> None:
        self._hints.drop_peer(parent)
        self._close_link(parent)
        self._tell(self._fetching.parent_gone(parent, failure))

    def _close_link(self, parent: str) -> None:
        link = self._links.pop(parent, None)
        if link is None:
            return
        self._poller.unregister(link.dealer)
        self._poller.unregister(link.monitor)
        link.dealer.disable_monitor()
        link.monitor.close(0)
        link.dealer.close(0)
        if link.hint_endpoint:
            self._subscriber.disconnect(link.hint_endpoint)

    def _close_idle(self, now: float) -> None:
        for parent in self._fetching.idle_parents():
            link = self._links.get(parent)
            if link is None or now - link.used_at > _IDLE_S:
                self._close_link(parent)
                self._fetching.forget(parent)


def _right(job: Job, message: Blocks, payload: memoryview) -> bool:
    """Whether each block of the payload has its digest."""
    block_length = job.layout.block_length
    for number in range(message.count):
        block = payload[number * block_length : (number + 1) * block_length]
        if block_digest(block) != job.digest(message.first + number):
            return False
    return True


def _prepare(socket: zmq.Socket[bytes]) -> None:
    """Options that every data socket has."""
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.SNDHWM, _SEND_HWM)
    socket.setsockopt(zmq.RCVHWM, 0)  # bounded by credit, in bytes
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
    socket.setsockopt(zmq.IPV6, 1)
    # A host that vanished without a word is noticed by ZeroMQ's own heartbeat (ZMTP 3.1 PING).
    socket.setsockopt(zmq.HEARTBEAT_IVL, 2000)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 8000)
    socket.setsockopt(zmq.CONNECT_TIMEOUT, 3000)


def _bind(socket: zmq.Socket[bytes], ip: str, port: int) -> int:
    """Bind to a port, 0: any free one. Returns the port."""
    host = f"[{ip}]" if ":" in ip else ip
    socket.bind(f"tcp://{host}:{port or '*'}")
    return int(socket.getsockopt_string(zmq.LAST_ENDPOINT).rpartition(":")[2])
