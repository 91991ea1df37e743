"""A blob out of the swarm as an HTTP answer: head, range, bytes as they arrive, and the way back to the upstream.

Until the first byte has gone to the client, everything that fails only means that the request goes straight to its
upstream; after it, a failure cuts the connection. Bytes flow from Content.read to Answer.write, which waits for the
client.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import Final

from gateway.client import Answer, ClientGone, ClientRequest
from gateway.core.headers import Headers, first, is_conditional
from gateway.core.ranges import Part, Unsatisfiable, resolve
from gateway.core.request_key import DownloadDefaults, download_request
from gateway.core.rules import Decision
from gateway.metrics import Fallback, Metrics
from wire.ids import url_without_secrets
from wire.messages import Origin
from worker_peer.api import Content, DownloadFailed, DownloadRequest, Peer
from worker_peer.host.clock import Clock

_LOG = logging.getLogger("dfdaemon")
_OCTETS: Final = "application/octet-stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a client is held for the swarm before its request goes straight to the upstream."""

    open_s: float = 10.0
    """Until the content's length is known."""
    first_byte_s: float = 20.0
    """From then until the first byte that the client wants."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Began:
    """A content whose first wanted chunk is here."""

    content: Content
    part: Part
    headers: Headers
    status: int
    chunks: AsyncIterator[memoryview]
    chunk: memoryview


class BlobServer:
    """Answers requests for blobs out of a peer."""

    def __init__(
        self, peer: Peer, defaults: DownloadDefaults, metrics: Metrics, clock: Clock, patience: Patience | None = None
    ) -> None:
        self._peer = peer
        self._defaults = defaults
        self._metrics = metrics
        self._clock = clock
        self._patience = patience or Patience()

    async def serve(self, request: ClientRequest, decision: Decision, answer: Answer) -> Fallback | None:
        """Answer, or say why the request must go straight to its upstream: then nothing has been sent.

        Raises ClientGone, and DownloadFailed in the middle of a body: then the connection has been cut.
        """
        if is_conditional(request.headers) or request.body is not None:
            return Fallback.CONDITIONAL
        began_at = self._clock.now()
        wanted = download_request(decision, request.headers, self._defaults)
        try:
            # Issue 4 asks the upstream here whether this client may have the blob, before the peer is asked for it.
            content = await asyncio.wait_for(self._peer.open(wanted), self._patience.open_s)
        except TimeoutError:
            return self._refused(wanted, Fallback.SLOW_OPEN, f"no answer within {self._patience.open_s:g} s")
        except DownloadFailed as error:
            return self._refused(wanted, Fallback.REFUSED, str(error))
        except Exception as error:
            _LOG.exception("the peer failed")
            return self._refused(wanted, Fallback.BROKEN, type(error).__name__)
        try:
            return await self._answer(request, wanted, content, answer, began_at)
        finally:
            self._metrics.read(content)
            await content.close()

    async def _answer(
        self, request: ClientRequest, wanted: DownloadRequest, content: Content, answer: Answer, began_at: float
    ) -> Fallback | None:
        digest = wanted.wanted_digest
        etag = f'"{digest}"' if digest else None
        part = resolve(
            first(request.headers, "Range"), length=content.length, if_range=first(request.headers, "If-Range"), etag=etag
        )
        headers = _about(content, digest, etag)
        if isinstance(part, Unsatisfiable):
            await answer.say(
                416,
                "Range Not Satisfiable",
                f"the content has {content.length} bytes\n",
                (("Content-Range", part.content_range(content.length)), ("Accept-Ranges", "bytes")),
            )
            return None
        status = 200
        if isinstance(part, Part):
            status = 206
            headers = (*headers, ("Content-Range", part.content_range(content.length)))
        else:
            part = Part(0, content.length)
        began = await self._begin(wanted, content, part, headers, status)
        if isinstance(began, Fallback):
            return began
        self._metrics.first_byte(self._clock.now() - began_at)
        await self._send(wanted, began, answer, began_at)
        return None

    async def _begin(
        self, wanted: DownloadRequest, content: Content, part: Part, headers: Headers, status: int
    ) -> _Began | Fallback:
        """Wait for the first chunk: as long as none has come, the upstream is still open to us."""
        chunks = aiter(content.read(part.start, part.stop))
        try:
            chunk = await asyncio.wait_for(anext(chunks, memoryview(b"")), self._patience.first_byte_s)
        except TimeoutError:
            return self._refused(wanted, Fallback.SLOW_START, f"no byte within {self._patience.first_byte_s:g} s")
        except DownloadFailed as error:
            return self._refused(wanted, Fallback.REFUSED, str(error))
        except Exception as error:
            _LOG.exception("the peer failed")
            return self._refused(wanted, Fallback.BROKEN, type(error).__name__)
        return _Began(content=content, part=part, headers=headers, status=status, chunks=chunks, chunk=chunk)

    async def _send(self, wanted: DownloadRequest, began: _Began, answer: Answer, began_at: float) -> None:
        size = began.part.stop - began.part.start
        reason = "Partial Content" if began.status == 206 else "OK"
        outcome = "FAIL"
        try:
            await answer.start(began.status, reason, (*began.headers, ("Content-Length", str(size))))
            await answer.write(began.chunk)
            async for chunk in began.chunks:
                await answer.write(chunk)
            if answer.bytes_sent != size:
                raise RuntimeError(f"the peer gave {answer.bytes_sent} bytes of {size}")
            answer.finish()
            outcome = "SUCCESS"
        except ClientGone:
            outcome = "CLIENT GONE"
            raise
        except asyncio.CancelledError:
            outcome = "CLIENT GONE"
            raise
        except DownloadFailed as error:
            answer.cut()
            _LOG.error("dfget url:%s broke off: %s", url_without_secrets(wanted.url), error)
            raise
        finally:
            self._told(wanted, began, answer, outcome, began_at)
            if isinstance(began.chunks, AsyncGenerator):
                # Left to the collector it would end at some later time, in a task of the loop's own.
                await began.chunks.aclose()

    def _told(self, wanted: DownloadRequest, began: _Began, answer: Answer, outcome: str, began_at: float) -> None:
        """1.x's line, with where the bytes came from."""
        came = began.content.received.by_origin
        fields = {
            "url": url_without_secrets(wanted.url),
            "task": began.content.task,
            "outcome": outcome.lower(),
            "elapsed_s": round(self._clock.now() - began_at, 3),
            "sent_bytes": answer.bytes_sent,
            "length": began.content.length,
            **{f"{origin.name.lower()}_bytes": came.get(origin, 0) for origin in Origin},
        }
        _LOG.info(
            "dfget url:%s [%s] cost:%.3fs length:%d task:%s %s",
            fields["url"],
            outcome,
            self._clock.now() - began_at,
            began.content.length,
            began.content.task[:12],
            " ".join(f"{origin.name.lower()}:{came.get(origin, 0)}" for origin in Origin),
            extra={"event": "blob_served", "fields": fields},
        )

    def _refused(self, wanted: DownloadRequest, reason: Fallback, why: str) -> Fallback:
        url = url_without_secrets(wanted.url)
        _LOG.warning(
            "dfget url:%s [FAIL] round trip directly: %s",
            url,
            why,
            extra={"event": "fallback", "fields": {"url": url, "reason": reason.value, "task": wanted.task}},
        )
        return reason


def _about(content: Content, digest: str | None, etag: str | None) -> Headers:
    """The head's fields that do not depend on the range (OCI distribution spec, "Pulling blobs"; RFC 9110 §8.8.3)."""
    headers: Headers = (("Content-Type", content.content_type or _OCTETS), ("Accept-Ranges", "bytes"))
    if digest is not None and etag is not None:
        headers = (*headers, ("Docker-Content-Digest", digest), ("ETag", etag))
    return headers
