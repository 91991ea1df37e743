"""The supernode's composition root. The only module that makes real parts."""

import asyncio
import logging
import random
import secrets
import signal
import sys
from pathlib import Path

import zmq
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets

from broker.cache.metrics import SeedStores
from broker.cache.questions import CacheQuestions
from broker.config import SupernodeConfig
from broker.core.events import PeerGone
from broker.core.scheduler import Scheduler, SchedulerSettings
from broker.home import owned
from broker.http_api import ApiParts, application
from broker.metrics import registry_of
from broker.preheat.history import History
from broker.preheat.metrics import PreheatCollector
from broker.preheat.registry_client import RegistryClient
from broker.preheat.service import Preheat
from broker.router import Router
from broker.seed import SeedProcess
from wire.messages import Role
from worker_peer.host.background import Background
from worker_peer.host.clock import SystemClock
from worker_peer.host.values import bracketed

_log = logging.getLogger("supernode")


class CannotStart(Exception):
    """A port or folder cannot be had. The text says which, and what to do."""


class Supernode:
    """A running supernode."""

    def __init__(self, config: SupernodeConfig) -> None:
        """Binds its ports. Raises CannotStart."""
        self.config = config
        self.ip = config.advertise_ip
        clock = SystemClock()
        self._background = Background()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._context.setsockopt(zmq.MAX_SOCKETS, 65_536)
        run_id = f"{self.ip}-{secrets.token_hex(8)}"
        settings = SchedulerSettings(
            task_expire_s=config.task_expire_s, zone_rate=float(config.zone_rate), source_allow=config.source_allow
        )
        scheduler = Scheduler(rng=random.Random(), settings=settings)
        try:
            self.router = Router(
                self._context, scheduler, bind_ip=_listening(self.ip), port=config.broker_port, run_id=run_id, clock=clock
            )
        except OSError as error:
            self._context.destroy(linger=0)
            raise CannotStart(str(error)) from None
        try:
            self.http_port = self._listen(config.http_port)
        except CannotStart:
            self.router.close()
            self._context.destroy(linger=0)
            raise
        try:
            self.preheat = self._preheat(clock)
        except OSError as error:
            for bound in self._sockets:
                bound.close()
            self.router.close()
            self._context.destroy(linger=0)
            raise CannotStart(f"{error}; or choose another --home-dir") from None
        self.seed = self._seed() if config.with_seed else None
        registry = registry_of(self.router, self.seed, config.version)
        registry.register(PreheatCollector(self.preheat.core))
        cache = CacheQuestions(self.router)
        registry.register(seed_stores := SeedStores(self.router, cache))
        parts = ApiParts(
            router=self.router,
            registry=registry,
            version=config.version,
            run_id=run_id,
            broker_endpoint=self._endpoint,
            began_at=clock.now(),
            now=clock.now,
            preheat=self.preheat,
            cache=cache,
            seed_stores=seed_stores,
        )
        self._server = HTTPServer(application(parts), max_header_size=64 << 10, max_body_size=1 << 20)
        self._server.add_sockets(self._sockets)

    def _preheat(self, clock: SystemClock) -> Preheat:
        """Raises OSError when there can be no history."""
        config = self.config.preheat
        return Preheat(
            router=self.router,
            client=RegistryClient(clock=clock, user_agent=f"damselfly/{self.config.version or 0}", allowed=config.allowed),
            history=History(self.config.home / "meta" / "jobs.sqlite3"),
            background=self._background,
            clock=clock,
            config=config,
        )

    def _listen(self, port: int) -> int:
        try:
            self._sockets = bind_sockets(port, address=None if _listening(self.ip) == "*" else self.ip)
        except OSError as error:
            raise CannotStart(f"HTTP cannot listen on port {port}: {error.strerror}: choose another --port") from None
        return int(self._sockets[0].getsockname()[1])

    def _seed(self) -> SeedProcess:
        return SeedProcess(
            home=self.config.home / "repo",
            ip=self.ip,
            port=self.config.download_port,
            supernode=f"{bracketed(self.ip)}:{self.http_port}",
            upload_rate=self.config.upload_rate,
            source_rate=self.config.source_rate,
            link_rate=self.config.link_rate,
            cache=self.config.cache,
            verbose=self.config.debug,
            background=self._background,
            on_ended=self._seed_ended,
        )

    def _endpoint(self, asked_as: str) -> str:
        """Where the broker is, by the name that the asker used for this host: it reaches us by that one."""
        host = asked_as.strip("[]") or self.ip
        return f"tcp://{bracketed(host)}:{self.router.port}"

    def _seed_ended(self) -> None:
        for record in list(self.router.scheduler.state.peers.values()):
            if record.role is Role.SEED:
                self.router.handle(PeerGone(peer=record.peer))

    async def ready(self) -> None:
        """Wait until everything serves. Raises CannotStart when the seed does not start."""
        if self.seed is not None:
            await self.seed.started.wait()
            if self.seed.failure:
                raise CannotStart(f"the seed cannot start: {self.seed.failure}: choose another --download-port or --home-dir")

    async def close(self) -> None:
        """End everything."""
        if self.seed is not None:
            await self.seed.close()
        await self._background.close()
        await self.preheat.close()
        self._server.stop()
        await self._server.close_all_connections()
        self.router.close()
        self._context.destroy(linger=0)


def _listening(ip: str) -> str:
    """A loopback address is listened on alone; any other one may be reached by more addresses of this host."""
    return ip if ip.startswith("127.") or ip == "::1" else "*"


async def run(config: SupernodeConfig) -> int:
    """Run until SIGTERM or SIGINT. Returns the exit code."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    try:
        with owned(config.home):
            return await _run(config, ended)
    except (CannotStart, OSError) as error:
        print(f"supernode: {error}", file=sys.stderr, flush=True)
        return 1


async def _run(config: SupernodeConfig, ended: asyncio.Event) -> int:
    supernode = Supernode(config)
    try:
        await supernode.ready()
        seed = f"tcp://{bracketed(supernode.ip)}:{supernode.seed.port}" if supernode.seed is not None else "none"
        host = bracketed(supernode.ip)
        line = f"supernode ready: http://{host}:{supernode.http_port}, broker tcp://{host}:{supernode.router.port}, seed {seed}"
        print(line, flush=True)
        _log.info("%s", line)
        _log.warning("this cluster is open: whoever reaches these ports may use it; keep them inside your network")
        await ended.wait()
    finally:
        await supernode.close()
    return 0


def log_file(config: SupernodeConfig) -> Path:
    """Where its log goes."""
    return config.home / "logs" / "app.log"
