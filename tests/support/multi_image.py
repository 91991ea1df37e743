"""Images of several platforms, pushed to a real registry by its HTTP API: manifests, indexes, attestations, artifacts.

By the OCI distribution specification, "Pushing blobs" and "Pushing manifests". Contents are random, by their seed.
"""

import hashlib
import json
import random
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urljoin

MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
INDEX: Final = "application/vnd.oci.image.index.v1+json"
DOCKER_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
_LAYER: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
_OPENER: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def digest_of(content: bytes) -> str:
    """sha256, as registries write it."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


@dataclass(slots=True)
class MultiImage:
    """What was pushed."""

    name: str
    tag: str
    #: The top manifest's digest.
    digest: str
    #: By platform: the manifest's digest, and bytes of each config and layer by digest.
    manifests: dict[str, str] = field(default_factory=dict)
    blobs: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def every_blob(self) -> set[str]:
        """Of all platforms."""
        return {digest for blobs in self.blobs.values() for digest in blobs}


class Pusher:
    """Pushes to one registry, which wants no credentials."""

    def __init__(self, root: str) -> None:
        self.root = root

    def call(self, method: str, url: str, body: bytes | None, kind: str) -> Any:
        """One request; the answer's headers. Raises urllib's HTTPError."""
        request = urllib.request.Request(urljoin(self.root, url), data=body, method=method)
        request.add_header("Content-Type", kind)
        with _OPENER.open(request, timeout=60) as answer:
            answer.read()
            return answer.headers

    def blob(self, name: str, content: bytes, media_type: str) -> dict[str, Any]:
        """Push a blob. Returns its descriptor."""
        place = self.call("POST", f"/v2/{name}/blobs/uploads/", b"", "application/octet-stream")["Location"]
        mark = "&" if "?" in place else "?"
        self.call("PUT", f"{place}{mark}digest={digest_of(content)}", content, "application/octet-stream")
        return {"mediaType": media_type, "digest": digest_of(content), "size": len(content)}

    def manifest(self, name: str, document: dict[str, Any], media_type: str, reference: str = "") -> dict[str, Any]:
        """Push a manifest by a tag, or by its digest. Returns its descriptor."""
        body = json.dumps({"schemaVersion": 2, "mediaType": media_type, **document}).encode()
        self.call("PUT", f"/v2/{name}/manifests/{reference or digest_of(body)}", body, media_type)
        return {"mediaType": media_type, "digest": digest_of(body), "size": len(body)}

    def image(self, name: str, platform: str, layers: list[bytes]) -> tuple[dict[str, Any], dict[str, int]]:
        """Push one platform's image. Returns its manifest's descriptor, and bytes by digest of its config and layers."""
        os, architecture, *variant = platform.split("/")
        told = {"os": os, "architecture": architecture, "author": name, "rootfs": {"type": "layers", "diff_ids": []}}
        config = json.dumps(told).encode()
        described = [self.blob(name, content, _LAYER) for content in layers]
        document = {"config": self.blob(name, config, _CONFIG), "layers": described}
        manifest = self.manifest(name, document, MANIFEST)
        manifest["platform"] = {"os": os, "architecture": architecture, **({"variant": variant[0]} if variant else {})}
        return manifest, {digest_of(content): len(content) for content in (config, *layers)}

    def multi(self, name: str, tag: str, platforms: list[str], layer_bytes: list[int], *, shared: bytes = b"") -> MultiImage:
        """Push an image of these platforms, each with layers of its own (and `shared` below them), and an attestation."""
        made = MultiImage(name=name, tag=tag, digest="")
        entries = []
        for platform in platforms:
            rng = random.Random(f"{name}:{tag}:{platform}")
            layers = [rng.randbytes(size) for size in layer_bytes]
            entry, made.blobs[platform] = self.image(name, platform, [shared, *layers] if shared else layers)
            made.manifests[platform] = entry["digest"]
            entries.append(entry)
        attestation, _ = self.image(name, "unknown/unknown", [b'{"_type":"https://in-toto.io/Statement/v0.1"}'])
        entries.append({**attestation, "annotations": {"vnd.docker.reference.type": "attestation-manifest"}})
        made.digest = self.manifest(name, {"manifests": entries}, INDEX, tag)["digest"]
        return made
