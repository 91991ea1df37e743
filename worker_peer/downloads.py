"""Every download of this peer: who opens one, who leaves it, and to which of them what supernodes and peers say belongs.

Driver, on the loop. What becomes of one download: download.py.
"""

import logging
from concurrent.futures import Executor

from wire.errors import ErrorCode
from wire.messages import Drop, Lease, Leave, LeaveReason, Message, Origin, Task
from worker_peer.api import DownloadRequest, Waits
from worker_peer.broker_link import BrokerLink
from worker_peer.cache_keeper import CacheKeeper
from worker_peer.config import PeerConfig
from worker_peer.content import ContentDamaged, ContentReader
from worker_peer.core.fetching import Lost
from worker_peer.core.session import SessionSettings
from worker_peer.core.session_events import (
    LeaseGiven,
    Purpose,
    SupernodeDown,
    SupernodeUp,
    TaskTold,
)
from worker_peer.download import NEVER, Download, DownloadParts
from worker_peer.exchange import Exchange, ExchangeEvent
from worker_peer.host.background import Background
from worker_peer.host.clock import Clock
from worker_peer.host.logs import PieceLog
from worker_peer.host.source import SourceReader
from worker_peer.pacing import a_few_at_a_time
from worker_peer.reports import Reports
from worker_peer.strikes import Strikes
from worker_peer.supernodes import Supernodes

_log = logging.getLogger("download")


class Downloads:
    """Opens contents, and runs them to their end."""

    def __init__(
        self,
        config: PeerConfig,
        *,
        exchange: Exchange,
        keeper: CacheKeeper,
        supernodes: Supernodes,
        source: SourceReader,
        clock: Clock,
        background: Background,
        executor: Executor,
        piece_log: PieceLog,
    ) -> None:
        self._config = config
        self._supernodes = supernodes
        self._downloads: dict[str, Download] = {}
        #: Bytes of contents received, by origin; for ALIVE and /metrics.
        self.received = dict.fromkeys(Origin, 0)
        self._strikes = Strikes(piece_log)
        self._parts = DownloadParts(
            exchange=exchange,
            files=keeper.files,
            source=source,
            clock=clock,
            background=background,
            executor=executor,
            piece_log=piece_log,
            reports=Reports(),
            received=self.received,
        )

    # -- the front ------------------------------------------------------------------------------------------------------

    async def open(self, request: DownloadRequest, purpose: Purpose = Purpose.READ, waits: Waits | None = None) -> ContentReader:
        """Begin or join a download; returns when its length is known. Raises DownloadFailed."""
        task = request.task
        download = self._downloads.get(task)
        if download is not None and download.content.damaged:
            raise ContentDamaged(
                ErrorCode.INTERNAL, f"task {task[:16]}: its file has gone bad, and is still being read: try later"
            )
        if download is not None and download.is_stale(self._parts.clock.now(), self._config.fresh_s):
            # What is stored counts again when the supernode says that the source still has the same.
            self._forget(download, LeaveReason.EVICTED)
            download = None
        if download is None:
            download = self._begin(request, purpose)
        if purpose is not Purpose.OFFER:
            download.used_at = self._parts.clock.now()
        if download.limit.rate and (request.rate == 0 or request.rate > download.limit.rate):
            download.limit.set_rate(request.rate, self._parts.clock.now())
            self._parts.exchange.limits_changed()
        reader = ContentReader(download.content, purpose, waits)
        try:
            await reader.opened()
        except BaseException:
            await reader.close()
            raise
        return reader

    def _begin(self, request: DownloadRequest, purpose: Purpose) -> Download:
        download = Download(
            request,
            self._supernodes.choose(request.supernodes or self._config.supernodes),
            settings=SessionSettings(
                supernode_patience_s=self._config.supernode_patience_s,
                back_to_source_after_s=self._config.back_to_source_after_s,
            ),
            used_at=NEVER if purpose is Purpose.OFFER else self._parts.clock.now(),  # an offer is no use of it
            parts=self._parts,
            on_failed=lambda failed: self._forget(failed, LeaveReason.FAILED),
        )
        download.content.on_unread = lambda: self._unread(download)
        self._downloads[download.task] = download
        download.begin()
        return download

    def _unread(self, download: Download) -> None:
        """The last reader has gone: an unfinished download stops; what came stays in the store for the next one."""
        if self._downloads.get(download.task) is not download:
            return  # it is over, and the task may have been begun anew by somebody else
        if download.used_at > NEVER:
            download.used_at = self._parts.clock.now()
        if download.content.damaged:
            # Whoever asks next has it fetched anew.
            self._forget(download, LeaveReason.EVICTED)
            self._parts.background.spawn(self._parts.files.remove(download.task), f"discard {download.task[:16]}")
        elif not download.is_complete:
            self._forget(download, LeaveReason.CANCELLED)

    def _forget(self, download: Download, reason: LeaveReason) -> None:
        if self._downloads.get(download.task) is download:
            del self._downloads[download.task]
            download.end(reason)

    # -- worker_peer.cache_keeper.Holder --------------------------------------------------------------------------------

    def last_uses(self) -> dict[str, float]:
        """See Holder."""
        uses = {task: max(each.used_at, self.served_at(task)) for task, each in self._downloads.items()}
        return {task: at for task, at in uses.items() if at > NEVER}

    def is_busy(self, task: str) -> bool:
        """See Holder."""
        download = self._downloads.get(task)
        return download is not None and (bool(download.content.readers) or not download.is_complete)

    def served_at(self, task: str) -> float:
        """See Holder."""
        return self._parts.exchange.served_at.get(task, NEVER)

    def let_go(self, task: str) -> None:
        """See Holder."""
        if task in self._downloads:
            self._forget(self._downloads[task], LeaveReason.EVICTED)

    def is_here(self, task: str) -> bool:
        """Whether all of it is here and right, and open."""
        return task in self._downloads and self._downloads[task].is_complete

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
            if download.link is link and download.is_complete:
                offered.append(download)
            elif download.link is link:
                download.happened(SupernodeUp(link.supernode_run))
            elif download.link is not None and not download.link.is_up and link.node in self._nodes(download):
                download.move(link)
        run = link.supernode_run

        def offer(download: Download) -> None:
            if link.is_up and link.supernode_run == run and self._downloads.get(download.task) is download:
                download.happened(SupernodeUp(run))

        self._parts.background.spawn(a_few_at_a_time(offered, offer), "offer again")

    def supernode_down(self, link: BrokerLink) -> None:
        """A supernode has fallen silent: its downloads move to the next one that is up, or go on as they can."""
        for download in list(self._downloads.values()):
            if download.link is not link:
                continue
            download.happened(SupernodeDown())
            other = self._supernodes.choose(self._nodes(download))
            if other is not None and other.is_up:
                download.move(other)

    def _nodes(self, download: Download) -> tuple[str, ...]:
        return download.request.supernodes or self._config.supernodes

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
                download.happened(TaskTold(told=message))
            case Lease():
                download.happened(LeaseGiven(lease=message))
            case Drop():
                if download.is_complete and not download.content.readers:
                    self._forget(download, LeaveReason.EVICTED)
                    self._parts.background.spawn(self._parts.files.remove(message.task), f"discard {message.task[:16]}")

    def exchanged(self, events: list[ExchangeEvent]) -> None:
        """What became of transfers."""
        for event in events:
            download = self._downloads.get(event.task)
            if download is None:
                continue
            if isinstance(event, Lost):
                self._strikes.against(event)
            download.exchanged(event)
