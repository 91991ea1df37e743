"""Every message of the protocol: one frozen dataclass each, its fields with type, bound and meaning. No encoding here.

PROTOCOL.md's tables are generated from this module (scripts/generate-protocol); a test holds the two together.
Who speaks: P a peer, S the supernode, C a child (the peer that fetches), Q its parent (the peer that serves),
D dfget, H the host's running peer.
"""

from dataclasses import dataclass
from typing import ClassVar

from wire.cache_messages import CacheList, CachePage, Collect, Keep
from wire.errors import ErrorCode
from wire.fields import Flag, Many, Maybe, OneOf, Real, Row, Text, Whole, wired
from wire.pieces import MAX_PIECE_BYTES
from wire.preheat_messages import Warm, Warmed
from wire.vocabulary import (
    ALLOWED_HOSTS,
    BITMAP,
    BLOCK,
    CERTIFICATES,
    DIGEST,
    DIGESTS,
    ENDPOINT,
    HEADERS,
    LEASE,
    LENGTH,
    MAX_PIECES_PER_MESSAGE,
    MAX_SMALL_CONTENT_BYTES,
    NUMBER,
    PEER,
    PIECE,
    RANGE,
    SECONDS,
    SMALL_CONTENT,
    TASK_ID,
    URL,
    Kind,
    LeaveReason,
    Message,
    Origin,
    PieceFailure,
    Role,
    TaskState,
)

__all__ = [
    "MAX_PIECES_PER_MESSAGE",
    "MAX_SMALL_CONTENT_BYTES",
    "MESSAGES",
    "Alive",
    "Blocks",
    "CacheList",
    "CachePage",
    "Cancel",
    "Collect",
    "Download",
    "Drop",
    "Fetch",
    "Finished",
    "GetBlocks",
    "Have",
    "Hello",
    "Keep",
    "Kind",
    "Lease",
    "Leave",
    "LeaveReason",
    "Message",
    "NoBlocks",
    "NotKnown",
    "Origin",
    "PieceFailure",
    "Placed",
    "Progress",
    "Refused",
    "Register",
    "Report",
    "Role",
    "SeedFailed",
    "Seeded",
    "Task",
    "TaskState",
    "Warm",
    "Warmed",
    "Welcome",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello(Message):
    """P → S and D → H, first on every connection and again after NOT_KNOWN. Answered by WELCOME or REFUSED."""

    KIND: ClassVar[Kind] = Kind.HELLO
    protocol: tuple[int, int] = wired(Row((Whole(0, 255), Whole(0, 65535))), "version that the sender speaks: major, minor")
    peer: str = wired(PEER, "the sender's peer id, `<ip>-<pid>-<unix time>`; the seed's begins with `cdnnode:`")
    role: Role = wired(OneOf(Role), "peer or seed")
    software: str = wired(Text(64), "the sender's release, for people", "")
    host: str = wired(Text(256), "host name, for people", "")
    data_endpoint: str = wired(ENDPOINT, "`tcp://host:port` of the ROUTER that serves blocks; empty: serves none", "")
    hint_endpoint: str = wired(ENDPOINT, "`tcp://host:port` of the PUB that tells HAVE; empty: tells nothing", "")
    location: str = wired(Text(256), "rack or zone, `a/b/c` from the widest to the narrowest", "")
    upload_rate: int = wired(NUMBER, "bytes per second that the peer may upload; 0: not limited", 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome(Message):
    """S → P and H → D: the hello is accepted."""

    KIND: ClassVar[Kind] = Kind.WELCOME
    protocol: tuple[int, int] = wired(Row((Whole(0, 255), Whole(0, 65535))), "version that the connection speaks")
    supernode: str = wired(PEER, "id of this run of the supernode; another one means that it has forgotten everything")
    alive_every_s: float = wired(SECONDS, "send ALIVE this often", 1.0)
    lost_after_s: float = wired(SECONDS, "after this long without a word either end holds the other for dead", 5.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused(Message):
    """Any → any: what the other sent is not accepted."""

    KIND: ClassVar[Kind] = Kind.REFUSED
    code: ErrorCode = wired(OneOf(ErrorCode), "the reason's number")
    message: str = wired(Text(1024), "the reason in words, with the next step")
    majors: tuple[int, int] = wired(Row((Whole(0, 255), Whole(0, 255))), "oldest and newest major that the sender speaks", (0, 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Register(Message):
    """P → S: I want this task, and have these pieces already. Idempotent; answered by TASK, then LEASEs follow."""

    KIND: ClassVar[Kind] = Kind.REGISTER
    task: str = wired(TASK_ID, "the task's id, as wire/ids.py derives it from the next fields")
    url: str = wired(URL, "where the source is")
    headers: tuple[tuple[str, str], ...] = wired(HEADERS, "request headers for the source; secret: never logged or stored", ())
    filters: tuple[str, ...] = wired(Many(Text(256), 64), "query keys that do not count", ())
    digest: str | None = wired(Maybe(DIGEST), "the content's digest, when it is known", None)
    md5: str | None = wired(Maybe(Text(64)), "the content's md5 by the user, checked once at the seed", None)
    identifier: str | None = wired(Maybe(Text(1024)), "splits tasks of one URL", None)
    byte_range: tuple[int, int | None] | None = wired(RANGE, "first and last byte of the source that are the content", None)
    insecure: bool = wired(Flag(), "do not verify the source's certificate", False)
    certificates: tuple[bytes, ...] = wired(CERTIFICATES, "PEM: the only roots to verify the source by", ())
    have: bytes = wired(BITMAP, "bitmap of verified pieces; empty: none", b"")
    length: int | None = wired(Maybe(LENGTH), "length that the peer knows (with `have`)", None)
    piece_length: int = wired(Whole(0, MAX_PIECE_BYTES), "piece length that the peer's pieces have (with `have`)", 0)
    caller: str = wired(Text(256), "who asked, for logs and metrics (1.x's callsystem)", "")
    serves_only: bool = wired(Flag(), "the peer wants no piece: it offers what it has", False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task(Message):
    """S → P: the state of a task that the peer registered, at once and at every change."""

    KIND: ClassVar[Kind] = Kind.TASK
    task: str = wired(TASK_ID, "the task")
    state: TaskState = wired(
        OneOf(TaskState), "PROBING: length unknown; CACHING; CACHED: whole and its digest right; DEAD: see code"
    )
    length: int | None = wired(Maybe(LENGTH), "bytes of the content", None)
    piece_length: int = wired(Whole(0, MAX_PIECE_BYTES), "bytes of a piece", 0)
    block_length: int = wired(Whole(0, MAX_PIECE_BYTES), "bytes of a block", 0)
    digest: str | None = wired(Maybe(DIGEST), "sha256 of the content, computed by the seed (with CACHED)", None)
    content_type: str = wired(Text(256), "the source's Content-Type", "")
    code: ErrorCode | None = wired(Maybe(OneOf(ErrorCode)), "why it is dead", None)
    status: int = wired(Whole(0, 999), "the source's HTTP status, 0: none (with DEAD)", 0)
    message: str = wired(Text(1024), "why it is dead, in words, with the next step", "")
    content: bytes = wired(SMALL_CONTENT, "all of a small content (with CACHED); empty: it is fetched. Not taken: ask again", b"")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease(Message):
    """S → P: fetch these pieces from that parent. The same lease number again adds pieces to it."""

    KIND: ClassVar[Kind] = Kind.LEASE
    task: str = wired(TASK_ID, "the task")
    lease: int = wired(LEASE, "number of the grant: one parent feeding one child")
    parent: str = wired(PEER, "who serves")
    endpoint: str = wired(ENDPOINT, "the parent's data endpoint")
    hint_endpoint: str = wired(ENDPOINT, "the parent's PUB, empty: none", "")
    pieces: tuple[int, ...] = wired(Many(PIECE, MAX_PIECES_PER_MESSAGE), "what to fetch, in this order")
    digests: bytes = wired(DIGESTS, "BLAKE3 of each block of each piece, in order")
    until_s: float = wired(SECONDS, "seconds from now after which the supernode may give the pieces to another")


@dataclass(frozen=True, slots=True, kw_only=True)
class Report(Message):
    """P → S: what became of leased pieces."""

    KIND: ClassVar[Kind] = Kind.REPORT
    task: str = wired(TASK_ID, "the task")
    done: tuple[tuple[int, int, float], ...] = wired(
        Many(Row((LEASE, PIECE, Real(1e15))), MAX_PIECES_PER_MESSAGE),
        "lease, piece, bytes per second it came with: verified, stored, served from now on; lease 0: by another way",
        (),
    )
    failed: tuple[tuple[int, int, PieceFailure], ...] = wired(
        Many(Row((LEASE, PIECE, OneOf(PieceFailure))), MAX_PIECES_PER_MESSAGE),
        "lease, piece, why it did not come",
        (),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Leave(Message):
    """P → S, the seed too: the peer neither wants nor serves the task any more."""

    KIND: ClassVar[Kind] = Kind.LEAVE
    task: str = wired(TASK_ID, "the task")
    reason: LeaveReason = wired(OneOf(LeaveReason), "why")


@dataclass(frozen=True, slots=True, kw_only=True)
class Alive(Message):
    """P → S every `alive_every_s`, answered by the same: I am here. Renews the leases that it names.

    S → P besides, unasked, with `answer`: whether you are still there.
    """

    KIND: ClassVar[Kind] = Kind.ALIVE
    leases: tuple[int, ...] = wired(Many(LEASE, 4096), "leases that the peer is working on", ())
    received: tuple[int, ...] = wired(Many(NUMBER, 8), "bytes received so far, by Origin's number", ())
    sent: int = wired(NUMBER, "bytes sent to children so far", 0)
    every_s: float = wired(SECONDS, "S → P: say ALIVE this often from now on; 0: as before", 0.0)
    answer: bool = wired(Flag(), "S → P: say ALIVE now", False)


@dataclass(frozen=True, slots=True, kw_only=True)
class NotKnown(Message):
    """S → P: I do not know you (I have restarted, or held you for dead). Say HELLO and REGISTER again."""

    KIND: ClassVar[Kind] = Kind.NOT_KNOWN


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetch(Message):
    """S → seed: read this source once and serve it. Idempotent; answered by SEEDED or SEED_FAILED."""

    KIND: ClassVar[Kind] = Kind.FETCH
    task: str = wired(TASK_ID, "the task")
    url: str = wired(URL, "where the source is")
    headers: tuple[tuple[str, str], ...] = wired(HEADERS, "request headers for the source; secret", ())
    filters: tuple[str, ...] = wired(Many(Text(256), 64), "query keys that do not count", ())
    digest: str | None = wired(Maybe(DIGEST), "the content's digest, when it is known", None)
    md5: str | None = wired(Maybe(Text(64)), "the content's md5, when the user gave it", None)
    byte_range: tuple[int, int | None] | None = wired(RANGE, "first and last byte of the source", None)
    insecure: bool = wired(Flag(), "do not verify the source's certificate", False)
    certificates: tuple[bytes, ...] = wired(CERTIFICATES, "PEM: the only roots to verify the source by", ())
    allow: tuple[str, ...] = wired(
        ALLOWED_HOSTS, "hosts that may be asked, redirects included; none: all but link-local and the like", ()
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Seeded(Message):
    """Seed → S: these pieces of the task are here. The first one, which may name no piece, tells the length."""

    KIND: ClassVar[Kind] = Kind.SEEDED
    task: str = wired(TASK_ID, "the task")
    length: int = wired(LENGTH, "bytes of the content")
    piece_length: int = wired(Whole(1, MAX_PIECE_BYTES), "bytes of a piece")
    block_length: int = wired(Whole(1, MAX_PIECE_BYTES), "bytes of a block")
    content_type: str = wired(Text(256), "the source's Content-Type", "")
    pieces: tuple[int, ...] = wired(Many(PIECE, MAX_PIECES_PER_MESSAGE), "pieces that are verified and served from now on", ())
    digests: bytes = wired(DIGESTS, "BLAKE3 of each block of each piece, in order", b"")
    digest: str | None = wired(Maybe(DIGEST), "sha256 of the whole content: the last word on a task", None)
    source_bytes: int = wired(NUMBER, "bytes of bodies that the seed has read from sources so far, in all", 0)
    content: bytes = wired(SMALL_CONTENT, "all of a small content, in its first and only SEEDED; empty: it is fetched", b"")


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedFailed(Message):
    """Seed → S: the task cannot be had from its source."""

    KIND: ClassVar[Kind] = Kind.SEED_FAILED
    task: str = wired(TASK_ID, "the task")
    code: ErrorCode = wired(OneOf(ErrorCode), "why")
    status: int = wired(Whole(0, 999), "the source's HTTP status, 0: none", 0)
    message: str = wired(Text(1024), "why, in words, with the next step", "")
    source_bytes: int = wired(NUMBER, "bytes of bodies that the seed has read from sources so far, in all", 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop(Message):
    """S → P: forget the task and delete its content (an operator's or the quota's decision)."""

    KIND: ClassVar[Kind] = Kind.DROP
    task: str = wired(TASK_ID, "the task")


@dataclass(frozen=True, slots=True, kw_only=True)
class GetBlocks(Message):
    """C → Q: send me these consecutive blocks of a piece. Answered by one BLOCKS with all of them, or by NO_BLOCKS."""

    KIND: ClassVar[Kind] = Kind.GET_BLOCKS
    task: str = wired(TASK_ID, "the task")
    piece: int = wired(PIECE, "the piece")
    first: int = wired(BLOCK, "its first block wanted")
    count: int = wired(Whole(1, 65536), "how many blocks from there")
    lz4: bool = wired(Flag(), "the payload may be compressed: the way is slow enough for that to pay", False)
    background: bool = wired(Flag(), "nobody waits for it: what others wait for comes first", False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks(Message):
    """Q → C: consecutive blocks, as the payload frame: just those of one GET_BLOCKS."""

    KIND: ClassVar[Kind] = Kind.BLOCKS
    CARRIES_PAYLOAD: ClassVar[bool] = True
    task: str = wired(TASK_ID, "the task")
    piece: int = wired(PIECE, "the piece")
    first: int = wired(BLOCK, "the payload's first block")
    count: int = wired(Whole(1, 65536), "how many blocks the payload has")
    inflated: int = wired(
        Whole(0, MAX_PIECE_BYTES), "the payload is one lz4 block that inflates to so many bytes; 0: it is as it is", 0
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class NoBlocks(Message):
    """Q → C: I do not send that: none of the piece's blocks that you asked for and do not have."""

    KIND: ClassVar[Kind] = Kind.NO_BLOCKS
    task: str = wired(TASK_ID, "the task")
    piece: int = wired(PIECE, "the piece")
    code: ErrorCode = wired(OneOf(ErrorCode), "why")


@dataclass(frozen=True, slots=True, kw_only=True)
class Have(Message):
    """Q's PUB, topic: the task id: pieces that it serves from now on. A hint: it may be lost, and is never truth."""

    KIND: ClassVar[Kind] = Kind.HAVE
    task: str = wired(TASK_ID, "the task")
    peer: str = wired(PEER, "who has them")
    pieces: tuple[int, ...] = wired(Many(PIECE, MAX_PIECES_PER_MESSAGE), "the pieces")


@dataclass(frozen=True, slots=True, kw_only=True)
class Download(Message):
    """D → H: bring this content to the host. Answered by PROGRESS while it runs, and by FINISHED."""

    KIND: ClassVar[Kind] = Kind.DOWNLOAD
    url: str = wired(URL, "where the source is")
    headers: tuple[tuple[str, str], ...] = wired(HEADERS, "request headers for the source; secret", ())
    filters: tuple[str, ...] = wired(Many(Text(256), 64), "query keys that do not count", ())
    digest: str | None = wired(Maybe(DIGEST), "the content's digest, when it is known", None)
    md5: str | None = wired(Maybe(Text(64)), "the content's md5", None)
    identifier: str | None = wired(Maybe(Text(1024)), "splits tasks of one URL", None)
    byte_range: tuple[int, int | None] | None = wired(RANGE, "first and last byte of the source", None)
    insecure: bool = wired(Flag(), "do not verify the source's certificate", False)
    certificates: tuple[bytes, ...] = wired(CERTIFICATES, "PEM: the only roots to verify the source by", ())
    supernodes: tuple[str, ...] = wired(Many(Text(256), 64), "`host:port` of supernodes, in the order to try", ())
    caller: str = wired(Text(256), "who asked, for logs and metrics", "")
    rate: int = wired(NUMBER, "bytes per second of this download, 0: not limited", 0)
    total_rate: int = wired(NUMBER, "bytes per second of the whole host, 0: as the running peer has it", 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress(Message):
    """H → D: how far it is."""

    KIND: ClassVar[Kind] = Kind.PROGRESS
    task: str = wired(TASK_ID, "the task")
    supernode: str = wired(Text(256), "`host:port` of the supernode that it goes through, empty: none yet", "")
    length: int | None = wired(Maybe(LENGTH), "bytes of the content, when known", None)
    received: tuple[int, ...] = wired(Many(NUMBER, 8), "bytes of the content here so far, by Origin's number", ())


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished(Message):
    """H → D: it is here (and stays until PLACED or the connection's end), or it cannot be had."""

    KIND: ClassVar[Kind] = Kind.FINISHED
    task: str = wired(TASK_ID, "the task")
    path: str = wired(Text(4096), "the content's file on this host; empty: failed")
    length: int = wired(LENGTH, "bytes of the content", 0)
    digest: str = wired(Text(128), "sha256 of the content, empty: not known", "")
    received: tuple[int, ...] = wired(Many(NUMBER, 8), "bytes of the content by Origin's number", ())
    code: ErrorCode | None = wired(Maybe(OneOf(ErrorCode)), "why it failed", None)
    status: int = wired(Whole(0, 999), "the source's HTTP status, 0: none", 0)
    message: str = wired(Text(1024), "why it failed, with the next step", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel(Message):
    """D → H: stop the download of this connection."""

    KIND: ClassVar[Kind] = Kind.CANCEL


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed(Message):
    """D → H: the output has been made from the content's file. `linked`: as a hard link, so a user may edit it."""

    KIND: ClassVar[Kind] = Kind.PLACED
    task: str = wired(TASK_ID, "the task")
    linked: bool = wired(Flag(), "the output and the store's file are one inode", False)


#: Every message, by its number.
MESSAGES: dict[Kind, type[Message]] = {
    each.KIND: each
    for each in (
        Hello,
        Welcome,
        Refused,
        Register,
        Task,
        Lease,
        Report,
        Leave,
        Alive,
        NotKnown,
        Fetch,
        Seeded,
        SeedFailed,
        Drop,
        Warm,
        Warmed,
        CacheList,
        CachePage,
        Keep,
        Collect,
        GetBlocks,
        Blocks,
        NoBlocks,
        Have,
        Download,
        Progress,
        Finished,
        Cancel,
        Placed,
    )
}
