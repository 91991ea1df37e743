"""One task of the seed: its content, from the source or from what is stored already, to the end of it.

Driver, on the loop. SEEDED tells the length, then pieces as they become whole, then the content's digest: the last word on
a task. A source that dies is asked for the rest.
"""

import asyncio
import logging
from concurrent.futures import Executor
from typing import Final

from wire.bitmap import PieceSet
from wire.errors import ErrorCode
from wire.ids import ByteRange, url_without_secrets
from wire.messages import Fetch, SeedFailed
from wire.pieces import layout_for
from worker_peer.broker_link import BrokerLink
from worker_peer.host.allowed_hosts import allowed_as_told
from worker_peer.host.digests import ContentDigest
from worker_peer.host.source import SourceError, SourceRequest
from worker_peer.host.store import StoreFull, TaskFile
from worker_peer.seed_files import SeedFiles
from worker_peer.seed_source import SeedSource
from worker_peer.seeded_messages import is_small, seeded_messages
from worker_peer.source_writer import Body, SourceWriter, write_body

_log = logging.getLogger("seed")

#: A source that dies in the middle is asked for the rest so often before the task is given up.
_ATTEMPTS: Final = 5
_PAUSE_S: Final = 0.2
_DIGEST_CHUNK: Final = 1 << 20


class SeedReading:
    """What one FETCH asks for, read and told to the supernode at `link`."""

    def __init__(self, fetch: Fetch, link: BrokerLink, *, files: SeedFiles, source: SeedSource, executor: Executor) -> None:
        self._fetch = fetch
        self._link = link
        self._files = files
        self._source = source
        self._executor = executor
        self._task = fetch.task
        self._content_type = ""
        self._request = SourceRequest(
            url=fetch.url,
            headers=fetch.headers,
            insecure=fetch.insecure,
            certificates=fetch.certificates,
            byte_range=ByteRange(*fetch.byte_range) if fetch.byte_range is not None else None,
            allowed=allowed_as_told(fetch.allow),
        )

    def tell_again(self, link: BrokerLink) -> None:
        """What is here so far, to a supernode that asks for it anew; it is told the rest too."""
        self._link = link
        file = self._files.offered(self._task)
        if file is not None:
            self._tell(file, list(file.have), digest=file.digest)

    async def run(self) -> SeedFailed | None:
        """To the end. Returns what the supernode was told, where the content cannot be had."""
        try:
            await self._run()
        except SourceError as error:
            _log.warning("task %s cannot be read: %s", self._task[:16], error)
            return self._failed(error.code, str(error), error.status)
        except StoreFull as error:
            return self._failed(ErrorCode.STORE_FULL, str(error))
        except ValueError as error:
            return self._failed(ErrorCode.TOO_LARGE, str(error))
        except OSError as error:
            return self._failed(ErrorCode.INTERNAL, f"the seed's store: {error}")
        return None

    async def _run(self) -> None:
        """Raises SourceError, StoreFull, OSError; ValueError for a content too large for the protocol."""
        file = await self._files.find(self._task)
        if file is not None and not await self._is_current(file):
            await self._files.discard(file)
            file = None
        if file is not None:
            self._files.offer(file)
        if file is not None and file.digest is not None and file.have.is_full:
            await self._tell_whole(file, file.digest, list(file.have))
            return
        for attempt in range(_ATTEMPTS):
            try:
                await self._read(file)
                return
            except SourceError as error:
                if not error.retryable or attempt + 1 == _ATTEMPTS:
                    raise
                _log.warning("task %s, attempt %d: %s", self._task[:16], attempt + 1, error)
                file = self._files.offered(self._task)
                await asyncio.sleep(_PAUSE_S * 2**attempt)

    async def _is_current(self, file: TaskFile) -> bool:
        """Whether a stored content is still the source's. Under a digest there is only one; else the source is asked."""
        if self._fetch.digest is not None:
            return True
        validator = await self._files.last_validator(self._task)
        if not validator or (file.digest is None and not validator.startswith('"')):
            return False  # the rest of what is here in part must be of the very same bytes: a date does not promise that
        if not await self._source.is_current(self._request, validator):
            return False
        self._files.confirm_validator(self._task, validator)
        return True

    async def _read(self, file: TaskFile | None) -> None:
        """One attempt, from the first piece that is missing."""
        offset = _first_missing(file) if file is not None else 0
        validator = self._files.validator(self._task)
        wanted = validator if offset else ""
        async with self._source.body(self._task, self._request, offset=offset, validator=wanted) as body:
            assert body.length is not None
            layout = layout_for(body.length)
            if file is not None and file.layout != layout:
                raise SourceError(ErrorCode.SOURCE_CHANGED, "the source's length changed while it was read: try again")
            self._content_type = body.content_type[:256]
            if file is None:
                url = url_without_secrets(self._fetch.url)
                file = await self._files.create(self._task, layout, url=url, content_type=self._content_type)
            if body.validator != validator or not offset:
                await self._files.note_validator(self._task, body.validator)
            if not is_small(file):
                self._tell(file, list(file.have))
            await self._write(file, body)

    async def _write(self, file: TaskFile, body: Body) -> None:
        loop = asyncio.get_running_loop()
        content = ContentDigest(with_md5=self._fetch.md5 is not None)
        if body.offset:
            await loop.run_in_executor(self._executor, _digest_prefix, file, content, body.offset)
        have = file.have
        writer = SourceWriter(file, body.offset, content, keep=frozenset(have))

        def on_pieces(pieces: list[int]) -> None:
            fresh = [piece for piece in pieces if piece not in have]
            for piece in fresh:
                self._files.piece_came(self._task, piece)
            if fresh and not is_small(file):
                self._tell(file, fresh)

        await write_body(body, writer, executor=self._executor, on_pieces=on_pieces)
        await self._judge(file, content)

    async def _judge(self, file: TaskFile, content: ContentDigest) -> None:
        """The whole content against the digest in the URL and the user's."""
        found = content.sha256()
        wrong = ""
        if self._fetch.digest is not None and found != self._fetch.digest:
            wrong = f"the source's content is {found}, not {self._fetch.digest}"
        elif self._fetch.md5 is not None and content.md5() != self._fetch.md5.lower():
            wrong = f"the source's content has md5 {content.md5()}, not {self._fetch.md5}"
        if wrong:
            await self._files.discard(file)
            raise SourceError(
                ErrorCode.DIGEST_MISMATCH, f"{url_without_secrets(self._fetch.url)}: {wrong}: check the digest and the source"
            )
        await asyncio.get_running_loop().run_in_executor(self._executor, file.finish, found)
        await self._tell_whole(file, found, [] if not is_small(file) else list(file.have))

    # -- what is told ---------------------------------------------------------------------------------------------------

    async def _tell_whole(self, file: TaskFile, digest: str, pieces: list[int]) -> None:
        """All of it is here. A small content goes with its one SEEDED: who asks for it has it in the supernode's answer."""
        content = b""
        if is_small(file):
            loop = asyncio.get_running_loop()
            content = bytes(await loop.run_in_executor(self._executor, file.read, 0, file.layout.length))
        self._tell(file, pieces, digest, content)

    def _tell(self, file: TaskFile, pieces: list[int], digest: str | None = None, content: bytes = b"") -> None:
        for message in seeded_messages(
            file,
            pieces,
            content_type=self._content_type or file.content_type,
            source_bytes=self._source.bytes_read,
            digest=digest,
            content=content,
        ):
            self._link.send(message)

    def _failed(self, code: ErrorCode, message: str, status: int = 0) -> SeedFailed:
        """The task cannot be had. Returns what was told."""
        source_bytes = self._source.bytes_read
        told = SeedFailed(task=self._task, code=code, status=status, message=message[:1000], source_bytes=source_bytes)
        self._link.send(told)
        return told


def _first_missing(file: TaskFile) -> int:
    """Offset of the first piece that is not stored; the content's start when all are (its digest is to be found again)."""
    missing: PieceSet = file.have.missing()
    return file.layout.piece_span(next(iter(missing)))[0] if len(missing) else 0


def _digest_prefix(file: TaskFile, content: ContentDigest, stop: int) -> None:
    """Blocking. Feed the stored bytes before `stop` to the digest."""
    at = 0
    while at < stop:
        view = file.read(at, min(_DIGEST_CHUNK, stop - at))
        content.update(view)
        at += len(view)
