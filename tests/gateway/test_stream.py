"""Blobs: out of the swarm when it can give them, straight from the upstream when it cannot, and never half and well."""

import asyncio
import dataclasses
import hashlib
import random

import pytest

from gateway.config import AuthorizationConfig, GatewayConfig, MirrorConfig, ProxyRuleConfig
from gateway.core.headers import without
from gateway.stream import Patience
from tests.support.memory_peer import Held, MemoryPeer
from tests.support.raw_http import Client, Seen, answers, client, ok, permits, read_body, upstream
from tests.support.running_gateway import running_gateway
from wire.errors import ErrorCode
from wire.messages import Origin
from worker_peer.api import DownloadFailed

_DATA = random.Random(7).randbytes((2 << 20) + 12345)
_DIGEST = f"sha256:{hashlib.sha256(_DATA).hexdigest()}"
_PATH = f"/v2/team/app/blobs/{_DIGEST}"
_CONFIG = GatewayConfig(port=0, proxies=(ProxyRuleConfig(regx="blobs/sha256.*"),))
#: For tests whose registry is not there at all.
_ALONE = dataclasses.replace(_CONFIG, authorization=AuthorizationConfig(when_registry_down="allow"))
_SOON = Patience(open_s=0.05, first_byte_s=0.05)


def _get(port: int, *fields: str, version: str = "1.1") -> str:
    return "\r\n".join([f"GET http://127.0.0.1:{port}{_PATH} HTTP/{version}", "Host: x", *fields, "", ""])


async def _metric(user: Client, name: str) -> float:
    text = (await user.ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")).body.decode()
    return next((float(line.split()[-1]) for line in text.splitlines() if line.startswith(name)), 0.0)


async def test_a_blob_comes_from_the_swarm_with_the_fields_that_docker_reads(peer: MemoryPeer) -> None:
    peer.hold(f"http://x{_PATH}", Held(data=_DATA, content_type="application/vnd.x", origin=Origin.SEED, chunk_bytes=300_001))
    script = permits(len(_DATA), ok(b"never"))
    async with upstream(script) as origin, running_gateway(_CONFIG, peer) as gateway, client(gateway.port) as user:
        for _ in range(2):
            got = await user.ask(_get(origin.port, "Authorization: Bearer t", "Accept-Encoding: gzip", "Connection: x", "X: 1"))
            assert got.status == 200
            assert hashlib.sha256(got.body).hexdigest() == _DIGEST[7:]
        assert got.get("Content-Length") == str(len(_DATA))
        assert got.get("Content-Type") == "application/vnd.x"
        assert got.get("Docker-Content-Digest") == _DIGEST
        assert got.get("ETag") == f'"{_DIGEST}"'
        assert got.get("Accept-Ranges") == "bytes"
        assert got.get("Content-Encoding") is None
        # One question of this credential, for both.
        assert [seen.line.partition(" ")[0] for seen in origin.seen] == ["HEAD"]
        assert origin.seen[0].get("Authorization") == ["Bearer t"]
        assert await _metric(user, 'dragonfly_dfdaemon_blob_bytes_total{origin="seed"}') == len(_DATA)
        assert await _metric(user, 'dragonfly_dfdaemon_sent_bytes_total{verdict="p2p"}') == 2 * len(_DATA)
    request = peer.requests[0]
    assert request.url == f"http://127.0.0.1:{origin.port}{_PATH}"
    assert without(request.headers, "Via") == (("Authorization", "Bearer t"),)
    assert request.wanted_digest == _DIGEST


async def test_the_mirrors_blobs_come_from_the_swarm(peer: MemoryPeer) -> None:
    peer.hold(f"http://x{_PATH}", Held(data=_DATA))
    async with upstream(permits(len(_DATA), ok(b"never"))) as origin:
        config = GatewayConfig(port=0, registry_mirror=MirrorConfig(remote=f"http://127.0.0.1:{origin.port}/", insecure=True))
        async with running_gateway(config, peer) as gateway, client(gateway.port) as user:
            got = await user.ask(f"GET {_PATH}?ns=docker.io HTTP/1.1\r\nHost: mirror\r\n\r\n")
    assert got.body == _DATA
    assert peer.requests[0].url == f"http://127.0.0.1:{origin.port}{_PATH}?ns=docker.io"
    assert [seen.line for seen in origin.seen] == [f"HEAD {_PATH}?ns=docker.io HTTP/1.1"]
    assert peer.requests[0].insecure


async def test_bytes_reach_the_client_as_they_arrive(peer: MemoryPeer) -> None:
    held = peer.hold(f"http://x{_PATH}", Held(data=_DATA, waits_at=100_000))
    async with running_gateway(_ALONE, peer) as gateway, client(gateway.port) as user:
        await user.send(_get(1))
        await user.reader.readuntil(b"\r\n\r\n")
        assert await user.reader.readexactly(100_000) == _DATA[:100_000]
        assert not held.go.is_set()
        held.go.set()
        assert await user.reader.readexactly(len(_DATA) - 100_000) == _DATA[100_000:]


@pytest.mark.parametrize(
    ("value", "start", "stop"),
    [("bytes=0-0", 0, 1), ("bytes=1000000-", 1_000_000, len(_DATA)), ("bytes=-5", len(_DATA) - 5, len(_DATA))],
)
async def test_a_range_is_answered_with_that_part(peer: MemoryPeer, value: str, start: int, stop: int) -> None:
    peer.hold(f"http://x{_PATH}", Held(data=_DATA))
    async with running_gateway(_ALONE, peer) as gateway, client(gateway.port) as user:
        for fields in ((), (f'If-Range: "{_DIGEST}"',)):
            got = await user.ask(_get(1, f"Range: {value}", *fields))
            assert got.status == 206
            assert got.body == _DATA[start:stop]
            assert got.get("Content-Range") == f"bytes {start}-{stop - 1}/{len(_DATA)}"
            assert got.get("Content-Length") == str(stop - start)


async def test_ranges_that_do_not_apply(peer: MemoryPeer) -> None:
    peer.hold(f"http://x{_PATH}", Held(data=_DATA))
    async with running_gateway(_ALONE, peer) as gateway, client(gateway.port) as user:
        got = await user.ask(_get(1, f"Range: bytes={len(_DATA)}-"))
        assert (got.status, got.get("Content-Range")) == (416, f"bytes */{len(_DATA)}")
        for fields in (("Range: lines=0-0",), ("Range: bytes=0-0", 'If-Range: "other"'), ("Range: bytes=0-,0-",)):
            got = await user.ask(_get(1, *fields))
            assert (got.status, len(got.body)) == (200, len(_DATA))


async def test_an_empty_blob_has_an_end(peer: MemoryPeer) -> None:
    path = f"/v2/a/blobs/sha256:{hashlib.sha256(b'').hexdigest()}"
    peer.hold(f"http://x{path}", Held(data=b""))
    async with running_gateway(_ALONE, peer) as gateway, client(gateway.port) as user:
        for _ in range(2):
            got = await user.ask(f"GET http://127.0.0.1:1{path} HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (got.status, got.body, got.get("Content-Length")) == (200, b"", "0")


@pytest.mark.parametrize("how", ["not found", "unexpected", "silent", "first byte refused", "first byte late"])
async def test_before_the_first_byte_every_failure_goes_straight_to_the_upstream(peer: MemoryPeer, how: str) -> None:
    match how:
        case "unexpected":
            peer.failure = RuntimeError("a bug")
        case "silent":
            peer.silent = True
        case "first byte refused":
            peer.hold(f"http://x{_PATH}", Held(data=_DATA, breaks_at=5))
        case "first byte late":
            peer.hold(f"http://x{_PATH}", Held(data=_DATA, waits_at=5))
    raw = b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 5-6/9\r\nContent-Length: 2\r\n\r\nfg"
    async with upstream(permits(len(_DATA), raw)) as origin, running_gateway(_CONFIG, peer, patience=_SOON) as gateway:
        async with client(gateway.port) as user:
            got = await user.ask(_get(origin.port, "Range: bytes=5-6", "Authorization: Bearer t", "Accept-Encoding: gzip"))
            assert (got.status, got.body, got.get("Content-Range")) == (206, b"fg", "bytes 5-6/9")
            assert await _metric(user, "dragonfly_dfdaemon_fallbacks_total") == 1
        # The client's own request, with nothing taken away.
        (asked,) = origin.asked
        assert asked.get("Range") == ["bytes=5-6"]
        assert asked.get("Authorization") == ["Bearer t"]
        assert asked.get("Accept-Encoding") == ["gzip"]


async def test_what_the_upstream_refuses_is_the_clients_answer(peer: MemoryPeer) -> None:
    peer.failure = DownloadFailed(ErrorCode.SOURCE_NEEDS_AUTH, "it wants a token", status=401)
    raw = b'HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer realm="https://auth"\r\nContent-Length: 2\r\n\r\n{}'
    async with upstream(answers(raw)) as origin, running_gateway(_CONFIG, peer) as gateway, client(gateway.port) as user:
        got = await user.ask(_get(origin.port))
    assert (got.status, got.get("WWW-Authenticate"), got.body) == (401, 'Bearer realm="https://auth"', b"{}")


async def test_a_question_about_a_known_version_is_answered_here(peer: MemoryPeer) -> None:
    peer.hold(f"http://x{_PATH}", Held(data=_DATA))
    script = permits(len(_DATA), ok(b"never"), 'ETag: "v1"', "Last-Modified: Tue, 24 Nov 2026 08:00:00 GMT")
    async with upstream(script) as origin, running_gateway(_CONFIG, peer) as gateway, client(gateway.port) as user:
        for field in (f'If-None-Match: "{_DIGEST}"', 'If-None-Match: W/"v1"', "If-Modified-Since: Tue, 24 Nov 2026 08:00:00 GMT"):
            got = await user.ask(_get(origin.port, field))
            assert (got.status, got.get("ETag")) == (304, '"v1"')
        assert (await user.ask(_get(origin.port, 'If-Match: "v0"'))).status == 412
        got = await user.ask(_get(origin.port, 'If-None-Match: "v0"'))
        assert (got.status, len(got.body)) == (200, len(_DATA))
        assert origin.asked == []


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize("breaks_at", [1, 1 << 20, len(_DATA) - 1])
async def test_a_content_that_breaks_in_the_middle_cuts_the_connection(peer: MemoryPeer, breaks_at: int, version: str) -> None:
    peer.hold(f"http://x{_PATH}", Held(data=_DATA, breaks_at=breaks_at))
    script = permits(len(_DATA), ok(b"never"))
    async with upstream(script) as origin, running_gateway(_CONFIG, peer) as gateway, client(gateway.port) as user:
        got = await user.ask(_get(origin.port, version=version))
        assert got.broken
        assert len(got.body) < len(_DATA)
        assert _DATA.startswith(got.body)


@pytest.mark.parametrize("breaks_at", [1, 1 << 20, len(_DATA) - 1])
@pytest.mark.parametrize("fault", ["none", "wrong bytes", "breaks off once"])
async def test_the_rest_of_a_broken_content_comes_from_the_upstream(peer: MemoryPeer, breaks_at: int, fault: str) -> None:
    rest = bytes(len(_DATA) - breaks_at) if fault == "wrong bytes" else _DATA[breaks_at:]
    faults = iter([1] if fault == "breaks off once" else [])

    async def script(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        if seen.line.startswith("HEAD "):
            writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(_DATA)}\r\n\r\n".encode())
            return True
        (value,) = seen.get("Range")
        start = int(value.removeprefix("bytes=").partition("-")[0])
        told = f"Content-Range: bytes {start}-{len(_DATA) - 1}/{len(_DATA)}\r\nContent-Length: {len(_DATA) - start}"
        breaks = next(faults, None)
        writer.write(f"HTTP/1.1 206 Partial Content\r\n{told}\r\n\r\n".encode() + rest[start - breaks_at :][:breaks])
        await writer.drain()
        return breaks is None

    peer.hold(f"http://x{_PATH}", Held(data=_DATA, breaks_at=breaks_at))
    async with upstream(script) as origin, running_gateway(_CONFIG, peer) as gateway, client(gateway.port) as user:
        got = await user.ask(_get(origin.port))
        if fault == "wrong bytes":
            # What is held back until the whole is known to be right never comes.
            assert got.broken
        else:
            assert not got.broken
            assert got.body == _DATA


async def test_a_client_that_goes_away_lets_the_content_go(peer: MemoryPeer) -> None:
    held = peer.hold(f"http://x{_PATH}", Held(data=_DATA, waits_at=1000))
    async with running_gateway(_ALONE, peer) as gateway:
        async with client(gateway.port) as user:
            await user.send(_get(1))
            await held.waiting.wait()
            assert peer.readers == 1
        await asyncio.wait_for(peer.idle.wait(), 10)
        # Others are served as before.
        held.go.set()
        async with client(gateway.port) as user:
            assert (await user.ask(_get(1))).body == _DATA


async def test_a_client_that_does_not_read_is_cut(peer: MemoryPeer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.client.STALLED_AFTER_S", 0.1)
    peer.hold(f"http://x{_PATH}", Held(data=bytes(64 << 20)))
    async with running_gateway(_ALONE, peer) as gateway, client(gateway.port) as user:
        await user.send(_get(1))
        await asyncio.wait_for(peer.idle.wait(), 20)
        got = await user.response()
        assert got.broken


async def test_readers_of_one_content_count_its_bytes_once(peer: MemoryPeer) -> None:
    held = peer.hold(f"http://x{_PATH}", Held(data=_DATA, waits_at=1000))
    async with running_gateway(_ALONE, peer) as gateway, client(gateway.port) as one, client(gateway.port) as two:
        await one.send(_get(1))
        await two.send(_get(1))
        async with asyncio.timeout(10):
            await peer.at_readers(2)
        held.go.set()
        assert (await one.response()).body == _DATA
        assert (await two.response()).body == _DATA
        assert await _metric(one, 'dragonfly_dfdaemon_blob_bytes_total{origin="peer"}') == len(_DATA)


async def test_a_finished_blob_is_one_line_without_secrets(peer: MemoryPeer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "dfdaemon")
    peer.hold(f"http://x{_PATH}", Held(data=_DATA))
    async with running_gateway(_ALONE, peer) as gateway, client(gateway.port) as user:
        await user.ask(f"GET http://user:pass@127.0.0.1:1{_PATH}?Signature=secret HTTP/1.1\r\nHost: x\r\n\r\n")
    lines = [record.getMessage() for record in caplog.records if record.getMessage().startswith("dfget url:")]
    assert len(lines) == 1
    assert "[SUCCESS] cost:" in lines[0]
    assert f"peer:{len(_DATA)}" in lines[0]
    assert not any(word in caplog.text for word in ("secret", "pass@", "user:"))


async def test_a_request_with_a_body_is_not_the_swarms(peer: MemoryPeer) -> None:
    async def script(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(ok(await read_body(seen, reader)))

    async with upstream(script) as origin, running_gateway(_CONFIG, peer) as gateway, client(gateway.port) as user:
        assert (await user.ask(_get(origin.port, "Content-Length: 2") + "ab")).body == b"ab"
    assert peer.requests == []
