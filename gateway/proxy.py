"""One request, from what the client asked to what it gets: which form, which rule, the swarm or the upstream.

Drives and decides nothing itself: rules.py judges, stream.py answers out of the swarm, upstream.py goes straight.
"""

import asyncio
import dataclasses
import json
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, cast
from urllib.parse import urljoin

from tornado.httputil import HTTPInputError

from gateway.access import Access
from gateway.client import Answer, ClientGone, ClientRequest
from gateway.connect import Probe, Speaks
from gateway.core import why
from gateway.core.gate import Gate, NotServed, Refusal
from gateway.core.headers import first, has_passed, to_upstream, via, without
from gateway.core.mirror_target import HEADER as REGISTRY_HEADER
from gateway.core.mirror_target import mirror_target
from gateway.core.redirects import Redirects
from gateway.core.rules import Authority, Decision, RuleTable, Verdict, authority_of, is_address, parse_authority
from gateway.core.subject import Kind
from gateway.core.trace import Wait
from gateway.local_registry import LocalRegistry, with_registry_credentials
from gateway.manifests import answer_head
from gateway.metrics import CONTENT_TYPE, Fallback, Metrics
from gateway.stream import BlobServer
from gateway.traces import Traces
from gateway.upgrade import Upgrades, wants_upgrade
from gateway.upstream import REDIRECTS, Response, Upstream, UpstreamBroke, UpstreamFailed, host_of
from wire.ids import url_without_secrets
from worker_peer.api import DownloadFailed
from worker_peer.host.clock import Clock

_LOG = logging.getLogger("dfdaemon")
_OPEN: Final = Gate()
_OWN_PATHS: Final = frozenset({"/metrics", "/_ping", "/version", "/debug/version", why.PATH})


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What this gateway says of itself."""

    version: str
    peer: str
    pseudonym: str
    """Its name in Via, nobody else's."""
    scheme: str
    """By which its own port is spoken to."""


class Proxy:
    """The gateway's handler of requests."""

    def __init__(
        self, *, rules: RuleTable, upstream: Upstream, blobs: BlobServer, access: Access, probe: Probe, upgrades: Upgrades,
        metrics: Metrics, traces: Traces, about: About, is_own: Callable[[Authority], bool], clock: Clock, gate: Gate = _OPEN,
    ) -> None:  # fmt: skip
        """`is_own` tells whether an address leads to this very gateway."""
        #: Replaced as a whole by a reload; a running request keeps what it began with.
        self.rules = rules
        self.gate = gate
        self._upstream = upstream
        self._blobs = blobs
        self._access = access
        self._probe = probe
        self._upgrades = upgrades
        self._clock = clock
        self._redirects = Redirects()
        self._local = LocalRegistry(upstream, self.resolve)
        self._metrics = metrics
        self._traces = traces
        self._about = about
        self.is_own = is_own

    async def handle(self, request: ClientRequest, answer: Answer) -> None:
        """Answer one request. Raises ClientGone when nobody waits for the answer any more."""
        end = "cut"
        self._traces.begin(answer.watch, lambda: (answer.status, answer.bytes_sent))
        try:
            await self._handle(request, answer)
            end = "complete" if answer.is_finished else "cut"
        except (ClientGone, asyncio.CancelledError):
            end = "client gone"
            raise
        finally:
            self._ended(answer, end)

    def _ended(self, answer: Answer, end: str) -> None:
        watch = answer.watch
        self._traces.end(watch)
        if watch.is_own:
            return
        trace = watch.ended(status=answer.status, end=end, sent=answer.bytes_sent)
        self._metrics.waited(trace)
        self._traces.add(trace)
        if watch.fallback and watch.fallback != Fallback.CONDITIONAL.value:
            is_well = end == "complete" and trace.status < 400
            outcome = "CLIENT GONE" if end == "client gone" else "SUCCESS" if is_well else "FAIL"
            fields = {"url": trace.subject.url, "outcome": outcome.lower(), "reason": trace.fallback, "trace": trace.id}
            _LOG.log(
                logging.INFO if is_well else logging.WARNING,
                "dfget url:%s [%s] cost:%.3fs length:%d round trip directly, because of %s: status %d, trace %s",
                trace.subject.url, outcome, trace.whole_us / 1e6, answer.bytes_sent, trace.fallback, trace.status, trace.id,
                extra={"event": "fallback_ended", "fields": fields},
            )  # fmt: skip

    async def _handle(self, request: ClientRequest, answer: Answer) -> None:
        answer.watch.judged(request.target)
        if refusal := self.refusal(request):
            await answer.say(refusal.status, refusal.reason, refusal.text, refusal.headers)
            return
        if has_passed(request.headers, self._about.pseudonym):
            await answer.say(508, "Loop Detected", "dfdaemon: this request has been here before: its upstream leads back\n")
            return
        if request.opened is None and self._local.serves(request):
            with answer.watch.on(Wait.ACCESS):
                await self._local.answer(request, answer, scheme=self._about.scheme)
            return
        try:
            with answer.watch.on(Wait.HEAD):
                decision = await self._judge(request)
        except UpstreamFailed as error:
            await answer.say(502, "Bad Gateway", str(error))
            return
        seen = via(request.headers, request.version, self._about.pseudonym)
        if request.opened is None:
            target = self._meant(request.target)
            meant = mirror_target(target, request.headers) if target.startswith("/") else None
            seen = with_registry_credentials(without(seen, REGISTRY_HEADER), meant.place if meant is not None else None)
        request = dataclasses.replace(request, headers=seen)
        verdict = decision.verdict if decision else Verdict.DIRECT
        if decision is not None:
            answer.watch.judged(decision.asked or decision.url, way=verdict.value, rule=decision.reason)
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
        target = self._meant(request.target)
        if request.opened is None and (refused := self.gate.refuses_client(request.target, request.headers)):
            return refused
        if request.method == "CONNECT":
            upstream = parse_authority(target)
        elif _is_absolute(target):
            upstream = authority_of(target)
        elif request.opened is not None:
            upstream = parse_authority(first(request.headers, "Host") or str(request.opened), default_port=443)
        else:
            # The mirror's own registry is the operator's choice; one that the client names is not.
            meant = mirror_target(target, request.headers) if target.startswith("/") else None
            upstream = parse_authority(meant.place, default_port=443) if meant is not None and meant.place else None
        # What is no address is refused where it is judged, and what is our own is no upstream.
        return self.gate.refuses_upstream(upstream) if upstream is not None and not self.is_own(upstream) else None

    def _meant(self, target: str) -> str:
        """A request's target, that of a client which asks its proxy for the proxy as a path: dockerd does so, for a mirror
        that NO_PROXY does not name."""
        authority = authority_of(target) if _is_absolute(target) else None
        return _path_of(target) if authority is not None and self.is_own(authority) else target

    async def _judge(self, request: ClientRequest) -> Decision | None:
        """Where the request goes. None: it is the gateway's own to answer, if only with 400. Raises UpstreamFailed."""
        target = self._meant(request.target)
        if _is_absolute(target):
            return self._forward(request.method, target) if authority_of(target) is not None else None
        if not target.startswith("/"):
            return None
        if request.opened is None:
            return None if target.partition("?")[0] in _OWN_PATHS else await self._mirrored(request, target)
        if _is_absolute(request.target):
            # This gateway itself, out of a tunnel to another host, whose Host field counts for nothing then.
            return None
        host = first(request.headers, "Host") or str(request.opened)
        authority = parse_authority(host, default_port=443)
        if authority is None or self.is_own(authority):
            return None
        return self._forward(request.method, f"https://{host}{target}")

    def _forward(self, method: str, url: str) -> Decision:
        return self._as_sent_on(url, self.rules.forward(method, url))

    def _as_sent_on(self, url: str, decision: Decision) -> Decision:
        """What a registry has redirected to goes straight if its image does, unless `images` speak of the URL itself."""
        rule = self._redirects.rule_for(url, self._clock.now()) if decision.verdict is Verdict.P2P else ""
        if not rule or decision.reason.startswith("images["):
            return decision
        return dataclasses.replace(decision, verdict=Verdict.DIRECT, reason=f"{rule}, redirected", kept_out=True)

    async def _mirrored(self, request: ClientRequest, target: str) -> Decision | None:
        """A request that names no host in its target: registry_mirror's, or that of a registry which it names elsewhere."""
        meant = mirror_target(target, request.headers)
        if meant is None:
            return None
        if not meant.place:
            decision = self.rules.mirrored(request.method, meant.target)
            return self._as_sent_on(decision.url, decision)
        url = await self._url_at(meant.place, meant.scheme, meant.target)
        if self.is_own(cast("Authority", authority_of(url))):
            return None
        decision = self.rules.mirrored(request.method, meant.target, named=url)
        return dataclasses.replace(decision, reason=f"{decision.reason}, registry named by {meant.said_by}")

    async def _url_at(self, place: str, scheme: str, target: str) -> str:
        """The URL of a registry whose scheme may not be known: https, unless a port that is not https's own speaks no TLS."""
        authority = parse_authority(place, default_port=443)
        assert authority is not None
        if not scheme:
            try:
                spoken = await self._probe.ask(authority)
            except OSError as error:
                why = error.strerror or "it did not answer in time"
                raise UpstreamFailed(f"dfdaemon: {place} cannot be connected to: {why}\n") from None
            scheme = "http" if spoken is not Speaks.TLS and authority.port != 443 else "https"
        return f"{scheme}://{place}{target}"

    async def resolve(self, place: str, target: str) -> Decision:
        """How a registry (empty: the mirror's) is asked for a path, or the server of its tokens for a URL.

        What a client names is held to the white list, and so is what its registry names in turn: the client would have
        asked for both by himself. Raises UpstreamFailed, and NotServed.
        """
        at = authority_of(target) if _is_absolute(target) else parse_authority(place, default_port=443)
        if place and at is not None and not self.is_own(at) and (refused := self.gate.refuses_upstream(at)):
            raise NotServed(refused)
        if target.startswith("/"):
            url = await self._url_at(place, "", target) if place else self.rules.mirror.remote + target
        else:
            url = target
        trust = self.rules.trust_of(url)
        authority = authority_of(url)
        if authority is None or self.is_own(authority):
            raise UpstreamFailed("dfdaemon: this is the gateway itself: name the registry\n")
        return Decision(verdict=Verdict.DIRECT, url=url, trust=trust, reason="token")

    async def _follow(self, decision: Decision, request: ClientRequest, answer: Answer) -> bool:
        """True: the answer is complete."""
        _LOG.debug("%s %s: %s by %s", request.method, url_without_secrets(decision.url), decision.verdict.value, decision.reason)
        if decision.verdict is Verdict.P2P:
            fallback = await self._blobs.serve(request, decision, answer)
            if fallback is None:
                return True
            self._metrics.fell_back(fallback)
            answer.watch.fallback = fallback.value
            if fallback is not Fallback.CONDITIONAL:
                _LOG.debug("round trip directly: %s", url_without_secrets(decision.url))
        return await self._straight(decision, request, answer)

    async def _straight(self, decision: Decision, request: ClientRequest, answer: Answer) -> bool:
        if wants_upgrade(request) and await self._upgrades.serve(request, decision, answer):
            return True
        if decision.is_head_of_shared and await answer_head(self._access, request, decision, answer):
            return True
        headers = to_upstream(request.headers, host=host_of(decision.url))
        body = request.body.chunks() if request.body is not None else None
        expects = request.body is not None and request.body.is_expected
        # Whoever asks for a token asks whether he may.
        is_token = answer.watch.subject.kind is Kind.TOKEN
        answer.watch.turn(Wait.ACCESS if is_token else Wait.HEAD)
        try:
            async with self._upstream.request(
                request.method, decision.url, headers, decision.trust, body=body, expects=expects
            ) as response:
                if decision.kept_out and response.status in REDIRECTS and (to := first(response.headers, "Location")):
                    self._redirects.sent_on(urljoin(decision.asked or decision.url, to), decision.reason, self._clock.now())
                if not is_token:
                    answer.watch.turn(Wait.BODY)
                if request.method in ("GET", "HEAD"):
                    self._access.saw(decision.url, request.headers, response.status, response.headers)
                return await self._pass_on(response, decision, answer)
        except UpstreamFailed as error:
            await answer.say(502, "Bad Gateway", str(error))
            return True

    async def _pass_on(self, response: Response, decision: Decision, answer: Answer) -> bool:
        try:
            headers = via(response.headers, response.version, self._about.pseudonym)
            await answer.start(response.status, response.reason, headers)
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
        if _is_absolute(path):
            path = _path_of(path)
        if request.opened is not None or path not in _OWN_PATHS:
            await answer.say(400, "Bad Request", "dfdaemon: the request names no upstream that can be asked\n")
            return
        answer.watch.is_own = True
        if request.method not in ("GET", "HEAD"):
            await answer.say(405, "Method Not Allowed", "dfdaemon: GET or HEAD\n", (("Allow", "GET, HEAD"),))
        elif path == "/metrics":
            await answer.say(200, "OK", self._metrics.text().decode(), (("Content-Type", CONTENT_TYPE),))
        elif path == "/_ping":
            await answer.say(200, "OK", "OK")
        elif path == why.PATH:
            await self._why(request, answer)
        else:
            text = json.dumps({"Version": self._about.version, "Peer": self._about.peer})
            await answer.say(200, "OK", text + "\n", (("Content-Type", "application/json"),))

    async def _why(self, request: ClientRequest, answer: Answer) -> None:
        """What became of requests: for processes of this host alone, and by a name that no page's script can have."""
        host = parse_authority(first(request.headers, "Host") or "", default_port=80)
        if not request.is_local() or host is None or not is_address(host.host):
            await answer.say(403, "Forbidden", "dfdaemon: traces are told to this host by 127.0.0.1 alone: dfdaemon why\n")
            return
        traces = await self._traces.all()
        found = await asyncio.to_thread(why.answer, traces, why.question_of(request.target))
        await answer.say(found.status, found.reason, found.text + "\n", (("Content-Type", "application/json"),))


async def _copy(chunks: AsyncGenerator[bytes, None], answer: Answer) -> None:
    async with aclosing(chunks):
        async for chunk in chunks:
            await answer.write(chunk)


def _is_absolute(target: str) -> bool:
    return target.lower().startswith(("http://", "https://"))


def _path_of(url: str) -> str:
    """An absolute URL's path and query."""
    return "/" + url.split("://", 1)[1].partition("/")[2]
