"""An in-memory twin of `worker_peer.api.Peer`: contents are put in by hand, and fail or stall as a test wants."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from wire.errors import ErrorCode
from wire.messages import Origin
from worker_peer.api import (
    CacheUse,
    Cause,
    Content,
    DataPlane,
    DownloadFailed,
    DownloadRequest,
    Giver,
    LinkUse,
    Moved,
    Peer,
    Received,
    Waits,
)
from worker_peer.host.clock import SystemClock

_CHUNK_BYTES = 1 << 20


@dataclass(kw_only=True)
class Held:
    """A content that the peer can give, and how."""

    data: bytes
    content_type: str = ""
    origin: Origin = Origin.PEER
    chunk_bytes: int = _CHUNK_BYTES
    #: Raise DownloadFailed in place of the byte at this offset.
    breaks_at: int | None = None
    #: Give nothing from this offset on before `go` is set.
    waits_at: int | None = None
    go: asyncio.Event = field(default_factory=asyncio.Event)
    #: Set when a reader has come to `waits_at`.
    waiting: asyncio.Event = field(default_factory=asyncio.Event)
    #: What is waited for at `waits_at`.
    cause: Cause = Cause.PEERS
    giver: str = ""
    #: Shared by all readers, as the real peer's is.
    received: Received = field(default_factory=Received)


class MemoryContent:
    """One reader of a held content."""

    def __init__(self, task: str, held: Held, waits: Waits, on_close: Callable[[], None]) -> None:
        self.task = task
        self._waits = waits
        self.length = len(held.data)
        self.content_type = held.content_type
        self.received = held.received
        self.received.by_origin[held.origin] = self.length
        self._held = held
        self._on_close = on_close
        self._closed = False

    async def read(self, start: int = 0, stop: int | None = None) -> AsyncIterator[memoryview]:
        """See Content.read."""
        held, end = self._held, self.length if stop is None else stop
        while start < end:
            until = min(start + held.chunk_bytes, end)
            for limit in (held.breaks_at, held.waits_at):
                if limit is not None and start < limit:
                    until = min(until, limit)
            if start == held.breaks_at:
                raise DownloadFailed(ErrorCode.DIGEST_MISMATCH, "the content is not what it should be")
            if start == held.waits_at:
                held.waiting.set()
                self._waits.turn(held.cause, SystemClock().now())
                try:
                    await held.go.wait()
                finally:
                    self._waits.turn(None, SystemClock().now())
            yield memoryview(held.data)[start:until]
            start = until

    async def whole(self, on_progress: Callable[[Received], None] | None = None) -> str:
        """The gateway never asks for a file."""
        raise NotImplementedError

    def mark_linked(self) -> None:
        """The gateway never links."""
        raise NotImplementedError

    def given_by(self, start: int, stop: int) -> dict[Giver, int]:
        """See Content.given_by."""
        return {(self._held.origin, self._held.giver): stop - start} if stop > start else {}

    async def close(self) -> None:
        """See Content.close."""
        assert not self._closed
        self._closed = True
        self._on_close()


class MemoryPeer:
    """Gives what `hold` was given; everything else it fails to find."""

    def __init__(self) -> None:
        self.peer_id = "127.0.0.1-1-1.000"
        self.moved = Moved(down=0, up=0)
        self.link: dict[str, LinkUse] = {}
        self.requests: list[DownloadRequest] = []
        self.readers = 0
        self.closed = False
        #: Set whenever the last reader has closed.
        self.idle = asyncio.Event()
        self._opened = asyncio.Condition()
        #: `open` never returns while this is set.
        self.silent = False
        #: What `data_plane` tells.
        self.plane = DataPlane()
        #: What `open` raises, whatever is asked.
        self.failure: Exception | None = None
        self._held: dict[str, Held] = {}

    def hold(self, url: str, held: Held) -> Held:
        """Have the content of a URL."""
        self._held[DownloadRequest(url=url).task] = held
        return held

    async def open(self, request: DownloadRequest, waits: Waits | None = None) -> Content:
        """See Peer.open."""
        self.requests.append(request)
        waits = waits or Waits()
        if self.silent:
            waits.turn(Cause.SUPERNODE, SystemClock().now())
            await asyncio.Event().wait()
        if self.failure is not None:
            raise self.failure
        held = self._held.get(request.task)
        if held is None:
            raise DownloadFailed(ErrorCode.SOURCE_NOT_FOUND, "nobody has it", status=404)
        async with self._opened:
            self.readers += 1
            self._opened.notify_all()
        return MemoryContent(request.task, held, waits, self._one_less)

    async def at_readers(self, count: int) -> None:
        """Wait until so many readers are open."""
        async with self._opened:
            await self._opened.wait_for(lambda: self.readers >= count)

    def _one_less(self) -> None:
        self.readers -= 1
        if not self.readers:
            self.idle.set()

    def data_plane(self) -> DataPlane:
        """See Peer.data_plane."""
        return self.plane

    def cache(self) -> CacheUse:
        """See Peer.cache."""
        return CacheUse()

    async def close(self) -> None:
        """See Peer.close."""
        self.closed = True


def as_peer(peer: MemoryPeer) -> Peer:
    """The type check that the twin is one."""
    return peer
