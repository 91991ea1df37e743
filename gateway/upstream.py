"""The straight way: one request to its upstream, one response back, both streamed, nothing added.

On aiohttp's client with everything turned off that a proxy must not do: redirects, cookies, decompression, proxies of
the environment. Bytes flow up from an async iterator and down through another; each waits for the slower side.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final
from urllib.parse import urljoin

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from gateway.core.headers import Headers, first, impersonal, to_client, to_upstream
from gateway.core.reach import Scope, scope_of, scopes_of
from gateway.core.rules import Trust, authority_of
from wire.ids import url_without_secrets
from worker_peer.host.guarded_resolver import GuardedResolver

CONNECT_S: Final = 10.0
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_MAX_REDIRECTS: Final = 5
_BUFFER_BYTES: Final = 256 << 10
_MAX_LINE_BYTES: Final = 256 << 10
_MAX_FIELDS: Final = 1024
#: An upstream that knows no Expect would never say 100: then the body is sent unasked (RFC 9110 §10.1.1).
_CONTINUE_S: Final = 1.0
_MAX_CONTEXTS: Final = 64
#: What may be sent again on a fresh connection when a kept one turns out to be dead (RFC 9110 §9.2.2).
_SAFE_TO_REPEAT: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
#: aiohttp adds these unless told not to; a proxy adds nothing.
_NEVER_ADDED: Final = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")

_LOG = logging.getLogger("dfdaemon")


class UpstreamFailed(Exception):
    """The upstream cannot be reached, or breaks off before its head is here. The text is for the client's user."""


class UpstreamBroke(Exception):
    """The upstream broke off in the middle of a body: what came is not all."""


class _Request(aiohttp.ClientRequest):
    """aiohttp's request, but for one that waits for 100 Continue: it does not wait for ever."""

    def update_expect_continue(self, expect: bool = False) -> None:
        super().update_expect_continue(expect)
        waiting = self._continue
        if waiting is not None:
            self.loop.call_later(_CONTINUE_S, lambda: None if waiting.done() else waiting.set_result(True))


class _Inward(OSError):
    """A server sends its clients on to an address that it does not have itself."""


def _check(allowed: frozenset[Scope], _host: str, _port: int, addresses: list[str]) -> None:
    """Raises _Inward for addresses that only a server of this very host or link could mean."""
    for scope in map(scope_of, addresses):
        if scope is not None and scope not in allowed:
            raise _Inward(f"it was named by a server that is elsewhere, and is a {scope.value} address: nobody is led there")


class Response:
    """An upstream's response: its head is here, its body comes."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.url = str(response.url)
        """Where it came from: in the end of redirects another one than was asked."""
        self.status = response.status
        self.reason = response.reason or ""
        self.version = "1.0" if response.version is not None and response.version.minor == 0 else "1.1"
        self.headers = to_client((name.decode("latin-1"), value.decode("latin-1")) for name, value in response.raw_headers)

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The body as it comes, encoded as the upstream sent it. Raises UpstreamBroke before its end."""
        try:
            async for chunk in self._response.content.iter_any():
                yield chunk
        except (aiohttp.ClientError, OSError) as error:
            raise UpstreamBroke(f"{type(error).__name__}: {error}") from None


class Upstream:
    """The client side of the gateway. Close it when all its responses have ended."""

    def __init__(self) -> None:
        self._contexts: dict[Trust, ssl.SSLContext] = {}
        # Bounded by the gateway's own connections: each has one request under way at most.
        self._kept = self._session(aiohttp.TCPConnector(limit=0, keepalive_timeout=30, enable_cleanup_closed=False))
        # A request that may not be repeated must not meet a dead connection.
        self._fresh = self._session(aiohttp.TCPConnector(limit=0, force_close=True, enable_cleanup_closed=False))
        #: For places that a server has named, by the scopes that it has itself.
        self._led: dict[frozenset[Scope], aiohttp.ClientSession] = {}

    def _session(self, connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=connector,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            skip_auto_headers=_NEVER_ADDED,
            # A slow registry is waited for, as its client would wait; only reaching it has a limit.
            timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_S, sock_connect=CONNECT_S, sock_read=None),
            read_bufsize=_BUFFER_BYTES,
            max_line_size=_MAX_LINE_BYTES,
            max_field_size=_MAX_LINE_BYTES,
            max_headers=_MAX_FIELDS,
            request_class=_Request,
            raise_for_status=False,
        )

    @asynccontextmanager
    async def request(
        self,
        method: str,
        url: str,
        headers: Headers,
        trust: Trust,
        *,
        body: AsyncIterator[bytes] | None = None,
        expects: bool = False,
        led_by: str = "",
    ) -> AsyncIterator[Response]:
        """Send a request, its path and query byte for byte, and give the response. Leaving early drops the connection.

        `expects`: the body is begun only when the upstream says that it wants it. `led_by`: the URL whose server, not the
        client, has named this one. Raises UpstreamFailed.
        """
        if led_by and authority_of(led_by) != authority_of(url):
            session = await self._session_led(led_by, url)
        else:
            session = self._kept if body is None and method in _SAFE_TO_REPEAT else self._fresh
        context = await self._context(trust) if url.lower().startswith("https:") else False
        if body is None and first(headers, "Content-Length") is None and method in ("POST", "PUT", "PATCH"):
            body_or_nothing: AsyncIterator[bytes] | bytes | None = b""
        else:
            body_or_nothing = body
        try:
            response = await session.request(
                method,
                URL(url, encoded=True),
                headers=CIMultiDict([(name, _as_sent(value)) for name, value in headers]),
                data=body_or_nothing,
                allow_redirects=False,
                expect100=expects and body is not None,
                ssl=context or True,
            )
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise UpstreamFailed(_in_words(error, url)) from None
        try:
            yield Response(response)
        finally:
            # After a complete body the connection is back in the pool already; else it is dropped.
            response.close()

    @asynccontextmanager
    async def following(
        self, method: str, url: str, headers: Headers, trust: Trust, *, enough: Callable[[str], bool] = lambda url: False
    ) -> AsyncIterator[Response]:
        """The response where the redirects end, or the redirect to a URL that is `enough`. `headers` without Host.

        To another origin go no credentials, and none come back from there (RFC 9110 §15.4). Raises UpstreamFailed.
        """
        led_by = url
        for _ in range(_MAX_REDIRECTS + 1):
            async with self.request(method, url, to_upstream(headers, host=host_of(url)), trust, led_by=led_by) as response:
                place = first(response.headers, "Location")
                following = urljoin(url, place) if response.status in REDIRECTS and place else ""
                if authority_of(following) is None or enough(following):
                    yield response
                    return
            if authority_of(following) != authority_of(url) or following.partition(":")[0] != url.partition(":")[0]:
                headers = impersonal(headers)
            url = following
        raise UpstreamFailed(f"dfdaemon: {authority_of(url)} redirects without end\n")

    async def raw(self, url: str, trust: Trust) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to a URL's host, for a protocol that is none of ours. Raises UpstreamFailed."""
        target = authority_of(url)
        assert target is not None
        context = await self._context(trust) if url.lower().startswith("https:") else None
        try:
            async with asyncio.timeout(CONNECT_S):
                return await asyncio.open_connection(target.host, target.port, ssl=context)
        except (OSError, ValueError) as error:
            raise UpstreamFailed(_in_words(error, url)) from None

    async def _session_led(self, led_by: str, url: str) -> aiohttp.ClientSession:
        """Raises UpstreamFailed where a server leads to an address that is none of its own kind."""
        leader, target = authority_of(led_by), authority_of(url)
        assert leader is not None
        assert target is not None
        try:
            found = await asyncio.get_running_loop().getaddrinfo(leader.host, leader.port, type=socket.SOCK_STREAM)
            allowed = scopes_of(str(address[0]) for *_, address in found)
            # An address is connected to without a resolver.
            _check(allowed, target.host, target.port, [target.host])
        except OSError as error:
            raise UpstreamFailed(_in_words(error, url)) from None
        if allowed not in self._led:
            resolver = GuardedResolver(partial(_check, allowed))
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=30, enable_cleanup_closed=False, resolver=resolver)
            self._led[allowed] = self._session(connector)
        return self._led[allowed]

    async def _context(self, trust: Trust) -> ssl.SSLContext:
        context = self._contexts.get(trust)
        if context is None:
            # Reading the system's roots takes tens of milliseconds.
            context = await asyncio.to_thread(client_context, trust)
            if len(self._contexts) >= _MAX_CONTEXTS:
                self._contexts.clear()
            context = self._contexts.setdefault(trust, context)
        return context

    async def close(self) -> None:
        """Drop every connection."""
        await self._kept.close()
        await self._fresh.close()
        for session in self._led.values():
            await session.close()


def host_of(url: str) -> str:
    """The Host field for a URL: its authority as written, without user information (RFC 9110 §7.2)."""
    rest = url.partition("://")[2]
    for mark in "/?#":
        rest = rest.partition(mark)[0]
    return rest.rpartition("@")[2]


def client_context(trust: Trust) -> ssl.SSLContext:
    """How an upstream is verified: not at all, by the given certificates alone, or by the system's roots. Blocks."""
    if trust.certificates:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        for pem in trust.certificates:
            context.load_verify_locations(cadata=pem.decode("ascii", "replace"))
        # The registry's own certificate may be given instead of its issuer's.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    else:
        context = ssl.create_default_context()
    if trust.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    return context


def _as_sent(value: str) -> str:
    """A field value such that aiohttp, which writes UTF-8, sends the bytes that came (read as Latin-1), where it can."""
    try:
        return value.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return value


def _in_words(error: Exception, url: str) -> str:
    target = authority_of(url)
    place = str(target) if target else url_without_secrets(url)
    match error:
        case aiohttp.ClientConnectorCertificateError():
            why = f"its certificate is not trusted ({error.certificate_error}); give its CA with certs, or set insecure"
        case _Inward():
            why = str(error)
        case aiohttp.ClientConnectorError() if isinstance(error.os_error, _Inward):
            why = str(error.os_error)
        case aiohttp.ClientConnectorDNSError() | socket.gaierror():
            why = "its name cannot be resolved"
        case TimeoutError():
            why = f"it did not answer within {CONNECT_S:.0f} s"
        case aiohttp.ClientConnectorError():
            why = f"it cannot be connected to: {error.os_error.strerror or error.os_error}"
        case aiohttp.ServerDisconnectedError() | ConnectionResetError():
            why = "it closed the connection without an answer"
        case aiohttp.InvalidURL() | ValueError():
            why = "the URL or a header field is not valid"
        case _:
            why = f"it gave no valid answer ({type(error).__name__})"
    return f"dfdaemon: {place} gave no answer: {why}\n"
