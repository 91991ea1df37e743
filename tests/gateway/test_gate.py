"""The gate in a running gateway: forward proxy, tunnel and mirror."""

import base64

from gateway.config import BasicAuthConfig, GatewayConfig, MirrorConfig, WhiteListConfig
from tests.support.memory_peer import MemoryPeer
from tests.support.raw_http import answers, client, ok, upstream
from tests.support.running_gateway import running_gateway

_AUTH = "Proxy-Authorization: Basic " + base64.b64encode(b"user:secret").decode() + "\r\n"


async def test_nobody_passes_without_the_password_and_the_upstream_never_sees_it(peer: MemoryPeer) -> None:
    async with upstream(answers(ok(b"hi"))) as origin:
        address = f"127.0.0.1:{origin.port}"
        config = GatewayConfig(
            port=0,
            basic_auth=BasicAuthConfig(username="user", password="secret"),
            registry_mirror=MirrorConfig(remote=f"http://{address}"),
        )
        async with running_gateway(config, peer) as gateway:
            for line in (f"GET http://{address}/ HTTP/1.1", f"CONNECT {address} HTTP/1.1", "GET /v2/ HTTP/1.1"):
                async with client(gateway.port) as user:
                    got = await user.ask(f"{line}\r\nHost: {address}\r\n\r\n")
                assert (got.status, got.get("Proxy-Authenticate")) == (407, 'Basic realm="dfdaemon", charset="UTF-8"'), line
            assert origin.seen == []
            async with client(gateway.port) as user:
                got = await user.ask(f"GET http://{address}/ HTTP/1.1\r\nHost: {address}\r\n{_AUTH}\r\n")
            assert (got.status, got.body) == (200, b"hi")
            assert [name for name, _ in origin.seen[0].fields] == ["Host", "Via"]
            async with client(gateway.port) as user:
                await user.send(f"CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n{_AUTH}\r\n")
                assert await user.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 200 Connection established\r\n\r\n"
            async with client(gateway.port) as user:
                assert (await user.ask("GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n")).status == 200


async def test_only_upstreams_of_the_white_list_and_the_mirror_are_reached(peer: MemoryPeer) -> None:
    async with upstream(answers(ok(b"one"))) as allowed, upstream(answers(ok(b"two"))) as other:
        config = GatewayConfig(
            port=0,
            white_list=(WhiteListConfig(host="127.0.0.1", ports=(str(allowed.port),)),),
            registry_mirror=MirrorConfig(remote=f"http://127.0.0.1:{other.port}"),
        )
        async with running_gateway(config, peer) as gateway:
            for line, status in (
                (f"GET http://127.0.0.1:{allowed.port}/ HTTP/1.1", 200),
                (f"GET http://127.0.0.1:{other.port}/ HTTP/1.1", 401),
                (f"CONNECT 127.0.0.1:{other.port} HTTP/1.1", 401),
                ("GET /v2/ HTTP/1.1", 200),
                (f"GET /v2/?ns=127.0.0.1:{other.port} HTTP/1.1", 401),
                (f"GET /v2/127.0.0.1:{other.port}/a/b/manifests/1 HTTP/1.1", 401),
            ):
                async with client(gateway.port) as user:
                    assert (await user.ask(f"{line}\r\nHost: x\r\n\r\n")).status == status, line
        assert [seen.line for seen in other.seen] == ["GET /v2/ HTTP/1.1"]
