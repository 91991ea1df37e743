"""Manifests by digest out of the swarm: as whom, of which type, with which fields, and how often the registry is asked."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from gateway.config import GatewayConfig, ProxyRuleConfig
from tests.support.memory_peer import Held, MemoryPeer
from tests.support.raw_http import Got, RawUpstream, Seen, client, upstream
from tests.support.running_gateway import running_gateway

_TYPE = "application/vnd.oci.image.manifest.v1+json"
_DATA = b'{"schemaVersion": 2}'
_DIGEST = "sha256:" + hashlib.sha256(_DATA).hexdigest()
_ACCEPT = f"Accept: application/vnd.docker.distribution.manifest.v2+json, {_TYPE}, */*"
_CONFIG = GatewayConfig(port=0, proxies=(ProxyRuleConfig(regx="blobs/sha256.*"),))


@dataclass(kw_only=True)
class World:
    """A registry as docker-registry is: 404 for who does not name the type."""

    named: str = _DIGEST
    readers: set[str] = field(default_factory=lambda: {"Bearer alice"})
    port: int = 0
    origin: RawUpstream = field(init=False)

    async def answer(self, seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request."""
        method = seen.line.split(" ")[0]
        if (seen.get("Authorization") or [""])[0] not in self.readers:
            writer.write(b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=x\r\nContent-Length: 0\r\n\r\n")
        elif _TYPE not in ",".join(seen.get("Accept") or []):
            writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        else:
            fields = [f"Content-Type: {_TYPE}", f"Docker-Content-Digest: {self.named}", f'ETag: "{_DIGEST}"']
            head = "\r\n".join(["HTTP/1.1 200 OK", *fields, f"Content-Length: {len(_DATA)}", "", ""]).encode()
            writer.write(head if method == "HEAD" else head + _DATA)

    async def ask(self, method: str, *fields: str, who: str = "Bearer alice") -> Got:
        """What one client gets."""
        url = f"http://127.0.0.1:{self.origin.port}/v2/team/app/manifests/{_DIGEST}"
        async with client(self.port) as user:
            lines = [f"{method} {url} HTTP/1.1", "Host: x", f"Authorization: {who}", *fields, "", ""]
            return await user.ask("\r\n".join(lines), method=method)

    def asked(self) -> list[str]:
        """Methods of the registry's requests."""
        return [seen.line.split(" ")[0] for seen in self.origin.seen]


@asynccontextmanager
async def _world(peer: MemoryPeer) -> AsyncIterator[World]:
    peer.hold(f"http://x/v2/a/blobs/{_DIGEST}", Held(data=_DATA))
    world = World()
    async with upstream(world.answer) as origin, running_gateway(_CONFIG, peer) as gateway:
        world.origin, world.port = origin, gateway.port
        yield world


def _about(got: Got) -> list[str | None]:
    return [got.get(name) for name in ("Content-Type", "Docker-Content-Digest", "ETag", "Content-Length")]


_TOLD = [_TYPE, _DIGEST, f'"{_DIGEST}"', str(len(_DATA))]


async def test_it_comes_out_of_the_swarm_as_the_registry_would_give_it(peer: MemoryPeer) -> None:
    async with _world(peer) as world:
        for _ in range(2):
            got = await world.ask("GET", _ACCEPT)
            assert (got.status, got.body, _about(got)) == (200, _DATA, _TOLD)
        head = await world.ask("HEAD", _ACCEPT)
        assert (head.status, head.body, _about(head)) == (200, b"", _TOLD)
        assert (await world.ask("HEAD", _ACCEPT, f'If-None-Match: "{_DIGEST}"')).status == 304
        assert world.asked() == ["HEAD"]


async def test_a_client_s_own_head_is_the_question(peer: MemoryPeer) -> None:
    async with _world(peer) as world:
        for _ in range(2):
            assert _about(await world.ask("HEAD", _ACCEPT)) == _TOLD
        got = await world.ask("GET", _ACCEPT)
        assert (got.body, _about(got)) == (_DATA, _TOLD)
        assert world.asked() == ["HEAD"]
        assert len(peer.requests) == 1


async def test_a_page_that_does_not_say_to_be_the_manifest_is_no_word_on_it(peer: MemoryPeer) -> None:
    async with _world(peer) as world:
        world.named = "sha256:" + "0" * 64
        for _ in range(2):
            assert (await world.ask("HEAD", _ACCEPT)).status == 200
        assert world.asked() == ["HEAD"] * 2


async def test_whom_the_registry_refuses_gets_its_refusal(peer: MemoryPeer) -> None:
    async with _world(peer) as world:
        assert (await world.ask("GET", _ACCEPT)).status == 200
        for method in ("HEAD", "GET"):
            got = await world.ask(method, _ACCEPT, who="Bearer bob")
            assert (got.status, got.get("WWW-Authenticate")) == (401, "Basic realm=x")
        assert len(peer.requests) == 1


async def test_who_does_not_name_the_type_gets_what_the_registry_says(peer: MemoryPeer) -> None:
    async with _world(peer) as world:
        assert (await world.ask("GET", _ACCEPT)).status == 200
        for accept in ("Accept: */*", "Accept: a/b", f"Accept: a/b, {_TYPE.replace('v1', 'v9')}", "X-None: x"):
            for method in ("GET", "HEAD"):
                assert (await world.ask(method, accept)).status == 404
        # Nor does such an answer take the others' permit away.
        asked = world.asked()
        assert (await world.ask("GET", _ACCEPT)).status == 200
        assert world.asked() == asked
