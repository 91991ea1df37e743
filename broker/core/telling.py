"""From the supernode's records to what it says, and from what it hears to what its records hold."""

from broker.core.state import PeerRecord, TaskRecord
from wire.bitmap import PieceSet
from wire.messages import Fetch, Hello, Lease, Register, Seeded, Task
from wire.pieces import DIGEST_BYTES, PieceLayout


def task_told(task: TaskRecord, content: bytes = b"") -> Task:
    """TASK: the state of a task; with all of its content, where that is small."""
    layout = task.layout
    return Task(
        task=task.task,
        state=task.state,
        length=layout.length if layout is not None else None,
        piece_length=layout.piece_length if layout is not None else 0,
        block_length=layout.block_length if layout is not None else 0,
        digest=task.digest,
        content_type=task.content_type,
        code=task.code,
        status=task.status,
        message=task.message,
        content=content,
    )


def fetch_asked(task: TaskRecord, allow: tuple[str, ...] = ()) -> Fetch:
    """FETCH: what the seed is asked to read. `allow`: whom it may ask for a peer's request."""
    spec = task.spec
    return Fetch(
        task=task.task,
        url=spec.url,
        headers=spec.headers,
        filters=spec.filters,
        digest=spec.digest,
        md5=spec.md5,
        byte_range=spec.byte_range,
        insecure=spec.insecure,
        certificates=spec.certificates,
        allow=allow if task.allow is None else task.allow,
    )


def lease_granted(task: TaskRecord, number: int, parent: PeerRecord, pieces: list[int], until_s: float) -> Lease:
    """LEASE: pieces to fetch from a parent, with the digests of their blocks."""
    return Lease(
        task=task.task,
        lease=number,
        parent=parent.peer,
        endpoint=parent.data_endpoint,
        hint_endpoint=parent.hint_endpoint,
        pieces=tuple(pieces),
        digests=b"".join(task.digests[piece] for piece in pieces),
        until_s=until_s,
    )


def peer_greeted(hello: Hello, now: float) -> PeerRecord:
    """What a HELLO says of its sender."""
    return PeerRecord(
        peer=hello.peer,
        role=hello.role,
        host=hello.host,
        software=hello.software,
        data_endpoint=hello.data_endpoint,
        hint_endpoint=hello.hint_endpoint,
        location=hello.location,
        zone=hello.location,
        upload_rate=hello.upload_rate,
        minor=hello.protocol[1],
        joined_at=now,
        heard_at=now,
    )


def claimed_bits(message: Register) -> int:
    """What a registration says to have; nothing where the bitmap is not of the length that it names."""
    if not message.have or message.length is None or message.piece_length <= 0:
        return 0
    pieces = max(1, -(-message.length // message.piece_length))
    try:
        return PieceSet.from_bytes(pieces, message.have).bits
    except ValueError:
        return 0


def split_digests(layout: PieceLayout, message: Seeded) -> dict[int, bytes]:
    """Each piece's block digests. Raises ValueError, IndexError where they do not fit the layout."""
    split, at = {}, 0
    for piece in message.pieces:
        size = layout.block_count(piece) * DIGEST_BYTES
        split[piece], at = message.digests[at : at + size], at + size
        if len(split[piece]) != size:
            raise ValueError("digests are missing")
    if at != len(message.digests):
        raise ValueError("more digests than blocks")
    return split


def bits_of(pieces: dict[int, bytes]) -> int:
    """The bitmap of a dict's pieces."""
    bits = 0
    for piece in pieces:
        bits |= 1 << piece
    return bits
