"""Asks an upstream whether a client may have a content that the cache could give: one request without a body.

Driver of core/permits.py. What the upstream has said holds for a bounded time; clients that ask at once share one
question. Nothing here answers a client: whoever gets no permit is sent to the upstream itself, whose own answer he gets.
"""

import asyncio
import datetime
import hashlib
import logging
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final
from urllib.parse import urljoin, urlsplit

from gateway.core.headers import Headers, first, is_shareable, representation, to_source
from gateway.core.manifest_request import is_by_digest
from gateway.core.permits import (
    Claim,
    Facts,
    Permits,
    WhenDown,
    claim_of,
    is_registry_api,
    names_another_target,
    signature_ends_at,
)
from gateway.core.rules import Decision, authority_of
from gateway.upstream import REDIRECTS, Response, Upstream, UpstreamFailed
from wire.ids import digest_in_url, url_without_secrets
from worker_peer.host.background import Background
from worker_peer.host.clock import Clock

#: How long an upstream may take to say yes or no. Then it is held for down; its client goes there by himself.
_ANSWER_S: Final = 5.0
#: An upstream that was down is not asked again for so long, where the operator trusts the cache meanwhile.
_DOWN_S: Final = 5.0
_MAX_DOWN: Final = 256
#: What refuses a method rather than a client.
_NO_HEAD: Final = frozenset({400, 405, 501})
_CONTENT_RANGE: Final = re.compile(r"bytes (?:[0-9]+-[0-9]+|\*)/([0-9]{1,18})")

_LOG = logging.getLogger("dfdaemon")


class Standing(Enum):
    """What is known about a request before the upstream is asked."""

    UNKNOWN = auto()
    READER = auto()
    """This client may read the repository; whether it has this content is not known."""
    PERMITTED = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Said:
    """An upstream's answer to the question."""

    facts: Facts | None
    """None: no."""
    status: int = 0
    is_down: bool = False


class Access:
    """Permits for one gateway."""

    def __init__(
        self, upstream: Upstream, clock: Clock, background: Background, *, recheck_s: float, when_down: WhenDown
    ) -> None:
        self._upstream = upstream
        self._clock = clock
        self._background = background
        self._when_down = when_down
        self._permits = Permits(hold_s=recheck_s)
        self._asking: dict[Claim, asyncio.Task[_Said]] = {}
        self._down_until: dict[str, float] = {}
        secret = os.urandom(32)
        self._hash: Callable[[bytes], bytes] = lambda text: hashlib.blake2b(text, key=secret, digest_size=16).digest()

    def standing(self, decision: Decision, headers: Headers) -> tuple[Standing, Facts]:
        """What is known now. Facts are those of a permit."""
        if names_another_target(headers):
            return Standing.UNKNOWN, Facts()
        claim = claim_of(decision.url, headers, self._hash)
        now = self._clock.now()
        if digest_in_url(decision.url) is not None and (facts := self._permits.permitted(claim, now)) is not None:
            return Standing.PERMITTED, facts
        return (Standing.READER if self._permits.may_read(claim, now) else Standing.UNKNOWN), Facts()

    async def ask(self, decision: Decision, headers: Headers) -> Facts | None:
        """The facts by which this client may have the content out of the cache, or None: the upstream itself must answer."""
        if names_another_target(headers):
            return None
        claim = claim_of(decision.url, headers, self._hash)
        origin = str(authority_of(decision.url))
        if self._when_down is WhenDown.ALLOW and self._down_until.get(origin, 0.0) > self._clock.now():
            return Facts()
        task = self._asking.get(claim)
        if task is None:
            task = self._asking[claim] = self._background.spawn(self._asked(decision, headers, claim), "may this client")
            task.add_done_callback(lambda _: self._asking.pop(claim, None))
        said = await asyncio.shield(task)
        if not said.is_down:
            return said.facts
        if self._when_down is WhenDown.DENY:
            return None
        if len(self._down_until) >= _MAX_DOWN:
            self._down_until.clear()
        self._down_until[origin] = self._clock.now() + _DOWN_S
        return Facts()

    def saw(self, url: str, headers: Headers, status: int, told: Headers = ()) -> None:
        """An upstream has answered a client's own GET or HEAD: for a repository that says what a question would.

        `told`: its answer's header; that of a manifest by digest says all that a question about the manifest would.
        """
        if not is_registry_api(url) or names_another_target(headers):
            return
        claim = claim_of(url, headers, self._hash)
        if status in (200, 206):
            facts = _facts_of_manifest(told, digest_in_url(url)) if status == 200 and is_by_digest(url) else None
            if facts is None or claim.by_query:
                self._permits.saw_access(claim, self._clock.now())
            else:
                self._permits.grant(claim, facts, self._clock.now())
        elif status in (401, 403):
            self._permits.refuse(claim)

    async def _asked(self, decision: Decision, headers: Headers, claim: Claim) -> _Said:
        try:
            async with asyncio.timeout(_ANSWER_S):
                said = await self._question(decision, headers, claim)
        except (UpstreamFailed, TimeoutError):
            said = _Said(facts=None, is_down=True)
        if said.facts is not None:
            ends_at = signature_ends_at(decision.url, _unix_seconds) if claim.by_query else None
            at_most_s = None if ends_at is None else max(0.0, ends_at - self._clock.wall())
            self._permits.grant(claim, said.facts, self._clock.now(), at_most_s=at_most_s)
        elif not said.is_down:
            self._permits.refuse(claim)
            _LOG.info("%s is not given to this client out of the cache: its upstream answers for itself", _shown(decision.url))
        return said

    async def _question(self, decision: Decision, headers: Headers, claim: Claim) -> _Said:
        said = await self._heard("HEAD", decision, to_source(headers))
        if _is_about_the_method(said, claim):
            said = await self._heard("GET", decision, (*to_source(headers), ("Range", "bytes=0-0")))
        return said

    async def _heard(self, method: str, decision: Decision, headers: Headers) -> _Said:
        """Ask, and go after redirects as far as it takes to see the content, or a signature for it."""
        digest = digest_in_url(decision.url)

        def is_signed(url: str) -> bool:
            return digest is not None and _signs(url, digest, asked=decision.url)

        async with self._upstream.following(method, decision.url, headers, decision.trust, enough=is_signed) as response:
            place = urljoin(decision.url, first(response.headers, "Location") or "")
            if response.status in REDIRECTS and authority_of(place) is not None and is_signed(place):
                # A signature was made for this client: the place that it is for need not be asked.
                return _Said(facts=Facts(), status=response.status)
            if digest is not None and digest.partition(":")[2] not in urlsplit(response.url).path:
                # A page to log in on, say: a yes to something else.
                return _Said(facts=None, status=response.status)
            return _judged(response, digest)


def _is_about_the_method(said: _Said, claim: Claim) -> bool:
    """Whether the answer is to HEAD rather than to the client: some servers know none, and a signature may be GET's."""
    return said.facts is None and (said.status in _NO_HEAD or (said.status == 403 and claim.by_query))


def _judged(response: Response, digest: str | None) -> _Said:
    status = response.status
    if status >= 500 and status != 501:
        return _Said(facts=None, status=status, is_down=True)
    length = _length_of(response)
    if digest is not None and (told := first(response.headers, "Docker-Content-Digest")) is not None and told != digest:
        # Whatever it was that it took the question for.
        return _Said(facts=None, status=status)
    if status not in (200, 206) and not (status == 416 and length == 0):
        return _Said(facts=None, status=status)
    if digest is None and (length is None or not is_shareable(response.headers)):
        # Nothing promises that the next client would get the same: it is nobody's but this client's.
        return _Said(facts=None, status=status)
    return _Said(facts=Facts(headers=representation(response.headers), length=length), status=status)


def _facts_of_manifest(told: Headers, digest: str | None) -> Facts | None:
    """None: the answer is coded, so that its length and tag are not the manifest's, or it does not say that it is it."""
    if digest is None or first(told, "Docker-Content-Digest") != digest:
        return None
    length = first(told, "Content-Length") or ""
    if first(told, "Content-Encoding") or first(told, "Content-Type") is None or not re.fullmatch(r"[0-9]{1,18}", length):
        return None
    return Facts(headers=representation(told), length=int(length))


def _length_of(response: Response) -> int | None:
    if found := _CONTENT_RANGE.fullmatch(first(response.headers, "Content-Range") or ""):
        return int(found[1])
    text = first(response.headers, "Content-Length") or ""
    return int(text) if response.status == 200 and re.fullmatch(r"[0-9]{1,18}", text) else None


def _signs(url: str, digest: str, *, asked: str) -> bool:
    """Whether a redirect leads to the content itself by a signed URL; a login page, or the same registry by https, does not.

    A signature is what the client has not said himself: servers that send everybody on to https repeat his query.
    """
    parts = urlsplit(url)
    is_new = set(parts.query.split("&")) - set(urlsplit(asked).query.split("&"))
    return bool(parts.query and is_new) and digest.partition(":")[2] in parts.path and not is_registry_api(url)


def _shown(url: str) -> str:
    return url_without_secrets(url)


def _unix_seconds(text: str) -> float | None:
    """Of an ISO 8601 time as signed URLs have it."""
    try:
        found = datetime.datetime.fromisoformat(text.replace(" ", "+"))
    except ValueError:
        return None
    return found.replace(tzinfo=found.tzinfo or datetime.UTC).timestamp()
