"""An image is in the swarm or out of it however its registry is named, and so is the storage that its registry sends it to."""

import asyncio
import hashlib
from collections.abc import Callable

import pytest

from gateway.config import GatewayConfig, ImageRuleConfig, MirrorConfig, ProxyRuleConfig
from tests.support.memory_peer import Held, MemoryPeer
from tests.support.raw_http import Client, Script, Seen, client, ok, permits, read_body, upstream
from tests.support.running_gateway import running_gateway

_DATA = b"layer"
_BLOB = f"sha256:{hashlib.sha256(_DATA).hexdigest()}"
_STORED = f"/docker/registry/v2/blobs/sha256/{_BLOB[7:9]}/{_BLOB[7:]}/data?X-Signature=a%2Fb"


def _asks(image: str, port: int, way: str) -> str:
    """A blob's request of an image at the registry on `port`, named as clients name it."""
    target = f"/v2/{image}/blobs/{_BLOB}"
    place = f"127.0.0.1:{port}"
    match way:
        case "proxy":
            return f"GET http://{place}{target} HTTP/1.1\r\nHost: {place}\r\n\r\n"
        case "ns":
            return f"GET {target}?ns={place} HTTP/1.1\r\nHost: mirror\r\n\r\n"
        case "header":
            return f"GET {target} HTTP/1.1\r\nHost: mirror\r\nX-Dragonfly-Registry: http://{place}\r\n\r\n"
        case "name":
            return f"GET /v2/127.0.0.1__{port}/{image}/blobs/{_BLOB} HTTP/1.1\r\nHost: mirror\r\n\r\n"
    raise ValueError(way)


def _config(port: int, *images: tuple[str, bool], **more: object) -> GatewayConfig:
    rules = tuple(ImageRuleConfig(image=f"127.0.0.1:{port}/{image}", direct=direct) for image, direct in images)
    fixed: dict[str, object] = {"port": 0, "images": rules, "proxies": (ProxyRuleConfig(regx="blobs/sha256"),)}
    return GatewayConfig(**(fixed | more))  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _held(peer: MemoryPeer) -> None:
    """The swarm has the blob: whatever is asked of it comes from there."""
    peer.hold(f"http://x/v2/x/blobs/{_BLOB}", Held(data=_DATA))


async def _in_swarm(user: Client, peer: MemoryPeer, request: str) -> bool:
    """Whether the swarm was asked. The blob has come in any case."""
    before = len(peer.requests)
    got = await user.ask(request)
    assert (got.status, got.body) == (200, _DATA), request
    return len(peer.requests) > before


@pytest.mark.parametrize("way", ["proxy", "ns", "header", "name"])
async def test_a_rule_holds_however_the_registry_is_named(peer: MemoryPeer, way: str) -> None:
    async with upstream(permits(len(_DATA), ok(_DATA))) as registry:
        config = _config(registry.port, ("team/open", False), ("team/*", True))
        async with running_gateway(config, peer) as gateway, client(gateway.port) as user:
            assert not await _in_swarm(user, peer, _asks("team/app", registry.port, way))
            assert await _in_swarm(user, peer, _asks("team/open", registry.port, way))
            assert await _in_swarm(user, peer, _asks("other/app", registry.port, way))


@pytest.mark.parametrize("way", ["ns", "header", "name"])
async def test_a_rule_of_the_mirror_is_not_one_of_a_registry_that_is_named(peer: MemoryPeer, way: str) -> None:
    async with upstream(permits(len(_DATA), ok(_DATA))) as registry, upstream(permits(len(_DATA), ok(_DATA))) as hub:
        images = tuple(
            ImageRuleConfig(image=image, direct=True) for image in ("team/app", f"127.0.0.1:{hub.port}/*", "docker.io/other/*")
        )
        mirror = MirrorConfig(remote=f"http://127.0.0.1:{hub.port}")
        async with (
            running_gateway(_config(0, images=images, registry_mirror=mirror), peer) as gateway,
            client(gateway.port) as user,
        ):
            assert await _in_swarm(user, peer, _asks("team/app", registry.port, way))
            assert not await _in_swarm(user, peer, f"GET /v2/team/app/blobs/{_BLOB} HTTP/1.1\r\nHost: x\r\n\r\n")


@pytest.mark.parametrize("image", ["team/app", "docker.io/team/app", "127.0.0.1:{port}/team/app"])
async def test_the_mirrors_images_have_docker_hubs_names_and_its_own(peer: MemoryPeer, image: str) -> None:
    async with upstream(permits(len(_DATA), ok(_DATA))) as hub:
        images = (ImageRuleConfig(image=image.format(port=hub.port), direct=True),)
        config = _config(0, images=images, registry_mirror=MirrorConfig(remote=f"http://127.0.0.1:{hub.port}"))
        async with running_gateway(config, peer) as gateway, client(gateway.port) as user:
            for query in ("", "?ns=docker.io"):
                assert not await _in_swarm(user, peer, f"GET /v2/team/app/blobs/{_BLOB}{query} HTTP/1.1\r\nHost: x\r\n\r\n")
                assert await _in_swarm(user, peer, f"GET /v2/team/apps/blobs/{_BLOB}{query} HTTP/1.1\r\nHost: x\r\n\r\n")


def _redirect(to: str) -> bytes:
    return f"HTTP/1.1 307 Temporary Redirect\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n".encode()


def _redirects(to: Callable[[Seen], str]) -> Script:
    async def script(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_body(seen, reader)
        writer.write(_redirect(to(seen)))

    return script


@pytest.mark.parametrize("way", ["proxy", "ns", "header", "name"])
async def test_the_storage_of_an_image_that_is_kept_out_is_kept_out(peer: MemoryPeer, way: str) -> None:
    async with upstream(permits(len(_DATA), ok(_DATA))) as storage:
        place = f"http://127.0.0.1:{storage.port}"
        again = f"{place}/again{_STORED}"

        def where(seen: Seen) -> str:
            return place + _STORED + ("&of=app" if "team/app" in seen.line else "&of=open")

        async with upstream(_redirects(where)) as registry:
            config = _config(registry.port, ("team/app", True))
            async with running_gateway(config, peer) as gateway, client(gateway.port) as user:
                got = await user.ask(_asks("team/app", registry.port, way))
                assert (got.status, got.get("Location")) == (307, f"{place}{_STORED}&of=app")
                for _ in range(2):
                    assert not await _in_swarm(user, peer, f"GET {place}{_STORED}&of=app HTTP/1.1\r\nHost: x\r\n\r\n")
                # As before: a URL that no registry has named, or one of an image that is in the swarm.
                assert await _in_swarm(user, peer, f"GET {place}{_STORED}&of=open HTTP/1.1\r\nHost: x\r\n\r\n")
                assert await _in_swarm(user, peer, f"GET {again} HTTP/1.1\r\nHost: x\r\n\r\n")


async def test_a_storage_that_sends_on_is_followed_too_and_images_have_the_last_word(peer: MemoryPeer) -> None:
    async with upstream(permits(len(_DATA), ok(_DATA))) as storage:
        place = f"http://127.0.0.1:{storage.port}"
        async with upstream(_redirects(lambda _: place + _STORED)) as edge:

            def where(seen: Seen) -> str:
                return f"http://127.0.0.1:{edge.port}{_STORED}" if "app" in seen.line else f"{place}/v2/team/in/blobs/{_BLOB}"

            async with upstream(_redirects(where)) as registry:
                images = (
                    ImageRuleConfig(image=f"127.0.0.1:{registry.port}/*", direct=True),
                    ImageRuleConfig(image=f"127.0.0.1:{storage.port}/team/in", direct=False),
                )
                config = _config(0, images=images)
                async with running_gateway(config, peer) as gateway, client(gateway.port) as user:
                    got = await user.ask(_asks("team/app", registry.port, "proxy"))
                    got = await user.ask(f"GET {got.get('Location')} HTTP/1.1\r\nHost: x\r\n\r\n")
                    assert (got.status, got.get("Location")) == (307, place + _STORED)
                    assert not await _in_swarm(user, peer, f"GET {place}{_STORED} HTTP/1.1\r\nHost: x\r\n\r\n")
                    got = await user.ask(_asks("team/one", registry.port, "proxy"))
                    assert await _in_swarm(user, peer, f"GET {got.get('Location')} HTTP/1.1\r\nHost: x\r\n\r\n")


async def test_a_place_on_the_registry_itself_is_where_the_client_looks_for_it(peer: MemoryPeer) -> None:
    """A relative Location is of the host that the client has asked, whatever a rule made of that."""
    async with upstream(permits(len(_DATA), ok(_DATA))) as other:

        async def script(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(ok(_DATA) if "/storage" in seen.line else _redirect("/storage/blobs/sha256/x"))

        async with upstream(script) as registry:
            rule = ProxyRuleConfig(regx=f"{other.port}.*blobs/sha256", redirect=f"127.0.0.1:{registry.port}")
            config = _config(other.port, ("team/app", True), proxies=(rule,))
            async with running_gateway(config, peer) as gateway, client(gateway.port) as user:
                got = await user.ask(_asks("team/app", other.port, "proxy"))
                assert got.get("Location") == "/storage/blobs/sha256/x"
                follow = f"GET http://127.0.0.1:{other.port}/storage/blobs/sha256/x HTTP/1.1\r\nHost: x\r\n\r\n"
                assert not await _in_swarm(user, peer, follow)
        assert other.seen == []


async def test_what_proxies_keep_out_is_one_url_as_in_1x(peer: MemoryPeer) -> None:
    async with upstream(permits(len(_DATA), ok(_DATA))) as storage:
        to = f"http://127.0.0.1:{storage.port}{_STORED}"
        async with upstream(_redirects(lambda _: to)) as registry:
            rules = (ProxyRuleConfig(regx="team/app", direct=True), ProxyRuleConfig(regx="blobs/sha256"))
            async with running_gateway(GatewayConfig(port=0, proxies=rules), peer) as gateway, client(gateway.port) as user:
                assert (await user.ask(_asks("team/app", registry.port, "proxy"))).status == 307
                assert await _in_swarm(user, peer, f"GET {to} HTTP/1.1\r\nHost: x\r\n\r\n")
