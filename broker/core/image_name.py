"""Image names as docker reads them, and the URLs of the registry API (OCI distribution spec). Pure.

`busybox` is `registry-1.docker.io/library/busybox:latest`; `localhost:5000/a:1` and `registry.example/a@sha256:...` name
their registry (distribution/reference).
"""

import re
from dataclasses import dataclass
from typing import Final

_HUB: Final = "registry-1.docker.io"
_HUB_NAMES: Final = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"})
_REPOSITORY: Final = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
_REFERENCE: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}|[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[A-Za-z0-9=_-]{32,256}")
_REGISTRY: Final = re.compile(r"(?:\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?")
_MANIFEST_URL: Final = re.compile(r"(?P<root>https?://[^/?#]+(?:/[^?#]*?)?)/v2/(?P<name>[^?#]+)/manifests/(?P<reference>[^/?#]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageUrl:
    """An image's manifest in a registry."""

    #: Scheme, host and what may stand before /v2/.
    root: str
    #: The repository's name.
    name: str
    #: A tag or a digest.
    reference: str

    def manifest(self, reference: str) -> str:
        """The URL of a manifest of the same repository."""
        return f"{self.root}/v2/{self.name}/manifests/{reference}"

    def blob(self, digest: str) -> str:
        """The URL of a blob of the same repository."""
        return f"{self.root}/v2/{self.name}/blobs/{digest}"


def parse_manifest_url(url: str) -> ImageUrl:
    """`http(s)://host/v2/<name>/manifests/<reference>`. Raises ValueError."""
    found = _MANIFEST_URL.fullmatch(url)
    if found is None or not _REFERENCE.fullmatch(found["reference"]):
        raise ValueError("an image's url is https://<registry>/v2/<repository>/manifests/<tag or digest>")
    return ImageUrl(root=found["root"], name=found["name"], reference=found["reference"])


def manifest_url_of(image: str, *, plain_http: bool = False) -> str:
    """The manifest's URL of an image as `docker pull` takes it. A registry on this host is asked by http, as docker does.

    Raises ValueError.
    """
    first, slash, rest = image.partition("/")
    is_registry = bool(slash) and (first == "localhost" or any(mark in first for mark in ".:["))
    registry, path = (first, rest) if is_registry else (_HUB, image)
    path, at, digest = path.partition("@")
    name, colon, tag = path.rpartition(":")
    if not colon:
        name, tag = path, "latest"
    if registry.lower() in _HUB_NAMES:
        registry = _HUB
        name = name if "/" in name else f"library/{name}"
    reference = digest if at else tag
    if not (_REPOSITORY.fullmatch(name) and _REFERENCE.fullmatch(reference) and _REGISTRY.fullmatch(registry)):
        raise ValueError(
            f"{image[:120]!r} is no image name; allowed: busybox, team/app:1.2, registry.example:5000/app@sha256:..."
        )
    host = registry.rpartition(":")[0] or registry
    is_here = host in ("localhost", "[::1]") or host.startswith("127.")
    return f"{'http' if plain_http or is_here else 'https'}://{registry}/v2/{name}/manifests/{reference}"
