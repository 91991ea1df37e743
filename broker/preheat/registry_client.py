"""Asks registries for manifests and tokens. Driver on aiohttp; for one event loop.

Credentials go to the registry that they were given for, and to the token server that this registry names; to no other
origin, not over plain http where the registry speaks https, and never into a text. Every host is looked at before it is
asked, redirects included (worker_peer/host/allowed_hosts.py). Everything is bounded: bytes, redirects, time.
"""

import asyncio
import ssl
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urljoin

import aiohttp
from yarl import URL

from broker.core.challenges import MARGIN_S, Challenge, parse_challenges, parse_token
from broker.core.manifests import ACCEPT, MAX_MANIFEST_BYTES
from wire.errors import ErrorCode
from worker_peer.host.allowed_hosts import AllowedHosts, NotAllowed, refusal_in
from worker_peer.host.clock import Clock
from worker_peer.host.guarded_resolver import GuardedResolver
from worker_peer.host.source import new_tls_context
from worker_peer.host.source_rules import (
    HeaderPairs,
    SourceError,
    Target,
    request_headers,
    status_error,
    target_of,
    without_credentials,
)

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_MAX_REDIRECTS: Final = 5
_MAX_TOKEN_BYTES: Final = 1 << 20
_MAX_FIELD_BYTES: Final = 64 << 10
_MAX_TLS_CONTEXTS: Final = 32
_CONNECT_S: Final = 10.0
_TOTAL_S: Final = 30.0
_TLS_HINT: Final = "give its CA (--cacerts, preheat.cacerts in supernode.yml), or insecure if you must"


@dataclass(slots=True, kw_only=True)
class Access:
    """How one job may ask its registry or source. In memory only; nothing of it is shown."""

    headers: HeaderPairs = field(default=(), repr=False)
    insecure: bool = False
    certificates: tuple[bytes, ...] = ()
    #: `Basic ...` for the registry, where the operator has set one for it and the caller gave none.
    basic: str | None = field(default=None, repr=False)
    #: By what the registry wanted: a token, and when it ends.
    token: str = field(default="", repr=False)
    token_ends_at: float = 0.0
    challenge: Challenge | None = None

    @property
    def own_authorization(self) -> str | None:
        """The caller's."""
        return next((value for name, value in self.headers if name.lower() == "authorization"), None)

    @property
    def credentials(self) -> str | None:
        """A `Basic ...` to ask for tokens with."""
        given = self.own_authorization
        if given is not None and given[:6].lower() == "basic ":
            return given
        return self.basic

    def request_headers(self) -> HeaderPairs:
        """What the registry gets with the next request."""
        others = tuple(pair for pair in self.headers if pair[0].lower() != "authorization")
        if self.token:
            return (*others, ("Authorization", f"Bearer {self.token}"))
        given = self.own_authorization or self.basic
        return (*others, ("Authorization", given)) if given is not None else others


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a registry gave."""

    body: bytes
    content_type: str
    #: The registry's own word for the digest; empty: none.
    digest: str


class RegistryClient:
    """One pool of connections to registries and token servers."""

    def __init__(self, *, clock: Clock, user_agent: str, allowed: AllowedHosts) -> None:
        self._clock = clock
        self._user_agent = user_agent
        self._allowed = allowed
        self._session: aiohttp.ClientSession | None = None
        self._tls: OrderedDict[tuple[bool, tuple[bytes, ...]], ssl.SSLContext] = OrderedDict()

    async def check(self, url: str) -> None:
        """Raises SourceError (SOURCE_FORBIDDEN) when this URL's host may not be asked."""
        _, host, port = target_of(url).origin
        try:
            self._allowed.check_literal(host, port)
            await GuardedResolver(self._allowed.check).resolve(host, port)
        except NotAllowed as error:
            raise SourceError(ErrorCode.SOURCE_FORBIDDEN, str(error)) from None
        except OSError:
            return  # whoever asks it will say so

    async def manifest(self, url: str, access: Access) -> Answer:
        """A manifest, with a token where the registry wants one. Raises SourceError."""
        if access.challenge is not None:
            await self.refresh(url, access)
        response = await self._ask(url, access.request_headers(), access)
        if response.status == 401:
            challenges = parse_challenges(response.headers.getall("WWW-Authenticate", []))
            if await self._meet(url, challenges, access):
                response = await self._ask(url, access.request_headers(), access)
        if response.status != 200:
            raise status_error(response.status, target_of(url).name)
        return Answer(
            body=response.body,
            content_type=response.headers.get("Content-Type", ""),
            digest=response.headers.get("Docker-Content-Digest", ""),
        )

    async def refresh(self, url: str, access: Access) -> None:
        """A new token where the last one is about to end. Raises SourceError."""
        if access.challenge is not None and self._clock.now() >= access.token_ends_at - MARGIN_S:
            await self._fetch_token(url, access.challenge, access)

    async def _meet(self, url: str, challenges: list[Challenge], access: Access) -> bool:
        """Do what the registry wants. False: it wants nothing that can be given."""
        bearer = next((each for each in challenges if each.token_url()), None)
        if bearer is None or access.token:
            return False
        await self._fetch_token(url, bearer, access)
        return True

    async def _fetch_token(self, url: str, challenge: Challenge, access: Access) -> None:
        realm = challenge.token_url()
        assert realm is not None
        realm = urljoin(url, realm)
        registry, server = target_of(url), target_of(realm)
        headers: HeaderPairs = ()
        credentials = access.credentials or registry.basic
        if credentials is not None:
            if registry.origin[0] == "https" and server.origin[0] != "https":
                raise SourceError(
                    ErrorCode.SOURCE_NEEDS_AUTH,
                    f"{registry.name} wants its credentials sent to {server.name} without encryption: they are not",
                )
            headers = (("Authorization", credentials),)
        response = await self._ask(realm, headers, access, most=_MAX_TOKEN_BYTES)
        token = parse_token(response.body) if response.status == 200 else None
        if token is None:
            code = ErrorCode.SOURCE_ERROR if response.status >= 500 or response.status == 429 else ErrorCode.SOURCE_NEEDS_AUTH
            told = f"the token server {server.name} gives no token (HTTP {response.status}): check the name and password"
            raise SourceError(code, told, status=response.status)
        access.challenge, access.token = challenge, token.text
        access.token_ends_at = self._clock.now() + token.life_s

    async def _ask(self, url: str, headers: HeaderPairs, access: Access, *, most: int = MAX_MANIFEST_BYTES) -> "_Response":
        """One answer, redirects followed. Raises SourceError."""
        target = target_of(url)
        if not any(name.lower() == "accept" for name, _ in headers):
            headers = (*headers, ("Accept", ACCEPT))
        sent = request_headers(headers, self._user_agent, target.basic)
        try:
            async with asyncio.timeout(_TOTAL_S):
                for _ in range(_MAX_REDIRECTS + 1):
                    response = await self._once(target, sent, access, most)
                    place = response.headers.get("Location", "")
                    if response.status not in _REDIRECTS or not place:
                        return response
                    following = target_of(urljoin(target.url, place))
                    if following.origin != target.origin:
                        sent = without_credentials(sent)
                    target = following
        except TimeoutError:
            told = f"{target.name} does not answer within {_TOTAL_S:g} s; check the host, its port and the network"
            raise SourceError(ErrorCode.SOURCE_UNREACHABLE, told, retryable=True) from None
        raise SourceError(ErrorCode.SOURCE_ERROR, f"{target.name} is redirected more than {_MAX_REDIRECTS} times; check the URL")

    async def _once(self, target: Target, headers: HeaderPairs, access: Access, most: int) -> "_Response":
        tls = await self._tls_context(access) if target.origin[0] == "https" else True
        try:
            self._allowed.check_literal(target.origin[1], target.origin[2])
            async with self._opened().request(
                "GET", URL(target.url, encoded=True), headers=headers, allow_redirects=False, ssl=tls
            ) as response:
                body = await response.content.read(most + 1) if response.status == 200 else b""
                while response.status == 200 and len(body) <= most:
                    more = await response.content.read(most + 1 - len(body))
                    if not more:
                        break
                    body += more
                if len(body) > most:
                    told = f"{target.name} gives more than {most >> 20} MiB, which no manifest has; check the URL"
                    raise SourceError(ErrorCode.TOO_LARGE, told, status=response.status)
                return _Response(status=response.status, headers=response.headers, body=body)
        except NotAllowed as error:
            raise SourceError(ErrorCode.SOURCE_FORBIDDEN, str(error)) from None
        except aiohttp.ClientSSLError as error:
            reason = getattr(getattr(error, "certificate_error", None), "verify_message", "") or "the TLS handshake failed"
            told = f"{target.name} is not trusted: {reason}; {_TLS_HINT}"
            raise SourceError(ErrorCode.SOURCE_UNREACHABLE, told) from None
        except (aiohttp.ClientError, OSError) as error:
            refused = refusal_in(error)
            if refused:
                raise SourceError(ErrorCode.SOURCE_FORBIDDEN, refused) from None
            # Only what the system says: the library's texts may hold the URL with its query.
            reason = getattr(error, "strerror", None) or "the connection was closed"
            told = f"{target.name} cannot be reached: {reason}; check the host, its port and the network"
            raise SourceError(ErrorCode.SOURCE_UNREACHABLE, told, retryable=True) from None

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=64, resolver=GuardedResolver(self._allowed.check), use_dns_cache=False),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                max_line_size=_MAX_FIELD_BYTES,
                max_field_size=_MAX_FIELD_BYTES,
                timeout=aiohttp.ClientTimeout(total=_TOTAL_S, sock_connect=_CONNECT_S),
            )
        return self._session

    async def _tls_context(self, access: Access) -> ssl.SSLContext:
        key = (access.insecure, access.certificates)
        context = self._tls.get(key)
        if context is None:
            context = self._tls[key] = await asyncio.to_thread(new_tls_context, *key)
            if len(self._tls) > _MAX_TLS_CONTEXTS:
                self._tls.popitem(last=False)
        self._tls.move_to_end(key)
        return context

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Response:
    status: int
    headers: Any
    body: bytes
