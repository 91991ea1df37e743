"""Requests for manifests by digest: which URLs are that, whose rule they follow, and which clients know the type. Pure.

A manifest under its digest never changes (OCI distribution spec, "Pulling manifests"), but a registry may answer a client
according to Accept: with another type, or with 404 where the client does not name the manifest's own (docker-registry does
so for OCI's types). So the cache answers only who names the type; everybody else is the registry's to answer.
"""

import re
from typing import Final

from gateway.core.headers import Headers, listed

_BY_DIGEST: Final = re.compile(r"(.*/v2/.+)/manifests/(sha256:[0-9a-f]{64})")


def is_by_digest(url: str) -> bool:
    """Whether a URL, or a path with its query, is a manifest's under its digest."""
    return _BY_DIGEST.fullmatch(url.partition("#")[0].partition("?")[0]) is not None


def as_blob(url: str) -> str:
    """The URL that a blob of that digest would have in the same repository: what rules are asked about."""
    path, mark, query = url.partition("#")[0].partition("?")
    found = _BY_DIGEST.fullmatch(path)
    return f"{found[1]}/blobs/{found[2]}{mark}{query}" if found else url


def names_a_type(headers: Headers) -> bool:
    """Whether the client's Accept names any type, rather than a range of types or nothing."""
    return any("*" not in each.partition(";")[0] for each in listed(headers, "Accept"))


def names(headers: Headers, content_type: str) -> bool:
    """Whether the client's Accept names this very type, and not with q=0 (RFC 9110 §12.4.2)."""
    wanted = content_type.partition(";")[0].strip().lower()
    for each in listed(headers, "Accept"):
        kind, *parameters = (part.strip() for part in each.split(";"))
        if kind == wanted:
            return not any(re.fullmatch(r"q=0(?:\.0{0,3})?", part) for part in parameters)
    return False
