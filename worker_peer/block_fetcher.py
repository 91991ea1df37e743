"""Fetches blocks from parents: a DEALER to each, and the SUB that hears what they have.

Driver, used by the exchange's thread only. What to ask of whom is decided in core/fetching.py; here blocks are received,
verified and written.
"""

import contextlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import lz4.block
import zmq
from zmq.utils.monitor import recv_monitor_message

from wire.credit import MAX_CREDIT_BYTES
from wire.framing import to_frames
from wire.messages import Blocks, Have, NoBlocks, PieceFailure
from worker_peer.core.fetching import Done, Fate, Fetching, Job, Lost
from worker_peer.core.hints import Hints
from worker_peer.data_socket import TURN, count, prepare, understood, waits
from worker_peer.host.digests import block_digest
from worker_peer.host.limits import TokenBucket, lowest
from worker_peer.host.store import StoreFull
from worker_peer.host_limits import FairLimit
from worker_peer.shared_contents import SharedFiles

#: A parent's connection without work is closed after so long.
_IDLE_S: Final = 30.0
_TIDY_S: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FetcherHandlers:
    """Whom the fetcher tells. Called on the exchange's thread."""

    #: What became of a leased piece.
    on_fate: Callable[[Fate], None]
    #: Blocks (task, piece, first, count) are verified and stored.
    on_blocks: Callable[[str, int, int, int], None]
    #: A content's file cannot be written any more.
    on_broken: Callable[[str, Exception], None]


@dataclass(slots=True)
class _Link:
    """A connection to one parent."""

    dealer: zmq.Socket[bytes]
    monitor: zmq.Socket[bytes]
    endpoint: str
    hint_endpoint: str
    used_at: float


class BlockFetcher:
    """The child's sockets."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        *,
        poller: zmq.Poller,
        total: FairLimit,
        files: SharedFiles,
        refused: dict[str, int],
        handlers: FetcherHandlers,
    ) -> None:
        self._total = total
        #: Of all downloads together that nobody waits for.
        self.background = TokenBucket(0)
        #: Bytes received, by parent.
        self.received_bytes: Counter[str] = Counter()
        self.received_in_all = 0
        self.subscriber = context.socket(zmq.SUB)
        prepare(self.subscriber)
        self._context = context
        self._poller = poller
        self._files = files
        self._refused = refused
        self._handlers = handlers
        self._subscribed: set[str] = set()
        self._links: dict[str, _Link] = {}
        # The parent at the other end of each dealer, and of each dealer's monitor.
        self._parents: dict[object, str] = {}
        self._tidy_at = 0.0
        self._hints = Hints()
        self._fetching = Fetching(self._wait_for, self._hints.holders, self._largest)

    def close(self) -> None:
        """Close the sockets."""
        for parent in list(self._links):
            self._hang_up(parent)
        self.subscriber.close(0)

    def next_deadline(self) -> float | None:
        """When there is something to do although no message comes."""
        return self._fetching.next_deadline()

    @property
    def waiting(self) -> int:
        """Pieces on their way. May be asked by any thread."""
        return len(self._fetching)

    @property
    def is_connected(self) -> bool:
        """Whether there are connections that may become idle."""
        return bool(self._links)

    def changed_leases(self) -> frozenset[int] | None:
        """Leases with pieces on their way; None: still those that it named last."""
        return frozenset(self._fetching.leases()) if self._fetching.leases_changed else None

    # -- what to fetch --------------------------------------------------------------------------------------------------

    def fetch(
        self,
        task: str,
        lease: int,
        parent: str,
        endpoint: str,
        hint_endpoint: str,
        pieces: list[tuple[int, bytes]],
        now: float,
    ) -> None:
        """Fetch pieces (number, digests of its blocks) from a parent."""
        shared = self._files.get(task)
        if shared is None:
            return
        # What has come meanwhile is told already.
        pieces = [each for each in pieces if each[0] not in shared.have]
        try:
            self._connect(parent, endpoint, hint_endpoint, now)
        except zmq.ZMQError:
            # Another peer wrote the endpoint: one that cannot be one costs its own pieces, nothing else.
            self._tell([Lost(task, lease, piece, parent, PieceFailure.GONE) for piece, _ in pieces])
            return
        if task not in self._subscribed:
            self.subscriber.subscribe(task.encode())
            self._subscribed.add(task)
        for piece, _ in pieces:
            shared.partial.setdefault(piece, 0)  # asked of this peer, it is on its way
        self._fetching.lease(task, lease, parent, shared.file.layout, pieces, now)

    def stop(self, task: str) -> None:
        """Ask for nothing more of the task."""
        self._fetching.drop_task(task)

    def forget(self, task: str) -> None:
        """The task is gone."""
        self._fetching.drop_task(task)
        self._fetching.priority.forget(task)
        self._hints.drop_task(task)
        if task in self._subscribed:
            self.subscriber.unsubscribe(task.encode())
            self._subscribed.discard(task)

    def classify(self, task: str, *, background: bool) -> None:
        """Whether nobody waits for the task."""
        if task in self._files:
            self._fetching.classify(task, background=background)

    def _wait_for(self, task: str, size: int, now: float) -> float:
        """How long `size` bytes of the task must wait for its limit and the host's; 0: they have been taken."""
        shared = self._files.get(task)
        if shared is None:
            return 0.0
        in_background = self._fetching.priority.is_background(task)
        own = max(shared.limit.ready_in(now), self.background.ready_in(now) if in_background else 0.0)
        self._fetching.priority.limited(task, by_own_limit=own > 0)
        wait = own or self._total.ask(task, size, now)
        if wait > 0:
            return wait
        shared.limit.take(size, now)
        if in_background:
            self.background.take(size, now)
        return 0.0

    def _largest(self, task: str) -> int:
        """Bytes to ask for at once: of a slow limit a twentieth of a second, so that it holds over short times too."""
        shared = self._files.get(task)
        background = self.background.rate if self._fetching.priority.is_background(task) else 0
        rate = lowest(self._total.rate, background, shared.limit.rate if shared is not None else 0)
        return rate // 20 if rate else MAX_CREDIT_BYTES

    def ask(self, now: float) -> None:
        """Send the requests that credit and limits allow, and give up parents that owe an answer for too long."""
        if self._fetching.stalls_at is not None and now >= self._fetching.stalls_at:
            for parent in self._fetching.stalled(now):
                self._lose(parent, PieceFailure.STALLED)
        for ask in self._fetching.asks(now):
            link = self._links.get(ask.parent)
            if link is None:
                self._lose(ask.parent, PieceFailure.GONE)
                continue
            link.used_at = now
            try:
                link.dealer.send_multipart(to_frames(ask.request), zmq.NOBLOCK)
            except zmq.ZMQError:
                self._lose(ask.parent, PieceFailure.GONE)

    # -- what comes -----------------------------------------------------------------------------------------------------

    def receive(self, ready: dict[object, int], now: Callable[[], float]) -> None:
        """Take what has come on the sockets that are ready."""
        for socket in ready:
            if socket is self.subscriber:
                self._receive_hints()
                continue
            parent = self._parents.get(socket)
            link = self._links.get(parent) if parent is not None else None
            if parent is None or link is None:
                continue  # hung up a moment ago
            if socket is link.monitor:
                self._watch(parent, link)
            else:
                self._receive_blocks(parent, link, now)

    def _receive_blocks(self, parent: str, link: _Link, now: Callable[[], float]) -> None:
        for _ in range(TURN):
            if not waits(link.dealer):
                return
            frames = link.dealer.recv_multipart(zmq.NOBLOCK, copy=False)
            received = understood([frame.buffer for frame in frames], self._refused)
            if received is None:
                continue
            link.used_at = now()
            match received.message:
                case Blocks() if received.payload is not None:
                    self._take(parent, received.message, received.payload, link.used_at)
                case NoBlocks():
                    self._tell(self._fetching.refused(parent, received.message.task, received.message.piece, link.used_at))
                case _:
                    count(self._refused, "unexpected_kind")

    def _take(self, parent: str, message: Blocks, payload: memoryview, now: float) -> None:
        """Verify what came and store it."""
        job = self._fetching.expects(parent, message, message.inflated or len(payload), now)
        shared = self._files.get(message.task)
        if job is None or shared is None:
            count(self._refused, "not_asked_for")
            return
        content = _inflated(payload, message.inflated) if message.inflated else payload
        self.received_bytes[parent] += len(content)
        self.received_in_all += len(payload)
        if saved := len(content) - len(payload):
            # A limit is of what travels: what was compressed has taken less of it than was asked for.
            shared.limit.give_back(saved)
            self._total.give_back(saved)
        if not _right(job, message, content):
            count(self._refused, "wrong_digest")
            self._tell(self._fetching.wrong(job))
            return
        try:
            shared.file.write(job.layout.block_span(message.piece, message.first)[0], content)
            fates = self._fetching.stored(job, message.count, now)
            for fate in fates:
                if isinstance(fate, Done):
                    shared.file.commit(fate.piece, fate.digests)
        except (StoreFull, OSError, ValueError) as error:
            self._handlers.on_broken(message.task, error)
            return
        if not fates:
            shared.add_blocks(message.piece, message.first, message.count)
        self._handlers.on_blocks(message.task, message.piece, message.first, message.count)
        self._tell(fates)

    def _tell(self, fates: list[Fate]) -> None:
        for fate in fates:
            shared = self._files.get(fate.task)
            if shared is not None and not isinstance(fate, Done):
                shared.partial.pop(fate.piece, None)
            self._handlers.on_fate(fate)

    def _receive_hints(self) -> None:
        for _ in range(TURN):
            if not waits(self.subscriber):
                return
            _topic, *frames = self.subscriber.recv_multipart(zmq.NOBLOCK)
            received = understood(frames, self._refused)
            if received is not None and isinstance(received.message, Have) and received.message.task in self._files:
                self._hints.note(received.message.task, received.message.peer, received.message.pieces)

    # -- parents that come and go ---------------------------------------------------------------------------------------

    def _connect(self, parent: str, endpoint: str, hint_endpoint: str, now: float) -> None:
        link = self._links.get(parent)
        if link is not None and link.endpoint == endpoint:
            link.used_at = now
            return
        if link is not None:
            self._lose(parent, PieceFailure.GONE)
        dealer = self._context.socket(zmq.DEALER)
        prepare(dealer)
        dealer.setsockopt(zmq.RECONNECT_IVL, -1)  # a parent that hung up is left; the supernode names another
        monitor = dealer.get_monitor_socket(
            zmq.EVENT_DISCONNECTED | zmq.EVENT_CLOSED | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_CONNECT_RETRIED
        )
        try:
            dealer.connect(endpoint)
        except zmq.ZMQError:
            dealer.disable_monitor()
            monitor.close(0)
            dealer.close(0)
            raise
        self._links[parent] = _Link(dealer, monitor, endpoint, hint_endpoint, now)
        self._poller.register(dealer, zmq.POLLIN)
        self._poller.register(monitor, zmq.POLLIN)
        self._parents[dealer] = self._parents[monitor] = parent
        if hint_endpoint:
            with contextlib.suppress(zmq.ZMQError):
                self.subscriber.connect(hint_endpoint)

    def _watch(self, parent: str, link: _Link) -> None:
        """A connection's own events: a parent that died is known at once, not after a silence."""
        if link.monitor.poll(0):
            recv_monitor_message(link.monitor)
            self._lose(parent, PieceFailure.GONE)

    def _lose(self, parent: str, failure: PieceFailure) -> None:
        self._hints.drop_peer(parent)
        self._hang_up(parent)
        self._tell(self._fetching.parent_gone(parent, failure))

    def _hang_up(self, parent: str) -> None:
        link = self._links.pop(parent, None)
        if link is None:
            return
        self._poller.unregister(link.dealer)
        self._poller.unregister(link.monitor)
        del self._parents[link.dealer], self._parents[link.monitor]
        link.dealer.disable_monitor()
        link.monitor.close(0)
        link.dealer.close(0)
        if link.hint_endpoint:
            with contextlib.suppress(zmq.ZMQError):
                self.subscriber.disconnect(link.hint_endpoint)

    def close_idle(self, now: float) -> None:
        """Hang up on parents that have had nothing to do for long."""
        if now < self._tidy_at:
            return
        self._tidy_at = now + _TIDY_S
        for parent in self._fetching.idle_parents():
            link = self._links.get(parent)
            if link is None or now - link.used_at > _IDLE_S:
                self._hang_up(parent)
                self._fetching.forget(parent)
                self.received_bytes.pop(parent, None)
            else:
                self._tidy_at = min(self._tidy_at, link.used_at + _IDLE_S)


def _inflated(payload: memoryview, size: int) -> memoryview:
    """A payload as it was before it was compressed; nothing at all where it is no lz4 block of so many bytes."""
    try:
        content: bytes = lz4.block.decompress(payload, uncompressed_size=size)
    except Exception:  # LZ4BlockError, ValueError, MemoryError: by how it is broken
        return memoryview(b"")
    return memoryview(content)


def _right(job: Job, message: Blocks, payload: memoryview) -> bool:
    """Whether each block of the payload has its digest."""
    block_length = job.layout.block_length
    if len(payload) != job.layout.run_span(message.piece, message.first, message.count)[1]:
        return False
    for number in range(message.count):
        block = payload[number * block_length : (number + 1) * block_length]
        if block_digest(block) != job.digest(message.first + number):
            return False
    return True
