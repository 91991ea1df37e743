"""One task on this peer, from the first who asks for it until it is forgotten.

Driver, on the loop. What happens to it goes to its session (core/session.py), and what the session wants is done. Each
effect that starts something ends in exactly one event, failure included.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Final, assert_never

from wire.bitmap import PieceSet
from wire.errors import ErrorCode
from wire.ids import SEED_PREFIX, is_seed_id
from wire.messages import Leave, LeaveReason, Origin
from worker_peer.api import DownloadFailed, DownloadRequest
from worker_peer.back_to_source import read_missing
from worker_peer.broker_link import BrokerLink
from worker_peer.content import SharedContent
from worker_peer.core.arrival import Arrival
from worker_peer.core.fetching import Done, Lost
from worker_peer.core.session import NO_SUPERNODE, Session, SessionSettings, SessionState
from worker_peer.core.session_effects import (
    Effect,
    Fail,
    FetchPieces,
    Finish,
    PrepareFile,
    ReadFromSource,
    RegisterTask,
    ReportPieces,
)
from worker_peer.core.session_events import (
    Event,
    PieceCame,
    PieceLost,
    Purpose,
    PurposeChanged,
    SourceEnded,
    StoreOpened,
    StorePrepared,
    StoreRefused,
    SupernodeUp,
    Tick,
)
from worker_peer.exchange import BlocksStored, Exchange, ExchangeEvent, StoreBroke
from worker_peer.host.background import Background
from worker_peer.host.clock import Clock
from worker_peer.host.limits import TokenBucket
from worker_peer.host.logs import PieceLog
from worker_peer.host.source import SourceReader
from worker_peer.host.store import StoreFull, TaskFile
from worker_peer.registration import registration
from worker_peer.reports import Reports
from worker_peer.task_files import TaskFiles

_log = logging.getLogger("download")

NEVER: Final = float("-inf")
_KNOWN = (SessionState.SWARMING, SessionState.COMPLETE)  # the file is of the content that is wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadParts:
    """What all downloads of a peer stand on."""

    exchange: Exchange
    files: TaskFiles
    source: SourceReader
    clock: Clock
    background: Background
    executor: Executor
    piece_log: PieceLog
    reports: Reports
    #: Bytes of contents received, by origin; each download adds its own.
    received: dict[Origin, int]


class Download:
    """Runs one task. Times by the clock.

    `link` leads to the supernode that it goes through; None: to none. `on_failed` is called when it cannot be had: whoever
    knows the download forgets it then.
    """

    def __init__(
        self,
        request: DownloadRequest,
        link: BrokerLink | None,
        *,
        settings: SessionSettings,
        used_at: float,
        parts: DownloadParts,
        on_failed: Callable[["Download"], None],
    ) -> None:
        now = parts.clock.now()
        self.task: Final = request.task
        self.request: Final = request
        self.session: Final = Session(self.task, wanted_digest=request.wanted_digest, settings=settings, now=now)
        self.content: Final = SharedContent(self.task, parts.executor, parts.clock)
        self.content.supernode = link.node if link is not None else ""
        self.content.provenance.session = self.session
        self.content.on_purpose = self._on_purpose
        self.content.on_reading = lambda: parts.exchange.follow_blocks(self.task)
        self.content.on_linked = lambda: parts.exchange.mark_linked(self.task)
        self.link = link
        #: When somebody last wanted it. NEVER: nobody has, it is only offered.
        self.used_at = used_at
        self.limit: Final = TokenBucket(request.rate)
        self._parts = parts
        self._on_failed = on_failed
        self._began_at = now
        self._is_over = False
        self._file: TaskFile | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._reading: asyncio.Task[None] | None = None
        # When the content was complete, and the supernode's word on it new.
        self._checked_at = 0.0

    @property
    def is_complete(self) -> bool:
        """Whether all of it is here and right."""
        return self.session.state is SessionState.COMPLETE

    def is_stale(self, now: float, fresh_s: float) -> bool:
        """Whether its source may have another content by now. Under a digest there is only one; while somebody reads it,
        who comes shares it; and without a supernode nobody can say."""
        if self.session.wanted_digest is not None or not self.is_complete:
            return False
        supernode_is_up = self.link is not None and self.link.is_up
        return (
            supernode_is_up and not self.content.readers and self.content.digest is not None and now - self._checked_at > fresh_s
        )

    # -- its life -------------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Look into the store, and go on from there."""
        if self.link is not None and self.link.is_up:
            self.happened(SupernodeUp(self.link.supernode_run))
        self._spawn(self._look_into_store(), "open")

    def move(self, link: BrokerLink) -> None:
        """From now on it goes through this supernode, which is up."""
        self.link = link
        self.content.supernode = link.node
        self.happened(SupernodeUp(link.supernode_run))

    def end(self, reason: LeaveReason) -> None:
        """It is forgotten: whoever waits for it is told, and what comes for it later is of no effect."""
        self._is_over = True
        if self._timer is not None:
            self._timer.cancel()
        if self._reading is not None:
            self._reading.cancel()
        if self.content.digest is None and self.content.failure is None:
            self.content.fail(DownloadFailed(ErrorCode.CANCELLED, f"task {self.task[:16]}: nobody waits for it any more"))
        if self.link is not None:
            self.link.send(Leave(task=self.task, reason=reason))
        self._parts.exchange.unshare(self.task)

    # -- what happens ---------------------------------------------------------------------------------------------------

    def happened(self, event: Event) -> None:
        """Give an event to the session, do what it wants, and re-arm its timer."""
        effects = self.session.handle(event, self._parts.clock.now())
        self.content.provenance.happened(event)
        if self.session.state in _KNOWN and self.content.arrival is None and self._file is not None:
            self._show(self._file, PieceSet(self._file.layout.piece_count), self.session.content_type)
        for effect in effects:
            self._do(effect)
        self.content.turned()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self.session.next_deadline()
        if due is not None and not self._is_over:
            wait = max(0.0, due - self._parts.clock.now())
            self._timer = asyncio.get_running_loop().call_later(wait, self.happened, Tick())

    def exchanged(self, event: ExchangeEvent) -> None:
        """What became of a transfer."""
        arrival = self.content.arrival
        match event:
            case BlocksStored():
                if arrival is not None:
                    arrival.blocks(event.piece, event.first, event.count)
                    self.content.wake()
            case Done():
                origin = Origin.SEED if is_seed_id(event.parent) else Origin.PEER
                self._piece_came(event.piece, origin, event.parent)
                self.happened(PieceCame(piece=event.piece, lease=event.lease, rate=event.rate, origin=origin))
            case Lost():
                if arrival is not None:
                    arrival.lost(event.piece)
                self.happened(PieceLost(piece=event.piece, lease=event.lease, failure=event.failure))
            case StoreBroke():
                code = ErrorCode.STORE_FULL if event.full else ErrorCode.INTERNAL
                self.happened(StoreRefused(code=code, message=event.message))

    def _on_purpose(self, purpose: Purpose) -> None:
        """What it is for has changed: who joins, and who leaves, decides how far it goes and whom it makes way for."""
        if purpose is not self.session.purpose and not self._is_over:
            self._parts.exchange.set_background(self.task, background=purpose is not Purpose.READ)
            self.happened(PurposeChanged(purpose))

    def _piece_came(self, piece: int, origin: Origin, parent: str) -> None:
        arrival = self.content.arrival
        if arrival is None:
            return
        layout = arrival.layout
        start, size = layout.piece_span(piece)
        # In 1.x's log the supernode's cache is a peer of each task of its own.
        cid = f"{parent}~{self.task}" if is_seed_id(parent) else parent
        end = max(start, start + size - 1)
        self._parts.piece_log.downloading_piece(self.task, self.content.supernode, cid, piece, start, end, layout.piece_length)
        self._count(piece, origin, parent)

    def _count(self, piece: int, origin: Origin, parent: str = "") -> None:
        self._parts.received[origin] += self.content.came(piece, origin, parent)

    # -- what is to be done ---------------------------------------------------------------------------------------------

    def _do(self, effect: Effect) -> None:
        match effect:
            case RegisterTask():
                if self.link is not None:
                    self.link.send(registration(self.request, effect))
            case PrepareFile():
                self._spawn(self._prepare(effect), "prepare")
            case FetchPieces():
                pieces = list(zip(effect.pieces, effect.digests, strict=True))
                self._parts.exchange.fetch(self.task, effect.lease, effect.parent, effect.endpoint, effect.hint_endpoint, pieces)
            case ReportPieces():
                self._report(effect)
            case ReadFromSource():
                self._parts.exchange.stop_fetching(self.task)
                self._reading = self._spawn(self._read_from_source(effect), "back to source")
            case Finish():
                self._spawn(self._finish(effect.digest), "finish")
            case Fail():
                self._fail(effect)
            case _:
                assert_never(effect)

    def _spawn(self, doing: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        return self._parts.background.spawn(doing, f"{name} {self.task[:16]}")

    async def _look_into_store(self) -> None:
        try:
            file = await self._parts.files.open(self.task)
        except OSError as error:
            self._store_refused(ErrorCode.INTERNAL, f"the store cannot be read: {error}")
            return
        if self._is_over:
            if file is not None:
                file.close()
            return
        if file is None:
            self.happened(StoreOpened())
        else:
            self._file = file
            have = file.have
            digests = {piece: file.digests(piece) for piece in have}
            self.happened(StoreOpened(layout=file.layout, have=have, piece_digests=digests, digest=file.digest))
            if self.session.state is not SessionState.FAILED and self.session.have is not None:
                # Of an older content perhaps: readers see it when the supernode has named the same length.
                self._share(file, self.session.have, known=self.session.wanted_digest is not None)
            else:
                file.close()
        if self.link is None and self.session.state is SessionState.REGISTERING:
            self._store_refused(ErrorCode.NO_SUPERNODE, NO_SUPERNODE)

    def _store_refused(self, code: ErrorCode, message: str) -> None:
        self.happened(StoreRefused(code=code, message=message))

    def _report(self, effect: ReportPieces) -> None:
        for _, piece, _ in effect.done:
            arrival = self.content.arrival
            if arrival is not None and piece not in arrival.have:
                self._parts.exchange.piece_available(self.task, piece)  # adopted from the disk
                self._count(piece, Origin.DISK)
        self._parts.reports.add(self.task, lambda: self.link, effect)

    async def _prepare(self, effect: PrepareFile) -> None:
        if self._file is not None:
            self._parts.exchange.unshare(self.task)
            self._file = None
        try:
            made = (effect.layout, effect.content_type, effect.content, effect.digest)
            file = await self._parts.files.create(self.task, *made, url=self.request.url)
        except StoreFull as error:
            self._store_refused(ErrorCode.STORE_FULL, str(error))
            return
        except OSError as error:
            self._store_refused(ErrorCode.INTERNAL, f"the store cannot be written: {error}")
            return
        if self._is_over:
            file.close()
            return
        have = file.have  # empty, unless the supernode told the content itself
        self._share(file, have, known=False)
        self._show(file, PieceSet(have.size), effect.content_type)
        for piece in have:
            self._piece_came(piece, Origin.SEED, f"{SEED_PREFIX}{self.content.supernode.rpartition(':')[0]}")
        self.happened(StorePrepared(have=have))

    def _share(self, file: TaskFile, have: PieceSet, *, known: bool) -> None:
        self._file = file
        background = self.session.purpose is not Purpose.READ
        self._parts.exchange.share(self.task, file, have, limit=self.limit, background=background)
        if known:
            self._show(file, have, "")

    def _show(self, file: TaskFile, have: PieceSet, content_type: str) -> None:
        """Readers may begin."""
        self.content.ready(file, Arrival(file.layout, have.copy()), content_type or file.content_type)
        for piece in have:
            self._count(piece, Origin.DISK)

    async def _finish(self, digest: str) -> None:
        file = self._file
        if file is None:
            return
        try:
            await self._parts.files.finish(file, digest)
        except (StoreFull, OSError, ValueError) as error:
            _log.warning("task %s: its end could not be noted in the journal: %s", self.task[:16], error)
        if self._is_over:
            return  # it has failed, or was given up, meanwhile
        now = self._parts.clock.now()
        self._parts.piece_log.task_finished(
            self.task,
            length=file.layout.length,
            elapsed_s=now - self._began_at,
            by_origin=self.content.received.by_origin,
        )
        self.content.complete(digest)
        self._checked_at = now

    def _fail(self, effect: Fail) -> None:
        elapsed_s = self._parts.clock.now() - self._began_at
        self._parts.piece_log.task_failed(self.task, code=effect.code, detail=effect.message, elapsed_s=elapsed_s)
        message = f"task {self.task[:16]}: {effect.message}"[:1000]
        self.content.fail(DownloadFailed(effect.code, message, status=effect.status))
        self._on_failed(self)
        if effect.discard:
            self._spawn(self._parts.files.remove(self.task), "discard")

    async def _read_from_source(self, effect: ReadFromSource) -> None:
        """Read what is missing from the source; every piece is told as it comes."""
        assert self._file is not None
        if len(effect.pieces):
            _log.warning("task %s: no supernode and no peer left, %d pieces from the source", self.task[:16], len(effect.pieces))
        else:
            _log.info("task %s: its pieces have not all come in one run: the whole is digested again", self.task[:16])

        def on_pieces(pieces: list[int]) -> None:
            for piece in pieces:
                self._parts.exchange.piece_available(self.task, piece)
                self._piece_came(piece, Origin.SOURCE, f"{SEED_PREFIX}source")
                self.happened(PieceCame(piece=piece, origin=Origin.SOURCE))

        event = await read_missing(
            self.request,
            self._file,
            effect.pieces,
            effect.digest,
            source=self._parts.source,
            limit=self.limit,
            executor=self._parts.executor,
            on_pieces=on_pieces,
        )
        self.happened(SourceEnded(digest=event.digest, code=event.code, status=event.status, message=event.message))
