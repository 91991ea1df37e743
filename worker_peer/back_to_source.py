"""Back to source: what the swarm can no longer give is read from the content's own server.

Driver. Missing pieces are read run by run with ranges; a source without ranges is read from its start once, and pieces
that are here already are compared instead of written.
"""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass

from wire.bitmap import PieceSet
from wire.errors import ErrorCode
from worker_peer.api import DownloadRequest
from worker_peer.host.digests import ContentDigest
from worker_peer.host.limits import Limit
from worker_peer.host.source import SourceBody, SourceError, SourceReader, SourceRequest
from worker_peer.host.store import ContentChanged, StoreFull, TaskFile
from worker_peer.source_writer import SourceWriter

_HASH_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceOutcome:
    """How reading ended. `code` None: all pieces are here, and `digest` is the whole content's sha256."""

    digest: str | None = None
    code: ErrorCode | None = None
    status: int = 0
    message: str = ""


def source_request(request: DownloadRequest) -> SourceRequest:
    """What the source is asked for this download."""
    return SourceRequest(
        url=request.url,
        headers=request.headers,
        insecure=request.insecure,
        certificates=request.certificates,
        byte_range=request.byte_range,
    )


async def read_missing(
    request: DownloadRequest,
    file: TaskFile,
    missing: PieceSet,
    digest: str | None,
    *,
    source: SourceReader,
    limit: Limit | None = None,
    executor: Executor,
    on_pieces: Callable[[list[int]], None],
) -> SourceOutcome:
    """Read `missing` into the file, then digest the whole. `digest` (and the request's md5) is what it must be, `limit`
    this download's own."""
    loop = asyncio.get_running_loop()
    left = missing.copy()

    def came(pieces: list[int]) -> None:
        fresh = [piece for piece in pieces if piece in left]
        for piece in fresh:
            left.discard(piece)
        on_pieces(fresh)

    # With no digest to find it at the end, nothing would tell that what is here and what the source has now are of two
    # versions: then all of it is read, and what is here is compared.
    proved = digest is not None or request.md5 is not None
    validator = ""
    try:
        while len(left):
            first = next(iter(left)) if proved else 0
            stop = next(piece for piece in _after(first, left)) if proved else file.layout.piece_count
            before = len(left)
            offset, end = first * file.layout.piece_length, stop * file.layout.piece_length
            until = end if end < file.layout.length else None
            body = await source.open(
                source_request(request), offset=offset, stop=until, validator=validator, limit=limit, who=request.task
            )
            validator = validator or body.validator
            try:
                await _read_run(body, file, left, stop, executor, came)
            finally:
                await body.close()
            if len(left) == before:
                raise SourceError(ErrorCode.SOURCE_CHANGED, "the source ends before the content does: try again")
        content = await loop.run_in_executor(executor, digest_file, file, request.md5 is not None)
    except SourceError as error:
        return SourceOutcome(code=error.code, status=error.status, message=str(error))
    except StoreFull as error:
        return SourceOutcome(code=ErrorCode.STORE_FULL, message=str(error))
    except (ContentChanged, OSError, ValueError) as error:
        return SourceOutcome(code=ErrorCode.INTERNAL, message=f"the store cannot be written: {error}")
    return _judged(content, digest, request.md5)


def _after(first: int, pieces: PieceSet) -> Iterator[int]:
    """The first piece past the run of missing ones that begins with `first`."""
    piece = first
    while piece in pieces:
        piece += 1
    yield piece


async def _read_run(
    body: SourceBody, file: TaskFile, left: PieceSet, stop: int, executor: Executor, came: Callable[[list[int]], None]
) -> None:
    """Read up to piece `stop`; from the content's start, and to its end, where the source knows no ranges."""
    layout = file.layout
    if body.length is not None and body.length != layout.length:
        raise SourceError(
            ErrorCode.SOURCE_CHANGED, f"the source now has {body.length} bytes instead of {layout.length}: try again"
        )
    ranged = body.offset > 0 or stop == layout.piece_count
    keep = frozenset(piece for piece in range(layout.piece_count) if piece not in left)
    writer = SourceWriter(file, body.offset, None, keep=keep)
    loop = asyncio.get_running_loop()
    end = min(layout.length, stop * layout.piece_length) if ranged else layout.length
    async for chunk in body.chunks():
        wanted = chunk[: end - writer.position]
        if pieces := await loop.run_in_executor(executor, writer.write, wanted):
            came(pieces)
        if writer.position >= end and end < layout.length:
            return
    if pieces := await loop.run_in_executor(executor, writer.finish_empty):
        came(pieces)


def digest_file(file: TaskFile, with_md5: bool) -> ContentDigest:
    """Blocking. The digest of a whole stored content."""
    content = ContentDigest(with_md5=with_md5)
    at = 0
    while at < file.layout.length:
        view = file.read(at, min(_HASH_BYTES, file.layout.length - at))
        content.update(view)
        at += len(view)
    return content


def _judged(content: ContentDigest, digest: str | None, md5: str | None) -> SourceOutcome:
    found = content.sha256()
    if digest is not None and found != digest:
        return SourceOutcome(
            code=ErrorCode.DIGEST_MISMATCH, message=f"the content is {found}, not {digest}: the source gave something else"
        )
    if md5 is not None and content.md5() != md5.lower():
        return SourceOutcome(
            code=ErrorCode.DIGEST_MISMATCH, message=f"the content's md5 is {content.md5()}, not {md5}: check --md5 and the source"
        )
    return SourceOutcome(digest=found)
