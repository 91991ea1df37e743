"""What a request is about, by its URL: a manifest, a blob, a token for one repository, or something else. Pure.

OCI distribution spec, end-2 and end-3. No part of a query is kept: signatures and tokens stand there.
"""

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final
from urllib.parse import unquote

from gateway.core.images import canonical_host
from wire.ids import digest_in_url, url_without_secrets

_PATH: Final = re.compile(r"/v2/(?P<name>.+)/(?P<what>manifests|blobs)/(?P<reference>[^/]+)")
_REPOSITORY: Final = re.compile(r"/v2/(?P<name>.+)/(?:manifests|blobs|tags|referrers)/.*")
_SCOPE: Final = re.compile(r"(?:^|&)scope=([^&]*)")
_SCOPE_NAME: Final = re.compile(r"repository(?:\([a-z]+\))?:(?P<name>.+):[^:]*")
_MAX_URL: Final = 512
_MAX_NAME: Final = 256


class Kind(Enum):
    """Of what kind. The value stands in files: never changed."""

    MANIFEST = "manifest"
    BLOB = "blob"
    TOKEN = "token"  # noqa: S105
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A URL's meaning. What it does not tell is empty."""

    kind: Kind = Kind.OTHER
    url: str = ""
    registry: str = ""
    """As in an image's name: `registry.example:5000`, `docker.io`."""
    repository: str = ""
    reference: str = ""
    """A tag or a digest."""
    digest: str = ""

    @property
    def name(self) -> str:
        """`registry/repository`."""
        return f"{self.registry}/{self.repository}"


def subject_of(url: str) -> Subject:
    """Of an absolute URL, or of a path of the gateway's own."""
    shown = url_without_secrets(url)[:_MAX_URL]
    host, slash, tail = url.partition("://")[2].partition("/") if "://" in url else ("", "", url)
    path, _, query = (slash + tail).partition("?")
    registry = canonical_host(host.rpartition("@")[2].lower())[:_MAX_NAME]
    digest = digest_in_url(url) or ""
    if found := _PATH.fullmatch(path):
        reference = unquote(found["reference"])[:_MAX_NAME]
        if found["what"] == "manifests":
            kind = Kind.MANIFEST
            digest = reference if reference.startswith("sha256:") else ""
        else:
            kind = Kind.BLOB if digest else Kind.OTHER
        return Subject(
            kind=kind, url=shown, registry=registry, repository=found["name"][:_MAX_NAME], reference=reference, digest=digest
        )
    if (scope := _SCOPE.search(query)) and (named := _SCOPE_NAME.fullmatch(unquote(scope[1]))):
        return Subject(kind=Kind.TOKEN, url=shown, registry=registry, repository=named["name"][:_MAX_NAME])
    if found := _REPOSITORY.fullmatch(path):
        return Subject(url=shown, registry=registry, repository=found["name"][:_MAX_NAME], digest=digest)
    return Subject(kind=Kind.BLOB if digest else Kind.OTHER, url=shown, registry=registry, digest=digest)
