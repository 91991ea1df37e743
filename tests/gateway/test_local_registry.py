"""The gateway as a registry of its own name: whom a token is asked of, and whose credentials go where."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import quote

import pytest

from gateway.config import BasicAuthConfig, GatewayConfig, HijackConfig, HijackHostConfig, MirrorConfig, WhiteListConfig
from tests.support.memory_peer import MemoryPeer
from tests.support.raw_http import Got, RawUpstream, Script, Seen, client, ok, upstream
from tests.support.running_gateway import Pair, running_gateway

_TOKEN = json.dumps({"token": "of-the-realm"}).encode()


def _challenges(challenge: str) -> Script:
    async def script(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if seen.get("Authorization"):
            writer.write(ok(b"in"))
        else:
            writer.write(f"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: {challenge}\r\nContent-Length: 0\r\n\r\n".encode())

    return script


async def _gives_tokens(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(ok(_TOKEN, "Content-Type: application/json"))


@dataclass(kw_only=True)
class Two:
    """A registry and its server of tokens."""

    registry: RawUpstream
    realm: RawUpstream

    @property
    def place(self) -> str:
        """The registry in an image's name."""
        return f"127.0.0.1__{self.registry.port}"


@asynccontextmanager
async def _two(challenge: str = "") -> AsyncIterator[Two]:
    async with upstream(_gives_tokens) as realm:
        said = challenge or f'Bearer realm="http://127.0.0.1:{realm.port}/token",service="it"'
        async with upstream(_challenges(said)) as registry:
            yield Two(registry=registry, realm=realm)


def _basic(user: str, password: str = "secret") -> str:
    return f"Authorization: Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


async def _token(port: int, place: str, *fields: str) -> Got:
    scope = quote(f"repository:{place}/team/app:pull", safe="")
    async with client(port) as user:
        head = [f"GET /_damselfly/token?scope={scope} HTTP/1.1", f"Host: localhost:{port}", *fields, "", ""]
        return await user.ask("\r\n".join(head))


async def test_a_token_is_asked_of_the_server_that_the_registry_names(peer: MemoryPeer) -> None:
    async with _two() as two, running_gateway(GatewayConfig(port=0), peer) as gateway:
        got = await _token(gateway.port, two.place, _basic("me"))
        assert got.body == _TOKEN
        (asked,) = two.realm.seen
        assert asked.line == "GET /token?service=it&scope=repository%3Ateam%2Fapp%3Apull HTTP/1.1"
        assert asked.get("Authorization") == [_basic("me").removeprefix("Authorization: ")]
        assert [seen.get("Authorization") for seen in two.registry.seen] == [[]]


@pytest.mark.parametrize("named", ["nobody", "the registry", "both", "the realm"])
async def test_registry_and_server_of_tokens_are_held_to_the_white_list(peer: MemoryPeer, named: str) -> None:
    async with _two() as two:
        ports: dict[str, tuple[str, ...]] = {
            "nobody": ("1",),
            "the registry": (str(two.registry.port),),
            "the realm": (str(two.realm.port),),
        }
        ports["both"] = (*ports["the registry"], *ports["the realm"])
        config = GatewayConfig(port=0, white_list=(WhiteListConfig(host="127.0.0.1", ports=ports[named]),))
        async with running_gateway(config, peer) as gateway:
            got = await _token(gateway.port, two.place, _basic("me"))
            assert got.status == (200 if named == "both" else 401)
            assert len(two.realm.seen) == (1 if named == "both" else 0)
            assert two.registry.connections == 0 or named in ("the registry", "both")
            if named != "both":
                assert b"whiteList does not name 127.0.0.1:" in got.body


async def test_the_mirrors_own_server_of_tokens_is_the_operators_choice(peer: MemoryPeer) -> None:
    async with _two() as two:
        mirror = MirrorConfig(remote=f"http://127.0.0.1:{two.registry.port}")
        config = GatewayConfig(port=0, registry_mirror=mirror, white_list=(WhiteListConfig(host="elsewhere.test"),))
        async with running_gateway(config, peer) as gateway:
            assert (await _token(gateway.port, "library")).body == _TOKEN


async def test_the_proxys_own_password_is_asked_for_before_anybody_is_asked_for_a_token(peer: MemoryPeer) -> None:
    config = GatewayConfig(port=0, basic_auth=BasicAuthConfig(username="u", password="p"))
    async with _two() as two, running_gateway(config, peer) as gateway:
        assert (await _token(gateway.port, two.place)).status == 407
        assert two.registry.connections == 0


@pytest.mark.parametrize("way", ["name", "ns", "header"])
async def test_a_registry_named_by_way_of_the_proxys_own_url_is_held_to_the_white_list(peer: MemoryPeer, way: str) -> None:
    config = GatewayConfig(port=0, white_list=(WhiteListConfig(host="elsewhere.test"),))
    async with _two() as two, running_gateway(config, peer) as gateway, client(gateway.port) as user:
        other = f"127.0.0.1:{two.registry.port}"
        path = {"name": f"/v2/{two.place}/team/app/tags/list", "ns": f"/v2/team/app/tags/list?ns={other}"}.get(
            way, "/v2/a/tags/list"
        )
        field = f"X-Dragonfly-Registry: http://{other}\r\n" if way == "header" else ""
        got = await user.ask(f"GET http://127.0.0.1:{gateway.port}{path} HTTP/1.1\r\nHost: x\r\n{field}\r\n")
        assert got.status == 401
        assert two.registry.connections == 0


@pytest.mark.parametrize("listed", [True, False])
async def test_an_opened_tunnel_leads_nowhere_else_by_way_of_the_proxys_own_url(
    peer: MemoryPeer, local_pair: Pair, listed: bool
) -> None:
    async with _two() as two, upstream(_gives_tokens, tls=local_pair.server()) as origin:
        hosts = (HijackHostConfig(regx="127.0.0.1", insecure=True),)
        config = GatewayConfig(
            port=0,
            hijack_https=HijackConfig(cert=str(local_pair.cert), key=str(local_pair.key), hosts=hosts),
            white_list=(WhiteListConfig(host="127.0.0.1", ports=(str(origin.port),)),) if listed else (),
        )
        async with running_gateway(config, peer) as gateway, client(gateway.port) as user:
            await user.send(f"CONNECT 127.0.0.1:{origin.port} HTTP/1.1\r\nHost: x\r\n\r\n")
            await user.reader.readuntil(b"\r\n\r\n")
            await user.start_tls(local_pair.client(), "127.0.0.1")
            host = f"127.0.0.1:{two.registry.port}"
            got = await user.ask(f"GET http://127.0.0.1:{gateway.port}/x HTTP/1.1\r\nHost: {host}\r\n\r\n")
            assert got.status == (401 if listed else 400)
            assert two.registry.connections == 0


async def test_one_registrys_credentials_do_not_go_to_anothers_server_of_tokens(peer: MemoryPeer) -> None:
    async with _two() as other, running_gateway(GatewayConfig(port=0), peer) as gateway:
        for user in ("me@registry.example", "me@registry.example__5000", "me@127.0.0.1", "me@mail.test@registry.example"):
            assert (await _token(gateway.port, other.place, _basic(user))).status == 200
        assert [seen.get("Authorization") for seen in other.realm.seen] == [[]] * 4
        assert [seen.get("Authorization") for seen in other.registry.seen] == [[]] * 4
        other.realm.seen.clear()
        got = await _token(gateway.port, other.place, _basic(f"me@{other.place}"))
        assert got.body == _TOKEN
        assert other.realm.seen[0].get("Authorization") == [_basic("me").removeprefix("Authorization: ")]


async def test_the_mirrors_credentials_are_known_by_its_own_host(peer: MemoryPeer) -> None:
    async with _two() as two:
        mirror = MirrorConfig(remote=f"http://127.0.0.1:{two.registry.port}")
        async with running_gateway(GatewayConfig(port=0, registry_mirror=mirror), peer) as gateway:
            for name in (two.place, "docker.io"):
                await _token(gateway.port, "library", _basic(f"me@{name}"))
        mine = [_basic("me").removeprefix("Authorization: ")]
        # Whoever stands in for Docker Hub is not Docker Hub.
        assert [seen.get("Authorization") for seen in two.realm.seen] == [mine, []]


async def test_a_password_that_travels_in_a_token_reaches_its_own_registry_alone(peer: MemoryPeer) -> None:
    async with (
        _two('Basic realm="a"') as one,
        _two('Basic realm="b"') as other,
        upstream(_challenges('Basic realm="c"')) as elsewhere,
        running_gateway(GatewayConfig(port=0), peer) as gateway,
    ):
        token = json.loads((await _token(gateway.port, one.place, _basic("me"))).body)["token"]
        field = f"Authorization: Bearer {token}"
        for url, status in (
            (f"/v2/{one.place}/team/app/tags/list", 200),
            (f"/v2/{other.place}/team/app/tags/list", 401),
            (f"http://127.0.0.1:{elsewhere.port}/v2/team/app/tags/list", 401),
        ):
            async with client(gateway.port) as user:
                got = await user.ask(f"GET {url} HTTP/1.1\r\nHost: localhost:{gateway.port}\r\n{field}\r\n\r\n")
                assert got.status == status
        assert one.registry.seen[-1].get("Authorization") == [_basic("me").removeprefix("Authorization: ")]
        assert [seen.get("Authorization") for each in (other.registry, elsewhere) for seen in each.seen] == [[], []]


@pytest.mark.parametrize("realm", ["http://169.254.169.254/latest", "http://[fe80::1]/token"])
async def test_nobody_is_led_to_an_address_of_this_link(peer: MemoryPeer, realm: str) -> None:
    async with _two(f'Bearer realm="{realm}"') as two, running_gateway(GatewayConfig(port=0), peer) as gateway:
        async with asyncio.timeout(5):
            got = await _token(gateway.port, two.place, _basic("me"))
        assert got.status == 502
        assert b"is a link-local address: nobody is led there" in got.body


async def test_a_registry_by_tls_leads_to_no_server_of_tokens_without(peer: MemoryPeer, local_pair: Pair) -> None:
    async with upstream(_gives_tokens) as realm:
        said = f'Bearer realm="http://127.0.0.1:{realm.port}/token"'
        async with upstream(_challenges(said), tls=local_pair.server()) as registry:
            mirror = MirrorConfig(remote=f"https://127.0.0.1:{registry.port}", certs=(str(local_pair.cert),))
            async with running_gateway(GatewayConfig(port=0, registry_mirror=mirror), peer) as gateway:
                got = await _token(gateway.port, f"127.0.0.1__{registry.port}", _basic("me"))
        assert got.status == 502
        assert b"a server of tokens that does not" in got.body
        assert realm.connections == 0
