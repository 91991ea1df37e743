"""Who gets a blob out of the cache: nobody whom the registry would refuse, and whoever it would not, for one question."""

import asyncio
import dataclasses
import hashlib
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from gateway.config import AuthorizationConfig, GatewayConfig, ProxyRuleConfig
from tests.support.memory_peer import Held, MemoryPeer
from tests.support.raw_http import Got, RawUpstream, Seen, client, ok, upstream
from tests.support.running_gateway import running_gateway

_DATA = random.Random(11).randbytes(300_000)
_HEX = hashlib.sha256(_DATA).hexdigest()
_DIGEST = f"sha256:{_HEX}"
_OTHER = "sha256:" + "0" * 64
_STORED = f"/docker/registry/v2/blobs/sha256/{_HEX[:2]}/{_HEX}/data"
_CONFIG = GatewayConfig(port=0, proxies=(ProxyRuleConfig(regx="blobs/sha256.*"), ProxyRuleConfig(regx="/files/")))
_CHALLENGE = 'Bearer realm="https://auth.test/token",service="registry"'


@dataclass(kw_only=True)
class Registry:
    """Which token may read which repository, and which blob is in which."""

    readers: dict[str, set[str]] = field(default_factory=lambda: {"team/app": {"Bearer alice"}, "team/other": {"Bearer bob"}})
    blobs: dict[str, set[str]] = field(default_factory=lambda: {"team/app": {_DIGEST}})
    #: What a blob's URL answers instead of the blob: a whole head.
    instead: bytes = b""
    #: Answers a question only once this is set.
    go: asyncio.Event = field(default_factory=asyncio.Event)
    heads: bool = True
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    origin: RawUpstream = field(init=False)

    def __post_init__(self) -> None:
        self.go.set()

    async def answer(self, seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request."""
        self.arrived.set()
        await self.go.wait()
        method, target, _ = seen.line.split(" ")
        writer.write(self._said(method, target, (seen.get("Authorization") or [""])[0], (seen.get("Range") or [""])[0]))

    def _said(self, method: str, target: str, credential: str, wanted: str) -> bytes:
        name, kind, reference = target.removeprefix("/v2/").rsplit("/", 2)
        if method == "HEAD" and not self.heads:
            return _plain("405 Method Not Allowed")
        if not credential and "" not in self.readers[name]:
            return _plain("401 Unauthorized", f"WWW-Authenticate: {_CHALLENGE}")
        if credential not in self.readers[name]:
            return _plain("403 Forbidden")
        if self.instead:
            return self.instead
        if kind == "manifests":
            return ok(b"{}", "Content-Type: application/json")
        if reference not in self.blobs.get(name, set()):
            return _plain("404 Not Found")
        if wanted == "bytes=0-0":
            return (
                f"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-0/{len(_DATA)}\r\nContent-Length: 1\r\n\r\n".encode()
                + b"x"
            )
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(_DATA)}\r\nContent-Type: a/b\r\n\r\n".encode()
        return head if method == "HEAD" else head + _DATA

    def asked(self, method: str) -> list[Seen]:
        """Requests of a method."""
        return [seen for seen in self.origin.seen if seen.line.startswith(method + " ")]


def _plain(status: str, *fields: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *fields, "Content-Length: 0", "", ""]).encode()


@dataclass(kw_only=True)
class World:
    """A registry and a gateway before it."""

    registry: Registry
    port: int

    async def get(self, path: str, credential: str = "", *fields: str, method: str = "GET") -> Got:
        """What one client gets, on a connection of its own."""
        sent = [f"Authorization: {credential}"] if credential else []
        async with client(self.port) as user:
            url = f"http://127.0.0.1:{self.registry.origin.port}{path}"
            return await user.ask("\r\n".join([f"{method} {url} HTTP/1.1", "Host: x", *sent, *fields, "", ""]), method=method)


@asynccontextmanager
async def _world(peer: MemoryPeer, *, recheck: str = "60s", down: str = "deny") -> AsyncIterator[World]:
    registry = Registry()
    config = dataclasses.replace(_CONFIG, authorization=AuthorizationConfig(recheck=recheck, when_registry_down=down))
    peer.hold(f"http://x/v2/a/blobs/{_DIGEST}", Held(data=_DATA))
    async with upstream(registry.answer) as origin, running_gateway(config, peer) as gateway:
        registry.origin = origin
        yield World(registry=registry, port=gateway.port)


_BLOB = f"/v2/team/app/blobs/{_DIGEST}"


async def test_whom_the_registry_refuses_the_warm_cache_refuses_with_the_registrys_answer(peer: MemoryPeer) -> None:
    async with _world(peer) as world:
        assert (await world.get(_BLOB, "Bearer alice")).body == _DATA
        got = await world.get(_BLOB)
        assert (got.status, got.get("WWW-Authenticate"), got.body) == (401, _CHALLENGE, b"")
        assert (await world.get(_BLOB, "Bearer bob")).status == 403
        # What bob may read has no such blob.
        assert (await world.get(f"/v2/team/other/blobs/{_DIGEST}", "Bearer bob")).status == 404
        assert (await world.get(_BLOB, "Bearer alice", "Cookie: stranger=1")).body == _DATA
        # The stranger's wishes have not reached the swarm, where a failure would be everybody's.
        assert len(peer.requests) == 2


async def test_one_question_serves_a_credential_and_another_one_costs_one_more(peer: MemoryPeer) -> None:
    async with _world(peer) as world:
        world.registry.readers["team/app"].add("Bearer carol")
        world.registry.go.clear()
        async with asyncio.TaskGroup() as group:
            asking = [group.create_task(world.get(_BLOB, "Bearer alice")) for _ in range(8)]
            # Answered once it is under way and the others are here.
            await world.registry.arrived.wait()
            world.registry.go.set()
        assert [each.result().body for each in asking] == [_DATA] * 8
        assert len(world.registry.asked("HEAD")) == 1
        assert (await world.get(_BLOB, "Bearer alice")).body == _DATA
        assert len(world.registry.asked("HEAD")) == 1
        assert (await world.get(_BLOB, "Bearer carol")).body == _DATA
        assert len(world.registry.asked("HEAD")) == 2
        assert world.registry.asked("GET") == []


async def test_a_repository_that_may_be_read_gives_only_the_blobs_that_are_in_it(peer: MemoryPeer) -> None:
    async with _world(peer) as world:
        world.registry.readers["team/other"].add("Bearer alice")
        assert (await world.get(_BLOB, "Bearer alice")).status == 200
        assert (await world.get("/v2/team/other/manifests/1", "Bearer alice")).status == 200
        assert (await world.get(f"/v2/team/other/blobs/{_DIGEST}", "Bearer alice")).status == 404


async def test_a_manifest_that_was_given_is_word_enough_for_the_repository(peer: MemoryPeer) -> None:
    async with _world(peer) as world:
        assert (await world.get(_BLOB, "Bearer alice")).status == 200
        world.registry.readers["team/app"].add("Bearer dave")
        assert (await world.get("/v2/team/app/manifests/1", "Bearer dave")).status == 200
        assert (await world.get(_BLOB, "Bearer dave")).body == _DATA
        assert len(world.registry.asked("HEAD")) == 1
        # And one that is refused takes the word back.
        world.registry.readers["team/app"].discard("Bearer dave")
        assert (await world.get("/v2/team/app/manifests/1", "Bearer dave")).status == 403
        assert (await world.get(_BLOB, "Bearer dave")).status == 403


async def test_a_first_blob_of_a_known_repository_is_asked_about_while_it_is_opened(peer: MemoryPeer) -> None:
    async with _world(peer) as world:
        assert (await world.get("/v2/team/app/manifests/1", "Bearer alice")).status == 200
        assert (await world.get(_BLOB, "Bearer alice")).body == _DATA
        assert len(world.registry.asked("HEAD")) == 1
        # Refused though it was opened: it is closed again, which the gateway's end looks at.
        world.registry.blobs["team/app"].clear()
        assert (await world.get(f"/v2/team/app/blobs/{_OTHER}", "Bearer alice")).status == 404


async def test_access_that_is_taken_away_ends_within_the_time(peer: MemoryPeer) -> None:
    async with _world(peer, recheck="0s") as world:
        for _ in range(2):
            assert (await world.get(_BLOB, "Bearer alice")).body == _DATA
        assert len(world.registry.asked("HEAD")) == 2
        world.registry.readers["team/app"].clear()
        assert (await world.get(_BLOB, "Bearer alice")).status == 403


async def test_a_stranger_does_not_join_a_download_that_runs(peer: MemoryPeer) -> None:
    async with _world(peer) as world:
        held = peer.hold(f"http://x/v2/a/blobs/{_DIGEST}", Held(data=_DATA, waits_at=1000))
        async with asyncio.TaskGroup() as group:
            running = group.create_task(world.get(_BLOB, "Bearer alice"))
            await held.waiting.wait()
            assert (await world.get(_BLOB)).status == 401
            assert peer.readers == 1
            held.go.set()
        assert running.result().body == _DATA


@pytest.mark.parametrize(("down", "status"), [("deny", 502), ("allow", 200)])
async def test_while_the_registry_is_down_the_operator_decides(peer: MemoryPeer, down: str, status: int) -> None:
    async with _world(peer, recheck="0s", down=down) as world:
        assert (await world.get(_BLOB, "Bearer alice")).status == 200
        world.registry.origin.port = 1
        for _ in range(2):
            assert (await world.get(_BLOB, "Bearer alice")).status == status


async def test_a_registry_in_trouble_is_down_too(peer: MemoryPeer) -> None:
    async with _world(peer, down="allow") as world:
        world.registry.instead = _plain("503 Service Unavailable")
        assert (await world.get(_BLOB, "Bearer alice")).body == _DATA
    peer.requests.clear()
    async with _world(peer) as world:
        world.registry.instead = _plain("503 Service Unavailable", "Retry-After: 5")
        got = await world.get(_BLOB, "Bearer alice")
        assert (got.status, got.get("Retry-After")) == (503, "5")
        assert peer.requests == []


async def test_a_registry_without_head_is_asked_for_one_byte(peer: MemoryPeer) -> None:
    async with _world(peer) as world:
        world.registry.heads = False
        assert (await world.get(_BLOB, "Bearer alice")).body == _DATA
        assert [seen.get("Range") for seen in world.registry.asked("GET")] == [["bytes=0-0"]]


@pytest.mark.parametrize(
    ("location", "permits"),
    [
        (f"http://storage.invalid{_STORED}?Expires=1&Signature=s", True),
        (f"https://storage.invalid/sha256:{_HEX}?se=1&sig=s", True),
        (f"/login?return=/v2/team/app/blobs/{_DIGEST}", False),
        (f"http://storage.invalid{_STORED}", False),
        ("ftp://storage.invalid/x", False),
    ],
)
async def test_a_redirect_is_a_permit_only_where_it_signs_the_blob(peer: MemoryPeer, location: str, permits: bool) -> None:
    async with _world(peer) as world:
        world.registry.readers["return="] = set()
        world.registry.instead = _plain("307 Temporary Redirect", f"Location: {location}")
        got = await world.get(_BLOB, "Bearer alice")
        if permits:
            assert got.body == _DATA
        else:
            # The client's own request, and the registry's own answer to it.
            assert (got.status, got.get("Location")) == (307, location)
            assert peer.requests == []


async def test_a_clients_own_query_that_comes_back_is_no_signature(peer: MemoryPeer) -> None:
    async def elsewhere(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(_plain("401 Unauthorized"))

    async with upstream(elsewhere) as other, upstream(elsewhere) as origin, _world(peer) as world:
        path = f"/%76%32/team/app/blobs/{_DIGEST}?x=1"
        location = f"http://127.0.0.1:{other.port}{path}"

        async def sends_on(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(_plain("301 Moved Permanently", f"Location: {location}"))

        origin.script = sends_on
        world.registry.origin = origin
        assert (await world.get(path)).status == 301
        assert len(other.seen) == 1
        assert peer.requests == []


async def test_a_page_to_log_in_on_is_no_permit(peer: MemoryPeer) -> None:
    async def page(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")

    async with upstream(page) as login, _world(peer) as world:
        world.registry.instead = _plain("302 Found", f"Location: http://127.0.0.1:{login.port}/login")
        assert (await world.get(_BLOB, "Bearer alice")).status == 302
        assert [seen.line for seen in login.seen] == ["HEAD /login HTTP/1.1"]
        assert peer.requests == []


async def test_a_path_that_the_registry_reads_otherwise_opens_no_repository(peer: MemoryPeer) -> None:
    """docker-registry tidies a path before it asks who may: `..%2f` led a stranger from an open repository into this one."""
    async with _world(peer) as world:
        registry = world.registry
        registry.readers["open"] = {""}
        registry.blobs["open"] = {_OTHER}
        tricky = f"/v2/team/app/blobs/sha256:%2f..%2f..%2f..%2f..%2fopen%2fblobs%2f{_OTHER}"
        answer = registry.answer

        async def tidies(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if "%2f" in seen.line:
                writer.write(_plain("301 Moved Permanently", f"Location: /v2/open/blobs/{_OTHER}"))
            elif "/open/" in seen.line:
                writer.write(f'HTTP/1.1 200 OK\r\nContent-Length: {len(_DATA)}\r\nETag: "x"\r\n\r\n'.encode())
            else:
                await answer(seen, reader, writer)

        registry.origin.script = tidies
        assert (await world.get(_BLOB, "Bearer alice")).body == _DATA
        await world.get(tricky, "", method="HEAD")
        async with client(world.port) as user:
            await user.send(f"GET http://127.0.0.1:{registry.origin.port}{tricky} HTTP/1.1\r\nHost: x\r\n\r\n")
            await user.reader.readuntil(b"\r\n")
        got = await world.get(_BLOB)
        assert (got.status, got.get("WWW-Authenticate")) == (401, _CHALLENGE)


async def test_a_redirect_to_the_same_registry_is_no_permit(peer: MemoryPeer) -> None:
    async def elsewhere(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert seen.get("Authorization") == []
        writer.write(_plain("401 Unauthorized"))

    async with upstream(elsewhere) as other, _world(peer) as world:
        location = f"http://127.0.0.1:{other.port}{_BLOB}?x=y"
        world.registry.instead = _plain("301 Moved Permanently", f"Location: {location}")
        assert (await world.get(_BLOB, "Bearer alice")).status == 301
        assert len(other.seen) == 1
        assert peer.requests == []


async def test_what_the_upstream_has_by_now_is_not_taken_from_the_cache(peer: MemoryPeer) -> None:
    async with _world(peer) as world:
        world.registry.instead = ok(b"another", "Content-Type: a/b")
        assert (await world.get(_BLOB, "Bearer alice")).body == b"another"


async def test_a_signature_is_asked_about_by_the_method_that_it_is_for(peer: MemoryPeer) -> None:
    async def storage(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        method, target, _ = seen.line.split(" ")
        if method != "GET" or "Signature=good" not in target:
            writer.write(_plain("403 Forbidden"))
            return
        part = f"Content-Range: bytes 0-0/{len(_DATA)}\r\nContent-Length: 1"
        writer.write(f"HTTP/1.1 206 Partial Content\r\n{part}\r\n\r\nx".encode())

    async with upstream(storage) as origin, _world(peer) as world:
        world.registry.origin = origin
        for _ in range(2):
            assert (await world.get(f"{_STORED}?Expires=99999999999&Signature=good")).body == _DATA
        assert len(world.registry.asked("GET")) == 1
        assert (await world.get(f"{_STORED}?Expires=99999999999&Signature=bad")).status == 403
        assert (await world.get(_STORED)).status == 403
        # A signature that has ended is asked about each time, whatever was said before.
        for _ in range(2):
            assert (await world.get(f"{_STORED}?Expires=1000000000&Signature=good")).body == _DATA
        ended = [seen for seen in world.registry.asked("GET") if "Expires=1000000000" in seen.line]
        assert len(ended) == 2


@pytest.mark.parametrize(
    ("fields", "shared"),
    [
        (('ETag: "1"',), True),
        (("Last-Modified: Tue, 24 Nov 2026 08:00:00 GMT", "Cache-Control: public, max-age=60"), True),
        ((), False),
        (('ETag: "1"', "Cache-Control: private"), False),
        (('ETag: "1"', "Cache-Control: max-age=0, No-Store"), False),
        (('ETag: "1"', "Set-Cookie: a=b"), False),
        (('ETag: "1"', "Vary: Accept, Authorization"), False),
    ],
)
async def test_a_content_without_a_digest_is_shared_only_when_it_says_that_it_may_be(
    peer: MemoryPeer, fields: tuple[str, ...], shared: bool
) -> None:
    async def files(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raw = ok(b"abc", *fields)
        writer.write(raw[:-3] if seen.line.startswith("HEAD ") else raw)

    async with upstream(files) as origin, running_gateway(_CONFIG, peer) as gateway, client(gateway.port) as user:
        got = await user.ask(f"GET http://127.0.0.1:{origin.port}/files/a HTTP/1.1\r\nHost: x\r\nAuthorization: t\r\n\r\n")
        # The peer has it not, so it comes straight in any case; what counts is whether the swarm was asked.
        assert got.body == b"abc"
        assert len(peer.requests) == (1 if shared else 0)


async def test_versions_of_one_url_are_contents_of_their_own(peer: MemoryPeer) -> None:
    versions = iter(["1", "1", "2"])
    now = ""

    async def files(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal now
        if seen.line.startswith("HEAD "):
            now = next(versions)
        raw = ok(now.encode(), f'ETag: "{now}"')
        writer.write(raw[:-1] if seen.line.startswith("HEAD ") else raw)

    async with upstream(files) as origin, running_gateway(_CONFIG, peer) as gateway, client(gateway.port) as user:
        for expected in (b"1", b"1", b"2"):
            got = await user.ask(f"GET http://127.0.0.1:{origin.port}/files/a HTTP/1.1\r\nHost: x\r\n\r\n")
            assert got.body == expected
    tasks = [request.task for request in peer.requests]
    assert tasks[0] == tasks[1] != tasks[2]


async def test_no_question_goes_where_a_registry_that_is_elsewhere_leads(
    peer: MemoryPeer, caplog: pytest.LogCaptureFixture
) -> None:
    """The address by which a cloud tells a machine its credentials: the client gets the redirect, and this host does not go."""
    async with _world(peer) as world:
        world.registry.instead = _plain("307 Temporary Redirect", "Location: http://169.254.169.254/latest")
        async with asyncio.timeout(5):
            got = await world.get(_BLOB, "Bearer alice")
        assert (got.status, got.get("Location")) == (307, "http://169.254.169.254/latest")
        # Not a refusal of the client: nothing was asked.
        assert "is not given to this client" not in caplog.text
        assert peer.requests == []


@pytest.mark.parametrize("name", ["X-Original-URL", "X-Rewrite-Url", "X-Forwarded-Host", "X-Tenant"])
async def test_a_field_by_which_the_registry_serves_another_path_opens_nothing(peer: MemoryPeer, name: str) -> None:
    """Bob may read another repository, and has the registry answer for that one in the place of this one."""
    async with _world(peer) as world:
        answer = world.registry.answer

        async def sends_elsewhere(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if seen.get(name):
                method, target, version = seen.line.split(" ")
                head = f"{method} {target.replace('team/app', 'team/other')} {version}"
                rest = seen.head.split(b"\r\n", 1)[1]
                seen = Seen(head=head.encode() + b"\r\n" + rest)
            await answer(seen, reader, writer)

        world.registry.origin.script = sends_elsewhere
        assert (await world.get(_BLOB, "Bearer alice")).body == _DATA
        given = len(peer.requests)
        field = f"{name}: /v2/team/other/manifests/1"
        assert (await world.get("/v2/team/app/manifests/1", "Bearer bob", field)).status == 200
        assert (await world.get(_BLOB, "Bearer bob", field)).status == 404
        # Not even where the registry says 200 to it: it is about another content.
        if name.startswith("X-O") or name.startswith("X-R"):
            world.registry.blobs["team/other"] = {_DIGEST}
            assert (await world.get(_BLOB, "Bearer bob", field)).body == _DATA
            assert len(peer.requests) == given


async def test_an_answer_that_names_another_digest_is_no_permit(peer: MemoryPeer) -> None:
    async with _world(peer) as world:
        world.registry.instead = _plain("200 OK", f"Docker-Content-Digest: {_OTHER}")
        assert (await world.get(_BLOB, "Bearer alice")).status == 200
        assert peer.requests == []
