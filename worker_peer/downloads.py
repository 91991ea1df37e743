"""Every download of this peer: what happens to it goes to its session (core/session.py), what the session wants is done.

Driver, on the loop. Each effect that starts something ends in exactly one event, failure included.
"""

import asyncio
import logging
from concurrent.futures import Executor
from typing import assert_never

from wire.bitmap import PieceSet
from wire.errors import ErrorCode
from wire.ids import SEED_PREFIX, is_seed_id
from wire.messages import Drop, Lease, Leave, LeaveReason, Message, Origin, Task
from worker_peer.api import DownloadFailed, DownloadRequest, Waits
from worker_peer.back_to_source import read_missing
from worker_peer.broker_link import BrokerLink
from worker_peer.cache_keeper import CacheKeeper
from worker_peer.config import PeerConfig
from worker_peer.content import ContentDamaged, ContentReader, SharedContent
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
    LeaseGiven,
    PieceCame,
    PieceLost,
    Purpose,
    PurposeChanged,
    SourceEnded,
    StoreOpened,
    StorePrepared,
    StoreRefused,
    SupernodeDown,
    SupernodeUp,
    TaskTold,
    Tick,
)
from worker_peer.download import Download
from worker_peer.exchange import BlocksStored, Exchange, ExchangeEvent, StoreBroke
from worker_peer.host.background import Background
from worker_peer.host.clock import Clock
from worker_peer.host.limits import TokenBucket
from worker_peer.host.logs import PieceLog
from worker_peer.host.source import SourceReader
from worker_peer.host.store import StoreFull, TaskFile
from worker_peer.pacing import a_few_at_a_time
from worker_peer.registration import registration
from worker_peer.reports import Reports
from worker_peer.strikes import Strikes
from worker_peer.supernodes import Supernodes

_log = logging.getLogger("download")

_NEVER = float("-inf")
_KNOWN = (SessionState.SWARMING, SessionState.COMPLETE)  # the file is of the content that is wanted


class Downloads:
    """Opens contents, and runs them to their end."""

    def __init__(
        self,
        config: PeerConfig,
        *,
        keeper: CacheKeeper,
        supernodes: Supernodes,
        source: SourceReader,
        clock: Clock,
        background: Background,
        executor: Executor,
        piece_log: PieceLog,
    ) -> None:
        self._config = config
        self._files = keeper.files
        self._supernodes = supernodes
        self._source = source
        self._clock = clock
        self._background = background
        self._executor = executor
        self._piece_log = piece_log
        self._downloads: dict[str, Download] = {}
        #: Given by the composition root, which needs this object first.
        self.exchange: Exchange
        #: Bytes of contents received, by origin; for ALIVE and /metrics.
        self.received = dict.fromkeys(Origin, 0)
        self._strikes = Strikes(piece_log)
        self._reports = Reports()

    # -- the front ------------------------------------------------------------------------------------------------------

    async def open(self, request: DownloadRequest, purpose: Purpose = Purpose.READ, waits: Waits | None = None) -> ContentReader:
        """Begin or join a download; returns when its length is known. Raises DownloadFailed."""
        task = request.task
        download = self._downloads.get(task)
        if download is not None and download.content.damaged:
            raise ContentDamaged(
                ErrorCode.INTERNAL, f"task {task[:16]}: its file has gone bad, and is still being read: try later"
            )
        if download is not None and download.is_stale(self._clock.now(), self._config.fresh_s):
            # What is stored counts again when the supernode says that the source still has the same.
            self._forget(download, LeaveReason.EVICTED)
            download = None
        if download is None:
            download = self._begin(task, request, purpose)
        if purpose is not Purpose.OFFER:
            download.used_at = self._clock.now()
        if download.limit.rate and (request.rate == 0 or request.rate > download.limit.rate):
            download.limit.set_rate(request.rate, self._clock.now())
            self.exchange.limits_changed()
        reader = ContentReader(download.content, purpose, waits)
        try:
            await reader.opened()
        except BaseException:
            await reader.close()
            raise
        return reader

    def _begin(self, task: str, request: DownloadRequest, purpose: Purpose) -> Download:
        now = self._clock.now()
        settings = SessionSettings(
            supernode_patience_s=self._config.supernode_patience_s,
            back_to_source_after_s=self._config.back_to_source_after_s,
        )
        session = Session(task, wanted_digest=request.wanted_digest, settings=settings, now=now)
        content = SharedContent(task, self._executor, self._clock)
        link = self._supernodes.choose(request.supernodes or self._config.supernodes)
        used_at = _NEVER if purpose is Purpose.OFFER else now  # an offer is no use of it
        download = Download(request, session, content, link, used_at, now, TokenBucket(request.rate))
        content.supernode = link.node if link is not None else ""
        content.provenance.session = session
        content.on_unread = lambda: self._unread(task)
        content.on_purpose = lambda wanted: self._wanted(download, wanted)
        content.on_reading = lambda: self.exchange.follow_blocks(task)
        content.on_linked = lambda: self.exchange.mark_linked(task)
        self._downloads[task] = download
        if link is not None and link.is_up:
            self._happened(download, SupernodeUp(link.supernode_run))
        self._background.spawn(self._look_into_store(download), f"open {task[:16]}")
        return download

    async def _look_into_store(self, download: Download) -> None:
        task = download.session.task
        try:
            file = await self._files.open(task)
        except OSError as error:
            self._happened(download, StoreRefused(code=ErrorCode.INTERNAL, message=f"the store cannot be read: {error}"))
            return
        if self._downloads.get(task) is not download:
            if file is not None:
                file.close()
            return
        if file is None:
            self._happened(download, StoreOpened())
        else:
            download.file = file
            have = file.have
            digests = {piece: file.digests(piece) for piece in have}
            event = StoreOpened(layout=file.layout, have=have, piece_digests=digests, digest=file.digest)
            self._happened(download, event)
            if download.session.state is not SessionState.FAILED and download.session.have is not None:
                # Of an older content perhaps: readers see it when the supernode has named the same length.
                self._share(download, file, download.session.have, known=download.session.wanted_digest is not None)
            else:
                file.close()
        if download.link is None and download.session.state is SessionState.REGISTERING:
            self._happened(download, StoreRefused(code=ErrorCode.NO_SUPERNODE, message=NO_SUPERNODE))

    def _wanted(self, download: Download, purpose: Purpose) -> None:
        """What it is for has changed: who joins, and who leaves, decides how far it goes and whom it makes way for."""
        if purpose is not download.session.purpose and self._downloads.get(download.session.task) is download:
            self.exchange.set_background(download.session.task, background=purpose is not Purpose.READ)
            self._happened(download, PurposeChanged(purpose))

    def _unread(self, task: str) -> None:
        """The last reader has gone: an unfinished download stops; what came stays in the store for the next one."""
        download = self._downloads.get(task)
        if download is None:
            return
        if download.used_at > _NEVER:
            download.used_at = self._clock.now()
        if download.content.damaged:
            # Whoever asks next has it fetched anew.
            self._forget(download, LeaveReason.EVICTED)
            self._background.spawn(self._files.remove(task), f"discard {task[:16]}")
        elif download.session.state is not SessionState.COMPLETE:
            self._forget(download, LeaveReason.CANCELLED)

    def _forget(self, download: Download, reason: LeaveReason) -> None:
        task = download.session.task
        if self._downloads.pop(task, None) is None:
            return
        if download.timer is not None:
            download.timer.cancel()
        if download.reading is not None:
            download.reading.cancel()
        if download.content.digest is None and download.content.failure is None:
            download.content.fail(DownloadFailed(ErrorCode.CANCELLED, f"task {task[:16]}: nobody waits for it any more"))
        if download.link is not None:
            download.link.send(Leave(task=task, reason=reason))
        self.exchange.unshare(task)

    # -- worker_peer.cache_keeper.Holder --------------------------------------------------------------------------------

    def last_uses(self) -> dict[str, float]:
        """See Holder."""
        uses = {task: max(each.used_at, self.served_at(task)) for task, each in self._downloads.items()}
        return {task: at for task, at in uses.items() if at > _NEVER}

    def is_busy(self, task: str) -> bool:
        """See Holder."""
        download = self._downloads.get(task)
        return download is not None and (bool(download.content.readers) or download.session.state is not SessionState.COMPLETE)

    def served_at(self, task: str) -> float:
        """See Holder."""
        return self.exchange.served_at.get(task, _NEVER)

    def let_go(self, task: str) -> None:
        """See Holder."""
        if task in self._downloads:
            self._forget(self._downloads[task], LeaveReason.EVICTED)

    def is_here(self, task: str) -> bool:
        """Whether all of it is here and right, and open."""
        return task in self._downloads and self._downloads[task].session.state is SessionState.COMPLETE

    @property
    def active(self) -> int:
        """Downloads that somebody waits for."""
        return sum(1 for download in self._downloads.values() if download.content.readers)

    @property
    def tasks(self) -> list[str]:
        """Every task that is here or on its way."""
        return list(self._downloads)

    # -- what happens ---------------------------------------------------------------------------------------------------

    def supernode_up(self, link: BrokerLink) -> None:
        """A supernode has welcomed this peer: everything that goes through it is registered (again)."""
        offered: list[Download] = []
        for download in list(self._downloads.values()):
            if download.link is link and download.session.state is SessionState.COMPLETE:
                offered.append(download)
            elif download.link is link:
                self._happened(download, SupernodeUp(link.supernode_run))
            elif download.link is not None and not download.link.is_up and link.node in self._nodes(download):
                self._move(download, link)
        run = link.supernode_run

        def offer(download: Download) -> None:
            if link.is_up and link.supernode_run == run and self._downloads.get(download.session.task) is download:
                self._happened(download, SupernodeUp(run))

        self._background.spawn(a_few_at_a_time(offered, offer), "offer again")

    def supernode_down(self, link: BrokerLink) -> None:
        """A supernode has fallen silent: its downloads move to the next one that is up, or go on as they can."""
        for download in list(self._downloads.values()):
            if download.link is not link:
                continue
            self._happened(download, SupernodeDown())
            other = self._supernodes.choose(self._nodes(download))
            if other is not None and other.is_up:
                self._move(download, other)

    def _nodes(self, download: Download) -> tuple[str, ...]:
        return download.request.supernodes or self._config.supernodes

    def _move(self, download: Download, link: BrokerLink) -> None:
        download.link = link
        download.content.supernode = link.node
        self._happened(download, SupernodeUp(link.supernode_run))

    def message(self, link: BrokerLink, message: Message) -> None:
        """What a supernode says about a task."""
        if not isinstance(message, Task | Lease | Drop):
            _log.debug("supernode %s said %s, which is not for a peer", link.node, message.KIND.name)
            return
        download = self._downloads.get(message.task)
        if download is None or download.link is not link:
            if isinstance(message, Lease):
                link.send(Leave(task=message.task, reason=LeaveReason.CANCELLED))
            return
        match message:
            case Task():
                self._happened(download, TaskTold(told=message))
            case Lease():
                self._happened(download, LeaseGiven(lease=message))
            case Drop():
                if download.session.state is SessionState.COMPLETE and not download.content.readers:
                    self._forget(download, LeaveReason.EVICTED)
                    self._background.spawn(self._files.remove(message.task), f"discard {message.task[:16]}")

    def exchanged(self, events: list[ExchangeEvent]) -> None:
        """What became of transfers."""
        for event in events:
            download = self._downloads.get(event.task)
            if download is None:
                continue
            match event:
                case BlocksStored():
                    if download.content.arrival is not None:
                        download.content.arrival.blocks(event.piece, event.first, event.count)
                        download.content.wake()
                case Done():
                    origin = Origin.SEED if is_seed_id(event.parent) else Origin.PEER
                    self._piece_came(download, event.piece, origin, event.parent)
                    self._happened(download, PieceCame(piece=event.piece, lease=event.lease, rate=event.rate, origin=origin))
                case Lost():
                    self._strikes.against(event)
                    if download.content.arrival is not None:
                        download.content.arrival.lost(event.piece)
                    self._happened(download, PieceLost(piece=event.piece, lease=event.lease, failure=event.failure))
                case StoreBroke():
                    code = ErrorCode.STORE_FULL if event.full else ErrorCode.INTERNAL
                    self._happened(download, StoreRefused(code=code, message=event.message))

    def _piece_came(self, download: Download, piece: int, origin: Origin, parent: str) -> None:
        arrival = download.content.arrival
        if arrival is None:
            return
        task, layout = download.session.task, arrival.layout
        start, size = layout.piece_span(piece)
        # In 1.x's log the supernode's cache is a peer of each task of its own.
        cid = f"{parent}~{task}" if is_seed_id(parent) else parent
        end = max(start, start + size - 1)
        self._piece_log.downloading_piece(task, download.content.supernode, cid, piece, start, end, layout.piece_length)
        self.received[origin] += download.content.came(piece, origin, parent)

    def _happened(self, download: Download, event: Event) -> None:
        """Give an event to the session, do what it wants, and re-arm its timer."""
        effects = download.session.handle(event, self._clock.now())
        download.content.provenance.happened(event)
        if download.session.state in _KNOWN and download.content.arrival is None and download.file is not None:
            self._show(download, download.file, PieceSet(download.file.layout.piece_count), download.session.content_type)
        for effect in effects:
            self._do(download, effect)
        download.content.turned()
        if download.timer is not None:
            download.timer.cancel()
            download.timer = None
        due = download.session.next_deadline()
        if due is not None and self._downloads.get(download.session.task) is download:
            wait = max(0.0, due - self._clock.now())
            download.timer = asyncio.get_running_loop().call_later(wait, self._happened, download, Tick())

    # -- what is to be done ---------------------------------------------------------------------------------------------

    def _do(self, download: Download, effect: Effect) -> None:
        match effect:
            case RegisterTask():
                if download.link is not None:
                    download.link.send(registration(download.request, effect))
            case PrepareFile():
                self._background.spawn(self._prepare(download, effect), f"prepare {download.session.task[:16]}")
            case FetchPieces():
                self.exchange.fetch(
                    download.session.task,
                    effect.lease,
                    effect.parent,
                    effect.endpoint,
                    effect.hint_endpoint,
                    list(zip(effect.pieces, effect.digests, strict=True)),
                )
            case ReportPieces():
                self._report(download, effect)
            case ReadFromSource():
                self.exchange.stop_fetching(download.session.task)
                download.reading = self._background.spawn(
                    self._read_from_source(download, effect), f"back to source {download.session.task[:16]}"
                )
            case Finish():
                self._background.spawn(self._finish(download, effect.digest), f"finish {download.session.task[:16]}")
            case Fail():
                self._fail(download, effect)
            case _:
                assert_never(effect)

    def _report(self, download: Download, effect: ReportPieces) -> None:
        for _, piece, _ in effect.done:
            arrival = download.content.arrival
            if arrival is not None and piece not in arrival.have:
                self.exchange.piece_available(download.session.task, piece)  # adopted from the disk
                self.received[Origin.DISK] += download.content.came(piece, Origin.DISK)
        self._reports.add(download.session.task, lambda: download.link, effect)

    async def _prepare(self, download: Download, effect: PrepareFile) -> None:
        task = download.session.task
        if download.file is not None:
            self.exchange.unshare(task)
            download.file = None
        try:
            made = (effect.layout, effect.content_type, effect.content, effect.digest)
            file = await self._files.create(task, *made, url=download.request.url)
        except StoreFull as error:
            self._happened(download, StoreRefused(code=ErrorCode.STORE_FULL, message=str(error)))
            return
        except OSError as error:
            self._happened(download, StoreRefused(code=ErrorCode.INTERNAL, message=f"the store cannot be written: {error}"))
            return
        if self._downloads.get(task) is not download:
            file.close()
            return
        have = file.have  # empty, unless the supernode told the content itself
        self._share(download, file, have, known=False)
        self._show(download, file, PieceSet(have.size), effect.content_type)
        for piece in have:
            self._piece_came(download, piece, Origin.SEED, f"{SEED_PREFIX}{download.content.supernode.rpartition(':')[0]}")
        self._happened(download, StorePrepared(have=have))

    def _share(self, download: Download, file: TaskFile, have: PieceSet, content_type: str = "", *, known: bool = True) -> None:
        download.file = file
        background = download.session.purpose is not Purpose.READ
        self.exchange.share(download.session.task, file, have, limit=download.limit, background=background)
        if known:
            self._show(download, file, have, content_type)

    def _show(self, download: Download, file: TaskFile, have: PieceSet, content_type: str) -> None:
        """Readers may begin."""
        download.content.ready(file, Arrival(file.layout, have.copy()), content_type or file.content_type)
        for piece in have:
            self.received[Origin.DISK] += download.content.came(piece, Origin.DISK)

    async def _finish(self, download: Download, digest: str) -> None:
        file = download.file
        if file is None:
            return
        try:
            await self._files.finish(file, digest)
        except (StoreFull, OSError, ValueError) as error:
            _log.warning("task %s: its end could not be noted in the journal: %s", download.session.task[:16], error)
        if self._downloads.get(download.session.task) is not download:
            return  # it has failed, or was given up, meanwhile
        self._piece_log.task_finished(
            download.session.task,
            length=file.layout.length,
            elapsed_s=self._clock.now() - download.began_at,
            by_origin=download.content.received.by_origin,
        )
        download.content.complete(digest)
        download.checked_at = self._clock.now()

    def _fail(self, download: Download, effect: Fail) -> None:
        task = download.session.task
        elapsed_s = self._clock.now() - download.began_at
        self._piece_log.task_failed(task, code=effect.code, detail=effect.message, elapsed_s=elapsed_s)
        download.content.fail(DownloadFailed(effect.code, f"task {task[:16]}: {effect.message}"[:1000], status=effect.status))
        self._forget(download, LeaveReason.FAILED)
        if effect.discard:
            self._background.spawn(self._files.remove(task), f"discard {task[:16]}")

    async def _read_from_source(self, download: Download, effect: ReadFromSource) -> None:
        """Read what is missing from the source; every piece is told as it comes."""
        assert download.file is not None
        task = download.session.task
        if len(effect.pieces):
            _log.warning("task %s: no supernode and no peer left, %d pieces from the source", task[:16], len(effect.pieces))
        else:
            _log.info("task %s: its pieces have not all come in one run: the whole is digested again", task[:16])

        def on_pieces(pieces: list[int]) -> None:
            for piece in pieces:
                self.exchange.piece_available(task, piece)
                self._piece_came(download, piece, Origin.SOURCE, f"{SEED_PREFIX}source")
                self._happened(download, PieceCame(piece=piece, origin=Origin.SOURCE))

        event = await read_missing(
            download.request,
            download.file,
            effect.pieces,
            effect.digest,
            source=self._source,
            limit=download.limit,
            executor=self._executor,
            on_pieces=on_pieces,
        )
        self._happened(download, SourceEnded(digest=event.digest, code=event.code, status=event.status, message=event.message))
