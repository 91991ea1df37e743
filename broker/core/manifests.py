"""What a registry's manifest names: blobs, further manifests, platforms. Text in, descriptors out; nothing is fetched here.

Docker's schema 1 and 2 and manifest list, OCI's image manifest, index and (withdrawn) artifact manifest; any other media
type of a layer or config is a blob like any other. Sources: OCI image spec 1.1, docker's distribution spec.
"""

import json
import re
from dataclasses import dataclass
from typing import Any, Final

#: Registries refuse larger ones (OCI distribution spec, "Pushing Manifests").
MAX_MANIFEST_BYTES: Final = 4 << 20
#: An image has tens of them; what names more is no image, and is not followed.
MAX_BLOBS: Final = 10_000
_SCHEMA_1: Final = (
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
    "application/vnd.docker.distribution.manifest.v1+json",
)
_INDEXES: Final = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_MANIFESTS: Final = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.artifact.manifest.v1+json",
)
#: What a registry may answer with. Schema 1 last: some registries convert into it for whoever prefers it.
ACCEPT: Final = ", ".join((*_INDEXES, *_MANIFESTS, *(f"{kind};q=0.1" for kind in _SCHEMA_1)))
_DIGEST: Final = re.compile(r"[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[A-Za-z0-9=_-]{32,256}")
_PLATFORM: Final = re.compile(r"[a-z0-9_.-]+/[a-z0-9_.-]+(/[a-z0-9_.-]+)?")
#: A variant that is meant where none is named (containerd's platforms.Normalize).
_USUAL_VARIANTS: Final = {"arm64": "v8", "arm": "v7", "amd64": "v1"}


class ManifestError(ValueError):
    """What a registry gave is no manifest, or names nothing that can be preheated. The text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """What an image runs on."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))

    def matches(self, wanted: "Platform") -> bool:
        """Whether it is the wanted one. A variant that is not named on either side is the usual one."""
        if (self.os, self.architecture) != (wanted.os, wanted.architecture):
            return False
        usual = _USUAL_VARIANTS.get(self.architecture, "")
        return (not wanted.variant and not usual) or (self.variant or usual) == (wanted.variant or usual)


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptor:
    """One content that a manifest names."""

    digest: str
    #: Bytes; None: schema 1 does not tell.
    size: int | None
    media_type: str
    #: Where else it may be had (layers that may not be distributed).
    urls: tuple[str, ...] = ()
    platform: Platform | None = None

    @property
    def is_manifest(self) -> bool:
        """Whether an index means a manifest by it: what it names besides, clients skip (OCI image spec, image index)."""
        return self.media_type in ("", *_INDEXES, *_MANIFESTS, *_SCHEMA_1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a manifest names."""

    media_type: str
    #: Config and layers.
    blobs: tuple[Descriptor, ...] = ()
    #: Manifests of an index, all of them.
    manifests: tuple[Descriptor, ...] = ()

    @property
    def is_addressed(self) -> bool:
        """Whether its bytes have the digest that it is asked for by; schema 1 is signed, and only its payload has."""
        return self.media_type not in _SCHEMA_1

    def chosen(self, platforms: tuple[Platform, ...]) -> tuple[Descriptor, ...]:
        """The manifests of these platforms; none named: all, attestations too. Raises ManifestError where one is missing."""
        if not platforms or self.media_type not in _INDEXES:
            return self.manifests
        found: dict[str, Descriptor] = {}
        for wanted in platforms:
            matching = [each for each in self.manifests if each.platform is not None and each.platform.matches(wanted)]
            # An index in an index tells no platform: what it has is seen when it is read.
            matching += [each for each in self.manifests if each.platform is None and each.media_type in _INDEXES]
            if not matching:
                there = sorted({str(each.platform) for each in self.manifests if each.platform is not None})
                raise ManifestError(f"the image has no platform {wanted}; it has {', '.join(there[:20]) or 'none that is named'}")
            found |= {each.digest: each for each in matching}
        return tuple(found.values())


def parse_platform(text: str) -> Platform:
    """`linux/amd64`, `linux/arm64/v8`. Raises ValueError."""
    lowered = text.strip().lower()
    if not _PLATFORM.fullmatch(lowered):
        raise ValueError(f"{text[:60]!r} is no platform; allowed: os/architecture or os/architecture/variant, as linux/arm64/v8")
    os, architecture, *rest = lowered.split("/")
    return Platform(os=os, architecture=architecture, variant=rest[0] if rest else "")


def is_digest(text: str) -> bool:
    """Whether a reference is a digest, `algorithm:encoded` (OCI image spec, "Digests")."""
    return _DIGEST.fullmatch(text) is not None


def parse_manifest(body: bytes, content_type: str) -> Manifest:
    """A manifest as a registry gave it. Raises ManifestError."""
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        raise ManifestError("the registry's answer is no JSON: check the URL") from None
    if not isinstance(told, dict):
        raise ManifestError("the registry's answer is no manifest: check the URL")
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type not in (*_INDEXES, *_MANIFESTS, *_SCHEMA_1):
        media_type = _guessed(told)
    if media_type in _SCHEMA_1:
        blobs = _many(told, "fsLayers", lambda each: Descriptor(digest=_digest(each.get("blobSum")), size=None, media_type=""))
        return Manifest(media_type=media_type, blobs=_each_once(blobs))
    # A document that is both could be read as either: registries and clients must not disagree (GHSA-77vh-xpmg-72qh).
    if "manifests" in told and ("layers" in told or "blobs" in told):
        raise ManifestError("the manifest names both manifests and layers: it is refused, as clients do")
    if media_type in _INDEXES:
        return Manifest(media_type=media_type, manifests=_each_once(_many(told, "manifests", _descriptor)))
    blobs = _many(told, "layers", _descriptor) + _many(told, "blobs", _descriptor)
    if told.get("config") is not None:
        blobs.insert(0, _descriptor(told["config"]))
    if not blobs:
        raise ManifestError("the manifest names no blob")
    return Manifest(media_type=media_type, blobs=_each_once(blobs))


def _guessed(told: dict[str, Any]) -> str:
    """The media type of a document that came without one that is known."""
    named = told.get("mediaType")
    if isinstance(named, str) and named in (*_INDEXES, *_MANIFESTS):
        return named
    if told.get("schemaVersion") == 1 and "fsLayers" in told:
        return _SCHEMA_1[0]
    if "manifests" in told:
        return _INDEXES[0]
    if "layers" in told or "blobs" in told:
        return _MANIFESTS[0]
    raise ManifestError("the registry's answer is no manifest that is known: check the URL")


def _many(told: dict[str, Any], key: str, read: Any) -> list[Descriptor]:
    values = told.get(key) or []
    if not isinstance(values, list) or len(values) > MAX_BLOBS:
        raise ManifestError(f"the manifest's {key} are no list of at most {MAX_BLOBS}")
    if not all(isinstance(each, dict) for each in values):
        raise ManifestError(f"the manifest's {key} are no descriptors")
    return [read(each) for each in values]


def _descriptor(told: Any) -> Descriptor:
    if not isinstance(told, dict):
        raise ManifestError("the manifest's config is no descriptor")
    size = told.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= 1 << 44:
        raise ManifestError("the manifest names a content without its size")
    media_type, urls = told.get("mediaType"), told.get("urls") or []
    if not isinstance(urls, list) or not all(isinstance(each, str) and len(each) <= 8192 for each in urls):
        raise ManifestError("the manifest's urls are no list of URLs")
    return Descriptor(
        digest=_digest(told.get("digest")),
        size=size,
        media_type=media_type[:256] if isinstance(media_type, str) else "",
        urls=tuple(urls[:8]),
        platform=_platform(told.get("platform")),
    )


def _platform(told: Any) -> Platform | None:
    if not isinstance(told, dict):
        return None
    names = [told.get(key) or "" for key in ("os", "architecture", "variant")]
    if not all(isinstance(name, str) and len(name) <= 64 for name in names):
        return None
    return Platform(os=names[0].lower(), architecture=names[1].lower(), variant=names[2].lower())


def _digest(told: Any) -> str:
    if not isinstance(told, str) or not is_digest(told):
        raise ManifestError("the manifest names a content without a digest that is one")
    return told


def _each_once(found: list[Descriptor]) -> tuple[Descriptor, ...]:
    return tuple({each.digest: each for each in found}.values())
