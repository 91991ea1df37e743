"""A supernode's jobs over real HTTP and a real router, with a seed of the test's: it has what it is told to have.

For the dialects and for what goes wrong. Real seeds and registries are in tests/docker.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tornado.httpclient import AsyncHTTPClient, HTTPRequest, HTTPResponse
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets

from broker.cache.questions import CacheQuestions
from broker.http_api import ApiParts, application
from broker.metrics import registry_of
from broker.preheat.config import PreheatConfig
from broker.preheat.history import History
from broker.preheat.registry_client import RegistryClient
from broker.preheat.service import Preheat
from tests.support.broker_router import RUN_ID, LoopbackBroker, loopback_broker
from tests.support.dealer import Dealer
from wire.errors import ErrorCode
from wire.messages import Alive, Fetch, Message, Role, Seeded, SeedFailed, Warm, Warmed
from wire.pieces import layout_for
from worker_peer.host.background import Background

SEED = "cdnnode:127.0.0.1-1-1"
FINAL = ("SUCCESS", "PARTIAL", "FAILED", "STOPPED")


class ScriptedPeer:
    """Answers FETCH and WARM for as long as the context runs."""

    def __init__(self, dealer: Dealer, lengths: dict[str, int]) -> None:
        self.dealer = dealer
        #: Bytes of each task that it can have.
        self.lengths = lengths
        #: What it answers instead.
        self.failures: dict[str, SeedFailed | Warmed] = {}
        #: Tasks of which it says nothing.
        self.silent: set[str] = set()
        self.fetches: list[Fetch] = []
        self.warms: list[Warm] = []

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            try:
                message = await self.dealer.hears(Message)
            except TimeoutError:
                continue
            if isinstance(message, Fetch):
                self.fetches.append(message)
                self._fetch(message)
            elif isinstance(message, Warm):
                self.warms.append(message)
                self._warm(message)

    async def stay_alive(self) -> None:
        """Until it is cancelled."""
        while True:
            self.dealer.say(Alive())
            await asyncio.sleep(1.0)

    def _fetch(self, fetch: Fetch) -> None:
        if fetch.task in self.silent:
            return
        length = self.lengths.get(fetch.task)
        if length is None or fetch.task in self.failures:
            missing = SeedFailed(task=fetch.task, code=ErrorCode.SOURCE_NOT_FOUND, status=404, message="it answers 404")
            failure = self.failures.get(fetch.task, missing)
            self.dealer.say(failure)
            return
        layout = layout_for(length)
        count = layout.piece_count
        blocks = sum(layout.block_count(piece) for piece in range(count))
        self.dealer.say(
            Seeded(
                task=fetch.task,
                length=length,
                piece_length=layout.piece_length,
                block_length=layout.block_length,
                pieces=tuple(range(count)),
                digests=bytes(32 * blocks),
                digest=fetch.digest or "sha256:" + "0" * 64,
            )
        )

    def _warm(self, warm: Warm) -> None:
        if warm.cancel or warm.task in self.silent:
            return
        failure = self.failures.get(warm.task)
        if isinstance(failure, Warmed):
            self.dealer.say(failure)
            return
        length = self.lengths[warm.task]
        digest = warm.digest or "sha256:" + "0" * 64
        self.dealer.say(Warmed(task=warm.task, done=True, verified=length, length=length, digest=digest, received=(length,)))


class PreheatLab:
    """It runs."""

    def __init__(self, broker: LoopbackBroker, port: int, preheat: Preheat, lengths: dict[str, int]) -> None:
        self.broker = broker
        self.port = port
        self.preheat = preheat
        self.lengths = lengths
        self.seed: ScriptedPeer | None = None
        self._background = Background()

    async def with_peer(self, name: str, role: Role = Role.PEER) -> ScriptedPeer:
        """Another peer that has what it is told to have."""
        peer = ScriptedPeer(await self.broker.join(name, role), self.lengths)
        self._background.spawn(peer.run(), name)
        self._background.spawn(peer.stay_alive(), name)
        return peer

    async def ask(self, method: str, path: str, document: Any = None, **headers: str) -> HTTPResponse:
        """The answer, whatever its status."""
        body = None if document is None else document if isinstance(document, bytes) else json.dumps(document)
        request = HTTPRequest(
            f"http://127.0.0.1:{self.port}{path}",
            method=method,
            body=body,
            headers={"Content-Type": "application/json", **headers},
            allow_nonstandard_methods=True,
        )
        return await AsyncHTTPClient().fetch(request, raise_error=False)

    async def raw_post(self, path: str, size: int) -> bytes:
        """All that a POST of so many bytes is answered."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n".encode())
            return await reader.read()
        finally:
            writer.close()

    async def json(self, method: str, path: str, document: Any = None, *, status: int = 200) -> Any:
        """An answer's document; its status must be this."""
        answer = await self.ask(method, path, document)
        assert answer.code == status, (answer.code, answer.body)
        assert answer.headers["Content-Type"].startswith("application/json")
        return json.loads(answer.body)

    async def ended(self, number: int) -> dict[str, Any]:
        """A job, when it has ended."""
        assert await self.preheat.ended(self.preheat.core.jobs[number], 20.0)
        told = await self.json("GET", f"/jobs/{number}")
        assert isinstance(told, dict)
        return told

    async def close(self) -> None:
        """Its peers end."""
        await self._background.close()


@asynccontextmanager
async def preheat_lab(
    directory: Path, lengths: dict[str, int], config: PreheatConfig | None = None, *, with_seed: bool = True
) -> AsyncIterator[PreheatLab]:
    """One that ends with the context; its history stays in the directory."""
    with loopback_broker() as broker:
        background = Background()
        used = config or PreheatConfig()
        preheat = Preheat(
            router=broker.router,
            client=RegistryClient(clock=broker.clock, user_agent="test", allowed=used.allowed),
            history=History(directory / "jobs.sqlite3"),
            background=background,
            clock=broker.clock,
            config=used,
        )
        parts = ApiParts(
            router=broker.router,
            registry=registry_of(broker.router, None, "1"),
            version="1",
            run_id=RUN_ID,
            broker_endpoint=lambda name: f"tcp://{name}:{broker.router.port}",
            began_at=broker.clock.now(),
            now=broker.clock.now,
            preheat=preheat,
            cache=CacheQuestions(broker.router),
        )
        sockets = bind_sockets(0, "127.0.0.1")
        server = HTTPServer(application(parts), max_body_size=1 << 20)
        server.add_sockets(sockets)
        lab = PreheatLab(broker, sockets[0].getsockname()[1], preheat, lengths)
        try:
            if with_seed:
                lab.seed = await lab.with_peer(SEED, Role.SEED)
            yield lab
        finally:
            await lab.close()
            await background.close()
            await preheat.close()
            server.stop()
            await server.close_all_connections()
            await asyncio.sleep(0)
