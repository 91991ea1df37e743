"""What a manifest names: the digests of its configuration, layers and further manifests. Pure.

OCI image spec, "Image Manifest" and "Image Index"; docker's schema 1 and 2. A guest's words: what cannot be read names nothing.
"""

import json
import re
import zlib
from typing import Any, Final

#: Larger ones are not looked into: parsing takes time from everybody.
MAX_BYTES: Final = 256 << 10
_MAX_MEMBERS: Final = 1024
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")


def members_of(body: bytes, encoding: str = "") -> tuple[str, ...]:
    """`encoding`: its Content-Encoding. In the manifest's order, each digest once."""
    try:
        told = json.loads(_decoded(body, encoding))
    except (ValueError, zlib.error, RecursionError):
        return ()
    if not isinstance(told, dict):
        return ()
    lists = [told.get(name) for name in ("manifests", "layers", "blobs", "fsLayers")]
    entries: list[Any] = [told.get("config"), *(each for found in lists if isinstance(found, list) for each in found)]
    digests = [each.get("digest", each.get("blobSum")) for each in entries if isinstance(each, dict)]
    found = dict.fromkeys(each for each in digests if isinstance(each, str) and _DIGEST.fullmatch(each))
    return tuple(found)[:_MAX_MEMBERS]


def _decoded(body: bytes, encoding: str) -> bytes:
    match encoding.strip().lower():
        case "" | "identity":
            return body
        case "gzip" | "x-gzip":
            opened = zlib.decompressobj(wbits=31)
            return opened.decompress(body, MAX_BYTES)
    raise ValueError("a coding that is not read here")
