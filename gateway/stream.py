"""A blob out of the swarm as an HTTP answer: permit, head, range, bytes as they arrive, and the way back to the upstream.

Until the first byte has gone to the client, everything that fails only means that the request goes straight to its
upstream; after it, the rest is read from the upstream (resume.py), or the connection is cut. Bytes flow from Content.read
to Answer.write, which waits for the client.
"""

import asyncio
import dataclasses
import functools
import hashlib
import itertools
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import Final

from gateway.access import Access, Standing
from gateway.client import Answer, ClientGone, ClientRequest
from gateway.core.breaker import Trial
from gateway.core.conditions import Outcome, Validators, evaluate, range_applies
from gateway.core.headers import Headers, first, is_conditional, without
from gateway.core.manifest_request import is_by_digest, names, names_a_type
from gateway.core.permits import Facts
from gateway.core.ranges import Part, RangeAnswer, Unsatisfiable, answer_for, resolve
from gateway.core.request_key import DownloadDefaults, download_request
from gateway.core.rules import Decision
from gateway.core.trace import Wait
from gateway.metrics import Fallback, Metrics
from gateway.possession import Possession
from gateway.resume import Resume
from gateway.swarm_health import LOCAL_S, NoSwarm, SwarmHealth
from gateway.traces import Watch
from wire.errors import ErrorCode
from wire.ids import url_without_secrets
from wire.messages import Origin
from worker_peer.api import Content, DownloadFailed, DownloadRequest, Giver, Peer, Waits
from worker_peer.host.background import Background
from worker_peer.host.clock import Clock

_LOG = logging.getLogger("dfdaemon")
_OCTETS: Final = "application/octet-stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a client is held for a swarm that gives signs of life, before its request goes straight to the upstream."""

    open_s: float = 10.0
    """Until the content's length is known."""
    first_byte_s: float = 20.0
    """From then until the first byte that the client wants."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wish:
    """What one client wants, and what is known of it."""

    request: ClientRequest
    decision: Decision
    wanted: DownloadRequest
    facts: Facts
    began_at: float
    is_doubtful: bool
    """The registry that permits it must show that it has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Began:
    """A content whose first wanted chunk is here."""

    content: Content
    told: RangeAnswer
    headers: Headers
    chunks: AsyncIterator[memoryview]
    """Of the first part that is asked for."""
    chunk: memoryview


class BlobServer:
    """Answers requests for blobs out of a peer."""

    def __init__(
        self,
        peer: Peer,
        defaults: DownloadDefaults,
        metrics: Metrics,
        clock: Clock,
        patience: Patience | None = None,
        *,
        access: Access,
        possession: Possession,
        health: SwarmHealth,
        resume: Resume,
        background: Background,
    ) -> None:
        self._peer = peer
        self._defaults = defaults
        self._metrics = metrics
        self._clock = clock
        self._patience = patience or Patience()
        self._access = access
        self._possession = possession
        self._health = health
        self._resume = resume
        self._background = background
        self._boundaries = itertools.count(1)

    async def serve(self, request: ClientRequest, decision: Decision, answer: Answer) -> Fallback | None:
        """Answer, or say why the request must go straight to its upstream: then nothing has been sent.

        Raises ClientGone, and DownloadFailed in the middle of a body: then the connection has been cut.
        """
        if request.body is not None or (is_by_digest(decision.url) and not names_a_type(request.headers)):
            return Fallback.CONDITIONAL
        began_at = self._clock.now()
        wanted = download_request(decision, request.headers, self._defaults)
        waits = Waits()
        is_doubtful = False
        if not self._possession.is_settled(decision, wanted):
            with answer.watch.on(Wait.ACCESS):
                is_doubtful = await self._possession.is_doubtful(decision, wanted)
        try:
            opened = await self._permitted(request, decision, wanted, answer.watch, waits)
            if isinstance(opened, Fallback):
                return opened
            content, facts, wanted = opened
            wish = _Wish(
                request=request, decision=decision, wanted=wanted, facts=facts, began_at=began_at, is_doubtful=is_doubtful
            )
            return await self._opened(wish, content, answer)
        finally:
            # Whatever the peer still does for it, this request waits for other things now.
            waits.on_turn = None

    async def _opened(self, wish: _Wish, content: Content, answer: Answer) -> Fallback | None:
        facts, wanted = wish.facts, wish.wanted
        try:
            if facts.length not in (None, content.length):
                return self._refused(wanted, Fallback.CHANGED, f"the upstream has {facts.length} bytes, not {content.length}")
            if wish.is_doubtful and wanted.wanted_digest is not None:
                with answer.watch.on(Wait.ACCESS):
                    is_shown = await self._possession.is_shown(wish.decision, wish.request.headers, content, wanted.wanted_digest)
                if not is_shown:
                    return self._refused(wanted, Fallback.NOT_SHOWN, "the upstream has not shown that it has the content")
            return await self._answer(wish, content, answer)
        finally:
            self._metrics.read(content)
            await content.close()

    # -- may this client, and is it here --------------------------------------------------------------------------------

    async def _permitted(
        self, request: ClientRequest, decision: Decision, wanted: DownloadRequest, watch: Watch, waits: Waits
    ) -> tuple[Content, Facts, DownloadRequest] | Fallback:
        """The content, once it is known that this client may have it; and the request by which it was opened."""
        standing, facts = self._access.standing(decision, request.headers)
        if standing is Standing.PERMITTED:
            content = await self._open(wanted, watch.attach(waits))
            return content if isinstance(content, Fallback) else (content, facts, wanted)
        if standing is Standing.UNKNOWN or wanted.wanted_digest is None:
            # Not a word to the swarm before: a stranger's credentials must not make a task fail that others want.
            with watch.on(Wait.ACCESS):
                asked = await self._access.ask(decision, request.headers)
            if asked is None:
                return Fallback.NOT_PERMITTED
            if wanted.wanted_digest is None:
                version = _version(asked)
                if version is None:
                    return Fallback.NOT_PERMITTED
                wanted = dataclasses.replace(wanted, identifier=version)
            content = await self._open(wanted, watch.attach(waits))
            return content if isinstance(content, Fallback) else (content, asked, wanted)
        opening: asyncio.Task[Content | Fallback] | None = self._background.spawn(self._open(wanted, waits), "open")
        assert opening is not None
        try:
            with watch.on(Wait.ACCESS):
                asked = await self._access.ask(decision, request.headers)
            if asked is None:
                return Fallback.NOT_PERMITTED
            watch.attach(waits)
            content = await asyncio.shield(opening)
            opening = None
            return content if isinstance(content, Fallback) else (content, asked, wanted)
        finally:
            if opening is not None:
                opening.add_done_callback(self._close_unwanted)
                opening.cancel()

    def _close_unwanted(self, opening: "asyncio.Task[Content | Fallback]") -> None:
        if not opening.cancelled() and opening.exception() is None and not isinstance(opening.result(), Fallback):
            content = opening.result()
            assert not isinstance(content, Fallback)
            self._background.spawn(content.close(), "close")

    async def _open(self, wanted: DownloadRequest, waits: Waits) -> Content | Fallback:
        """The content, or why not."""
        match self._health.begin():
            case Trial.WAIT:
                began_at = self._clock.now()
                opened = await self._try(wanted, self._patience.open_s, waits)
                if isinstance(opened, Fallback):
                    if opened is Fallback.NO_SWARM and self._clock.now() - began_at > LOCAL_S:
                        self._health.failed()
                else:
                    self._health.succeeded()
                return opened
            case Trial.PROBE:
                self._background.spawn(self._probe(wanted), "probe the swarm")
        try:
            return await asyncio.wait_for(self._peer.open(wanted, waits), LOCAL_S)
        except (TimeoutError, DownloadFailed):
            return Fallback.NO_SWARM
        except Exception as error:
            _LOG.exception("the peer failed")
            return self._refused(wanted, Fallback.BROKEN, type(error).__name__)

    async def _probe(self, wanted: DownloadRequest) -> None:
        """Ask the swarm for what a client has just gone elsewhere for: does it answer again?"""
        opened = await self._try(wanted, self._patience.open_s, Waits())
        if opened is Fallback.NO_SWARM:
            self._health.failed(probe=True)
            return
        self._health.succeeded()
        if not isinstance(opened, Fallback):
            await opened.close()

    async def _try(self, wanted: DownloadRequest, at_most_s: float, waits: Waits) -> Content | Fallback:
        try:
            return await self._health.patient(self._peer.open(wanted, waits), at_most_s)
        except NoSwarm:
            return self._refused(wanted, Fallback.NO_SWARM, "no supernode gives a sign of life")
        except TimeoutError:
            return self._refused(wanted, Fallback.SLOW_OPEN, f"no answer within {at_most_s:g} s")
        except DownloadFailed as error:
            reason = Fallback.NO_SWARM if error.code is ErrorCode.NO_SUPERNODE else Fallback.REFUSED
            return self._refused(wanted, reason, str(error))
        except Exception as error:
            _LOG.exception("the peer failed")
            return self._refused(wanted, Fallback.BROKEN, type(error).__name__)

    # -- the answer -----------------------------------------------------------------------------------------------------

    async def _answer(self, wish: _Wish, content: Content, answer: Answer) -> Fallback | None:
        headers = wish.request.headers
        own, validators = _about(wish, content)
        if is_by_digest(wish.decision.url) and not names(headers, first(own, "Content-Type") or ""):
            # Another type than the client names: the registry says what becomes of that.
            return Fallback.CONDITIONAL
        match evaluate(headers, validators):
            case Outcome.GO_ON if is_conditional(headers) and not validators.etags:
                return Fallback.CONDITIONAL
            case Outcome.NOT_MODIFIED:
                await answer.start(304, "Not Modified", without(own, "Content-Type"))
                answer.finish()
                return None
            case Outcome.FAILED:
                await answer.say(412, "Precondition Failed", "the content is another one\n")
                return None
        value = first(headers, "Range") if range_applies(headers, validators) else None
        found = resolve(value, length=content.length)
        if isinstance(found, Unsatisfiable):
            told = (("Content-Range", found.content_range(content.length)), ("Accept-Ranges", "bytes"))
            text = f"the content has {content.length} bytes\n"
            await answer.say(416, "Range Not Satisfiable", text, told)
            return None
        boundary = f"{next(self._boundaries):020}"
        typed = first(own, "Content-Type") or _OCTETS
        ranged = answer_for(found, length=content.length, content_type=typed, boundary=boundary)
        began = await self._begin(wish.wanted, content, ranged, (*without(own, "Content-Type"), *ranged.headers))
        if isinstance(began, Fallback):
            return began
        self._metrics.first_byte(self._clock.now() - wish.began_at)
        await self._send(wish, began, answer)
        return None

    async def _begin(self, wanted: DownloadRequest, content: Content, told: RangeAnswer, headers: Headers) -> _Began | Fallback:
        """Wait for the first chunk: as long as none has come, the upstream is still open to us."""
        part = next((each for each in told.body if isinstance(each, Part)), Part(0, 0))
        chunks = aiter(content.read(part.start, part.stop))
        try:
            chunk = await self._health.patient(
                _next_chunk(chunks), self._patience.first_byte_s, progress=lambda: content.received.total
            )
        except NoSwarm:
            self._health.failed()
            return self._refused(wanted, Fallback.NO_SWARM, "no supernode gives a sign of life")
        except TimeoutError:
            return self._refused(wanted, Fallback.SLOW_START, f"no byte within {self._patience.first_byte_s:g} s")
        except DownloadFailed as error:
            return self._refused(wanted, Fallback.REFUSED, str(error))
        except Exception as error:
            _LOG.exception("the peer failed")
            return self._refused(wanted, Fallback.BROKEN, type(error).__name__)
        return _Began(content=content, told=told, headers=headers, chunks=chunks, chunk=chunk)

    async def _send(self, wish: _Wish, began: _Began, answer: Answer) -> None:
        outcome = "FAIL"
        size = began.told.size
        try:
            await answer.start(began.told.status, began.told.reason, (*began.headers, ("Content-Length", str(size))))
            await self._send_body(wish, began, answer)
            if answer.bytes_sent != size:
                raise RuntimeError(f"the peer gave {answer.bytes_sent} bytes of {size}")
            answer.finish()
            outcome = "SUCCESS"
        except (ClientGone, asyncio.CancelledError):
            outcome = "CLIENT GONE"
            raise
        except DownloadFailed as error:
            answer.cut()
            _LOG.error("dfget url:%s broke off: %s", url_without_secrets(wish.wanted.url), error)
            raise
        finally:
            self._told(wish.wanted, began, answer, outcome, wish.began_at)
            await _ended(began.chunks)

    async def _send_body(self, wish: _Wish, began: _Began, answer: Answer) -> None:
        is_first = True
        for each in began.told.body:
            if isinstance(each, bytes):
                answer.watch.own_bytes += len(each)
                await answer.write(each)
                continue
            chunks = began.chunks if is_first else aiter(began.content.read(each.start, each.stop))
            sent_before = answer.bytes_sent
            answer.watch.coming = functools.partial(_given, began.content, answer, each.start, sent_before)
            try:
                if is_first:
                    await answer.write(began.chunk)
                async for chunk in chunks:
                    await answer.write(chunk)
            except DownloadFailed as error:
                answer.watch.settle()
                left = Part(each.start + answer.bytes_sent - sent_before, each.stop)
                _LOG.warning("dfget url:%s: the rest comes from its upstream: %s", url_without_secrets(wish.wanted.url), error)
                whole = began.content.length if began.told.status == 200 else None
                await self._resume.rest(
                    wish.decision, wish.request.headers, wish.facts, began.content, left, answer,
                    digest=wish.wanted.wanted_digest if whole is not None else None, because=error,
                )  # fmt: skip
            finally:
                answer.watch.settle()
                await _ended(chunks)
            is_first = False

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
            "dfget url:%s round trip directly: %s",
            url,
            why,
            extra={"event": "fallback", "fields": {"url": url, "reason": reason.value, "task": wanted.task}},
        )
        return reason


def _given(content: Content, answer: Answer, start: int, sent_before: int) -> dict[Giver, int]:
    """Who gave what has been sent of a part."""
    return content.given_by(start, start + answer.bytes_sent - sent_before)


async def _next_chunk(chunks: AsyncIterator[memoryview]) -> memoryview:
    return await anext(chunks, memoryview(b""))


async def _ended(chunks: AsyncIterator[memoryview]) -> None:
    """Left to the collector a generator would end at some later time, in a task of the loop's own."""
    if isinstance(chunks, AsyncGenerator):
        await chunks.aclose()


def _version(facts: Facts) -> str | None:
    """What names this version of a content that no digest names: its validators; None: it has none."""
    etag, modified = first(facts.headers, "ETag"), first(facts.headers, "Last-Modified")
    if etag is None and modified is None:
        return None
    return hashlib.sha256(f"{etag}\n{modified}\n{facts.length}".encode("latin-1", "replace")).hexdigest()


def _about(wish: _Wish, content: Content) -> tuple[Headers, Validators]:
    """The head's fields that do not depend on the range (OCI distribution spec, "Pulling blobs"; RFC 9110 §8.8.3)."""
    told = wish.facts.headers
    typed = first(told, "Content-Type") or content.content_type or _OCTETS
    headers: Headers = (("Content-Type", typed), ("Accept-Ranges", "bytes"), *without(told, "Content-Type"))
    etags = tuple(value for name, value in told if name.lower() == "etag")
    if (digest := wish.wanted.wanted_digest) is not None:
        if first(told, "Docker-Content-Digest") is None:
            headers = (*headers, ("Docker-Content-Digest", digest))
        if not etags:
            headers = (*headers, ("ETag", f'"{digest}"'))
        etags = (*etags, f'"{digest}"')
    return headers, Validators(etags=etags, last_modified=first(told, "Last-Modified") or "")
