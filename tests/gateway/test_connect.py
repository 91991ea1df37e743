"""CONNECT: tunnels that are passed through unread, and tunnels that are opened."""

import asyncio
import datetime
import hashlib
import ssl
from pathlib import Path

import pytest

from gateway.certs import generate_ca
from gateway.config import GatewayConfig, HijackConfig, HijackHostConfig, MirrorConfig, ProxyRuleConfig
from tests.support.memory_peer import Held, MemoryPeer
from tests.support.raw_http import Client, answers, client, ok, permits, upstream
from tests.support.running_gateway import Pair, running_gateway, self_signed

_DATA = bytes(range(256)) * 5000
_DIGEST = f"sha256:{hashlib.sha256(_DATA).hexdigest()}"
_PATH = f"/v2/team/app/blobs/{_DIGEST}"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """A CA as gen-ca makes it."""
    folder = tmp_path_factory.mktemp("ca")
    pair = Pair(cert=folder / "ca.crt", key=folder / "ca.key")
    certificate, key = generate_ca("test", datetime.timedelta(days=1))
    pair.cert.write_bytes(certificate)
    pair.key.write_bytes(key)
    return pair


def _config(shown: Pair, upstream_cert: Path | None, *, insecure: bool = False) -> GatewayConfig:
    certs = (str(upstream_cert),) if upstream_cert else ()
    return GatewayConfig(
        port=0,
        proxies=(ProxyRuleConfig(regx="blobs/sha256.*"),),
        hijack_https=HijackConfig(
            cert=str(shown.cert),
            key=str(shown.key),
            hosts=(HijackHostConfig(regx=r"127\.0\.0\.1", certs=certs, insecure=insecure),),
        ),
    )


async def _connect(user: Client, port: int, *, host: str = "127.0.0.1") -> int:
    await user.send(f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\nUser-Agent: Go\r\n\r\n")
    head = await user.reader.readuntil(b"\r\n\r\n")
    return int(head.split(b" ")[1])


async def test_a_tunnel_passes_bytes_both_ways_and_each_end_by_itself(peer: MemoryPeer) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = await reader.read()
        writer.write(hashlib.sha256(body).digest())
        writer.close()

    sent = bytes(5 << 20)
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server, running_gateway(GatewayConfig(port=0), peer) as gateway, client(gateway.port) as user:
        assert await _connect(user, server.sockets[0].getsockname()[1]) == 200
        await user.send(sent)
        # The upstream answers only after our half has ended.
        user.writer.write_eof()
        assert await user.reader.read() == hashlib.sha256(sent).digest()


async def test_bytes_sent_without_waiting_for_the_tunnel_are_not_lost(peer: MemoryPeer) -> None:
    async with upstream(answers(ok(b"hi"))) as origin, running_gateway(GatewayConfig(port=0), peer) as gateway:
        async with client(gateway.port) as user:
            head = f"CONNECT 127.0.0.1:{origin.port} HTTP/1.1\r\nHost: x\r\n\r\n"
            await user.send(head + "GET /early HTTP/1.1\r\nHost: y\r\n\r\n")
            assert (await user.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
            assert (await user.response()).body == b"hi"
        assert origin.seen[0].line == "GET /early HTTP/1.1"


async def test_a_client_that_goes_away_ends_the_tunnel(peer: MemoryPeer) -> None:
    async with upstream(answers(ok(b"hi"))) as origin, running_gateway(GatewayConfig(port=0), peer) as gateway:
        async with client(gateway.port) as user:
            assert await _connect(user, origin.port) == 200
        await asyncio.wait_for(origin.hung_up.wait(), 10)


async def test_a_tunnel_that_cannot_be_had_is_503(peer: MemoryPeer) -> None:
    async with upstream(answers(b"")) as gone:
        port = gone.port
    async with running_gateway(GatewayConfig(port=0), peer) as gateway:
        async with client(gateway.port) as user:
            assert await _connect(user, port) == 503
        async with client(gateway.port) as user:
            assert await _connect(user, port, host="no-such-host.invalid") == 503
        async with client(gateway.port) as user:
            await user.send("CONNECT nonsense HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await user.response()).status == 400


async def test_a_host_that_no_rule_names_is_not_opened(peer: MemoryPeer, authority: Pair, local_pair: Pair) -> None:
    config = GatewayConfig(
        port=0,
        hijack_https=HijackConfig(cert=str(authority.cert), key=str(authority.key), hosts=(HijackHostConfig(regx="^other$"),)),
    )
    async with (
        upstream(answers(ok(b"hi")), tls=local_pair.server()) as origin,
        running_gateway(config, peer) as gateway,
        client(gateway.port) as user,
    ):
        assert await _connect(user, origin.port) == 200
        # Verified against the upstream's own certificate: nobody stands between.
        await user.start_tls(local_pair.client(), "127.0.0.1")
        assert (await user.ask("GET /x HTTP/1.1\r\nHost: y\r\n\r\n")).body == b"hi"


async def test_an_opened_tunnel_shows_a_leaf_of_the_ca_and_serves_many_requests(
    peer: MemoryPeer, authority: Pair, local_pair: Pair
) -> None:
    peer.hold(f"https://x{_PATH}", Held(data=_DATA))
    async with upstream(permits(len(_DATA), ok(b"{}")), tls=local_pair.server()) as origin:
        async with running_gateway(_config(authority, local_pair.cert), peer) as gateway, client(gateway.port) as user:
            assert await _connect(user, origin.port) == 200
            await user.start_tls(authority.client(), "127.0.0.1")
            for _ in range(2):
                got = await user.ask(f"GET /v2/?x=%2f HTTP/1.1\r\nHost: 127.0.0.1:{origin.port}\r\nAccept: z\r\n\r\n")
                assert got.body == b"{}"
                got = await user.ask(f"GET {_PATH} HTTP/1.1\r\nHost: 127.0.0.1:{origin.port}\r\n\r\n")
                assert (got.body, got.get("Docker-Content-Digest")) == (_DATA, _DIGEST)
            # No way out of the tunnel to somewhere else.
            await user.send(f"CONNECT 127.0.0.1:{origin.port} HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await user.response()).status == 400
        assert [seen.line for seen in origin.asked] == ["GET /v2/?x=%2f HTTP/1.1"] * 2
        assert origin.seen[0].get("Host") == [f"127.0.0.1:{origin.port}"]
        assert origin.seen[0].get("Accept") == ["z"]
        # One probe, and one kept connection for both requests.
        assert origin.connections == 2
    assert peer.requests[0].url == f"https://127.0.0.1:{origin.port}{_PATH}"
    assert peer.requests[0].certificates == (local_pair.cert.read_bytes(),)


async def test_a_plain_certificate_is_shown_as_it_is(peer: MemoryPeer, local_pair: Pair, tmp_path: Path) -> None:
    shown = self_signed(tmp_path, "df.test")
    async with (
        upstream(answers(ok(b"{}")), tls=local_pair.server()) as origin,
        running_gateway(_config(shown, None, insecure=True), peer) as gateway,
        client(gateway.port) as user,
    ):
        assert await _connect(user, origin.port) == 200
        trusting = shown.client()
        trusting.check_hostname = False
        await user.start_tls(trusting, "127.0.0.1")
        assert (await user.ask(f"GET /v2/ HTTP/1.1\r\nHost: 127.0.0.1:{origin.port}\r\n\r\n")).body == b"{}"
        presented = user.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        assert presented == ssl.PEM_cert_to_DER_cert(shown.cert.read_text())


async def test_an_upstream_that_is_not_trusted_is_a_bad_gateway(peer: MemoryPeer, authority: Pair, local_pair: Pair) -> None:
    async with upstream(answers(ok(b"{}")), tls=local_pair.server()) as origin:
        async with running_gateway(_config(authority, authority.cert), peer) as gateway, client(gateway.port) as user:
            assert await _connect(user, origin.port) == 200
            await user.start_tls(authority.client(), "127.0.0.1")
            got = await user.ask(f"GET /v2/ HTTP/1.1\r\nHost: 127.0.0.1:{origin.port}\r\n\r\n")
            assert got.status == 502
            assert b"certificate is not trusted" in got.body
        assert origin.seen == []


async def test_a_registry_that_speaks_plain_http_is_not_opened(peer: MemoryPeer, authority: Pair) -> None:
    plain = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        writer.write(plain)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with server, running_gateway(_config(authority, None), peer) as gateway, client(gateway.port) as user:
        assert await _connect(user, server.sockets[0].getsockname()[1]) == 200
        # What dockerd has to see in answer to its hello, so that it goes on to plain HTTP.
        await user.send(b"\x16\x03\x01\x00\x05hello")
        assert await user.reader.read() == plain


async def test_a_client_that_does_not_say_hello_gets_the_tunnel_that_it_thinks_it_has(
    peer: MemoryPeer, authority: Pair, local_pair: Pair
) -> None:
    async with (
        upstream(answers(ok(b"{}")), tls=local_pair.server()) as origin,
        running_gateway(_config(authority, local_pair.cert), peer) as gateway,
        client(gateway.port) as user,
    ):
        assert await _connect(user, origin.port) == 200
        # Half a hello is enough to tell; this is none, so the upstream's own TLS judges it, and hangs up.
        await user.send(b"SSH-2.0-x\r\n\r\n" + bytes(64))
        said = await asyncio.wait_for(user.reader.read(), 10)
        # An alert of the upstream's (RFC 8446 §6), or its plain end; no word of HTTP from us.
        assert said[:1] in (b"", b"\x15")


async def test_a_tls_hello_on_the_plain_port_is_refused_at_once(peer: MemoryPeer) -> None:
    async with running_gateway(GatewayConfig(port=0), peer) as gateway, client(gateway.port) as user:
        await user.send(b"\x16\x03\x01\x02\x00\x01")
        # What a server without TLS says; every client takes it for one.
        assert (await asyncio.wait_for(user.reader.read(), 5)).startswith(b"HTTP/1.1 400 ")


async def test_the_gateways_own_port_may_speak_https(peer: MemoryPeer, local_pair: Pair) -> None:
    async with upstream(answers(ok(b"hi"))) as origin:
        config = GatewayConfig(
            port=0,
            certpem=str(local_pair.cert),
            keypem=str(local_pair.key),
            registry_mirror=MirrorConfig(remote=f"http://127.0.0.1:{origin.port}"),
        )
        async with running_gateway(config, peer) as gateway:
            assert gateway.url.startswith("https://")
            async with client(gateway.port, tls=local_pair.client()) as user:
                assert (await user.ask("GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n")).body == b"hi"
            async with client(gateway.port, tls=local_pair.client()) as user:
                assert await _connect(user, origin.port) == 200
                assert (await user.ask("GET /inside HTTP/1.1\r\nHost: y\r\n\r\n")).body == b"hi"
        assert [seen.line for seen in origin.seen] == ["GET /v2/ HTTP/1.1", "GET /inside HTTP/1.1"]


async def test_a_client_that_breaks_off_the_handshake_harms_nobody(peer: MemoryPeer, authority: Pair, local_pair: Pair) -> None:
    async with (
        upstream(answers(ok(b"{}")), tls=local_pair.server()) as origin,
        running_gateway(_config(authority, local_pair.cert), peer) as gateway,
    ):
        async with client(gateway.port) as user:
            assert await _connect(user, origin.port) == 200
            with pytest.raises(ssl.SSLCertVerificationError):
                await user.start_tls(ssl.create_default_context(), "127.0.0.1")
        async with client(gateway.port) as user:
            assert await _connect(user, origin.port) == 200
            await user.start_tls(authority.client(), "127.0.0.1")
            assert (await user.ask(f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{origin.port}\r\n\r\n")).body == b"{}"
