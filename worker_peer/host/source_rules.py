"""What may be sent to a source, and what its answer means. Pure rules: source.py opens the connections.

A request's headers are the caller's, without those that belong to one connection or that would change what a full answer is;
its credentials stay with the origin (scheme, host, port) that they were meant for.
"""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias
from urllib.parse import quote, unquote, urlsplit

from wire.errors import ErrorCode
from wire.ids import ByteRange, url_without_secrets
from worker_peer.host.values import bracketed

HeaderPairs: TypeAlias = tuple[tuple[str, str], ...]

# RFC 9110 §7.6.1, and what this client says by itself: a caller's Range or condition would make an answer no whole content.
_NOT_SENT: Final = frozenset(
    {"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "host", "content-length", "expect"}
    | {"range", "if-range", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since"}
)
# Whatever a header's owner calls a credential. Too many is safe: another origin then only sees fewer headers.
_CREDENTIAL_WORDS: Final = ("auth", "cookie", "credential", "key", "passw", "secret", "session", "signature", "token", "jfrog")
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
_BAD_VALUE: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_BAD_URL: Final = re.compile(r"[\x00-\x1f\x7f]")
_URL_CHARACTERS: Final = "!#$%&'()*+,/:;=?@[]~-._|"
_CONTENT_RANGE: Final = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)")
_RETRYABLE: Final = frozenset({408, 425, 429, 500, 502, 503, 504})


class SourceError(Exception):
    """A source cannot give its content. The text names it as scheme://host/path, and says what to do.

    `status` is the source's HTTP status, 0 where there was none; `retryable`: the same request may succeed a little later.
    """

    def __init__(self, code: ErrorCode, message: str, *, status: int = 0, retryable: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.retryable = retryable


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A URL, ready to be asked for."""

    #: Percent-encoded where the caller left that out, else as it was: a signature covers its spelling.
    url: str
    #: Scheme, host and port: what credentials are bound to.
    origin: tuple[str, str, int]
    #: The Basic credentials that stood in the URL, as a header's value.
    basic: str | None

    @property
    def name(self) -> str:
        """The URL as errors show it."""
        return url_without_secrets(self.url)


def target_of(url: str) -> Target:
    """Take a URL apart. Raises SourceError for what is no absolute http(s) URL."""
    if _BAD_URL.search(url):
        raise _no_url("it holds a control character")
    try:
        parts = urlsplit(url)
        port = parts.port
        host = parts.hostname or ""
        # Labels have 1 to 63 octets: whoever looks the name up would meet the same error, where nobody expects it.
        ascii_host = host.encode("idna").decode()
        if not host.isascii():
            host = ascii_host
    except (ValueError, UnicodeError):
        raise _no_url("its host or port cannot be read") from None
    scheme = parts.scheme.lower()
    if scheme not in ("http", "https") or not host or " " in host:
        raise _no_url("it is no http:// or https:// URL with a host")
    authority = bracketed(host)
    authority += f":{port}" if port is not None else ""
    rest = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    rest = quote(rest, safe=_URL_CHARACTERS, errors="surrogateescape")
    basic = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        basic = basic_of(pair)
    default_port = 443 if scheme == "https" else 80
    return Target(url=f"{scheme}://{authority}{rest}", origin=(scheme, host, port or default_port), basic=basic)


def basic_of(pair: str) -> str:
    """`user:password` as a Basic credential (RFC 7617)."""
    return "Basic " + base64.b64encode(pair.encode()).decode()


def _no_url(why: str) -> SourceError:
    return SourceError(ErrorCode.SOURCE_ERROR, f"the source's URL cannot be used: {why}; check the URL")


def request_headers(headers: HeaderPairs, user_agent: str, basic: str | None) -> HeaderPairs:
    """What the first request carries. Raises SourceError for a header that is none."""
    for name, value in headers:
        if not _NAME.fullmatch(name) or _BAD_VALUE.search(value):
            raise SourceError(ErrorCode.SOURCE_ERROR, f"the header {name[:64]!r} is not well formed: check its name and value")
    named = {name.lower() for name, _ in headers}
    of_connection = {word.strip().lower() for name, value in headers if name.lower() == "connection" for word in value.split(",")}
    kept = [
        (name, value)
        for name, value in headers
        if name.lower() not in _NOT_SENT and not name.lower().startswith("proxy-") and name.lower() not in of_connection
    ]
    if "user-agent" not in named:
        kept.append(("User-Agent", user_agent))
    if "accept-encoding" not in named:
        kept.append(("Accept-Encoding", "identity"))
    if basic is not None and "authorization" not in named:
        kept.append(("Authorization", basic))
    return tuple(kept)


def without_credentials(headers: HeaderPairs) -> HeaderPairs:
    """What may be sent on to another origin."""
    return tuple(pair for pair in headers if not any(word in pair[0].lower() for word in _CREDENTIAL_WORDS))


def wanted_range(byte_range: ByteRange | None, offset: int, stop: int | None = None) -> ByteRange | None:
    """The range to ask for, to get a content (a part of the source, if given) from its byte `offset` up to, not including,
    `stop` (None: its end)."""
    if byte_range is None:
        last = None if stop is None else stop - 1
        return ByteRange(offset, last) if offset or stop is not None else None
    first = byte_range.first + offset
    if byte_range.last is not None and first > byte_range.last:
        raise ValueError(f"offset {offset} lies past the end of {byte_range.header()}")
    ends = [last for last in (byte_range.last, None if stop is None else byte_range.first + stop - 1) if last is not None]
    return ByteRange(first, min(ends, default=None))


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What an answer's head promises."""

    #: Bytes of the whole content (of the part that was asked for); None: not told.
    length: int | None
    #: Where in the content the body begins.
    offset: int
    #: Bytes of the body; None: it ends when it ends.
    body_length: int | None
    #: ETag, or Last-Modified, or nothing.
    validator: str
    content_type: str
    content_encoding: str


def read_answer(
    status: int,
    headers: Mapping[str, str],
    *,
    name: str,
    byte_range: ByteRange | None,
    offset: int,
    validator: str,
    encoding_asked: bool,
    stop: int | None = None,
) -> Answer:
    """Judge a final answer (headers by case-insensitive name). Raises SourceError for whatever is not the content asked for."""
    if status not in (200, 206):
        raise status_error(status, name, resumed_at=offset)
    encoding = headers.get("Content-Encoding", "").strip().lower()
    if encoding not in ("", "identity") and not encoding_asked:
        raise _wrong(
            f"{name} sends {encoding[:32]!r}-encoded bytes without being asked; ask for them by an Accept-Encoding header"
        )
    etag, modified = headers.get("ETag", ""), headers.get("Last-Modified", "")
    now_valid = etag if _is_etag(validator) else modified
    if validator and now_valid and now_valid != validator:
        raise SourceError(ErrorCode.SOURCE_CHANGED, f"{name} has changed since its first bytes came: start again", status=status)
    declared = _declared_length(headers)
    length: int | None
    body_length: int | None
    if status == 206:
        length, begins, body_length = _read_part(headers, declared, name, byte_range, offset, stop)
    else:
        _check_whole(declared, name, byte_range)
        length, begins, body_length = declared, 0, declared
    return Answer(
        length=length,
        offset=begins,
        body_length=body_length,
        validator=etag or modified,
        content_type=headers.get("Content-Type", "")[:256],
        content_encoding=encoding,
    )


def may_condition(validator: str) -> bool:
    """Whether a validator may stand in If-Range: a weak ETag may not (RFC 9110 §13.1.5)."""
    return bool(validator) and not validator.startswith("W/")


def _is_etag(validator: str) -> bool:
    return validator.startswith(('"', 'W/"'))


def _declared_length(headers: Mapping[str, str]) -> int | None:
    # RFC 9112 §6.3: a transfer coding overrides Content-Length.
    text = headers.get("Content-Length", "").strip()
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) and "Transfer-Encoding" not in headers else None


def _read_part(
    headers: Mapping[str, str], declared: int | None, name: str, byte_range: ByteRange | None, offset: int, stop: int | None
) -> tuple[int | None, int, int]:
    """(content's length, body's offset in it, body's length) of a 206. The length is None where nothing tells it."""
    wanted = wanted_range(byte_range, offset, stop)
    found = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", "").strip())
    if wanted is None or found is None:
        raise _wrong(f"{name} sends a part (206) that was not asked for, or does not say which", 206)
    first, last = int(found[1]), int(found[2])
    total = None if found[3] == "*" else int(found[3])
    reaches_end = total is not None and last == total - 1
    right_end = reaches_end if wanted.last is None else last == wanted.last or (reaches_end and last < wanted.last)
    if first != wanted.first or last < first or not right_end or declared not in (None, last - first + 1):
        raise _wrong(f"{name} sends bytes {found[0][6:]} where {wanted.header()} was asked for", 206)
    return _length_of(byte_range, total, last if stop is None else None), offset, last - first + 1


def _length_of(byte_range: ByteRange | None, total: int | None, last_sent: int | None) -> int | None:
    """Bytes of the content: up to the end of the source (`total`), of the part that it is, or of what was sent to its end."""
    begin, end = (byte_range.first, byte_range.last) if byte_range else (0, None)
    ends = [each for each in (end, total - 1 if total is not None else None) if each is not None]
    last = min(ends, default=last_sent)
    return None if last is None else last - begin + 1


def _check_whole(declared: int | None, name: str, byte_range: ByteRange | None) -> None:
    if byte_range is None:
        return
    to_end = byte_range.last is None or (declared is not None and byte_range.last >= declared - 1)
    if byte_range.first or not to_end:
        raise _wrong(f"{name} does not answer ranges: {byte_range.header()} cannot be had; download the whole content", 200)


def _wrong(message: str, status: int = 0) -> SourceError:
    return SourceError(ErrorCode.SOURCE_ERROR, message, status=status)


def status_error(status: int, name: str, *, resumed_at: int = 0) -> SourceError:
    """What a status other than 200 and 206 means."""
    match status:
        case 401 | 407:
            code, told = ErrorCode.SOURCE_NEEDS_AUTH, "wants credentials; give them in an Authorization header, or renew them"
        case 403:
            code, told = ErrorCode.SOURCE_FORBIDDEN, "forbids it; check the credentials, or whether a signed URL has expired"
        case 404 | 410:
            code, told = ErrorCode.SOURCE_NOT_FOUND, "has no such content; check the URL"
        case 416 if resumed_at:
            code, told = ErrorCode.SOURCE_CHANGED, f"is shorter than the {resumed_at} bytes that it gave before; start again"
        case 416:
            code, told = ErrorCode.SOURCE_ERROR, "has no bytes in the range asked for; check the range"
        case _ if status in _RETRYABLE:
            code, told = ErrorCode.SOURCE_ERROR, "has a trouble of its own; try again later"
        case _:
            code, told = ErrorCode.SOURCE_ERROR, "does not give the content; check the URL"
    return SourceError(code, f"{name} answers {status}: it {told}", status=status, retryable=status in _RETRYABLE)
