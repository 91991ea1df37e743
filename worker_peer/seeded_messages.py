"""SEEDED: what the seed tells of a content that is here, whole or in part. No sockets: messages only, for others to send."""

from collections.abc import Iterator

from wire.messages import MAX_PIECES_PER_MESSAGE, MAX_SMALL_CONTENT_BYTES, Seeded
from worker_peer.host.store import TaskFile


def is_small(file: TaskFile) -> bool:
    """Whether the content is told with its task instead of being fetched."""
    return 0 < file.layout.length <= MAX_SMALL_CONTENT_BYTES


def seeded_messages(
    file: TaskFile,
    pieces: list[int],
    *,
    content_type: str,
    source_bytes: int,
    digest: str | None = None,
    content: bytes = b"",
) -> Iterator[Seeded]:
    """That these pieces are here, in as many messages as it takes; one where there are none.

    `digest` goes in the last one: it says that all of the content is here. `content`: all bytes of a small one.
    `source_bytes`: read from sources so far, in all.
    """
    step = MAX_PIECES_PER_MESSAGE
    batches = [pieces[at : at + step] for at in range(0, len(pieces), step)] or [[]]
    for number, batch in enumerate(batches):
        yield Seeded(
            task=file.task,
            length=file.layout.length,
            piece_length=file.layout.piece_length,
            block_length=file.layout.block_length,
            content_type=content_type,
            pieces=tuple(batch),
            digests=b"".join(file.digests(piece) for piece in batch),
            digest=digest if number == len(batches) - 1 else None,
            source_bytes=source_bytes,
            content=content,
        )
