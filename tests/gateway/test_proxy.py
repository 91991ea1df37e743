"""The gateway as forward proxy and as registry mirror, for everything that is no blob: it must pass untouched."""

import asyncio
import hashlib

import pytest

from gateway.config import GatewayConfig, MirrorConfig, ProxyRuleConfig
from tests.support.memory_peer import MemoryPeer
from tests.support.raw_http import Seen, answers, client, ok, read_body, upstream
from tests.support.running_gateway import running_gateway

_CONFIG = GatewayConfig(port=0, proxies=(ProxyRuleConfig(regx="blobs/sha256.*"),))


def _pseudonym(seen: Seen) -> str:
    """The gateway's name in Via."""
    (value,) = seen.get("Via")
    assert value.startswith("1.1 damselfly-")
    return value.removeprefix("1.1 ")


async def test_a_request_passes_with_its_path_byte_for_byte_and_its_fields_in_order(peer: MemoryPeer) -> None:
    target = "/v2//a/../b%2Fc%7e/;x/manifests/latest?n=1&&Signature=a%2Bb+c/=&%7B"
    async with upstream(answers(ok(b"hi"))) as origin, running_gateway(_CONFIG, peer) as gateway:
        async with client(gateway.port) as user:
            fields = "Accept: a\r\nAccept: b\r\nX-Last: 1\r\nProxy-Connection: Keep-Alive\r\nConnection: x-hop\r\nX-Hop: 1\r\n"
            got = await user.ask(f"GET http://127.0.0.1:{origin.port}{target} HTTP/1.1\r\nHost: other\r\n{fields}\r\n")
        assert (got.status, got.body) == (200, b"hi")
        assert origin.seen[0].line == f"GET {target} HTTP/1.1"
        assert origin.seen[0].fields == [
            ("Host", f"127.0.0.1:{origin.port}"),
            ("Accept", "a"),
            ("Accept", "b"),
            ("X-Last", "1"),
            ("Via", f"1.1 {_pseudonym(origin.seen[0])}"),
        ]
    assert peer.requests == []


async def test_a_response_passes_as_it_is_but_for_the_fields_of_the_hop(peer: MemoryPeer) -> None:
    raw = (
        b'HTTP/1.1 401 Who Are You\r\nContent-Length: 3\r\nWWW-Authenticate: Bearer realm="x"\r\nSet-Cookie: a\r\n'
        b"Set-Cookie: b\r\nContent-Encoding: gzip\r\nDocker-Content-Digest: sha256:1\r\nX-Raw: caf\xc3\xa9 \xe9\r\n"
        b"Keep-Alive: timeout=5\r\nConnection: X-Hop\r\nX-Hop: 1\r\n\r\n\x1f\x8b\x00"
    )
    async with upstream(answers(raw)) as origin, running_gateway(_CONFIG, peer) as gateway, client(gateway.port) as user:
        got = await user.ask(f"GET http://127.0.0.1:{origin.port}/v2/ HTTP/1.1\r\nHost: x\r\n\r\n")
    assert got.head.line == "HTTP/1.1 401 Who Are You"
    assert got.body == b"\x1f\x8b\x00"
    assert got.head.get("Set-Cookie") == ["a", "b"]
    assert got.get("X-Raw") == b"caf\xc3\xa9 \xe9".decode("latin-1")
    assert got.get("Content-Encoding") == "gzip"
    assert {name.lower() for name, _ in got.head.fields} == {
        "content-length", "www-authenticate", "set-cookie", "content-encoding", "docker-content-digest", "x-raw", "via", "date",
            "x-damselfly-trace",
    }  # fmt: skip


async def test_no_redirect_is_followed(peer: MemoryPeer) -> None:
    raw = b"HTTP/1.1 307 Temporary Redirect\r\nLocation: http://elsewhere.test/x?Signature=s\r\nContent-Length: 0\r\n\r\n"
    async with upstream(answers(raw)) as origin, running_gateway(_CONFIG, peer) as gateway, client(gateway.port) as user:
        got = await user.ask(f"GET http://127.0.0.1:{origin.port}/x HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (got.status, got.get("Location")) == (307, "http://elsewhere.test/x?Signature=s")


async def test_the_mirror_takes_requests_that_name_no_host(peer: MemoryPeer) -> None:
    async with upstream(answers(ok(b"{}"))) as origin:
        config = GatewayConfig(port=0, registry_mirror=MirrorConfig(remote=f"http://127.0.0.1:{origin.port}"))
        async with running_gateway(config, peer) as gateway, client(gateway.port) as user:
            got = await user.ask(
                "GET /v2/library/hello/manifests/latest?ns=docker.io HTTP/1.1\r\nHost: mirror\r\nAccept: x\r\n\r\n"
            )
            assert got.body == b"{}"
            # A client with both settings asks the proxy for the proxy; that is the mirror too, and no second hop.
            got = await user.ask(f"GET http://127.0.0.1:{gateway.port}/v2/ HTTP/1.1\r\nHost: mirror\r\n\r\n")
            assert got.body == b"{}"
        assert [seen.line for seen in origin.seen] == [
            "GET /v2/library/hello/manifests/latest?ns=docker.io HTTP/1.1",
            "GET /v2/ HTTP/1.1",
        ]
        assert origin.seen[0].get("Host") == [f"127.0.0.1:{origin.port}"]
        assert origin.seen[0].get("Accept") == ["x"]


async def test_one_connection_serves_many_requests_and_so_does_the_upstreams(peer: MemoryPeer) -> None:
    async with upstream(answers(ok(b"hi"))) as origin, running_gateway(_CONFIG, peer) as gateway, client(gateway.port) as user:
        request = f"GET http://127.0.0.1:{origin.port}/x HTTP/1.1\r\nHost: x\r\n\r\n"
        await user.send(request * 3)
        bodies = [(await user.response()).body for _ in range(3)]
        assert bodies == [b"hi"] * 3
        assert len(origin.seen) == 3
        assert origin.connections == 1


async def test_connection_close_is_kept_to(peer: MemoryPeer) -> None:
    async with upstream(answers(ok(b"hi"))) as origin, running_gateway(_CONFIG, peer) as gateway, client(gateway.port) as user:
        got = await user.ask(f"GET http://127.0.0.1:{origin.port}/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert (got.body, got.get("Connection")) == (b"hi", "close")
        assert await user.reader.read() == b""


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
async def test_an_answer_without_a_body_ends_at_its_head(peer: MemoryPeer, status: str) -> None:
    raw = f'HTTP/1.1 {status}\r\nETag: "a"\r\n\r\n'.encode()
    async with upstream(answers(raw)) as origin, running_gateway(_CONFIG, peer) as gateway, client(gateway.port) as user:
        request = f"GET http://127.0.0.1:{origin.port}/x HTTP/1.1\r\nHost: x\r\n\r\n"
        for _ in range(2):
            got = await user.ask(request)
            assert (got.status, got.get("ETag"), got.get("Transfer-Encoding")) == (int(status[:3]), '"a"', None)


async def test_a_head_tells_the_length_and_gives_no_byte(peer: MemoryPeer) -> None:
    raw = b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\nDocker-Content-Digest: sha256:1\r\n\r\n"
    async with upstream(answers(raw)) as origin, running_gateway(_CONFIG, peer) as gateway, client(gateway.port) as user:
        for _ in range(2):
            got = await user.ask(f"HEAD http://127.0.0.1:{origin.port}/x HTTP/1.1\r\nHost: x\r\n\r\n", method="HEAD")
            assert (got.get("Content-Length"), got.get("Docker-Content-Digest")) == ("5000", "sha256:1")
        assert origin.seen[0].line.startswith("HEAD ")


async def test_interim_answers_are_no_answer(peer: MemoryPeer) -> None:
    raw = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + ok(b"late")
    async with upstream(answers(raw)) as origin, running_gateway(_CONFIG, peer) as gateway, client(gateway.port) as user:
        got = await user.ask(f"GET http://127.0.0.1:{origin.port}/x HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (got.status, got.body) == (200, b"late")


async def test_a_big_body_goes_up_exactly(peer: MemoryPeer) -> None:
    body = bytes(range(256)) * (20 << 12)
    bodies: list[str] = []

    async def script(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        bodies.append(hashlib.sha256(await read_body(seen, reader)).hexdigest())
        writer.write(ok(b"thanks"))

    async with upstream(script) as origin, running_gateway(_CONFIG, peer) as gateway, client(gateway.port) as user:
        head = f"PATCH http://127.0.0.1:{origin.port}/upload?_state=x HTTP/1.1\r\nHost: x\r\nContent-Type: a/b\r\n"
        got = await user.ask(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        assert got.body == b"thanks"
        assert origin.seen[0].get("Content-Length") == [str(len(body))]
        assert origin.seen[0].get("Content-Type") == ["a/b"]
        assert origin.seen[0].get("Transfer-Encoding") == []
    assert bodies == [hashlib.sha256(body).hexdigest()]


async def test_chunks_go_up_and_come_down(peer: MemoryPeer) -> None:
    async def script(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = await read_body(seen, reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for byte in body:
            writer.write(b"1\r\n%c\r\n" % byte)
        writer.write(b"0\r\n\r\n")

    async with upstream(script) as origin, running_gateway(_CONFIG, peer) as gateway, client(gateway.port) as user:
        request = f"POST http://127.0.0.1:{origin.port}/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        got = await user.ask(request + "3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n")
        assert (got.body, got.broken, got.get("Transfer-Encoding")) == (b"abcdefg", False, "chunked")
        assert origin.seen[0].get("Transfer-Encoding") == ["chunked"]
        # The connection is still good.
        assert (await user.ask(request + "1\r\nz\r\n0\r\n\r\n")).body == b"z"


@pytest.mark.parametrize("says_so", [True, False])
async def test_an_upload_is_asked_for_before_it_is_sent(peer: MemoryPeer, says_so: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.upstream._CONTINUE_S", 0.1)

    async def script(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if says_so:
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        writer.write(ok(await read_body(seen, reader)))

    async with upstream(script) as origin, running_gateway(_CONFIG, peer) as gateway, client(gateway.port) as user:
        head = f"PUT http://127.0.0.1:{origin.port}/x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
        await user.send(head)
        assert (await user.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        assert (await user.ask("ab")).body == b"ab"
        # The upstream has been asked first.
        assert origin.seen[0].get("Expect") == ["100-continue"]


async def test_an_upload_that_is_refused_early_is_answered(peer: MemoryPeer) -> None:
    async def script(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
        await writer.drain()
        return False

    async with upstream(script) as origin, running_gateway(_CONFIG, peer) as gateway, client(gateway.port) as user:
        await user.send(f"POST http://127.0.0.1:{origin.port}/x HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n0123")
        got = await user.response()
        assert (got.status, got.body) == (413, b"no")


@pytest.mark.parametrize("framing", ["length", "chunked", "till the end"])
async def test_a_client_of_http_1_0_gets_a_body_without_chunks(peer: MemoryPeer, framing: str) -> None:
    async def script(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        if framing == "length":
            writer.write(ok(b"hello"))
        elif framing == "chunked":
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
        else:
            writer.write(b"HTTP/1.1 200 OK\r\n\r\nhello")
        await writer.drain()
        return False

    async with upstream(script) as origin, running_gateway(_CONFIG, peer) as gateway, client(gateway.port) as user:
        got = await user.ask(f"GET http://127.0.0.1:{origin.port}/x HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\n\r\n")
        assert (got.body, got.broken, got.get("Transfer-Encoding")) == (b"hello", False, None)
        if framing != "length":
            assert got.get("Connection") is None
            assert await user.reader.read() == b""


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize("framing", ["Content-Length: 1000000", "Transfer-Encoding: chunked"])
async def test_a_body_that_breaks_off_never_ends_well(peer: MemoryPeer, framing: str, version: str) -> None:
    async def script(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        chunk = b"x" * 1000
        writer.write(f"HTTP/1.1 200 OK\r\n{framing}\r\n\r\n".encode())
        writer.write(chunk if "Length" in framing else b"3e8\r\n" + chunk + b"\r\n")
        await writer.drain()
        return False

    async with upstream(script) as origin, running_gateway(_CONFIG, peer) as gateway, client(gateway.port) as user:
        got = await user.ask(f"GET http://127.0.0.1:{origin.port}/x HTTP/{version}\r\nHost: x\r\n\r\n")
        assert got.broken
        assert len(got.body) <= 1000


async def test_a_client_that_goes_away_ends_the_upstreams_work(peer: MemoryPeer) -> None:
    async def script(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n")
        while True:
            writer.write(bytes(1 << 20))
            await writer.drain()

    async with upstream(script) as origin, running_gateway(_CONFIG, peer) as gateway:
        async with client(gateway.port) as user:
            await user.send(f"GET http://127.0.0.1:{origin.port}/x HTTP/1.1\r\nHost: x\r\n\r\n")
            assert len(await user.reader.readexactly(3 << 20)) == 3 << 20
        await asyncio.wait_for(origin.hung_up.wait(), 10)


async def test_a_client_that_goes_away_before_the_answer_ends_the_upstreams_work(peer: MemoryPeer) -> None:
    asked = asyncio.Event()

    async def script(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        # Nothing ever comes: this read ends with the connection.
        await reader.readexactly(1)

    async with upstream(script) as origin, running_gateway(_CONFIG, peer) as gateway:
        async with client(gateway.port) as user:
            await user.send(f"GET http://127.0.0.1:{origin.port}/x HTTP/1.1\r\nHost: x\r\n\r\n")
            await asked.wait()
        await asyncio.wait_for(origin.hung_up.wait(), 10)


async def test_an_upload_that_breaks_off_breaks_off_upstream(peer: MemoryPeer) -> None:
    got_some = asyncio.Event()

    async def script(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(10)
        got_some.set()
        await reader.readexactly(90)

    async with upstream(script) as origin, running_gateway(_CONFIG, peer) as gateway:
        async with client(gateway.port) as user:
            await user.send(f"PUT http://127.0.0.1:{origin.port}/x HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n0123456789")
            await got_some.wait()
        await asyncio.wait_for(origin.hung_up.wait(), 10)


async def test_an_upstream_that_is_not_there_is_named(peer: MemoryPeer) -> None:
    async with upstream(answers(b"")) as gone:
        port = gone.port
    async with running_gateway(_CONFIG, peer) as gateway, client(gateway.port) as user:
        got = await user.ask(f"GET http://127.0.0.1:{port}/x?token=secret HTTP/1.1\r\nHost: x\r\n\r\n")
        assert got.status == 502
        assert f"127.0.0.1:{port}" in got.body.decode()
        assert b"secret" not in got.body
        got = await user.ask("GET http://no-such-host.invalid/x HTTP/1.1\r\nHost: x\r\n\r\n")
        assert got.status == 502
        assert b"cannot be resolved" in got.body


@pytest.mark.parametrize("raw", [b"", b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 200 OK\r\nX\x00: 1\r\n\r\n"])
async def test_an_upstream_that_speaks_nonsense_is_a_bad_gateway(peer: MemoryPeer, raw: bytes) -> None:
    async def script(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(raw)
        return False

    async with upstream(script) as origin, running_gateway(_CONFIG, peer) as gateway, client(gateway.port) as user:
        got = await user.ask(f"POST http://127.0.0.1:{origin.port}/x HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        assert got.status == 502


async def test_the_gateways_own_pages(peer: MemoryPeer) -> None:
    async with upstream(answers(ok(b"hi"))) as origin, running_gateway(_CONFIG, peer) as gateway, client(gateway.port) as user:
        await user.ask(f"GET http://127.0.0.1:{origin.port}/x HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await user.ask("GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n")).body == b"OK"
        metrics = (await user.ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")).body.decode()
        assert 'dragonfly_dfdaemon_requests_total{status="2xx",verdict="direct"} 2.0' in metrics
        assert peer.peer_id in (await user.ask("GET /version HTTP/1.1\r\nHost: x\r\n\r\n")).body.decode()
        assert (await user.ask("POST /_ping HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")).status == 405
        assert (await user.ask("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n")).status == 400
        assert len(origin.seen) == 1


async def test_a_rule_may_lead_to_another_host(peer: MemoryPeer) -> None:
    async with upstream(answers(ok(b"moved"))) as origin:
        rule = ProxyRuleConfig(regx="old.test", direct=True, redirect=f"127.0.0.1:{origin.port}")
        async with running_gateway(GatewayConfig(port=0, proxies=(rule,)), peer) as gateway, client(gateway.port) as user:
            got = await user.ask("GET http://old.test/a?b HTTP/1.1\r\nHost: old.test\r\n\r\n")
        assert got.body == b"moved"
        assert (origin.seen[0].line, origin.seen[0].get("Host")) == ("GET /a?b HTTP/1.1", [f"127.0.0.1:{origin.port}"])


async def test_an_upload_that_is_refused_before_it_is_sent_is_never_asked_for(peer: MemoryPeer) -> None:
    async def script(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno")

    async with upstream(script) as origin, running_gateway(_CONFIG, peer) as gateway, client(gateway.port) as user:
        got = await user.ask(
            f"PUT http://127.0.0.1:{origin.port}/x HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n"
        )
        assert (got.status, got.body) == (401, b"no")


@pytest.mark.parametrize(
    "head",
    [
        "POST {url} HTTP/1.1\r\nHost: x\r\nContent-Length: 4, 4\r\n\r\n",
        "POST {url} HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\n",
        "POST {url} HTTP/1.1\r\nHost: x\r\nContent-Length: +4\r\n\r\n",
        "POST {url} HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST {url} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "POST {url} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST {url} HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST {url} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\n\r\n",
        "POST {url} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: \x0bchunked\r\n\r\n",
        "GET {url} HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n",
        "GET {url} HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        "GET {url} HTTP/1.1\r\nHost: x, y\r\n\r\n",
        "GET {url} HTTP/1.1\r\n\r\n",
        "GET {url} HTTP/1.1\r\nHost: x\r\nA: b\r\n folded\r\n\r\n",
        "GET {url} HTTP/1.1\r\nHost: x\r\nA\x00: b\r\n\r\n",
        "GET  {url} HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET {url} HTTP/2.0\r\nHost: x\r\n\r\n",
    ],
)
async def test_a_head_that_two_servers_could_read_differently_is_refused(peer: MemoryPeer, head: str) -> None:
    async with upstream(answers(ok(b"never"))) as origin, running_gateway(_CONFIG, peer) as gateway, client(gateway.port) as user:
        # What follows would be the smuggled request.
        got = await user.ask(head.format(url=f"http://127.0.0.1:{origin.port}/x") + "GET /smuggled HTTP/1.1\r\n\r\n")
        assert got.status == 400
        assert await user.reader.read() == b""
        assert origin.seen == []


async def test_chunk_extensions_and_trailers_end_here(peer: MemoryPeer) -> None:
    async def script(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = await read_body(seen, reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n")
        writer.write(b"%x;a=b\r\n%b\r\n0\r\nX-Sum: 1\r\n\r\n" % (len(body), body))

    async with upstream(script) as origin, running_gateway(_CONFIG, peer) as gateway, client(gateway.port) as user:
        head = (
            f"POST http://127.0.0.1:{origin.port}/x HTTP/1.1\r\nHost: x\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        for _ in range(2):
            got = await user.ask(head + '3 ;name="v;w"\r\nabc\r\n2\r\nde\r\n0;last\r\nX-Sum: 1\r\nX-Other: 2\r\n\r\n')
            assert (got.body, got.broken, got.get("Trailer")) == (b"abcde", False, None)
        assert all(seen.get("Trailer") == [] and seen.get("X-Sum") == [] for seen in origin.seen)


@pytest.mark.parametrize(
    "body",
    ["x\r\n", "-1\r\nx\r\n", "3\r\nabcd\r\n0\r\n\r\n", "1000000000000000000\r\n", "0\r\nno field\r\n\r\n", "3\n\r\nabc\r\n"],
)  # fmt: skip
async def test_chunks_that_are_none_end_the_connection(peer: MemoryPeer, body: str) -> None:
    async def script(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_body(seen, reader)
        writer.write(ok(b"never"))

    async with upstream(script) as origin, running_gateway(_CONFIG, peer) as gateway, client(gateway.port) as user:
        await user.send(f"POST http://127.0.0.1:{origin.port}/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{body}")
        said = await asyncio.wait_for(user.reader.read(), 10)
        assert b"never" not in said


async def test_a_request_that_comes_back_is_a_loop(peer: MemoryPeer) -> None:
    async with upstream(answers(ok(b"hi"))) as origin, running_gateway(_CONFIG, peer) as gateway, client(gateway.port) as user:
        url = f"http://127.0.0.1:{origin.port}/x"
        assert (await user.ask(f"GET {url} HTTP/1.1\r\nHost: x\r\nVia: 1.0 fred, 1.1 p.example (x)\r\n\r\n")).status == 200
        (first, second) = origin.seen[0].get("Via")
        assert first == "1.0 fred, 1.1 p.example (x)"
        assert (await user.ask(f"GET {url} HTTP/1.1\r\nHost: x\r\nVia: {first}, {second}\r\n\r\n")).status == 508
        assert len(origin.seen) == 1


async def test_big_headers_pass_both_ways(peer: MemoryPeer) -> None:
    big = "x" * 100_000
    raw = f"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Big: {big}\r\n".encode() + b"X-Many: 1\r\n" * 300 + b"\r\nhi"

    async with upstream(answers(raw)) as origin, running_gateway(_CONFIG, peer) as gateway, client(gateway.port) as user:
        head = f"GET http://127.0.0.1:{origin.port}/x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "
        user.reader._limit = 1 << 20  # type: ignore[attr-defined]
        await user.send(head + "t" * 60_000 + "\r\n\r\n")
        got = await user.response()
        assert (got.status, got.get("X-Big"), len(got.head.get("X-Many"))) == (200, big, 300)
        assert origin.seen[0].get("Authorization") == ["Bearer " + "t" * 60_000]


async def test_an_upstream_may_have_an_ipv6_address(peer: MemoryPeer) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(ok(b"six"))
        await writer.drain()
        writer.close()

    heads: list[bytes] = []
    server = await asyncio.start_server(serve, "::1", 0)
    async with server, running_gateway(_CONFIG, peer) as gateway, client(gateway.port) as user:
        port = server.sockets[0].getsockname()[1]
        assert (await user.ask(f"GET http://[::1]:{port}/x HTTP/1.1\r\nHost: [::1]:{port}\r\n\r\n")).body == b"six"
        assert f"Host: [::1]:{port}\r\n".encode() in heads[0]


async def test_a_protocol_is_switched_where_the_upstream_agrees(peer: MemoryPeer) -> None:
    async def script(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        if not seen.get("Upgrade"):
            writer.write(ok(b"plain"))
            return True
        assert seen.get("Connection") == ["Upgrade"]
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nhello")
        while data := await reader.read(1000):
            writer.write(data.upper())
        return False

    async with upstream(script) as origin, running_gateway(_CONFIG, peer) as gateway, client(gateway.port) as user:
        head = f"GET http://127.0.0.1:{origin.port}/ws?a=1 HTTP/1.1\r\nHost: x\r\n"
        assert (await user.ask(head + "\r\n")).body == b"plain"
        await user.send(head + "Connection: keep-alive, Upgrade\r\nUpgrade: echo\r\nSec-WebSocket-Key: k\r\n\r\n")
        assert (await user.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        await user.send("abc")
        assert await user.reader.readexactly(8) == b"helloABC"
        assert origin.seen[1].line == "GET /ws?a=1 HTTP/1.1"
        assert origin.seen[1].get("Sec-WebSocket-Key") == ["k"]


async def test_an_upstream_that_does_not_switch_answers_as_usual(peer: MemoryPeer) -> None:
    async with upstream(answers(ok(b"plain"))) as origin, running_gateway(_CONFIG, peer) as gateway, client(gateway.port) as user:
        head = f"GET http://127.0.0.1:{origin.port}/ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
        for _ in range(2):
            assert (await user.ask(head)).body == b"plain"
