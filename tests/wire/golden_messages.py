"""The messages whose frames are frozen in golden/v1/: what a release once put on the wire, later ones must still read.

Add to this module, never change what is here: a changed message needs a new name and a new file
(`scripts/generate-protocol --golden` writes the files that are missing, and touches no other).

A file holds a message's frames, each behind its length as four bytes, big endian.
"""

from wire.errors import ErrorCode
from wire.framing import Frame
from wire.messages import (
    Alive,
    Blocks,
    CacheList,
    CachePage,
    Cancel,
    Collect,
    Download,
    Drop,
    Fetch,
    Finished,
    GetBlocks,
    Have,
    Hello,
    Keep,
    Lease,
    Leave,
    LeaveReason,
    Message,
    NoBlocks,
    NotKnown,
    PieceFailure,
    Placed,
    Progress,
    Refused,
    Register,
    Report,
    Role,
    Seeded,
    SeedFailed,
    Task,
    TaskState,
    Warm,
    Warmed,
    Welcome,
)

_TASK = "0123456789abcdef" * 4
_DIGEST = f"sha256:{'fedcba9876543210' * 4}"
_URL = "http://registry.example:5000/v2/library/busybox/blobs/sha256:" + "ab" * 32 + "?Expires=1&Signature=x%3D"
_HEADERS = (("User-Agent", "docker/20.10"), ("Authorization", "Bearer golden"), ("X-Ümlaut", "é€😀"))
_CERTIFICATE = b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"

#: Name of the file (without `.bin`) -> message, payload.
GOLDEN: dict[str, tuple[Message, bytes | None]] = {
    "hello": (Hello(protocol=(1, 0), peer="10.0.0.1-42-1600000000.123", role=Role.PEER), None),
    "hello-full": (
        Hello(
            protocol=(1, 7),
            peer="cdnnode:10.0.0.9-1-1600000000.000",
            role=Role.SEED,
            software="damselfly 0.1.0",
            host="node-1",
            data_endpoint="tcp://10.0.0.9:8001",
            hint_endpoint="tcp://[fd00::9]:40001",
            location="dc1/row2/rack3",
            upload_rate=125_000_000,
        ),
        None,
    ),
    "welcome": (Welcome(protocol=(1, 0), supernode="10.0.0.9-1-1600000000.000"), None),
    "welcome-full": (Welcome(protocol=(1, 0), supernode="s", alive_every_s=0.25, lost_after_s=2.5), None),
    "refused": (Refused(code=ErrorCode.NOT_GREETED, message="say HELLO first"), None),
    "refused-full": (Refused(code=ErrorCode.MAJOR_MISMATCH, message="run the same release", majors=(1, 2)), None),
    "register": (Register(task=_TASK, url=_URL), None),
    "register-full": (
        Register(
            task=_TASK,
            url=_URL,
            headers=_HEADERS,
            filters=("Expires", "Signature"),
            digest=_DIGEST,
            md5="d41d8cd98f00b204e9800998ecf8427e",
            identifier="build-7",
            byte_range=(5, None),
            insecure=True,
            certificates=(_CERTIFICATE,),
            have=b"\xa0\x01",
            length=16 * 262_144 - 3,
            piece_length=262_144,
            caller="dfdaemon",
            serves_only=True,
        ),
        None,
    ),
    "task-probing": (Task(task=_TASK, state=TaskState.PROBING), None),
    "task-cached": (
        Task(
            task=_TASK,
            state=TaskState.CACHED,
            length=(1 << 40) + 1,
            piece_length=16 << 20,
            block_length=1 << 18,
            digest=_DIGEST,
            content_type="application/octet-stream",
        ),
        None,
    ),
    "task-dead": (
        Task(task=_TASK, state=TaskState.DEAD, code=ErrorCode.SOURCE_NOT_FOUND, status=404, message="no such blob"),
        None,
    ),
    "lease": (
        Lease(
            task=_TASK,
            lease=(1 << 53) - 1,
            parent="cdnnode:10.0.0.9-1-1600000000.000",
            endpoint="tcp://10.0.0.9:8001",
            hint_endpoint="tcp://10.0.0.9:40001",
            pieces=(7, 0),
            digests=bytes(range(64)),
            until_s=12.5,
        ),
        None,
    ),
    "lease-lz4": (
        Lease(
            task=_TASK,
            lease=1,
            parent="10.0.0.2-42-1600000000.123",
            endpoint="tcp://10.0.0.2:65002",
            pieces=tuple(range(256)),
            digests=bytes(32 * 256),
            until_s=10.0,
        ),
        None,
    ),
    "report": (Report(task=_TASK), None),
    "report-full": (
        Report(
            task=_TASK,
            done=((3, 0, 1.5e8), (0, 1, 0.0)),
            failed=((3, 2, PieceFailure.DIGEST), (4, 1_048_575, PieceFailure.GONE)),
        ),
        None,
    ),
    "leave": (Leave(task=_TASK, reason=LeaveReason.EVICTED), None),
    "alive": (Alive(), None),
    "alive-full": (Alive(leases=(1, 2, 1 << 40), received=(0, 10, 20, 30), sent=99), None),
    "not-known": (NotKnown(), None),
    "fetch": (Fetch(task=_TASK, url=_URL), None),
    "fetch-full": (
        Fetch(
            task=_TASK,
            url=_URL,
            headers=_HEADERS,
            filters=("Expires",),
            digest=_DIGEST,
            md5="d41d8cd98f00b204e9800998ecf8427e",
            byte_range=(0, 9),
            insecure=True,
            certificates=(_CERTIFICATE, b""),
        ),
        None,
    ),
    "fetch-allow": (Fetch(task=_TASK, url=_URL, allow=("registry.example", "*.example:5000", "10.0.0.0/8")), None),
    "seeded": (Seeded(task=_TASK, length=0, piece_length=262_144, block_length=262_144), None),
    "seeded-full": (
        Seeded(
            task=_TASK,
            length=300_000,
            piece_length=262_144,
            block_length=262_144,
            content_type="application/vnd.docker.image.rootfs.diff.tar.gzip",
            pieces=(0, 1),
            digests=bytes(range(64)),
            digest=_DIGEST,
            source_bytes=300_000,
        ),
        None,
    ),
    "seed-failed": (SeedFailed(task=_TASK, code=ErrorCode.SOURCE_UNREACHABLE), None),
    "seed-failed-full": (
        SeedFailed(task=_TASK, code=ErrorCode.SOURCE_NEEDS_AUTH, status=401, message="log in", source_bytes=12),
        None,
    ),
    "drop": (Drop(task=_TASK), None),
    "seeded-small": (
        Seeded(
            task=_TASK,
            length=5,
            piece_length=262_144,
            block_length=131_072,
            pieces=(0,),
            digests=bytes(range(32)),
            digest=_DIGEST,
            content=b"small",
        ),
        None,
    ),
    "task-small": (
        Task(
            task=_TASK,
            state=TaskState.CACHED,
            length=5,
            piece_length=262_144,
            block_length=131_072,
            digest=_DIGEST,
            content=b"small",
        ),
        None,
    ),
    "warm": (Warm(task=_TASK, url=_URL), None),
    "warm-full": (
        Warm(
            task=_TASK,
            job="3f2c",
            url=_URL,
            headers=_HEADERS,
            filters=("Expires",),
            digest=_DIGEST,
            md5="d41d8cd98f00b204e9800998ecf8427e",
            identifier="build-7",
            byte_range=(5, None),
            insecure=True,
            certificates=(_CERTIFICATE,),
            keep_s=86_400.0,
            rate=25 << 20,
            cancel=True,
        ),
        None,
    ),
    "warm-allow": (Warm(task=_TASK, url=_URL, allow=("registry.example",)), None),
    "warmed": (Warmed(task=_TASK), None),
    "warmed-done": (
        Warmed(task=_TASK, done=True, verified=10, length=10, digest=_DIGEST, received=(0, 4, 5, 1)),
        None,
    ),
    "warmed-failed": (
        Warmed(task=_TASK, verified=4, length=10, code=ErrorCode.STORE_FULL, status=0, message="make room"),
        None,
    ),
    "cache-list": (CacheList(number=1), None),
    "cache-list-full": (CacheList(number=2, after=_TASK, limit=10), None),
    "cache-page": (CachePage(number=1), None),
    "cache-page-full": (
        CachePage(
            number=2,
            contents=((_TASK, 300_000, 262_144, 12.5, 3600.0, True, "http://registry.example/f"),),
            more=True,
            used=262_144,
            quota=1 << 30,
            free=5 << 30,
            kept=262_144,
            removed=3,
            removed_bytes=1 << 20,
        ),
        None,
    ),
    "cache-page-reasons": (
        CachePage(number=4, stored=7, evicted=(("room", 2, 8192), ("asked", 1, 4096)), left=(("kept", 3, 12_288),)),
        None,
    ),
    "cache-page-refused": (CachePage(number=3, refused="unpin others"), None),
    "keep": (Keep(number=3, task=_TASK, keep_s=60.0), None),
    "collect": (Collect(number=4), None),
    "collect-full": (Collect(number=5, free=1 << 30), None),
    "get-blocks": (GetBlocks(task=_TASK, piece=1_048_575, first=63, count=1), None),
    "blocks": (Blocks(task=_TASK, piece=3, first=0, count=2), b"golden payload" * 20),
    "blocks-empty": (Blocks(task=_TASK, piece=0, first=0, count=1), b""),
    "get-blocks-slow-way": (GetBlocks(task=_TASK, piece=3, first=0, count=2, lz4=True), None),
    "get-blocks-background": (GetBlocks(task=_TASK, piece=3, first=0, count=2, background=True), None),
    "blocks-packed": (Blocks(task=_TASK, piece=3, first=0, count=2, inflated=262_144), b"golden payload" * 20),
    "no-blocks": (NoBlocks(task=_TASK, piece=3, code=ErrorCode.BLOCKS_MISSING), None),
    "have": (Have(task=_TASK, peer="10.0.0.2-42-1600000000.123", pieces=(0, 5, 1_048_575)), None),
    "download": (Download(url=_URL), None),
    "download-full": (
        Download(
            url=_URL,
            headers=_HEADERS,
            filters=("Expires", "Signature"),
            digest=_DIGEST,
            md5="d41d8cd98f00b204e9800998ecf8427e",
            identifier="build-7",
            byte_range=(5, 9),
            insecure=True,
            certificates=(_CERTIFICATE,),
            supernodes=("10.0.0.9:8002", "10.0.0.10:8002"),
            caller="dfget",
            rate=20 << 20,
            total_rate=40 << 20,
        ),
        None,
    ),
    "progress": (Progress(task=_TASK), None),
    "progress-full": (Progress(task=_TASK, supernode="10.0.0.9:8002", length=10, received=(0, 4, 5, 0)), None),
    "finished": (
        Finished(task=_TASK, path="/var/lib/damselfly/content", length=10, digest=_DIGEST, received=(0, 4, 6, 0)),
        None,
    ),
    "finished-failed": (
        Finished(task=_TASK, path="", code=ErrorCode.SOURCE_FORBIDDEN, status=403, message="ask for access"),
        None,
    ),
    "cancel": (Cancel(), None),
    "placed": (Placed(task=_TASK), None),
    "placed-linked": (Placed(task=_TASK, linked=True), None),
}


def packed(frames: list[Frame]) -> bytes:
    """Frames as a golden file holds them."""
    return b"".join(len(frame).to_bytes(4, "big") + bytes(frame) for frame in frames)


def unpacked(content: bytes) -> list[bytes]:
    """The frames of a golden file."""
    frames, at = [], 0
    while at < len(content):
        size = int.from_bytes(content[at : at + 4], "big")
        frames.append(content[at + 4 : at + 4 + size])
        at += 4 + size
    assert at == len(content), "a golden file that is cut off"
    return frames
