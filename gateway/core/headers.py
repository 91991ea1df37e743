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


def first(headers: Headers, name: str) -> str | None:
    """The first value of a field, or None. Names are compared without case."""
    wanted = name.lower()
    return next((value for key, value in headers if key.lower() == wanted), None)


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

    Expect ends here: the gateway has answered it with 100 by itself.
    """
    kept = tuple(each for each in end_to_end(headers) if each[0].lower() not in ("host", "expect"))
    return (("Host", host), *kept)


def to_client(headers: Iterable[tuple[str, str]]) -> Headers:
    """An upstream's response header as the client gets it."""
    return end_to_end(headers)


def to_source(headers: Headers) -> Headers:
    """A client's request header as the source of a whole content gets it: no part, no condition, no coding, no Host."""
    return tuple((name, value) for name, value in end_to_end(headers) if name.lower() not in _OF_ONE_CLIENT | _CONDITIONS)
