"""What peers and seeds say to a supernode, in few words: contents of pieces of one block of 1 KiB, with known digests."""

from random import Random

from broker.core.effects import Effect, Tell
from broker.core.events import PeerGreeted, PeerSaid
from broker.core.scheduler import Scheduler, SchedulerSettings
from wire.bitmap import PieceSet
from wire.messages import Hello, Lease, Message, PieceFailure, Register, Report, Role, Seeded, SeedFailed, Task, TaskState
from wire.pieces import DIGEST_BYTES, PieceLayout
from wire.version import PROTOCOL

TASK, OTHER_TASK = "a" * 64, "b" * 64
#: Without a secret part: tests of secrets bring their own.
URL = "http://source.example/file"
SEED, OTHER_SEED = "cdnnode:s", "cdnnode:t"
PIECE = 1024
CONTENT_DIGEST, OTHER_DIGEST = "sha256:" + "1" * 64, "sha256:" + "2" * 64
CONTENT_TYPE = "application/octet-stream"


#: Nobody is spoken to only because he is silent: scripts say what they are about.
QUIET = SchedulerSettings(probe_after_s=1e6, fresh_s=1e6)


def scheduler(settings: SchedulerSettings = QUIET) -> Scheduler:
    """One with known randomness."""
    return Scheduler(rng=Random(7), settings=settings)


def hello(peer: str, *, role: Role = Role.PEER, upload_rate: int = 0, location: str = "") -> Hello:
    """A peer's HELLO."""
    return Hello(
        protocol=PROTOCOL,
        peer=peer,
        role=role,
        software="1.2.3",
        host=f"host-{peer}",
        data_endpoint=f"tcp://{peer}:1",
        hint_endpoint=f"tcp://{peer}:2",
        location=location,
        upload_rate=upload_rate,
    )


def greeted(peer: str, *, upload_rate: int = 0, location: str = "") -> PeerGreeted:
    """A peer has said HELLO."""
    return PeerGreeted(hello=hello(peer, upload_rate=upload_rate, location=location))


def seed_greeted(peer: str = SEED, *, upload_rate: int = 0) -> PeerGreeted:
    """A seed has said HELLO."""
    return PeerGreeted(hello=hello(peer, role=Role.SEED, upload_rate=upload_rate))


def said(peer: str, message: Message) -> PeerSaid:
    """A peer has said something."""
    return PeerSaid(peer=peer, message=message)


def register(
    task: str = TASK, *, have: frozenset[int] = frozenset(), pieces: int = 0, serves_only: bool = False, url: str = URL
) -> Register:
    """REGISTER; `have` of a content of `pieces` pieces."""
    packed = PieceSet.of(pieces, have).to_bytes() if have else b""
    return Register(
        task=task,
        url=url,
        have=packed,
        length=pieces * PIECE if have else None,
        piece_length=PIECE if have else 0,
        serves_only=serves_only,
    )


def block_digests(*pieces: int) -> bytes:
    """The digests of these pieces' blocks, one each."""
    return b"".join((piece + 1).to_bytes(DIGEST_BYTES, "big") for piece in pieces)


def seeded(
    *pieces: int,
    of: int,
    task: str = TASK,
    digest: str | None = None,
    digests: bytes | None = None,
    length: int | None = None,
    content: bytes = b"",
) -> Seeded:
    """SEEDED: the seed has these pieces of a content of `of` pieces (`length` bytes, where that is not whole pieces)."""
    return Seeded(
        task=task,
        length=of * PIECE if length is None else length,
        piece_length=PIECE,
        block_length=PIECE,
        content_type=CONTENT_TYPE,
        pieces=pieces,
        digests=block_digests(*pieces) if digests is None else digests,
        digest=digest,
        content=content,
    )


def seed_failed(failure: SeedFailed) -> PeerSaid:
    """The seed says that a task cannot be had."""
    return said(SEED, failure)


def told(
    state: TaskState, *, pieces: int | None = None, digest: str | None = None, task: str = TASK, content: bytes = b""
) -> Task:
    """TASK as the supernode tells it while nothing is wrong."""
    if pieces is None:
        return Task(task=task, state=state)
    layout = PieceLayout(pieces * PIECE, PIECE, PIECE)
    return Task(
        task=task,
        state=state,
        length=layout.length,
        piece_length=PIECE,
        block_length=PIECE,
        digest=digest,
        content_type=CONTENT_TYPE,
        content=content,
    )


def leased(child: str, number: int, parent: str, *pieces: int, until_s: float = 10.0, task: str = TASK) -> Tell:
    """The LEASE that grants these pieces."""
    return Tell(
        peer=child,
        message=Lease(
            task=task,
            lease=number,
            parent=parent,
            endpoint=f"tcp://{parent}:1",
            hint_endpoint=f"tcp://{parent}:2",
            pieces=pieces,
            digests=block_digests(*pieces),
            until_s=until_s,
        ),
    )


def done(number: int, *pieces: int, rate: float = 1e6, task: str = TASK) -> Report:
    """REPORT: these pieces came by this lease."""
    return Report(task=task, done=tuple((number, piece, rate) for piece in pieces))


def failed(number: int, *pieces: int, why: PieceFailure = PieceFailure.STALLED, task: str = TASK) -> Report:
    """REPORT: these pieces of this lease did not come."""
    return Report(task=task, failed=tuple((number, piece, why) for piece in pieces))


def leases_in(effects: list[Effect], *, child: str | None = None) -> list[Lease]:
    """The LEASEs among effects, in order; of one child, or of all."""
    return [
        effect.message
        for effect in effects
        if isinstance(effect, Tell) and isinstance(effect.message, Lease) and child in (None, effect.peer)
    ]
