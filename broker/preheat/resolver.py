"""What a job is made of: an image's manifests, configs and layers, or a file. Driver; the reading is in broker/core/manifests.py.

A blob's URL is the registry's own: its task is keyed by the digest, so it is the one that a pull by a redirect to signed
storage has. Manifests are blobs too, by their digests: whoever takes them by the swarm asks the registry for the tag alone.
"""

import asyncio
import hashlib
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final

from broker.core.image_name import ImageUrl, parse_manifest_url
from broker.core.manifests import (
    MAX_BLOBS,
    Descriptor,
    Manifest,
    ManifestError,
    Platform,
    is_digest,
    parse_manifest,
)
from broker.core.preheat_records import Blob
from broker.preheat.registry_client import Access, RegistryClient
from wire.errors import ErrorCode
from wire.ids import digest_in_url, is_sha256_digest, task_id, url_without_secrets
from worker_peer.host.source_rules import SourceError

#: An index in an index in an index: deeper is nobody's image.
_MAX_DEPTH: Final = 3
_MAX_MANIFESTS: Final = 500
_AT_ONCE: Final = 8
#: All of an image's manifests together.
_MAX_BYTES: Final = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One blob, and the places where it may be had, in the order in which they are tried. Their queries are secret."""

    blob: Blob
    places: tuple[str, ...]


class _Walk:
    """One image."""

    def __init__(self, client: RegistryClient, image: ImageUrl, platforms: tuple[Platform, ...], access: Access) -> None:
        self._client = client
        self._image = image
        self._platforms = platforms
        self._access = access
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._found: dict[str, Found] = {}
        self._manifests = 0
        self._bytes = 0

    async def run(self) -> tuple[Found, ...]:
        await self._manifest(self._image.reference, 0)
        if len(self._found) > MAX_BLOBS:
            raise ManifestError(f"the image has more than {MAX_BLOBS} blobs")
        return tuple(self._found.values())

    async def _manifest(self, reference: str, depth: int) -> None:
        self._manifests += 1
        if depth > _MAX_DEPTH or self._manifests > _MAX_MANIFESTS:
            raise ManifestError(f"the image's indexes are deeper than {_MAX_DEPTH} or name more than {_MAX_MANIFESTS} manifests")
        async with self._turns:
            answer = await self._client.manifest(self._image.manifest(reference), self._access)
        self._bytes += len(answer.body)
        if self._bytes > _MAX_BYTES:
            raise ManifestError(f"the image's manifests are more than {_MAX_BYTES >> 20} MiB")
        manifest = parse_manifest(answer.body, answer.content_type)
        self._add_manifest(reference, manifest, answer.body, answer.digest)
        for each in manifest.blobs:
            self._add(each)
        chosen = manifest.chosen(self._platforms)
        await _all_of([self._manifest(each.digest, depth + 1) for each in chosen if self._is_new(each)])

    def _is_new(self, each: Descriptor) -> bool:
        return each.is_manifest and self._image.manifest(each.digest) not in {found.places[0] for found in self._found.values()}

    def _add_manifest(self, reference: str, manifest: Manifest, body: bytes, told: str) -> None:
        """The manifest itself, by its digest. Raises ManifestError where it is not what was asked for."""
        if not manifest.is_addressed:
            return
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        for wanted in (reference if is_digest(reference) else "", told):
            if is_sha256_digest(wanted) and wanted != digest:
                raise ManifestError(f"the registry's manifest has the digest {digest}, not {wanted}: the registry is wrong")
        self._put(Descriptor(digest=digest, size=len(body), media_type=manifest.media_type), self._image.manifest(digest), ())

    def _add(self, each: Descriptor) -> None:
        # A client asks the registry first, for it may have been given the layer all the same, then these.
        more = tuple(url for url in each.urls if url.lower().startswith(("http://", "https://")))
        self._put(each, self._image.blob(each.digest), more)

    def _put(self, each: Descriptor, url: str, more: tuple[str, ...]) -> None:
        digest = each.digest if is_sha256_digest(each.digest) else None
        task = task_id(url, digest=digest)
        blob = Blob(task=task, url=url, digest=digest, size=each.size, media_type=each.media_type, places=1 + len(more))
        self._found.setdefault(task, Found(blob=blob, places=(url, *more)))


async def _all_of(coroutines: Sequence[Coroutine[Any, Any, None]]) -> None:
    """All of them; the first failure ends the others."""
    try:
        async with asyncio.TaskGroup() as group:
            for each in coroutines:
                group.create_task(each)
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None


async def find_image(client: RegistryClient, url: str, platforms: tuple[Platform, ...], access: Access) -> tuple[Found, ...]:
    """All blobs of an image, its manifests first. Raises SourceError."""
    try:
        image = parse_manifest_url(url.partition("?")[0])
        return await _Walk(client, image, platforms, access).run()
    except ValueError as error:
        raise SourceError(ErrorCode.SOURCE_ERROR, f"{url_without_secrets(url)}: {error}") from None


def find_file(url: str, *, filters: tuple[str, ...], identifier: str | None) -> tuple[Found, ...]:
    """A file is one content, whose task a download of the same URL, filter and identifier has."""
    digest = digest_in_url(url)
    task = task_id(url, filters=filters, digest=digest, identifier=identifier)
    return (Found(blob=Blob(task=task, url=url_without_secrets(url), digest=digest), places=(url,)),)
