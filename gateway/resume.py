"""The rest of a body whose beginning came from the swarm, from its upstream: a part of exactly the same content, or nothing.

What was sent is verified. The rest must be named as such by the upstream (206, the right Content-Range), and where the
whole body has a digest, its last bytes go out only when the whole has that digest.
"""

import hashlib
import re
from collections.abc import AsyncIterator
from typing import Final

from gateway.client import Answer
from gateway.core.headers import Headers, first, to_source
from gateway.core.permits import Facts
from gateway.core.ranges import Part
from gateway.core.rules import Decision
from gateway.core.trace import Wait
from gateway.upstream import Upstream, UpstreamBroke, UpstreamFailed
from worker_peer.api import Content, DownloadFailed

#: The upstream is asked for a rest so often: it may break off, too.
_ATTEMPTS: Final = 3


class Resume:
    """Reads rests."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream

    async def rest(
        self,
        decision: Decision,
        headers: Headers,
        facts: Facts,
        content: Content,
        left: Part,
        answer: Answer,
        *,
        digest: str | None,
        because: DownloadFailed,
    ) -> None:
        """Write the bytes `left` of `content`. `digest`: of the whole content, whose every other byte has been sent.

        Raises `because` when it cannot be done, ClientGone.
        """
        etag = first(facts.headers, "ETag")
        if digest is None and _is_mutable(decision.url, etag):
            raise because
        whole = hashlib.sha256() if digest is not None else None
        if whole is not None and not await _digest_prefix(content, left.start, whole):
            raise because
        at, held = left.start, b""
        for _ in range(_ATTEMPTS):
            try:
                answer.watch.turn(Wait.BODY)
                async for chunk in self._part(decision, headers, etag, Part(at, left.stop), content.length):
                    at += len(chunk)
                    if whole is not None:
                        whole.update(chunk)
                    await answer.write(held)
                    held = chunk
            except (UpstreamFailed, UpstreamBroke):
                continue
            break
        if at != left.stop or (whole is not None and f"sha256:{whole.hexdigest()}" != digest):
            raise because
        await answer.write(held)

    async def _part(
        self, decision: Decision, headers: Headers, etag: str | None, part: Part, length: int
    ) -> AsyncIterator[bytes]:
        asked: Headers = (*to_source(headers), ("Range", f"bytes={part.start}-{part.stop - 1}"))
        if etag is not None and not etag.startswith("W/"):
            asked = (*asked, ("If-Range", etag))
        async with self._upstream.following("GET", decision.url, asked, decision.trust) as response:
            named = first(response.headers, "Content-Range") or ""
            if response.status != 206 or named.strip() != part.content_range(length):
                raise UpstreamFailed("dfdaemon: the upstream does not give the rest\n")
            size = part.stop - part.start
            async for chunk in response.chunks():
                size -= len(chunk)
                if size < 0:
                    raise UpstreamFailed("dfdaemon: the upstream gives more than the rest\n")
                yield chunk


def _is_mutable(url: str, etag: str | None) -> bool:
    """Whether the upstream may have another content under this URL by now, and nothing would tell."""
    return re.search(r"sha256[:/]", url.partition("?")[0]) is None and (etag is None or etag.startswith("W/"))


async def _digest_prefix(content: Content, stop: int, digest: "hashlib._Hash") -> bool:
    """Feed what has been sent to the digest, from the store. False: it cannot be read any more."""
    try:
        async for chunk in content.read(0, stop):
            digest.update(chunk)
    except DownloadFailed:
        return False
    return True
