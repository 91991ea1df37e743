"""The front door: what the gateway and the command line ask of a peer. No sockets, no decisions, only the shapes."""

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from wire.errors import ErrorCode
from wire.ids import ByteRange, digest_in_url, task_id
from wire.messages import Origin
from worker_peer.core.causes import Cause as Cause
from worker_peer.core.causes import Giver as Giver


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadRequest:
    """One content that somebody on this host wants."""

    #: Absolute http(s) URL of the source.
    url: str
    #: Request headers for the source, in order. Secret: they reach the source, and no log, error, metric or disk.
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    #: Query keys that do not count for the task's id (`Expires`, `Signature`).
    filters: tuple[str, ...] = ()
    #: `sha256:<hex>` that the content must have. None: taken from the URL where its path names one.
    digest: str | None = None
    #: Lower-case hex md5 that the content must have, by the user.
    md5: str | None = None
    #: Splits tasks of one URL (only without md5).
    identifier: str | None = None
    #: Part of the source that is the content. The gateway leaves it None and reads a part of the whole content instead.
    byte_range: ByteRange | None = None
    #: Do not verify the source's certificate.
    insecure: bool = False
    #: PEM certificates: the only roots by which the source's certificate is verified. Empty: the system's.
    certificates: tuple[bytes, ...] = ()
    #: `host:port` of supernodes, in the order to try. Empty: the peer's own.
    supernodes: tuple[str, ...] = ()
    #: Who asked, for logs and metrics.
    caller: str = ""
    #: Bytes per second of this download; 0: not limited.
    rate: int = 0

    @property
    def wanted_digest(self) -> str | None:
        """The sha256 digest that the content must have, by the caller or by the URL's path (a whole content only)."""
        if self.byte_range is not None:
            return None
        return self.digest or digest_in_url(self.url)

    @property
    def task(self) -> str:
        """The task's id."""
        return task_id(
            self.url,
            filters=self.filters,
            digest=self.wanted_digest,
            md5=self.md5,
            identifier=self.identifier,
            byte_range=self.byte_range,
        )


class DownloadFailed(Exception):
    """The content cannot be had through the swarm, nor by this peer from its source.

    `status` is the source's HTTP status where the source answered (401, 404, ...), else 0. The text names the task's
    short id, what happened and what to do; it holds no secret.
    """

    def __init__(self, code: ErrorCode, message: str, *, status: int = 0) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


@dataclass(slots=True)
class Received:
    """Bytes of one content by where they came from: the source directly, the seed, other peers, this host's disk."""

    by_origin: dict[Origin, int] = field(default_factory=lambda: dict.fromkeys(Origin, 0))

    @property
    def total(self) -> int:
        """Bytes that are here."""
        return sum(self.by_origin.values())


class Waits:
    """What one reader waits for, from open to close: a switch that stands on one cause, or on none."""

    def __init__(self, on_turn: Callable[[Cause | None, float], None] | None = None) -> None:
        """`on_turn(cause, now)` is called when it is turned: seldom, never for each block. None: it waits for nothing."""
        self.cause: Cause | None = None
        self.on_turn = on_turn
        #: Of causes that are over.
        self.seconds: dict[Cause, float] = {}
        self._since = 0.0

    def turn(self, cause: Cause | None, now: float) -> None:
        """From `now` on (monotonic seconds) that is waited for."""
        if cause is not self.cause:
            if self.cause is not None:
                self.seconds[self.cause] = self.seconds.get(self.cause, 0.0) + now - self._since
            self.cause, self._since = cause, now
            if self.on_turn is not None:
                self.on_turn(cause, now)


@dataclass(frozen=True, slots=True, kw_only=True)
class DataPlane:
    """How busy a peer's data sockets are, as of a moment ago."""

    serving: int = 0
    """Requests of children that are not answered yet."""
    fetching: int = 0
    """Pieces that were granted to this peer and are not here yet."""
    sent_bytes: int = 0
    """Of blocks, given to children."""
    refused: Mapping[str, int] = field(default_factory=dict)
    """Frames that were not accepted, by reason: a closed set of words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheUse:
    """A peer's store now, in bytes on disk, and what has gone since the process began."""

    used: int = 0
    quota: int = 0
    """0: only the disk's room counts."""
    kept: int = 0
    """Of contents that are kept (pinned)."""
    stored: int = 0
    """Contents."""
    evicted: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """By reason, a closed set of words: contents that were deleted, and their bytes."""


class Content(Protocol):
    """One content on its way to this host, or already here. Several readers may share it."""

    task: str
    received: Received

    @property
    def length(self) -> int:
        """Bytes of the content; known once `Peer.open` has returned."""
        ...

    @property
    def content_type(self) -> str:
        """The source's Content-Type; empty: it gave none."""
        ...

    def read(self, start: int = 0, stop: int | None = None) -> AsyncIterator[memoryview]:
        """The bytes from `start` up to `stop` (None: the end), in order, in chunks of at most 1 MiB, as they arrive.

        Every chunk's blocks are verified. The content's last bytes are given only when the digest of the whole content
        is known to be right. Raises DownloadFailed in the middle: then what was given is not the whole content.
        """
        ...

    async def whole(self, on_progress: Callable[[Received], None] | None = None) -> str:
        """Wait until all of it is here and right; the path of its file in the store. Raises DownloadFailed.

        The file is the store's: link or copy it, never write to it.
        """
        ...

    def mark_linked(self) -> None:
        """A hard link to the content's file has been given out: somebody may edit it, so it is checked when served."""
        ...

    def given_by(self, start: int, stop: int) -> dict[Giver, int]:
        """Bytes from `start` up to `stop` by who gave them. What was here before this reader came is the disk's."""
        ...

    async def close(self) -> None:
        """This reader is done. When the last one closes an unfinished content, its download stops; what came is kept."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """Bytes of contents so far, received and sent by this peer, compressed where they travelled so."""

    down: int
    up: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkUse:
    """One direction of the link now, in bytes per second on the wire. `limit`: of content, what the peer may move."""

    limit: int
    own_rate: float
    other_rate: float
    link_rate: int


class Peer(Protocol):
    """The host's peer."""

    peer_id: str

    @property
    def moved(self) -> Moved:
        """What the peer has received, from other peers and from sources, and what it has sent."""
        ...

    @property
    def link(self) -> Mapping[str, LinkUse]:
        """This host's link by direction, `down` and `up`; empty: the peer does not look at it."""
        ...

    async def open(self, request: DownloadRequest, waits: Waits | None = None) -> Content:
        """Begin, or join, the download of a content; returns when its length is known. `waits` is told what it waits for.

        Raises DownloadFailed when it cannot be had: the caller then has given nothing to its own client yet, and may go
        to the source by itself. With no supernode in reach that takes less than a second.
        """
        ...

    def data_plane(self) -> DataPlane:
        """How busy its data sockets are."""
        ...

    def cache(self) -> CacheUse:
        """How full its store is, and what that has given up."""
        ...

    async def close(self) -> None:
        """End every download and every socket of the peer."""
        ...
