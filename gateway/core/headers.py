"""Which header fields cross the gateway, in each direction. Lists of (name, value) in, lists out; order and repeats kept.

Pure. RFC 9110 §7.6.1 says what ends at each hop; everything else passes as it came.
"""

from collections.abc import Iterable
from typing import Final

Headers = tuple[tuple[str, str], ...]

#: Fields that speak of one connection only (RFC 9110 §7.6.1; Proxy-Connection by custom; RFC 9112 for the framing).
HOP_BY_HOP: Final = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
# A client may name any field in Connection; these carry meaning that no hop may take away (CVE-2022-31813 is of that kind).
_NEVER_DROPPED: Final = frozenset({"authorization", "content-length", "content-type", "host", "range"})
#: What would make the source answer with less than the content, or with something else than its bytes.
_OF_ONE_CLIENT: Final = frozenset({"accept-encoding", "content-length", "expect", "host", "if-range", "range"})
_CONDITIONS: Final = frozenset({"if-match", "if-modified-since", "if-none-match", "if-unmodified-since"})

#: Fields of a content itself, the same for everybody who gets it.
_OF_THE_CONTENT: Final = frozenset(
    {
        "cache-control", "content-disposition", "content-language", "content-type", "docker-content-digest",
        "docker-distribution-api-version", "etag", "expires", "last-modified", "vary",
    }
)  # fmt: skip
#: What may be told to a server that the client did not name.
_IMPERSONAL: Final = frozenset({"accept", "accept-language", "user-agent", "via"})


def first(headers: Headers, name: str) -> str | None:
    """The first value of a field, or None. Names are compared without case."""
    wanted = name.lower()
    return next((value for key, value in headers if key.lower() == wanted), None)


def without(headers: Headers, name: str) -> Headers:
    """The fields but for those of one name."""
    wanted = name.lower()
    return tuple(each for each in headers if each[0].lower() != wanted)


def listed(headers: Headers, name: str) -> list[str]:
    """The members of a comma list field, over all its lines, in lower case."""
    wanted = name.lower()
    values = ",".join(value for key, value in headers if key.lower() == wanted)
    return [member for part in values.split(",") if (member := part.strip().lower())]


def is_conditional(headers: Headers) -> bool:
    """Whether the answer depends on what the client holds (RFC 9110 §13.1); If-Range is not meant, it goes with Range."""
    return any(name.lower() in _CONDITIONS for name, _ in headers)


def end_to_end(headers: Iterable[tuple[str, str]]) -> Headers:
    """The fields without those of one hop, and without those that Connection names."""
    fields = tuple(headers)
    dropped = HOP_BY_HOP | (frozenset(listed(fields, "connection")) - _NEVER_DROPPED)
    return tuple((name, value) for name, value in fields if name.lower() not in dropped)


def to_upstream(headers: Headers, *, host: str) -> Headers:
    """A client's request header as the upstream gets it. `host` takes Host's place (RFC 9112 §3.2.2).

    Expect ends here: whoever sends the body asks for it anew.
    """
    kept = tuple(each for each in end_to_end(headers) if each[0].lower() not in ("host", "expect"))
    return (("Host", host), *kept)


def to_client(headers: Iterable[tuple[str, str]]) -> Headers:
    """An upstream's response header as the client gets it."""
    return end_to_end(headers)


def to_source(headers: Headers) -> Headers:
    """A client's request header as the source of a whole content gets it: no part, no condition, no coding, no Host."""
    return tuple((name, value) for name, value in end_to_end(headers) if name.lower() not in _OF_ONE_CLIENT | _CONDITIONS)


def impersonal(headers: Headers) -> Headers:
    """What may go on to another origin: no credential, whatever it is called."""
    return tuple(each for each in headers if each[0].lower() in _IMPERSONAL)


def representation(headers: Headers) -> Headers:
    """The fields of a response that speak of the content, not of this exchange."""
    return tuple(each for each in headers if each[0].lower() in _OF_THE_CONTENT)


def is_shareable(headers: Headers) -> bool:
    """Whether a content without a digest may be kept and given to others (RFC 9111 §3, for a shared cache): it has a
    validator, and nothing says that it is one client's own."""
    told = listed(headers, "Cache-Control")
    if any(each.partition("=")[0] in ("no-store", "private") for each in told) or first(headers, "Set-Cookie") is not None:
        return False
    if {"*", "authorization", "cookie"} & set(listed(headers, "Vary")):
        return False
    return first(headers, "ETag") is not None or first(headers, "Last-Modified") is not None


def via(headers: Headers, version: str, pseudonym: str) -> Headers:
    """The fields with this hop noted (RFC 9110 §7.6.3)."""
    return (*headers, ("Via", f"{version.removeprefix('HTTP/')} {pseudonym}"))


def has_passed(headers: Headers, pseudonym: str) -> bool:
    """Whether a message has been through the hop of that name before."""
    wanted = pseudonym.lower()
    return any(wanted in member.split() for member in listed(headers, "Via"))
