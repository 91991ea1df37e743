"""One request, from what the client asked to what it gets: which form, which rule, the swarm or the upstream.

Drives and decides nothing itself: rules.py judges, stream.py answers out of the swarm, upstream.py goes straight.
"""

import json
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from tornado.httputil import HTTPInputError

from gateway.client import Answer, ClientRequest
from gateway.core.gate import Gate, Refusal
from gateway.core.headers import first, to_upstream
from gateway.core.rules import Authority, Decision, RuleTable, Verdict, authority_of, parse_authority
from gateway.metrics import CONTENT_TYPE, Fallback, Metrics
from gateway.stream import BlobServer
from gateway.upstream import Response, Upstream, UpstreamBroke, UpstreamFailed
from wire.ids import url_without_secrets
from worker_peer.api import DownloadFailed

_LOG = logging.getLogger("dfdaemon")
_OPEN: Final = Gate()
_OWN_PATHS: Final = frozenset({"/metrics", "/_ping", "/version", "/debug/version"})


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What /version says."""

    version: str
    peer: str


class Proxy:
    """The gateway's handler of requests."""

    def __init__(
        self, *, rules: RuleTable, upstream: Upstream, blobs: BlobServer, metrics: Metrics, about: About,
        is_own: Callable[[Authority], bool], gate: Gate = _OPEN,
    ) -> None:  # fmt: skip
        """`is_own` tells whether an address leads to this very gateway."""
        #: Replaced as a whole by a reload; a running request keeps what it began with.
        self.rules = rules
        self.gate = gate
        self._upstream = upstream
        self._blobs = blobs
        self._metrics = metrics
        self._about = about
        self.is_own = is_own

    async def handle(self, request: ClientRequest, answer: Answer) -> None:
        """Answer one request. Raises ClientGone when nobody waits for the answer any more."""
        if refusal := self.refusal(request):
            await answer.say(refusal.status, refusal.reason, refusal.text, refusal.headers)
            return
        decision = self._judge(request)
        verdict = decision.verdict if decision else Verdict.DIRECT
        self._metrics.begun()
        whole = False
        try:
            if decision is not None:
                whole = await self._follow(decision, request, answer)
            else:
                await self._own(request, answer)
                whole = True
        except DownloadFailed:
            # stream.py has cut the connection and said why.
            pass
        finally:
            self._metrics.answered(verdict, answer.status, answer.bytes_sent, cut=answer.started and not whole)

    def refusal(self, request: ClientRequest) -> Refusal | None:
        """Why a request, or a CONNECT, is not served. None: it is."""
        target = request.target
        if request.opened is None and (refused := self.gate.refuses_client(target, request.headers)):
            return refused
        if request.method == "CONNECT":
            upstream = parse_authority(target)
        elif target.lower().startswith(("http://", "https://")):
            upstream = authority_of(target)
        elif request.opened is not None:
            upstream = parse_authority(first(request.headers, "Host") or str(request.opened), default_port=443)
        else:
            return None
        # What is no address is refused where it is judged, and what is our own is no upstream.
        return self.gate.refuses_upstream(upstream) if upstream is not None and not self.is_own(upstream) else None

    def _judge(self, request: ClientRequest) -> Decision | None:
        """Where the request goes. None: it is the gateway's own to answer, if only with 400."""
        rules, target = self.rules, request.target
        if target.lower().startswith(("http://", "https://")):
            authority = authority_of(target)
            if authority is None:
                return None
            if not self.is_own(authority):
                return rules.forward(request.method, target)
            # A client that asks its proxy for the proxy: dockerd does, for a mirror that NO_PROXY does not name.
            target = "/" + target.split("://", 1)[1].partition("/")[2]
        if not target.startswith("/"):
            return None
        if request.opened is None:
            return None if target.partition("?")[0] in _OWN_PATHS else rules.mirrored(request.method, target)
        host = first(request.headers, "Host") or str(request.opened)
        authority = parse_authority(host, default_port=443)
        if authority is None or self.is_own(authority):
            return None
        return rules.forward(request.method, f"https://{host}{target}")

    async def _follow(self, decision: Decision, request: ClientRequest, answer: Answer) -> bool:
        """True: the answer is complete."""
        _LOG.debug("%s %s: %s by %s", request.method, url_without_secrets(decision.url), decision.verdict.value, decision.reason)
        if decision.verdict is Verdict.P2P:
            fallback = await self._blobs.serve(request, decision, answer)
            if fallback is None:
                return True
            self._metrics.fell_back(fallback)
            if fallback is not Fallback.CONDITIONAL:
                _LOG.debug("round trip directly: %s", url_without_secrets(decision.url))
        return await self._straight(decision, request, answer)

    async def _straight(self, decision: Decision, request: ClientRequest, answer: Answer) -> bool:
        headers = to_upstream(request.headers, host=_host_of(decision.url))
        body = request.body.chunks() if request.body is not None else None
        try:
            async with self._upstream.request(request.method, decision.url, headers, decision.trust, body=body) as response:
                return await self._pass_on(response, decision, answer)
        except UpstreamFailed as error:
            await answer.say(502, "Bad Gateway", str(error))
            return True

    async def _pass_on(self, response: Response, decision: Decision, answer: Answer) -> bool:
        try:
            await answer.start(response.status, response.reason, response.headers)
        except HTTPInputError:
            raise UpstreamFailed("dfdaemon: the upstream sent a header field that is none\n") from None
        try:
            await _copy(response.chunks(), answer)
        except UpstreamBroke as error:
            _LOG.warning("%s broke off after %d bytes: %s", url_without_secrets(decision.url), answer.bytes_sent, error)
            answer.cut()
            return False
        answer.finish()
        return True

    async def _own(self, request: ClientRequest, answer: Answer) -> None:
        """The gateway's own pages, and what is nobody's."""
        path = request.target.partition("?")[0]
        if "://" in path:
            path = "/" + path.split("://", 1)[1].partition("/")[2]
        if request.opened is not None or path not in _OWN_PATHS:
            await answer.say(400, "Bad Request", "dfdaemon: the request names no upstream that can be asked\n")
        elif request.method not in ("GET", "HEAD"):
            await answer.say(405, "Method Not Allowed", "dfdaemon: GET or HEAD\n", (("Allow", "GET, HEAD"),))
        elif path == "/metrics":
            await answer.say(200, "OK", self._metrics.text().decode(), (("Content-Type", CONTENT_TYPE),))
        elif path == "/_ping":
            await answer.say(200, "OK", "OK")
        else:
            text = json.dumps({"Version": self._about.version, "Peer": self._about.peer})
            await answer.say(200, "OK", text + "\n", (("Content-Type", "application/json"),))


async def _copy(chunks: AsyncGenerator[bytes, None], answer: Answer) -> None:
    async with aclosing(chunks):
        async for chunk in chunks:
            await answer.write(chunk)


def _host_of(url: str) -> str:
    """The Host field for a URL: its authority as written, without user information (RFC 9110 §7.2)."""
    rest = url.partition("://")[2]
    for mark in "/?#":
        rest = rest.partition(mark)[0]
    return rest.rpartition("@")[2]
