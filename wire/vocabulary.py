"""What the messages are made of: their numbers, the enums, the fields that several of them have. No message here."""

from enum import IntEnum
from typing import ClassVar, Final

from wire.fields import Many, Maybe, Pattern, Raw, Real, Row, Text, Whole
from wire.ids import is_sha256_digest, is_task_id
from wire.pieces import DIGEST_BYTES, MAX_PIECES

TASK_ID = Pattern(is_task_id, "task id: 64 hex digits")
DIGEST = Pattern(is_sha256_digest, "digest: sha256:<64 hex digits>")
PEER = Text(256)
ENDPOINT = Text(256)
URL = Text(16384)
HEADERS = Many(Row((Text(256), Text(16384))), 128)
NUMBER = Whole(0, (1 << 53) - 1)
LENGTH = Whole(0, (1 << 44))
PIECE = Whole(0, MAX_PIECES - 1)
LEASE = Whole(0, (1 << 53) - 1)
BLOCK = Whole(0, 65535)
#: The longest time that a message can tell, seconds (11 days).
LONGEST_S: Final = 1e6
SECONDS = Real(LONGEST_S)
BITMAP = Raw(MAX_PIECES // 8)
#: A lease or a report names at most so many pieces; more go into the next message.
MAX_PIECES_PER_MESSAGE = 256
#: A content of at most so many bytes is told with its task, instead of being fetched from a parent. More would make the
#: supernode's uplink the bottleneck that the swarm is there to remove (15,000 peers: 240 MB).
MAX_SMALL_CONTENT_BYTES = 16 << 10
SMALL_CONTENT = Raw(MAX_SMALL_CONTENT_BYTES)
DIGESTS = Raw(DIGEST_BYTES * 65536, DIGEST_BYTES)
RANGE = Maybe(Row((NUMBER, Maybe(NUMBER))))
CERTIFICATES = Many(Raw(1 << 16), 32)
#: Hosts that may be asked, as the operator writes them: `registry.example`, `*.example:5000`, `10.0.0.0/8`.
ALLOWED_HOSTS = Many(Text(256), 64)


class Kind(IntEnum):
    """The number of each message in its head. Frozen: a number is never given a second meaning."""

    HELLO = 1
    WELCOME = 2
    REFUSED = 3
    REGISTER = 4
    TASK = 5
    LEASE = 6
    REPORT = 7
    LEAVE = 8
    ALIVE = 9
    NOT_KNOWN = 10
    FETCH = 11
    SEEDED = 12
    SEED_FAILED = 13
    DROP = 14
    WARM = 15
    WARMED = 16
    CACHE_LIST = 17
    CACHE_PAGE = 18
    KEEP = 19
    COLLECT = 20
    GET_BLOCKS = 32
    BLOCKS = 33
    NO_BLOCKS = 34
    HAVE = 48
    DOWNLOAD = 64
    PROGRESS = 65
    FINISHED = 66
    CANCEL = 67
    PLACED = 68


class Role(IntEnum):
    """What a peer is in the swarm."""

    PEER = 0
    SEED = 1


class TaskState(IntEnum):
    """A task as the supernode sees it."""

    PROBING = 0
    CACHING = 1
    CACHED = 2
    DEAD = 3


class Origin(IntEnum):
    """Where a piece came from."""

    SOURCE = 0
    SEED = 1
    PEER = 2
    DISK = 3


class PieceFailure(IntEnum):
    """Why a leased piece did not come."""

    STALLED = 0
    REFUSED = 1
    DIGEST = 2
    GONE = 3


class LeaveReason(IntEnum):
    """Why a peer has no more to do with a task."""

    CANCELLED = 0
    EVICTED = 1
    FAILED = 2


class Message:
    """Base of all messages. `KIND` is the number in the head; `CARRIES_PAYLOAD` whether a payload frame follows."""

    __slots__ = ()
    KIND: ClassVar[Kind]
    CARRIES_PAYLOAD: ClassVar[bool] = False
