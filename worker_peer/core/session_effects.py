"""What one content's download wants done: the effects of core/session.py, carried out in their order."""

from dataclasses import dataclass

from wire.bitmap import PieceSet
from wire.errors import ErrorCode
from wire.messages import PieceFailure
from wire.pieces import PieceLayout


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterTask:
    """Tell the supernode that this task is wanted (or, `serves_only`, offered), and which pieces are here."""

    have: PieceSet | None
    layout: PieceLayout | None
    serves_only: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareFile:
    """Make the file for the content. Whatever is there under this task is wrong and goes.

    `content`: all of it, as the supernode told it; it counts if its sha256 is `digest`.
    """

    layout: PieceLayout
    content_type: str
    content: bytes = b""
    digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchPieces:
    """Fetch the lease's pieces from its parent. `digests[i]` belongs to `pieces[i]`."""

    lease: int
    parent: str
    endpoint: str
    hint_endpoint: str
    pieces: tuple[int, ...]
    digests: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportPieces:
    """Tell the supernode what became of pieces."""

    done: tuple[tuple[int, int, float], ...] = ()
    failed: tuple[tuple[int, int, PieceFailure], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadFromSource:
    """Read these pieces from the source, then check the whole content against the digest (None: none is known)."""

    pieces: PieceSet
    digest: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """The content is complete and right: note its digest, let readers have its end."""

    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fail:
    """The content cannot be had: tell the readers. With `discard` what is stored of it is wrong and goes."""

    code: ErrorCode
    message: str
    status: int = 0
    discard: bool = False


Effect = RegisterTask | PrepareFile | FetchPieces | ReportPieces | ReadFromSource | Finish | Fail
