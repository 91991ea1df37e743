"""A real, pullable docker image out of nothing: layers of random data, deterministic by their seed.

`python -m tests.support.image OUT --seed S --layer-bytes N [N...] --push http://HOST:PORT/name:tag` makes, pushes, and
prints one JSON object {id, layers: {digest: bytes}, ...}. Media types: docker's schema 2.
"""

import argparse
import hashlib
import http.client
import io
import json
import random
import tarfile
import zlib
from dataclasses import asdict, dataclass, field
from typing import Final
from urllib.parse import quote, urlsplit

_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG: Final = "application/vnd.docker.container.image.v1+json"
_LAYER: Final = "application/vnd.docker.image.rootfs.diff.tar.gzip"


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """What was pushed."""

    #: Digest of the config, which is what docker calls the image's id.
    id: str
    #: Digest of the manifest.
    manifest: str
    #: Bytes of every blob (layers and config) by its digest.
    blobs: dict[str, int] = field(default_factory=dict)


def _layer(seed: str, number: int, size: int) -> tuple[bytes, str]:
    """A gzip of a tar with one random file (stored, not deflated, so that sizes are as asked), and the tar's digest."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        member = tarfile.TarInfo(f"data/{seed}-{number}.bin")
        member.size, member.mtime = size, 1_700_000_000
        archive.addfile(member, io.BytesIO(random.Random(f"{seed}/{number}").randbytes(size)))
    packer = zlib.compressobj(0, zlib.DEFLATED, 31)
    return packer.compress(plain.getvalue()) + packer.flush(), _digest(plain.getvalue())


def _digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def _json(document: dict[str, object]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def make_and_push(seed: str, layer_bytes: list[int], target: str) -> Image:
    """Make an image and push it to `target`, `http://HOST:PORT/name:tag`."""
    layers = [_layer(seed, number, size) for number, size in enumerate(layer_bytes)]
    config = _json(
        {
            "architecture": "amd64",
            "os": "linux",
            "created": "2023-11-14T22:13:20Z",
            "config": {"Cmd": ["/bin/true"]},
            "rootfs": {"type": "layers", "diff_ids": [plain for _, plain in layers]},
            "history": [{"created": "2023-11-14T22:13:20Z", "created_by": f"layer {number}"} for number in range(len(layers))],
        }
    )
    contents = {_digest(packed): packed for packed, _ in layers}
    described = [{"mediaType": _LAYER, "digest": digest, "size": len(packed)} for digest, packed in contents.items()]
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": {"mediaType": _CONFIG, "digest": _digest(config), "size": len(config)},
            "layers": described,
        }
    )
    blobs = {**contents, _digest(config): config}
    _push(target, blobs, manifest)
    sizes = {digest: len(content) for digest, content in blobs.items()}
    return Image(id=_digest(config), manifest=_digest(manifest), blobs=sizes)


def _push(target: str, blobs: dict[str, bytes], manifest: bytes) -> None:
    """By the OCI distribution specification, "Pushing blobs": POST, then PUT of the whole blob."""
    parts = urlsplit(target)
    name, _, tag = parts.path.lstrip("/").rpartition(":")
    connection = http.client.HTTPConnection(parts.netloc, timeout=60)

    def call(method: str, path: str, body: bytes | None, kind: str, wanted: int) -> str:
        connection.request(method, path, body=body, headers={"Content-Type": kind, "Content-Length": str(len(body or b""))})
        answer = connection.getresponse()
        text = answer.read()
        assert answer.status == wanted, f"{method} {path}: {answer.status} {text[:200]!r}"
        return answer.getheader("Location") or ""

    for digest, content in blobs.items():
        place = urlsplit(call("POST", f"/v2/{name}/blobs/uploads/", None, "application/octet-stream", 202))
        query = f"{place.query}&" if place.query else ""
        call("PUT", f"{place.path}?{query}digest={quote(digest)}", content, "application/octet-stream", 201)
    call("PUT", f"/v2/{name}/manifests/{tag}", manifest, _MANIFEST, 201)
    connection.close()


def main() -> None:
    """Make one image as the command line says."""
    parser = argparse.ArgumentParser(prog="image", allow_abbrev=False)
    parser.add_argument("--seed", required=True)
    parser.add_argument("--layer-bytes", type=int, nargs="+", required=True)
    parser.add_argument("--push", required=True, metavar="http://HOST:PORT/name:tag")
    arguments = parser.parse_args()
    print(json.dumps(asdict(make_and_push(arguments.seed, arguments.layer_bytes, arguments.push))))


if __name__ == "__main__":
    main()
