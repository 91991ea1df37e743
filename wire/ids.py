"""Who and what: task ids, content digests, and the query filter that signed URLs need.

A task is one content. Where the URL names the content's sha256 (a registry's blob, a registry's storage), the task is
that digest, whatever host, repository, redirect or signature the URL has: a preheat by the registry's URL and a pull by
S3's signed URL meet. Every other content is its filtered URL, the user's md5 or identifier, and the byte range, as in
Dragonfly 1.x (md5 wins over identifier; the order of the remaining query keys is kept).
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Final

_SHA256_HEX: Final = r"[0-9a-f]{64}"
# OCI distribution spec, "Pulling blobs": /v2/<name>/blobs/<digest>; a manifest by digest is content-addressed likewise.
_REGISTRY_PATH: Final = re.compile(rf"/(?:blobs|manifests)/sha256:({_SHA256_HEX})\Z")
# docker-registry's and Harbor's storage layout, which is what a registry's redirect points to.
_STORAGE_PATH: Final = re.compile(r"/blobs/sha256/([0-9a-f]{2})/(\1[0-9a-f]{62})/data\Z")
# RFC 3986 §3.1; without one, what stands first is taken for the authority, so that no password slips through.
_SCHEME: Final = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*:)?//")
_DIGEST: Final = re.compile(rf"^sha256:{_SHA256_HEX}$")
#: What a seed's peer id begins with. As in 1.x, whose users count by it what came from peers (`grep -v cdnnode`).
SEED_PREFIX: Final = "cdnnode:"
_TASK_ID: Final = re.compile(rf"^{_SHA256_HEX}$")


@dataclass(frozen=True, slots=True)
class ByteRange:
    """A part of a source: `first` to `last`, both included (RFC 9110 §14.1.2). `last` None: to the end."""

    first: int
    last: int | None

    def header(self) -> str:
        """The value of a Range request header."""
        return f"bytes={self.first}-{'' if self.last is None else self.last}"


def is_task_id(text: str) -> bool:
    """Whether `text` has a task id's form: 64 lower-case hexadecimal digits."""
    return _TASK_ID.fullmatch(text) is not None


def is_seed_id(peer: str) -> bool:
    """Whether a peer's id is a seed's."""
    return peer.startswith(SEED_PREFIX)


def is_sha256_digest(text: str) -> bool:
    """Whether `text` is `sha256:` and 64 lower-case hexadecimal digits (OCI image spec, "Digests")."""
    return _DIGEST.fullmatch(text) is not None


def digest_in_url(url: str) -> str | None:
    """The `sha256:...` that the URL's path promises its content to have, or None. Query and fragment are not looked at."""
    path = url.split("#", 1)[0].split("?", 1)[0]
    if found := _REGISTRY_PATH.search(path):
        return f"sha256:{found[1]}"
    if found := _STORAGE_PATH.search(path):
        return f"sha256:{found[2]}"
    return None


def filtered_url(url: str, filters: tuple[str, ...]) -> str:
    """The URL without the query keys named in `filters` (exact, case-sensitive); a `?` with nothing after it goes too."""
    base, mark, query = url.partition("?")
    if not mark or not filters:
        return url
    kept = [part for part in query.split("&") if part.partition("=")[0] not in filters]
    return f"{base}?{'&'.join(kept)}" if kept else base


def url_without_secrets(url: str) -> str:
    """The URL as it may be logged or shown: no user information, no query (a signature may be in it), no fragment."""
    base, mark, _ = url.split("#", 1)[0].partition("?")
    scheme = _SCHEME.match(base)
    before = scheme[0] if scheme else ""
    authority, slash, path = base[len(before) :].partition("/")
    authority = authority.rpartition("@")[2]
    return f"{before}{authority}{slash}{path}{'?...' if mark else ''}"


def task_id(
    url: str,
    *,
    filters: tuple[str, ...] = (),
    digest: str | None = None,
    md5: str | None = None,
    identifier: str | None = None,
    byte_range: ByteRange | None = None,
) -> str:
    """The one derivation of a task's id: 64 hexadecimal digits.

    `digest` is `sha256:...` of the whole content, when known; then nothing but it and the range enters.
    """
    if digest is not None:
        parts = ["digest", digest]
    else:
        parts = ["url", filtered_url(url, filters), md5 or identifier or ""]
    parts.append(byte_range.header() if byte_range else "")
    # Length-prefixed, so that no two lists of parts read the same.
    sealed = "".join(f"{len(part)}:{part}," for part in ["damselfly-task-1", *parts])
    return hashlib.sha256(sealed.encode()).hexdigest()
