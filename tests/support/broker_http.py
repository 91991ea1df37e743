"""A supernode's HTTP side on loopback, above a router of the test's, and requests to it: through a client, or by hand."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tornado.httpclient import AsyncHTTPClient, HTTPResponse
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets

from broker.cache.metrics import SeedStores
from broker.cache.questions import CacheQuestions
from broker.http_api import ApiParts, application
from broker.metrics import registry_of
from broker.seed import SeedProcess
from tests.support.broker_router import RUN_ID, LoopbackBroker, loopback_broker

VERSION = "1.2.3-test"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopbackApi:
    """It runs."""

    broker: LoopbackBroker
    port: int

    async def ask(self, path: str, method: str = "GET", *, body: str | None = None, **headers: str) -> HTTPResponse:
        """The answer, whatever its status."""
        url = f"http://127.0.0.1:{self.port}{path}"
        return await AsyncHTTPClient().fetch(url, method=method, headers=headers, body=body, raise_error=False)

    async def json(self, path: str) -> Any:
        """What a GET answers, which must be well."""
        answer = await self.ask(path)
        assert answer.code == 200, answer.body
        assert answer.headers["Content-Type"].startswith("application/json")
        return json.loads(answer.body)

    async def raw(self, request: bytes) -> bytes:
        """All that a request of just these bytes is answered."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(request)
            async with asyncio.timeout(10):
                return await reader.read()
        finally:
            writer.close()


@asynccontextmanager
async def loopback_api(
    seed: SeedProcess | None = None, *, cache_limit_s: float = 10.0, patience_s: float = 0.0
) -> AsyncIterator[LoopbackApi]:
    """One that ends with the context. `patience_s`: how long /metrics waits for seeds, which mostly are only told of here."""
    with loopback_broker() as broker:
        registry = registry_of(broker.router, seed, VERSION)
        questions = CacheQuestions(broker.router, time_limit_s=cache_limit_s)
        registry.register(stores := SeedStores(broker.router, questions, patience_s=patience_s))
        parts = ApiParts(
            router=broker.router,
            registry=registry,
            version=VERSION,
            run_id=RUN_ID,
            broker_endpoint=lambda name: f"tcp://{name}:{broker.router.port}",
            began_at=broker.clock.now(),
            now=broker.clock.now,
            cache=questions,
            seed_stores=stores,
        )
        sockets = bind_sockets(0, "127.0.0.1")
        server = HTTPServer(application(parts))
        server.add_sockets(sockets)
        try:
            yield LoopbackApi(broker=broker, port=sockets[0].getsockname()[1])
        finally:
            server.stop()
            await server.close_all_connections()
