"""Straight from the source to the output, for one dfget: when the swarm cannot give the content, or is not wanted."""

import asyncio
import errno
import hashlib
import os
import tempfile
from pathlib import Path

from wire.ids import ByteRange
from worker_peer.host.clock import SystemClock
from worker_peer.host.digests import ContentDigest
from worker_peer.host.limits import TokenBucket
from worker_peer.host.source import SourceReader, SourceRequest


class WrongContent(Exception):
    """The source's content is not what was asked for."""


class OutputUnwritable(Exception):
    """The output cannot be written. The text says why and what to do."""


async def download_directly(
    *,
    url: str,
    headers: tuple[tuple[str, str], ...],
    byte_range: ByteRange | None,
    insecure: bool,
    certificates: tuple[bytes, ...],
    digest: str | None,
    md5: str | None,
    rate: int,
    output: Path,
) -> tuple[int, str]:
    """Read the source into `output` (a temporary file beside it first). Returns (bytes, sha256 digest).

    Raises SourceError, WrongContent, OutputUnwritable; then `output` is as it was.
    """
    clock = SystemClock()
    reader = SourceReader(limits=(TokenBucket(rate),), clock=clock, user_agent="damselfly", trust_env=True)
    request = SourceRequest(url=url, headers=headers, insecure=insecure, certificates=certificates, byte_range=byte_range)
    content = ContentDigest(with_md5=md5 is not None)
    spare = None
    loop = asyncio.get_running_loop()
    try:
        body = await reader.open(request)
        try:
            output.parent.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(prefix=f".{output.name[:100]}.", dir=output.parent)
            spare = Path(name)
            writing: asyncio.Future[None] | None = None
            try:
                async for chunk in body.chunks():
                    writing = loop.run_in_executor(None, _store, descriptor, chunk, content)
                    await asyncio.shield(writing)
            finally:
                if writing is not None:
                    await asyncio.wait([writing])  # given up in the middle: the thread still has the descriptor
                os.close(descriptor)
        except OSError as error:
            advice = "free some space, or choose" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "choose"
            raise OutputUnwritable(f"{output}: {error.strerror}: {advice} another --output") from None
        finally:
            await body.close()
        _judge(content, digest, md5)
        spare.chmod(0o666 & ~_umask())
        spare.replace(output)
        spare = None
    finally:
        if spare is not None:
            spare.unlink(missing_ok=True)
        await reader.close()
    return content.length, content.sha256()


def _store(descriptor: int, chunk: bytes, content: ContentDigest) -> None:
    view = memoryview(chunk)
    content.update(view)
    while view:
        view = view[os.write(descriptor, view) :]


def _judge(content: ContentDigest, digest: str | None, md5: str | None) -> None:
    if digest is not None and content.sha256() != digest:
        raise WrongContent(f"the source's content is {content.sha256()}, not {digest}: check the digest and the source")
    if md5 is not None and content.md5() != md5:
        raise WrongContent(f"the source's content has md5 {content.md5()}, not {md5}: check --md5 and the source")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def file_digest(path: Path) -> str:
    """`sha256:<hex>` of a file."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
