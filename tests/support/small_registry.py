"""A registry in the test's own process that does what a real one never would: wrong digests, odd challenges, redirects.

Serves what it is given, byte for byte; tokens where it is told to. Real registries are in tests/docker.
"""

import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from wire.ids import task_id

OCI = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def digest_of(content: bytes) -> str:
    """sha256, as registries write it."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def task_of(digest: str) -> str:
    """The task of a content by its digest."""
    return task_id("", digest=digest)


def described(content: bytes, media_type: str = LAYER, **more: Any) -> dict[str, Any]:
    """A descriptor."""
    return {"mediaType": media_type, "digest": digest_of(content), "size": len(content), **more}


@dataclass(slots=True)
class Asked:
    """One request."""

    method: str
    path: str
    query: str
    authorization: str
    accept: str


@dataclass(slots=True)
class SmallRegistry:
    """One registry with its token server."""

    port: int = 0
    #: Path to what a GET of it is answered: body and content type.
    answers: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    #: Path to where it redirects.
    redirects: dict[str, str] = field(default_factory=dict)
    #: WWW-Authenticate, where requests without `wanted` as Authorization are refused.
    challenge: str = ""
    wanted: str = ""
    token: dict[str, Any] | None = None
    #: Authorization that the token server wants; empty: none.
    token_wants: str = ""
    digest_header: str | None = None
    lengths: dict[str, int] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)

    @property
    def root(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    def manifest(self, name: str, document: dict[str, Any], media_type: str = OCI, tag: str = "", *, told_as: str = "") -> str:
        """Serve a manifest by its digest, and by a tag. Returns the digest."""
        body = json.dumps({"schemaVersion": 2, "mediaType": media_type, **document}).encode()
        return self.raw_manifest(name, body, told_as or media_type, tag)

    def raw_manifest(self, name: str, body: bytes, content_type: str, tag: str = "") -> str:
        """Serve any bytes as a manifest."""
        digest = digest_of(body)
        self.lengths[task_of(digest)] = len(body)
        for reference in filter(None, (digest, tag)):
            self.answers[f"/v2/{name}/manifests/{reference}"] = (body, content_type)
        return digest

    def image(self, name: str, tag: str, layers: list[bytes], *, config: bytes = b'{"os":"linux","architecture":"amd64"}') -> str:
        """Serve an image's manifest. Returns its digest."""
        for content in (config, *layers):
            self.lengths[task_of(digest_of(content))] = len(content)
        document = {"config": described(config, CONFIG), "layers": [described(each) for each in layers]}
        return self.manifest(name, document, tag=tag)

    def gets(self, path: str) -> list[Asked]:
        """Requests of a path."""
        return [each for each in self.asked if each.path == path]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Any request."""
        path, given = request.path, request.headers.get("Authorization", "")
        self.asked.append(Asked(request.method, path, request.query_string, given, request.headers.get("Accept", "")))
        if path == "/token":
            if self.token is None or (self.token_wants and given != self.token_wants):
                return web.Response(status=401)
            return web.json_response(self.token)
        if self.challenge and given != self.wanted:
            return web.Response(status=401, headers={"WWW-Authenticate": self.challenge})
        if path in self.redirects:
            return web.Response(status=307, headers={"Location": self.redirects[path]})
        if path not in self.answers:
            return web.json_response({"errors": [{"code": "MANIFEST_UNKNOWN"}]}, status=404)
        body, content_type = self.answers[path]
        headers = {"Content-Type": content_type}
        if self.digest_header is not None:
            headers["Docker-Content-Digest"] = self.digest_header
        return web.Response(body=body, headers=headers)


@asynccontextmanager
async def small_registry() -> AsyncIterator[SmallRegistry]:
    """One that ends with the context."""
    registry = SmallRegistry()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", registry.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    registry.port = runner.addresses[0][1]
    try:
        yield registry
    finally:
        await runner.cleanup()
