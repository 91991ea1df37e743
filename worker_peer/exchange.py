"""The data plane: one thread that owns every data socket of this peer, serves blocks and fetches them.

Commands come from the event loop by `Exchange`'s methods, which return at once; what became of them goes back as
`ExchangeEvent`s, in batches, on the loop. Serving is in block_server.py, fetching in block_fetcher.py.
"""

import asyncio
import contextlib
import logging
import os
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import zmq

from wire.bitmap import PieceSet
from worker_peer.api import DataPlane
from worker_peer.block_fetcher import BlockFetcher, FetcherHandlers
from worker_peer.block_server import BlockServer
from worker_peer.core.fetching import Done, Fate
from worker_peer.host.clock import Clock
from worker_peer.host.limits import TokenBucket
from worker_peer.host.store import StoreFull, TaskFile
from worker_peer.host_limits import HostLimits
from worker_peer.shared_contents import SharedFile, SharedFiles

_log = logging.getLogger("exchange")


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
        limits: HostLimits,
    ) -> None:
        """Binds at once. Raises OSError with the address when the port cannot be had."""
        self.peer_id = peer_id
        #: Frames and messages that were refused, by reason; for /metrics.
        self.refused: dict[str, int] = {}
        self._clock = clock
        self._loop = loop
        self._on_events = on_events
        self._files: SharedFiles = {}
        self._poller = zmq.Poller()
        self._server = BlockServer(
            context,
            peer_id=peer_id,
            bind_ip=bind_ip,
            port=port,
            upload=limits.up,
            files=self._files,
            refused=self.refused,
            on_broken=self._broke,
        )
        self._fetcher = BlockFetcher(
            context,
            poller=self._poller,
            total=limits.down,
            files=self._files,
            refused=self.refused,
            handlers=FetcherHandlers(on_fate=self._on_fate, on_blocks=self._on_blocks, on_broken=self._broke),
        )
        self._leases: frozenset[int] = frozenset()
        #: Tasks of which blocks are told. Written by the loop, read by the thread: a set's operations are whole.
        self._followed: set[str] = set()
        self._events: list[ExchangeEvent] = []
        self._commands: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="exchange", daemon=True)
        self._thread.start()

    # -- what may be read at any time -----------------------------------------------------------------------------------

    @property
    def data_port(self) -> int:
        """The port that serves blocks."""
        return self._server.data_port

    @property
    def hint_port(self) -> int:
        """The port that tells hints."""
        return self._server.hint_port

    @property
    def sent_bytes(self) -> int:
        """Bytes of blocks sent to children."""
        return self._server.sent_bytes

    @property
    def served_at(self) -> dict[str, float]:
        """When each task was last served, by the clock."""
        return self._server.served_at

    @property
    def received_bytes(self) -> dict[str, int]:
        """Bytes of blocks received, by parent."""
        return self._fetcher.received_bytes

    @property
    def sent_on_wire(self) -> int:
        """Bytes of blocks sent so far, compressed where they were."""
        return self._server.sent_on_wire

    @property
    def received_in_all(self) -> int:
        """Bytes of blocks received so far, compressed where they were."""
        return self._fetcher.received_in_all

    def data_plane(self) -> DataPlane:
        """How busy the sockets are, for /metrics."""
        return DataPlane(
            serving=self._server.waiting,
            fetching=self._fetcher.waiting,
            sent_bytes=self.sent_bytes,
            refused=dict(self.refused),
        )

    def leases(self) -> frozenset[int]:
        """Leases with pieces on their way, as of a moment ago."""
        return self._leases

    # -- commands, from the loop ----------------------------------------------------------------------------------------

    def share(
        self, task: str, file: TaskFile, have: PieceSet, *, limit: TokenBucket | None = None, background: bool = False
    ) -> None:
        """From now on serve the pieces in `have`, and write what is fetched, into this file.

        `limit`: of this download; None: none of its own. `background`: nobody waits for it. The file is the exchange's to
        close.
        """
        shared = SharedFile(file, have.copy(), limit or TokenBucket(0))
        self._do(lambda: self._share(task, shared))
        if background:
            self.set_background(task, background=True)

    def set_background(self, task: str, *, background: bool) -> None:
        """Whether nobody waits for the task: then it makes way for those that somebody waits for."""
        self._do(lambda: self._fetcher.classify(task, background=background))

    def set_background_rate(self, rate: int) -> None:
        """Bytes per second of all downloads together that nobody waits for; 0: any."""
        self._do(lambda: self._fetcher.background.set_rate(rate, self._clock.now()))

    def unshare(self, task: str) -> None:
        """Neither serve nor fetch the task any more. The file is closed."""
        self._do(lambda: self._unshare(task))

    def limits_changed(self) -> None:
        """A limit is another one now: what waits for it is looked at again."""
        self._do(lambda: None)

    def fetch(
        self, task: str, lease: int, parent: str, endpoint: str, hint_endpoint: str, pieces: list[tuple[int, bytes]]
    ) -> None:
        """Fetch pieces (number, digests of its blocks) from a parent."""
        self._do(lambda: self._fetcher.fetch(task, lease, parent, endpoint, hint_endpoint, pieces, self._clock.now()))

    def follow_blocks(self, task: str) -> None:
        """From now on tell of blocks too, not only of whole pieces: somebody reads the content while it comes."""
        self._followed.add(task)

    def stop_fetching(self, task: str) -> None:
        """Ask for nothing more of the task; go on serving it."""
        self._do(lambda: self._fetcher.stop(task))

    def piece_available(self, task: str, piece: int) -> None:
        """A piece has come another way (the source, the disk): serve it."""
        self._do(lambda: self._have(task, piece))

    def mark_linked(self, task: str) -> None:
        """Somebody may edit the file from now on: look whether it changed before each read."""
        self._do(lambda: self._mark_linked(task))

    async def close(self) -> None:
        """End the thread and close the sockets and the files."""
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
        with contextlib.suppress(OSError):  # so that `top -H` tells which thread it is (proc(5), comm)
            Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_text("exchange")
        for reader in (self._server.router, self._fetcher.subscriber, self._wake):
            self._poller.register(reader, zmq.POLLIN)
        try:
            while not self._closing:
                self._round()
        except Exception:
            _log.exception("the exchange of %s ends: nothing is served or fetched any more", self.peer_id)
        finally:
            self._closing = True
            self._fetcher.close()
            self._server.close()
            for shared in self._files.values():
                shared.file.close()

    def _round(self) -> None:
        """Wait for something to do, and do all of it once."""
        ready = dict(self._poller.poll(self._timeout_ms()))
        if ready.pop(self._wake, None):
            os.eventfd_read(self._wake)
        self._run_commands()
        if ready.pop(self._server.router, None):
            self._server.receive(self._clock.now())
        self._fetcher.receive(ready, self._clock.now)
        now = self._clock.now()
        self._server.expire(now)
        self._fetcher.ask(now)
        self._server.serve(now)
        self._fetcher.close_idle(now)
        leases = self._fetcher.changed_leases()
        if leases is not None:
            self._leases = leases
        self._flush()

    def _timeout_ms(self) -> int:
        if not self._commands.empty():
            return 0
        due = min(
            (time for time in (self._fetcher.next_deadline(), self._server.next_deadline()) if time is not None), default=None
        )
        if due is None:
            return 1000 if self._fetcher.is_connected else -1
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

    # -- contents, on the thread ----------------------------------------------------------------------------------------

    def _share(self, task: str, shared: SharedFile) -> None:
        self._files[task] = shared
        self._server.publish(task, list(shared.have), self._clock.now())

    def _unshare(self, task: str) -> None:
        self._followed.discard(task)
        self._fetcher.forget(task)
        shared = self._files.pop(task, None)
        if shared is not None:
            shared.file.close()
        self._server.task_gone(task)

    def _mark_linked(self, task: str) -> None:
        if task in self._files:
            self._files[task].file.mark_linked()

    def _have(self, task: str, piece: int) -> None:
        shared = self._files.get(task)
        if shared is not None:
            shared.add_piece(piece)
            self._server.publish(task, [piece], self._clock.now())
            self._server.changed(task, piece)

    def _broke(self, task: str, error: Exception) -> None:
        self._events.append(StoreBroke(task, str(error), isinstance(error, StoreFull)))
        self._unshare(task)

    def _on_blocks(self, task: str, piece: int, first: int, number: int) -> None:
        if task in self._followed:
            self._events.append(BlocksStored(task, piece, first, number))
        self._server.changed(task, piece)

    def _on_fate(self, fate: Fate) -> None:
        if isinstance(fate, Done):
            self._have(fate.task, fate.piece)
        else:
            self._server.changed(fate.task, fate.piece)
        self._events.append(fate)
