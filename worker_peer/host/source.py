"""SourceReader: contents read from the web servers that have them, as a stream. For an event loop; blocks nowhere.

Bytes flow: source → aiohttp (one buffer of 1 MiB or two) → `SourceBody.chunks` → whoever writes and verifies them. A slow
reader slows the source down. Nothing is decompressed, cached or retried here, and no credential reaches a second origin.
aiohttp is loaded at the first use: a peer that never meets a source does not pay for it.
"""

import asyncio
import ssl
from collections import OrderedDict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urljoin

from wire.errors import ErrorCode
from wire.ids import ByteRange
from worker_peer.host.allowed_hosts import AllowedHosts, NotAllowed, refusal_in
from worker_peer.host.clock import Clock
from worker_peer.host.limits import Limit, lowest
from worker_peer.host.source_rules import (
    Answer,
    HeaderPairs,
    SourceError,
    Target,
    may_condition,
    read_answer,
    request_headers,
    status_error,
    target_of,
    wanted_range,
    without_credentials,
)

if TYPE_CHECKING:
    import aiohttp

__all__ = ["SourceBody", "SourceError", "SourceReader", "SourceRequest", "SourceTimeouts", "new_tls_context"]

_CHUNK_BYTES: Final = 1 << 20
_SMALLEST_CHUNK_BYTES: Final = 16 << 10
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_MAX_REDIRECTS: Final = 10
#: Signed URLs and tokens of kilobytes are usual in Location; aiohttp's own limit is 8 KiB.
_MAX_HEADER_BYTES: Final = 64 << 10
_MAX_CONNECTIONS: Final = 256
_MAX_TLS_CONTEXTS: Final = 32
#: A seed has two lists: its supernode's for jobs, and the one for what hosts pull.
_MAX_SESSIONS: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRequest:
    """A content, or a part of one, at its source."""

    #: Absolute http(s) URL. Its query and user information are secret.
    url: str
    #: The caller's headers, in order. Secret.
    headers: HeaderPairs = field(default=(), repr=False)
    #: Do not verify the source's certificate.
    insecure: bool = False
    #: PEM certificates: the only roots by which the source's certificate is verified. Empty: the system's.
    certificates: tuple[bytes, ...] = ()
    #: The part that is the content; None: all of it.
    byte_range: ByteRange | None = None
    #: Who may be asked for it, redirects included, by which names and addresses; None: anybody.
    allowed: AllowedHosts | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceTimeouts:
    """How long a source may be silent, in seconds."""

    connect_s: float = 10.0
    #: Between two reads of its answer.
    idle_s: float = 30.0


class SourceBody:
    """An answer whose body is still to be read. Close it, whatever happens."""

    def __init__(
        self,
        response: "aiohttp.ClientResponse",
        answer: Answer,
        name: str,
        *,
        limits: tuple[Limit, ...],
        who: str,
        clock: Clock,
    ) -> None:
        self._response = response
        self._answer = answer
        self._name = name
        self._limits = limits
        self._who = who
        self._clock = clock
        self.status: Final = response.status
        #: Bytes of the whole content (of the request's part, where it names one); None: the source does not tell.
        self.length: Final = answer.length
        #: Where in the content the body begins: 0 where the source ignored the wish to begin elsewhere.
        self.offset: Final = answer.offset
        #: The source's Content-Type; empty: it gave none.
        self.content_type: Final = answer.content_type
        #: As the bytes are encoded, where the caller's Accept-Encoding allowed it; empty: not.
        self.content_encoding: Final = answer.content_encoding
        #: ETag, else Last-Modified, else nothing: give it to a later `open`, to notice that the content has changed.
        self.validator: Final = answer.validator
        #: Bytes of the body that have come.
        self.bytes_read = 0

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives, at most 1 MiB at a time and no faster than the limits.

        Ends only when all that was promised has come. Raises SourceError (SOURCE_ERROR, retryable) when it has not.
        """
        while chunk := await self._read():
            self.bytes_read += len(chunk)
            for limit in self._limits:
                await self._pay(limit, len(chunk))
            yield chunk
        if self._answer.body_length not in (None, self.bytes_read):
            raise self._died("died")

    async def _pay(self, limit: Limit, size: int) -> None:
        """Wait until bytes that have come may pass."""
        wait = limit.ask(self._who, size, self._clock.now())
        while wait > 0:
            await asyncio.sleep(wait)
            wait = limit.ask(self._who, size, self._clock.now())
        # What is taken may be owed still: what has been given on at any moment is never more than the limit allows.
        if owed := limit.ready_in(self._clock.now()):
            await asyncio.sleep(owed)

    async def _read(self) -> bytes:
        import aiohttp
        from aiohttp.http_exceptions import HttpProcessingError

        try:
            return await self._response.content.read(_chunk_bytes(self._limits))
        except TimeoutError:
            raise self._died("fell silent") from None
        except (aiohttp.ClientError, HttpProcessingError, OSError):
            # Their texts may hold the URL with its query.
            raise self._died("died") from None

    def _died(self, what: str) -> SourceError:
        promised = self._answer.body_length
        told = "an unknown number of" if promised is None else str(promised)
        return SourceError(
            ErrorCode.SOURCE_ERROR,
            f"{self._name} {what} after {self.bytes_read} of {told} bytes; try again",
            status=self.status,
            retryable=True,
        )

    async def close(self) -> None:
        """Done with it: an unread rest is not read any more. May be called again."""
        self._response.close()


class SourceReader:
    """Reads from sources, by one pool of connections. For one event loop; close it at the end."""

    def __init__(
        self,
        *,
        limits: tuple[Limit, ...] = (),
        clock: Clock,
        user_agent: str,
        trust_env: bool = False,
        timeouts: SourceTimeouts | None = None,
    ) -> None:
        """`limits` hold for all bodies together.

        `trust_env`: go by HTTP_PROXY, HTTPS_PROXY and NO_PROXY. Not for a gateway, which would ask itself."""
        self._limits = limits
        self._clock = clock
        self._user_agent = user_agent
        self._trust_env = trust_env
        self._timeouts = timeouts or SourceTimeouts()
        #: By who may be asked: a connection that was made under one list is not used under another.
        self._sessions: OrderedDict[AllowedHosts | None, aiohttp.ClientSession] = OrderedDict()
        self._tls: OrderedDict[tuple[bool, tuple[bytes, ...]], ssl.SSLContext] = OrderedDict()

    async def open(
        self,
        request: SourceRequest,
        *,
        offset: int = 0,
        stop: int | None = None,
        validator: str = "",
        limit: Limit | None = None,
        who: str = "",
    ) -> SourceBody:
        """Ask for a content from its byte `offset` up to `stop` (None: its end); returns when the answer's head is here.

        `validator`: what an earlier body of this content had; the source then sends no rest of another content. `limit`:
        this content's own; `who`: its name, where limits are shared. Raises
        SourceError for everything that is not that content; ValueError for an offset past the request's range.
        """
        wanted = wanted_range(request.byte_range, offset, stop)
        limits = (*((limit,) if limit is not None else ()), *self._limits)
        # No further ahead of a slow limit than two chunks of it: what waits here has taken its place on the link already.
        headers = _range_headers(wanted, validator if offset else "")
        response, target = await self._follow(request, headers, read_ahead=_chunk_bytes(limits))
        try:
            answer = read_answer(
                response.status,
                response.headers,
                name=target.name,
                byte_range=request.byte_range,
                offset=offset,
                validator=validator,
                encoding_asked=_asks_for_encoding(request.headers),
                stop=stop,
            )
        except BaseException:
            response.close()
            raise
        return SourceBody(response, answer, target.name, limits=limits, who=who, clock=self._clock)

    async def is_current(self, request: SourceRequest, validator: str) -> bool:
        """Whether the source says that the content with this validator is still what it has: one request, no body read.

        Raises SourceError when the source gives no content at all any more (RFC 9110 §13.1).
        """
        name = "If-None-Match" if validator.startswith(('"', "W/")) else "If-Modified-Since"
        wanted = wanted_range(request.byte_range, 0)
        response, target = await self._follow(request, (*_range_headers(wanted, ""), (name, validator)))
        response.close()
        if response.status in (200, 206):
            return False
        if response.status == 304:
            return True
        raise status_error(response.status, target.name)

    async def close(self) -> None:
        """Close all connections; bodies that are still open end with them. May be called again."""
        while self._sessions:
            await self._sessions.popitem()[1].close()

    async def _follow(
        self, request: SourceRequest, range_headers: HeaderPairs, *, read_ahead: int = _CHUNK_BYTES
    ) -> tuple["aiohttp.ClientResponse", Target]:
        target = target_of(request.url)
        headers = request_headers(request.headers, self._user_agent, target.basic)
        for _ in range(_MAX_REDIRECTS + 1):
            response = await self._get(target, headers + range_headers, request, read_ahead)
            if response.status not in _REDIRECTS:
                return response, target
            location = response.headers.get("Location", "")
            response.close()
            if not location:
                raise SourceError(
                    ErrorCode.SOURCE_ERROR,
                    f"{target.name} answers {response.status} and does not say where to go; check the URL",
                    status=response.status,
                )
            following = target_of(urljoin(target.url, location))
            if following.origin != target.origin:
                # For good: a redirect back must not bring them back, for it was the other origin that chose it.
                headers = without_credentials(headers)
            target = following
        raise SourceError(ErrorCode.SOURCE_ERROR, f"{target.name} is redirected more than {_MAX_REDIRECTS} times; check the URL")

    async def _get(
        self, target: Target, headers: HeaderPairs, request: SourceRequest, read_ahead: int
    ) -> "aiohttp.ClientResponse":
        import aiohttp
        from yarl import URL

        proxy, proxy_headers = self._proxy_for(target)
        if proxy_headers and target.origin[0] == "http":
            # Without a tunnel the request itself is the proxy's; aiohttp sends `proxy_headers` with CONNECT only.
            headers = (*headers, *proxy_headers.items())
        tls = await self._tls_context(request) if target.origin[0] == "https" else True
        try:
            if request.allowed is not None:
                request.allowed.check_literal(target.origin[1], target.origin[2])
            return await (await self._opened_session(request.allowed)).get(
                # `encoded`: sent as it is spelled, which is what a signature was made of.
                URL(target.url, encoded=True),
                headers=headers,
                allow_redirects=False,
                ssl=tls,
                proxy=proxy,
                proxy_headers=proxy_headers,
                read_bufsize=read_ahead,
            )
        except NotAllowed as error:
            raise _forbidden(target, str(error)) from None
        except aiohttp.ClientHttpProxyError as error:
            raise status_error(error.status, f"the proxy on the way to {target.name}") from None
        except aiohttp.ClientSSLError as error:
            raise _untrusted(target, error) from None
        except (aiohttp.ClientConnectionError, TimeoutError, OSError) as error:
            refused = refusal_in(error)
            raise (_forbidden(target, refused) if refused else _unreachable(target, error)) from None
        except (aiohttp.ClientError, ValueError) as error:
            raise SourceError(
                ErrorCode.SOURCE_ERROR, f"{target.name} does not answer in HTTP ({type(error).__name__}); check the URL"
            ) from None

    async def _opened_session(self, allowed: AllowedHosts | None) -> "aiohttp.ClientSession":
        session = self._sessions.get(allowed)
        if session is None:
            session = self._sessions[allowed] = self._new_session(allowed)
            if len(self._sessions) > _MAX_SESSIONS:
                await self._sessions.popitem(last=False)[1].close()
        self._sessions.move_to_end(allowed)
        return session

    def _new_session(self, allowed: AllowedHosts | None) -> "aiohttp.ClientSession":
        import aiohttp

        from worker_peer.host.guarded_resolver import GuardedResolver

        resolver = GuardedResolver(allowed.check) if allowed is not None else None
        return aiohttp.ClientSession(
            # What it remembers of names are addresses that were looked at.
            connector=aiohttp.TCPConnector(limit=_MAX_CONNECTIONS, resolver=resolver),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            # Not aiohttp's own trust_env: it would also send what it finds in ~/.netrc.
            trust_env=False,
            read_bufsize=_CHUNK_BYTES,
            max_line_size=_MAX_HEADER_BYTES,
            max_field_size=_MAX_HEADER_BYTES,
            timeout=aiohttp.ClientTimeout(
                total=None,
                # With the name's resolution, which the socket's own time does not count.
                connect=2 * self._timeouts.connect_s,
                sock_connect=self._timeouts.connect_s,
                sock_read=self._timeouts.idle_s,
            ),
        )

    async def _tls_context(self, request: SourceRequest) -> ssl.SSLContext:
        key = (request.insecure, request.certificates)
        context = self._tls.get(key)
        if context is None:
            # Reading the system's roots takes tens of milliseconds.
            context = await asyncio.to_thread(new_tls_context, *key)
            self._tls[key] = context
            if len(self._tls) > _MAX_TLS_CONTEXTS:
                self._tls.popitem(last=False)
        self._tls.move_to_end(key)
        return context

    def _proxy_for(self, target: Target) -> tuple[str | None, dict[str, str] | None]:
        if not self._trust_env:
            return None, None
        from urllib.request import getproxies, proxy_bypass

        scheme, host, port = target.origin
        proxy = getproxies().get(scheme)
        if not proxy or proxy_bypass(f"{host}:{port}"):
            return None, None
        through = target_of(proxy if "://" in proxy else f"http://{proxy}")
        return through.url, {"Proxy-Authorization": through.basic} if through.basic else None


def _chunk_bytes(limits: tuple[Limit, ...]) -> int:
    rate = lowest(*(limit.rate for limit in limits))
    # A twentieth of a second at a time: otherwise a slow limit would give nothing for many seconds, then a lump.
    return min(_CHUNK_BYTES, max(_SMALLEST_CHUNK_BYTES, rate // 20)) if rate else _CHUNK_BYTES


def _range_headers(wanted: ByteRange | None, validator: str) -> HeaderPairs:
    if wanted is None:
        return ()
    pairs = [("Range", wanted.header())]
    if may_condition(validator):
        pairs.append(("If-Range", validator))
    return tuple(pairs)


def _asks_for_encoding(headers: HeaderPairs) -> bool:
    asked = [value.strip().lower() for name, value in headers if name.lower() == "accept-encoding"]
    return any(value not in ("", "identity") for value in asked)


def new_tls_context(insecure: bool, certificates: tuple[bytes, ...]) -> ssl.SSLContext:
    """How a source's certificate is verified. Blocks for tens of milliseconds. Raises SourceError for what is no PEM."""
    if not certificates or insecure:
        context = ssl.create_default_context()
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            context.load_verify_locations(cadata="\n".join(pem.decode("ascii") for pem in certificates))
        except (ssl.SSLError, UnicodeDecodeError):
            raise SourceError(ErrorCode.SOURCE_ERROR, "the given CA certificates cannot be read: they must be PEM") from None
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _untrusted(target: Target, error: Any) -> SourceError:
    reason = getattr(getattr(error, "certificate_error", None), "verify_message", "") or "the TLS handshake failed"
    return SourceError(
        ErrorCode.SOURCE_UNREACHABLE,
        f"{target.name} is not trusted: {reason}; give its CA with --cacerts, or --insecure if you must",
    )


def _forbidden(target: Target, refused: str) -> SourceError:
    return SourceError(ErrorCode.SOURCE_FORBIDDEN, f"{target.name} is not asked: {refused}")


def _unreachable(target: Target, error: Exception) -> SourceError:
    if isinstance(error, TimeoutError):
        reason = "no answer in time"
    else:
        # Only what the system says: the library's texts may hold the URL with its query.
        reason = getattr(error, "strerror", None) or "the connection was closed"
    message = f"{target.name} cannot be reached: {reason}; check the host, its port and the network"
    return SourceError(ErrorCode.SOURCE_UNREACHABLE, message, retryable=True)
