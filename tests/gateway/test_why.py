"""Each answer's trace, who may ask what became of it, and what is told."""

import asyncio
import dataclasses
import hashlib
import json
import random
import re
import socket
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import psutil
import pytest

from gateway import why
from gateway.config import BasicAuthConfig, GatewayConfig, HijackConfig, HijackHostConfig, MirrorConfig, ProxyRuleConfig
from gateway.sockets import is_from_here
from gateway.stream import Patience
from tests.support.memory_peer import Held, MemoryPeer
from tests.support.raw_http import Seen, answers, client, ok, permits, upstream
from tests.support.running_gateway import Pair, running_gateway
from wire.messages import Origin
from worker_peer.api import Cause, DataPlane

_DATA: Final = random.Random(7).randbytes((2 << 20) + 12345)
_DIGEST: Final = f"sha256:{hashlib.sha256(_DATA).hexdigest()}"
_PATH: Final = f"/v2/team/app/blobs/{_DIGEST}"
_CONFIG: Final = GatewayConfig(port=0, proxies=(ProxyRuleConfig(regx="blobs/sha256.*"),))
_ID: Final = "4bf92f3577b34da6a3ce929d0e0e4736"
_PARENT: Final = f"traceparent: 00-{_ID}-00f067aa0ba902b7-01"


def _get(port: int, *fields: str, path: str = _PATH) -> str:
    return "\r\n".join([f"GET http://127.0.0.1:{port}{path} HTTP/1.1", "Host: x", *fields, "", ""])


async def _why(port: int, question: str = "", *, host: str = "127.0.0.1", fields: str = "") -> tuple[int, Any]:
    async with client(port) as user:
        target = f"/debug/why?of={quote(question, safe='')}" if question else "/debug/why"
        got = await user.ask(f"GET {target} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n")
    return got.status, json.loads(got.body) if got.get("Content-Type") == "application/json" else got.body.decode()


async def _told(port: int, question: str) -> Any:
    status, told = await _why(port, question)
    assert status == 200, told
    assert told["requests"]
    for each in (told, *told["requests"]):
        assert sum(each["phases"].values()) == pytest.approx(each["seconds"], abs=1e-6)
        assert sum(given["bytes"] for given in each["from"]) == each["bytes"]
    return told


def _from(told: Any) -> dict[str, int]:
    return {each["place"]: each["bytes"] for each in told["from"]}


# -- every answer has one -------------------------------------------------------------------------------------------------


async def test_every_answer_carries_a_trace_of_its_own(peer: MemoryPeer) -> None:
    peer.hold(f"http://x{_PATH}", Held(data=_DATA))
    passes = permits(len(_DATA), ok(b"direct", "X-Damselfly-Trace: of-another-gateway", "x-damselfly-trace: twice"))
    async with upstream(passes) as origin, running_gateway(_CONFIG, peer) as gateway, client(gateway.port) as user:
        place = f"127.0.0.1:{origin.port}"
        asked = {
            "swarm": _get(origin.port),
            "range": _get(origin.port, "Range: bytes=1-2"),
            "not modified": _get(origin.port, f'If-None-Match: "{_DIGEST}"'),
            "not satisfiable": _get(origin.port, f"Range: bytes={len(_DATA)}-"),
            "direct": _get(origin.port, path="/other"),
            "head": f"HEAD http://{place}/other HTTP/1.1\r\nHost: x\r\n\r\n",
            "post": f"POST http://{place}/other HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
            "unreachable": "GET http://127.0.0.1:1/ HTTP/1.1\r\nHost: x\r\n\r\n",
            "no upstream": "GET nowhere HTTP/1.1\r\nHost: x\r\n\r\n",
            "by name": f"GET /v2/{place.replace(':', '__')}/team/app/manifests/1 HTTP/1.1\r\nHost: x\r\n\r\n",
            "local registry": f"GET /v2/ HTTP/1.1\r\nHost: localhost:{gateway.port}\r\n\r\n",
            "token": "GET /_damselfly/token HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "metrics": "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n",
            "ping": "GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n",
            "why": "GET /debug/why HTTP/1.1\r\nHost: x\r\n\r\n",
        }
        seen: dict[str, str] = {}
        statuses: dict[str, int] = {}
        for name, request in asked.items():
            got = await user.ask(request, method=request.partition(" ")[0])
            (trace,) = got.head.get("X-Damselfly-Trace")
            assert re.fullmatch(r"[0-9a-f]{32}", trace), name
            seen[name], statuses[name] = trace, got.status
        assert len(set(seen.values())) == len(asked)
        assert statuses == dict.fromkeys(asked, 200) | {
            "range": 206, "not modified": 304, "not satisfiable": 416, "unreachable": 502, "no upstream": 400,
            "local registry": 401, "why": 403,
        }  # fmt: skip
        # What is asked of the gateway itself is nobody's pull.
        for name, trace in seen.items():
            status, _ = await _why(gateway.port, trace)
            assert status == (404 if name in ("metrics", "ping", "why") else 200), name


async def test_a_clients_own_trace_is_kept_and_passed_on(peer: MemoryPeer) -> None:
    async with upstream(answers(ok(b"hi"))) as origin, running_gateway(_CONFIG, peer) as gateway, client(gateway.port) as user:
        for _ in range(2):
            got = await user.ask(_get(origin.port, _PARENT, path="/v2/team/app/manifests/1"))
            assert got.get("X-Damselfly-Trace") == _ID
        assert origin.seen[0].get("traceparent") == [_PARENT.partition(": ")[2]]
        told = await _told(gateway.port, _ID)
    assert told["title"] == f"trace {_ID}"
    assert [each["trace"] for each in told["requests"]] == [_ID, _ID]


async def test_refusals_and_loops_carry_one_too(peer: MemoryPeer) -> None:
    config = dataclasses.replace(_CONFIG, basic_auth=BasicAuthConfig(username="u", password="p"))
    async with upstream(answers(ok(b"hi"))) as origin, running_gateway(config, peer) as gateway:
        for request in (_get(origin.port), f"CONNECT 127.0.0.1:{origin.port} HTTP/1.1\r\nHost: x\r\n\r\n"):
            async with client(gateway.port) as user:
                got = await user.ask(request)
            assert (got.status, len(got.get("X-Damselfly-Trace") or "")) == (407, 32)
        who = "Proxy-Authorization: Basic dTpw\r\n"
        assert (await _why(gateway.port))[0] == 407
        status, told = await _why(gateway.port, got.get("X-Damselfly-Trace") or "", fields=who)
        assert status == 200
        assert told["verdict"].startswith("refused: dfdaemon answered 407 to this client")
        # The command takes user and password from the configuration.
        known = dataclasses.replace(config, port=gateway.port)
        assert (await asyncio.to_thread(why.ask, known, told["requests"][0]["trace"])).is_known


async def test_an_upgraded_connection_carries_one(peer: MemoryPeer) -> None:
    async def script(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nhello")
        await writer.drain()
        return False

    async with upstream(script) as origin, running_gateway(_CONFIG, peer) as gateway, client(gateway.port) as user:
        await user.send(_get(origin.port, "Connection: Upgrade", "Upgrade: echo", _PARENT, path="/socket"))
        head = await user.reader.readuntil(b"\r\n\r\n")
        assert f"\r\nX-Damselfly-Trace: {_ID}\r\n".encode() in head
        assert await user.reader.readexactly(5) == b"hello"


async def test_an_opened_tunnel_carries_one_and_a_passed_one_is_not_touched(peer: MemoryPeer, local_pair: Pair) -> None:
    config = dataclasses.replace(
        _CONFIG,
        hijack_https=HijackConfig(
            cert=str(local_pair.cert), key=str(local_pair.key), hosts=(HijackHostConfig(regx="127", insecure=True),)
        ),
    )
    async with upstream(answers(ok(b"hi")), tls=local_pair.server()) as origin, running_gateway(config, peer) as gateway:
        async with client(gateway.port) as user:
            await user.send(f"CONNECT 127.0.0.1:{origin.port} HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"Trace" not in await user.reader.readuntil(b"\r\n\r\n")
            await user.start_tls(local_pair.client(), "127.0.0.1")
            got = await user.ask(f"GET /v2/team/app/manifests/1 HTTP/1.1\r\nHost: 127.0.0.1:{origin.port}\r\n\r\n")
        told = await _told(gateway.port, got.get("X-Damselfly-Trace") or "")
    assert told["requests"][0]["image"] == f"127.0.0.1:{origin.port}/team/app"


# -- who may ask ----------------------------------------------------------------------------------------------------------


async def test_only_this_host_may_ask_and_only_by_an_address(peer: MemoryPeer) -> None:
    config = dataclasses.replace(_CONFIG, host_ip="0.0.0.0")
    async with running_gateway(config, peer) as gateway:
        for host, status in (("localhost:1", 200), ("127.0.0.1", 200), ("[::1]:5", 200), ("evil.test", 403)):
            assert (await _why(gateway.port, host=host))[0] == status, host
        others = [each.address for found in psutil.net_if_addrs().values() for each in found if each.family is socket.AF_INET]
        for address in others:
            if not address.startswith("127."):
                reader, writer = await asyncio.open_connection(address, gateway.port)
                writer.write(b"GET /debug/why HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
                assert (await reader.readline()).startswith(b"HTTP/1.1 403 ")
                writer.close()
                await writer.wait_closed()
        async with client(gateway.port) as user:
            assert (await user.ask("POST /debug/why HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n")).status == 405
        # Behind the gateway's own tunnel may be anybody.
        async with client(gateway.port) as user:
            await user.send(f"CONNECT 127.0.0.1:{gateway.port} HTTP/1.1\r\nHost: x\r\n\r\n")
            await user.reader.readuntil(b"\r\n\r\n")
            assert (await user.ask("GET /debug/why HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")).status == 403
            assert (await user.ask("GET /_ping HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")).status == 200


def test_what_is_no_connection_of_the_network_is_not_from_here() -> None:
    one, other = socket.socketpair()
    with one, other:
        assert not is_from_here(one)
    assert not is_from_here(one)
    assert not is_from_here(None)


# -- what is told ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cause", list(Cause))
async def test_what_the_peer_waits_for_is_told(peer: MemoryPeer, cause: Cause) -> None:
    held = peer.hold(
        f"http://x{_PATH}", Held(data=_DATA, waits_at=0, cause=cause, origin=Origin.PEER, giver="10.0.0.7-1-2.000")
    )  # fmt: skip
    async with upstream(permits(len(_DATA), ok(b"never"))) as origin, running_gateway(_CONFIG, peer) as gateway:
        async with client(gateway.port) as user:
            began_at = asyncio.get_running_loop().time()
            await user.send(_get(origin.port, _PARENT))
            await held.waiting.wait()
            asyncio.get_running_loop().call_later(0.15, held.go.set)
            assert (await user.response()).body == _DATA
            took_s = asyncio.get_running_loop().time() - began_at
        told = await _told(gateway.port, _ID)
    wait = "disk" if cause is Cause.STORE else cause.value
    assert told["waits"][wait] >= 0.149
    assert told["seconds"] <= took_s
    assert _from(told) == {"peer": len(_DATA)}
    assert told["from"][0]["name"] == "10.0.0.7-1-2.000"


async def test_a_registry_that_is_slow_to_permit_is_told_apart_from_the_opening_beside_it(peer: MemoryPeer) -> None:
    peer.hold(f"http://x{_PATH}", Held(data=_DATA))
    other = _PATH.replace(_DIGEST[7:], "b" * 64)
    peer.hold(f"http://x{other}", Held(data=b"other"))
    go = asyncio.Event()

    async def script(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if "b" * 64 in seen.line:
            asyncio.get_running_loop().call_later(0.1, go.set)
            await go.wait()
        length = 5 if "b" * 64 in seen.line else len(_DATA)
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n".encode())

    async with upstream(script) as origin, running_gateway(_CONFIG, peer) as gateway, client(gateway.port) as user:
        assert (await user.ask(_get(origin.port))).status == 200
        # Of a reader of the repository the next blob is opened while it is asked.
        assert (await user.ask(_get(origin.port, _PARENT, path=other))).body == b"other"
        assert len(peer.requests) == 2
        told = await _told(gateway.port, _ID)
    assert told["waits"]["access"] >= 0.099
    assert told["dominant"] == "access"
    assert "the registry's access check" in told["verdict"]


async def test_the_parts_of_several_ranges_are_accounted_for(peer: MemoryPeer) -> None:
    peer.hold(f"http://x{_PATH}", Held(data=_DATA, origin=Origin.SEED, giver="cdnnode:s"))
    async with upstream(permits(len(_DATA), ok(b"never"))) as origin, running_gateway(_CONFIG, peer) as gateway:
        async with client(gateway.port) as user:
            got = await user.ask(_get(origin.port, _PARENT, "Range: bytes=0-99,1000-1999"))
            assert got.status == 206
        told = await _told(gateway.port, _ID)
    assert _from(told) == {"seed": 1100, "dfdaemon": len(got.body) - 1100}


async def test_a_rest_that_comes_from_the_registry_is_told_as_such(peer: MemoryPeer) -> None:
    peer.hold(f"http://x{_PATH}", Held(data=_DATA, origin=Origin.PEER, chunk_bytes=100_000, breaks_at=700_000))

    async def script(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if seen.line.startswith("HEAD "):
            writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(_DATA)}\r\n\r\n".encode())
            return
        start = int(seen.get("Range")[0].removeprefix("bytes=").partition("-")[0])
        span = f"bytes {start}-{len(_DATA) - 1}/{len(_DATA)}"
        head = f"HTTP/1.1 206 Partial Content\r\nContent-Range: {span}\r\nContent-Length: {len(_DATA) - start}\r\n\r\n"
        writer.write(head.encode() + _DATA[start:])

    async with upstream(script) as origin, running_gateway(_CONFIG, peer) as gateway:
        async with client(gateway.port) as user:
            assert (await user.ask(_get(origin.port, _PARENT))).body == _DATA
        told = await _told(gateway.port, _ID)
    assert _from(told) == {"peer": 700_000, "registry": len(_DATA) - 700_000}
    assert told["waits"]["body"] > 0


async def test_a_fallback_is_a_success_in_the_log_and_the_wait_before_it_the_supernodes(
    peer: MemoryPeer, caplog: pytest.LogCaptureFixture
) -> None:
    peer.silent = True
    caplog.set_level("INFO")
    patience = Patience(open_s=0.1, first_byte_s=0.1)
    async with upstream(permits(len(_DATA), ok(_DATA))) as origin, running_gateway(_CONFIG, peer, patience=patience) as gateway:
        async with client(gateway.port) as user:
            assert (await user.ask(_get(origin.port, _PARENT))).body == _DATA
        told = await _told(gateway.port, _ID)
    assert told["waits"]["supernode"] >= 0.099
    assert told["requests"][0]["fallback"] == "slow_open"
    assert _from(told) == {"registry": len(_DATA)}
    (line,) = [each.message for each in caplog.records if "[SUCCESS]" in each.message]
    assert re.search(rf"\[SUCCESS\] cost:\d.\d+s length:{len(_DATA)} round trip directly, because of slow_open: status 200", line)
    assert not any("[FAIL]" in each.message for each in caplog.records)


async def test_a_fallback_that_fails_is_a_failure(peer: MemoryPeer, caplog: pytest.LogCaptureFixture) -> None:
    refused = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\n"

    async def script(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(refused + (b"" if seen.line.startswith("HEAD") else b"no"))

    caplog.set_level("INFO")
    async with upstream(script) as origin, running_gateway(_CONFIG, peer) as gateway:
        async with client(gateway.port) as user:
            assert (await user.ask(_get(origin.port, _PARENT))).status == 403
        told = await _told(gateway.port, _ID)
    assert told["verdict"].startswith("refused: the registry answered 403 to this client; ")
    assert told["phases"]["access"] > 0
    (line,) = [each for each in caplog.records if "[FAIL]" in each.message]
    assert "because of not_permitted: status 403" in line.message
    assert line.levelname == "WARNING"


async def test_what_hangs_just_now_is_told_too(peer: MemoryPeer) -> None:
    held = peer.hold(f"http://x{_PATH}", Held(data=_DATA, waits_at=100_000, cause=Cause.SEED_READS, giver="10.0.0.7-1-2.000"))
    async with upstream(permits(len(_DATA), ok(b"never"))) as origin, running_gateway(_CONFIG, peer) as gateway:
        async with client(gateway.port) as user:
            await user.send(_get(origin.port, _PARENT))
            await held.waiting.wait()
            told = await _told(gateway.port, _DIGEST)
            assert told["requests"][0]["end"] == "under way"
            assert told["verdict"].startswith("still under way with 97.7 KiB; ")
            assert _from(told) == {"peer": 100_000}
            assert told["waits"]["seed_reads"] > 0
            later = await _told(gateway.port, _ID)
            assert later["waits"]["seed_reads"] > told["waits"]["seed_reads"]
            listed = (await _why(gateway.port))[1]["last"]
            assert [each["trace"] for each in listed] == [_ID]
            held.go.set()
            assert (await user.response()).body == _DATA
        done = await _told(gateway.port, _ID)
    assert done["requests"][0]["end"] == "complete"
    assert _from(done) == {"peer": len(_DATA)}


async def test_a_client_that_goes_away_is_told(peer: MemoryPeer) -> None:
    held = peer.hold(f"http://x{_PATH}", Held(data=_DATA, waits_at=100_000))
    async with upstream(permits(len(_DATA), ok(b"never"))) as origin, running_gateway(_CONFIG, peer) as gateway:
        async with client(gateway.port) as user:
            await user.send(_get(origin.port, _PARENT))
            await held.waiting.wait()
        await peer.idle.wait()
        told = await _told(gateway.port, _ID)
    assert "the client went away after 97.7 KiB" in told["verdict"]
    assert _from(told) == {"peer": 100_000}


async def test_figures_of_phases_and_of_the_data_plane_are_in_the_metrics(peer: MemoryPeer) -> None:
    peer.hold(f"http://x{_PATH}", Held(data=_DATA))
    peer.plane = DataPlane(serving=3, fetching=4, sent_bytes=5, refused={"wrong_digest": 6, "bad_header": 1})
    passes = permits(len(_DATA), ok(b"never"))
    async with upstream(passes) as origin, running_gateway(_CONFIG, peer) as gateway, client(gateway.port) as user:
        assert (await user.ask(_get(origin.port))).status == 200
        text = (await user.ask("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")).body.decode()
    assert 'dragonfly_dfdaemon_phase_seconds_count{phase="access",verdict="p2p"} 1.0' in text
    for line in (
        "serving_requests 3.0",
        "fetching_pieces 4.0",
        "served_bytes_total 5.0",
        'refused_frames_total{reason="wrong_digest"} 6.0',
    ):
        assert f"dragonfly_dfdaemon_{line}" in text
    phases = set(re.findall(r'phase="(\w+)"', text))
    assert phases <= {"access", "waiting", "supernode", "registry", "seed", "peers", "disk", "client"}


# -- the command ----------------------------------------------------------------------------------------------------------


async def test_the_command_draws_what_it_is_told(peer: MemoryPeer) -> None:
    peer.hold(f"http://x{_PATH}", Held(data=_DATA, origin=Origin.SEED, giver="cdnnode:10.0.0.1"))
    async with upstream(permits(len(_DATA), ok(b"{}"))) as origin, running_gateway(_CONFIG, peer) as gateway:
        config = dataclasses.replace(_CONFIG, port=gateway.port)
        empty = await asyncio.to_thread(why.ask, config, "")
        assert "pull an image, then ask again" in why.drawn(empty.told)
        async with client(gateway.port) as user:
            assert (await user.ask(_get(origin.port, "User-Agent: docker/1", path="/v2/team/app/manifests/1"))).status == 200
            assert (await user.ask(_get(origin.port, "User-Agent: docker/1", _PARENT))).status == 200
        said = await asyncio.to_thread(why.ask, config, "team/app:1")
        assert said.is_known
        drawn = why.drawn(said.told)
        assert drawn.splitlines()[0] == f"image 127.0.0.1:{origin.port}/team/app:1"
        assert "2 requests of docker/1" in drawn
        assert re.search(r"(?m)^  seed 10\.0\.0\.1 +2\.0 MiB 100 %  █+", drawn)
        assert re.search(r"(?m)^  registry, straight +2 B +0 %$", drawn)
        assert re.search(rf"(?m)^  GET blob {_DIGEST[:19]} +200 .* \|.{{44}}\| {_ID[:12]}$", drawn)
        assert drawn.splitlines()[-1] == f"verdict: {said.told['verdict']}"
        assert all(len(line) < 150 for line in drawn.splitlines()[:-1])
        plain = why.drawn(said.told, "ascii")
        assert "#" in plain
        plain.encode("ascii")
        listed = why.drawn((await asyncio.to_thread(why.ask, config, "")).told)
        assert _ID[:12] in listed
        missing = await asyncio.to_thread(why.ask, config, "team/none:1")
        assert not missing.is_known
        assert f"    127.0.0.1:{origin.port}/team/app:1" in why.not_known(missing.told)
    # Nobody is there any more: what he has written is.
    left = await asyncio.to_thread(why.ask, config, "team/app:1")
    assert left.told == said.told
    assert "no dfdaemon answers on 127.0.0.1:" in left.note


def test_a_name_cannot_speak_to_the_terminal() -> None:
    assert why.not_known({"error": "nothing is known of \x1b[2Jx", "nearest": ["a\x07"]}).count("?") == 2
    request = {"began": 1.0, "seconds": 1.0, "bytes": 0, "status": 200, "method": "GET", "trace": "t", "ask": "\x1b]0;x\x07"}
    assert "\x1b" not in why.drawn({"last": [request]})


def test_where_nothing_runs_and_nothing_was_written_it_says_what_to_do(home: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        config = dataclasses.replace(_CONFIG, port=free.getsockname()[1])
        with pytest.raises(why.CannotAsk, match="start it, or give why its --config"):
            why.ask(config, "x")
    assert list(home.iterdir()) == []


async def test_what_is_no_dfdaemon_is_said(home: Path) -> None:
    async with upstream(answers(ok(b"hello"))) as origin:
        with pytest.raises(why.CannotAsk, match="no dfdaemon answers"):
            await asyncio.to_thread(why.ask, dataclasses.replace(_CONFIG, port=origin.port), "x")
    async with upstream(answers(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")) as origin:
        with pytest.raises(why.CannotAsk, match="answers 500: restart it"):
            await asyncio.to_thread(why.ask, dataclasses.replace(_CONFIG, port=origin.port), "x")


async def test_a_gateway_whose_own_port_speaks_tls_is_asked(peer: MemoryPeer, local_pair: Pair) -> None:
    config = dataclasses.replace(
        _CONFIG, certpem=str(local_pair.cert), keypem=str(local_pair.key), registry_mirror=MirrorConfig()
    )
    async with running_gateway(config, peer) as gateway:
        said = await asyncio.to_thread(why.ask, dataclasses.replace(config, port=gateway.port), "")
    assert said.told == {"last": []}
