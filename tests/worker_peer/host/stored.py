"""A content, and a store's file that holds it: what the tests of the store share."""

import hashlib
import itertools
from collections.abc import Iterator

from wire.pieces import PieceLayout
from worker_peer.host.digests import block_digest
from worker_peer.host.store import Store, TaskFile

TASK = "0a" * 32
LAYOUT = PieceLayout(10 * 4096 + 123, 4096, 1024)
CONTENT = bytes(itertools.islice(itertools.cycle(range(251)), LAYOUT.length))
DIGEST = "sha256:" + hashlib.sha256(CONTENT).hexdigest()


def digests_of(content: bytes, layout: PieceLayout, piece: int) -> bytes:
    spans = (layout.block_span(piece, block) for block in layout.blocks_of(piece))
    return b"".join(block_digest(content[start : start + size]) for start, size in spans)


def put(file: TaskFile, pieces: Iterator[int] | range, content: bytes = CONTENT) -> None:
    for piece in pieces:
        start, size = file.layout.piece_span(piece)
        file.write(start, memoryview(content)[start : start + size])
        file.commit(piece, digests_of(content, file.layout, piece))


def filled(store: Store) -> TaskFile:
    file = store.create(TASK, LAYOUT, url="https://user:s3cret@h/p?Signature=s3cret", content_type="text/plain")
    put(file, range(LAYOUT.piece_count))
    file.finish(DIGEST)
    return file
