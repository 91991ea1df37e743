"""Who may have what from the cache: what the upstream has said lately about a credential, a repository and a content. Pure.

A content is given out of the cache only while two things are known: that this credential may read this realm (a repository,
or a single URL), and that this content is in this realm. One answer of the upstream to one request proves both. Neither
proof outlives its time, so that revoked access ends within it; a credential is known by a keyed hash alone.
"""

import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final
from urllib.parse import parse_qsl

from gateway.core.headers import Headers, end_to_end

# OCI distribution spec: /v2/<name>/(blobs|manifests)/<reference>, below whatever path a registry has of its own.
_REGISTRY_PATH: Final = re.compile(r"(.*/v2/.+)/(blobs|manifests)/([^/]+)")
#: What a server might read as another path than it says (RFC 3986 §6.2.2, §6.2.3): an octet that is escaped (but for a
#: digest's colon), a backslash, a segment that is empty, a dot or two.
_OTHERWISE_READ: Final = re.compile(r"%(?!3[Aa])|[\\;]|/(?:\.{0,2})(?:/|\Z)")
#: Fields that say nothing of who asks, and change from request to request or from client to client.
_SAYS_NOTHING: Final = frozenset(
    {
        "accept", "accept-encoding", "accept-language", "cache-control", "content-length", "content-type", "date", "expect",
        "host", "if-match", "if-modified-since", "if-none-match", "if-range", "if-unmodified-since", "pragma",
        "range", "referer", "traceparent", "tracestate", "user-agent", "via", "x-request-id",
    }
)  # fmt: skip
#: Fields that say who asks, and nothing of what. Any other field may be what a server goes by to find the content (a tenant,
#: a host that a proxy before it has seen): a repository as it is with that field is a realm of its own.
_SAYS_WHO: Final = frozenset(
    {"authorization", "cookie", "x-forwarded-for", "x-forwarded-port", "x-forwarded-proto", "x-forwarded-server", "x-real-ip"}
)
#: Fields by which some servers and reverse proxies take another path or method than the request's own: what they say then
#: is about something else.
_OTHER_TARGET: Final = frozenset(
    {
        "x-envoy-original-path", "x-forwarded-method", "x-forwarded-path", "x-forwarded-prefix", "x-forwarded-uri",
        "x-forwarded-url", "x-http-method", "x-http-method-override", "x-method-override", "x-original-method",
        "x-original-uri", "x-original-url", "x-override-url", "x-rewrite-uri", "x-rewrite-url",
    }
)  # fmt: skip
#: Query keys that name no credential: containerd tells a mirror which registry it stands for.
_PLAIN_QUERY: Final = frozenset({"ns"})
_MAX_KEPT: Final = 16384


class WhenDown(Enum):
    """What becomes of a cached content while its upstream cannot say who may have it."""

    DENY = "deny"
    """The client gets what the upstream gives it: nothing."""
    ALLOW = "allow"
    """Whoever asks gets it."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One client's wish for one content."""

    realm: str
    """A repository of a registry (and the registry that a mirror is asked for with `ns`), or a URL without its query; with
    a keyed hash of the fields by which the upstream may take it for another one."""
    content: str
    """The content within it; nothing where the realm is one URL."""
    credential: bytes
    """Keyed hash of everything by which the upstream may know the client."""
    by_query: bool
    """Whether the URL's query carries the authorisation (a signed URL): then it holds for one method, mostly GET."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the upstream said about a content when it gave a permit."""

    headers: Headers = ()
    """Fields of the content itself."""
    length: int | None = None


def claim_of(url: str, headers: Headers, keyed_hash: Callable[[bytes], bytes]) -> Claim:
    """The claim that a request makes. `url` absolute; `keyed_hash`: a secret of this process is in it."""
    base, _, query = url.partition("#")[0].partition("?")
    scheme, _, rest = base.partition("://")
    authority, slash, path = rest.partition("/")
    user, _, place = authority.rpartition("@")
    origin = f"{scheme.lower()}://{place.lower()}"
    # Of a path that two may read differently, an answer says nothing about the repository that it seems to name.
    found = None if _OTHERWISE_READ.search(slash + path) else _REGISTRY_PATH.fullmatch(slash + path)
    realm, content = (origin + found[1], f"{found[2]}/{found[3]}") if found else (origin + slash + path, "")
    # A mirror that is asked with `ns` has a repository of this name for each registry that it stands for.
    realm += "".join(f"?{part}" for part in query.split("&") if part.partition("=")[0] in _PLAIN_QUERY)
    secret_query = "&".join(part for part in query.split("&") if part.partition("=")[0] not in _PLAIN_QUERY)
    said = sorted((name.lower(), value) for name, value in end_to_end(headers) if name.lower() not in _SAYS_NOTHING)
    if besides := [f"{name}:{value}" for name, value in said if name not in _SAYS_WHO]:
        realm += f"#{keyed_hash(_sealed(besides)).hex()}"
    credential = keyed_hash(_sealed([user, secret_query, *(f"{name}:{value}" for name, value in said)]))
    return Claim(realm, content, credential, bool(secret_query))


def _sealed(parts: list[str]) -> bytes:
    """Length-prefixed, so that no two lists read the same."""
    return "".join(f"{len(part)}:{part}," for part in parts).encode("utf-8", "surrogateescape")


def names_another_target(headers: Headers) -> bool:
    """Whether a request has a field by which its upstream may read another path or method than it says."""
    return any(name.lower().replace("_", "-") in _OTHER_TARGET for name, _ in headers)


def is_registry_api(url: str) -> bool:
    """Whether the URL is a blob's or a manifest's by a registry's API."""
    path = "/" + url.partition("#")[0].partition("?")[0].partition("://")[2].partition("/")[2]
    return _REGISTRY_PATH.fullmatch(path) is not None


def signature_ends_at(url: str, parse_time: Callable[[str], float | None]) -> float | None:
    """When a signed URL ends, in unix seconds, where its query says so in a known way (S3, GCS, CloudFront, Azure).

    `parse_time`: unix seconds of an ISO 8601 time (basic or extended), None: it is none.
    """
    query = dict(parse_qsl(url.partition("#")[0].partition("?")[2], keep_blank_values=True))
    for prefix in ("X-Amz", "X-Goog"):
        begins, lasts = parse_time(query.get(f"{prefix}-Date", "")), query.get(f"{prefix}-Expires", "")
        if begins is not None and re.fullmatch(r"[0-9]{1,9}", lasts):
            return begins + int(lasts)
    if "sig" in query and (ends := parse_time(query.get("se", ""))) is not None:
        return ends
    if re.fullmatch(r"[0-9]{9,11}", expires := query.get("Expires", "")):
        return float(expires)
    return None


class Permits:
    """What is known. Bounded: the oldest is forgotten first, and asked for again."""

    def __init__(self, *, hold_s: float) -> None:
        self._hold_s = hold_s
        self._access: OrderedDict[tuple[str, bytes], float] = OrderedDict()
        self._contents: OrderedDict[tuple[str, str], tuple[float, Facts]] = OrderedDict()

    def may_read(self, claim: Claim, now: float) -> bool:
        """Whether the claim's credential is known to read the claim's realm."""
        return self._access.get((claim.realm, claim.credential), now) > now

    def permitted(self, claim: Claim, now: float) -> Facts | None:
        """What is known of the content, where it may be given out; None: the upstream must be asked."""
        until, facts = self._contents.get((claim.realm, claim.content), (now, Facts()))
        return facts if until > now and self.may_read(claim, now) else None

    def grant(self, claim: Claim, facts: Facts, now: float, *, at_most_s: float | None = None) -> None:
        """The upstream has given this content to this credential. `at_most_s`: the credential itself ends by then."""
        self.saw_access(claim, now, at_most_s=at_most_s)
        _keep(self._contents, (claim.realm, claim.content), (now + self._hold_s, facts))

    def saw_access(self, claim: Claim, now: float, *, at_most_s: float | None = None) -> None:
        """The upstream has given something else of this realm to this credential."""
        lasts_s = self._hold_s if at_most_s is None else min(self._hold_s, at_most_s)
        _keep(self._access, (claim.realm, claim.credential), now + lasts_s)

    def refuse(self, claim: Claim) -> None:
        """The upstream has refused this content to this credential: nothing that was known of the two holds any more."""
        self._access.pop((claim.realm, claim.credential), None)
        self._contents.pop((claim.realm, claim.content), None)


def _keep(table: "OrderedDict", key: tuple, value: object) -> None:  # type: ignore[type-arg]
    table[key] = value
    table.move_to_end(key)
    while len(table) > _MAX_KEPT:
        table.popitem(last=False)
