"""The composition root: builds a peer from its parts. The only module that makes real ones."""

import asyncio
import ctypes
import gc
import ipaddress
import logging
import os
import socket
from concurrent.futures import ThreadPoolExecutor

import zmq

from wire.ids import SEED_PREFIX
from wire.messages import Alive, CacheList, Collect, Drop, Hello, Keep, Message, Origin, Role, Warm
from wire.version import PROTOCOL
from worker_peer.api import CacheUse, DataPlane, DownloadRequest, LinkUse, Moved, Waits
from worker_peer.broker_link import BrokerLink, LinkHandlers
from worker_peer.cache_answers import CacheAnswers
from worker_peer.cache_keeper import CacheKeeper
from worker_peer.config import PeerConfig
from worker_peer.content import ContentReader
from worker_peer.control import ControlServer
from worker_peer.downloads import Downloads
from worker_peer.exchange import Exchange, ExchangeEvent, StoreBroke
from worker_peer.host.background import Background
from worker_peer.host.clock import Clock, SystemClock
from worker_peer.host.limits import TokenBucket
from worker_peer.host.logs import PieceLog
from worker_peer.host.source import SourceReader
from worker_peer.host.store import Store
from worker_peer.host.values import bracketed
from worker_peer.host_limits import HostLimits
from worker_peer.link_watch import LinkWatch, interface_of
from worker_peer.offering import Offering
from worker_peer.seed_contents import SeedContents
from worker_peer.seed_files import SeedFiles
from worker_peer.seed_source import SeedSource
from worker_peer.seeding import Seeding
from worker_peer.supernodes import Supernodes
from worker_peer.swarm_contents import SwarmContents
from worker_peer.warming import Warmer

_log = logging.getLogger("peer")


class PeerProcess:
    """A running peer: `worker_peer.api.Peer`, and what its process asks of it."""

    def __init__(self, config: PeerConfig, *, clock: Clock) -> None:
        """Builds what neither listens nor runs. Raises OSError in words when a folder cannot be had."""
        for folder in ("data", "meta", "logs", "spool"):
            (config.home / folder).mkdir(parents=True, exist_ok=True)
        self.config = config
        self.ip = config.ip or own_address(config.supernodes)
        self.peer_id = f"{SEED_PREFIX}{self.ip}" if config.role is Role.SEED else f"{self.ip}-{os.getpid()}-{clock.wall():.3f}"
        self.store = Store(config.home / "data", maps=config.role is Role.SEED, clock=clock)
        self._clock = clock
        self._background = Background()
        self._executor = ThreadPoolExecutor(max_workers=8, thread_name_prefix="disk")
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.limits = HostLimits(total_rate=config.total_rate, upload_rate=config.upload_rate)
        limits = (TokenBucket(config.source_rate), self.limits.down)
        self._source = SourceReader(limits=limits, clock=clock, user_agent=f"damselfly/{config.software or '0'}")
        handlers = LinkHandlers(on_up=self._up, on_down=self._down, on_message=self._message, alive=self._alive)
        self.supernodes = Supernodes(
            context=self._context, hello=self._hello, handlers=handlers, clock=clock, background=self._background
        )
        self.keeper = CacheKeeper(self.store, rules=config.rules, clock=clock, executor=self._executor)
        self.answers = CacheAnswers(self.keeper, clock=clock, executor=self._executor, background=self._background)
        self.exchange: Exchange
        self.downloads: Downloads
        self.seeding: Seeding | None = None
        self.link_watch: LinkWatch | None = None
        self.warmer: Warmer
        self.control: ControlServer | None = None

    async def bind(self) -> None:
        """Listen; no connection is made yet. Raises OSError in words when a port or the home cannot be had."""
        try:
            self.exchange = self._exchange()
        except OSError:
            await self._close_rest()
            raise
        self.downloads = self._downloads()
        try:
            self.seeding = self._seeding() if self.config.role is Role.SEED else None
            self.keeper.holder = self.seeding or self.downloads
            self.warmer = self._warmer()
            self.link_watch = self._link_watch(self.config.link_rate) if self.config.link_rate is not None else None
            self.control = self._control() if self.config.control_socket else None
        except OSError:
            await self.close()
            raise

    def _exchange(self) -> Exchange:
        return Exchange(
            self._context,
            peer_id=self.peer_id,
            bind_ip=self.ip if _is_local(self.ip) else "*",
            port=self.config.data_port,
            clock=self._clock,
            loop=asyncio.get_running_loop(),
            on_events=self._exchanged,
            limits=self.limits,
        )

    def _downloads(self) -> Downloads:
        return Downloads(
            self.config,
            exchange=self.exchange,
            keeper=self.keeper,
            supernodes=self.supernodes,
            source=self._source,
            clock=self._clock,
            background=self._background,
            executor=self._executor,
            piece_log=PieceLog(),
        )

    def _seeding(self) -> Seeding:
        executor = self._executor
        return Seeding(
            files=SeedFiles(keeper=self.keeper, exchange=self.exchange, executor=executor),
            source=SeedSource(self._source, keeper=self.keeper, spool=self.config.home / "spool", executor=executor),
            clock=self._clock,
            background=self._background,
            executor=executor,
        )

    def _link_watch(self, link_rate: int) -> LinkWatch:
        """Raises OSError in words where the link cannot be told."""
        # `ip` may be one that others know this host by, and no interface has: then the one of the way to the supernode.
        towards = own_address(self.config.supernodes)
        interface = interface_of(self.ip) or (interface_of(towards) if towards != "127.0.0.1" else "")
        if not interface:
            raise OSError(
                f"no network interface has {self.ip}, and none leads to a supernode: no link can be watched: leave linkrate out"
            )
        return LinkWatch(
            interface=interface,
            link_rate=link_rate,
            floor=self.config.min_rate,
            limits=self.limits,
            own=lambda: self.moved,
            changed=self.exchange.limits_changed,
            clock=self._clock,
        )

    @property
    def moved(self) -> Moved:
        """See `worker_peer.api.Peer.moved`."""
        from_sources = self.downloads.received[Origin.SOURCE] if self.seeding is None else self.seeding.source_bytes
        return Moved(down=self.exchange.received_in_all + from_sources, up=self.exchange.sent_on_wire)

    @property
    def link(self) -> dict[str, LinkUse]:
        """See `worker_peer.api.Peer.link`."""
        return self.link_watch.use if self.link_watch is not None else {}

    def _warmer(self) -> Warmer:
        seeding = self.seeding
        return Warmer(
            SeedContents(seeding, self._executor) if seeding is not None else SwarmContents(self.downloads, self._executor),
            keeper=self.keeper,
            set_rate=self.exchange.set_background_rate,
            clock=self._clock,
            background=self._background,
        )

    def _control(self) -> ControlServer:
        return ControlServer(
            self._context,
            home=self.config.home,
            peer_id=self.peer_id,
            open_content=self.open,
            set_total_rate=self._set_total_rate,
            clock=self._clock,
            background=self._background,
        )

    def start(self) -> None:
        """Begin to connect to the supernodes, and to tidy up from time to time."""
        for node in self.config.supernodes:
            self.supernodes.link(node)
        self._background.spawn(self._janitor(), "janitor")
        if self.link_watch is not None:
            self._background.spawn(self.link_watch.run(), "link")
        if self.config.role is not Role.SEED:
            offering = Offering(self.store, self.downloads, clock=self._clock, executor=self._executor)
            self._background.spawn(offering.run(), "offer")

    # -- worker_peer.api.Peer -------------------------------------------------------------------------------------------

    async def open(self, request: DownloadRequest, waits: Waits | None = None) -> ContentReader:
        """See `worker_peer.api.Peer.open`."""
        return await self.downloads.open(request, waits=waits)

    def data_plane(self) -> DataPlane:
        """See `worker_peer.api.Peer.data_plane`."""
        return self.exchange.data_plane()

    def cache(self) -> CacheUse:
        """See `worker_peer.api.Peer.cache`."""
        return self.keeper.use()

    async def close(self) -> None:
        """End every download and every socket."""
        if self.control is not None:
            self.control.close()
        self.supernodes.close()
        self.warmer.close()
        await self._background.close()
        await self.keeper.close()
        await self.exchange.close()
        await self._close_rest()

    async def _close_rest(self) -> None:
        await self._source.close()
        self._executor.shutdown(wait=True, cancel_futures=True)
        self._context.destroy(linger=0)

    # -- what the parts tell each other ---------------------------------------------------------------------------------

    def _hello(self) -> Hello:
        host = bracketed(self.ip)
        return Hello(
            protocol=PROTOCOL,
            peer=self.peer_id,
            role=self.config.role,
            software=self.config.software,
            host=socket.gethostname()[:256],
            data_endpoint=f"tcp://{host}:{self.exchange.data_port}",
            hint_endpoint=f"tcp://{host}:{self.exchange.hint_port}",
            location=self.config.location,
            upload_rate=self.limits.up.rate,
        )

    def _set_total_rate(self, rate: int) -> None:
        self.limits.set_total(rate, self._clock.now())
        self.exchange.limits_changed()

    def _alive(self) -> Alive:
        received = [self.downloads.received[origin] for origin in Origin]
        if self.seeding is not None:
            received[Origin.SOURCE] = self.seeding.source_bytes
        leases = tuple(sorted(self.exchange.leases()))[:4096]
        return Alive(leases=leases, received=tuple(received), sent=self.exchange.sent_bytes)

    def _up(self, link: BrokerLink) -> None:
        self.downloads.supernode_up(link)
        self.warmer.supernode_up(link)

    def _down(self, link: BrokerLink) -> None:
        self.downloads.supernode_down(link)
        self.warmer.supernode_down(link)

    def _message(self, link: BrokerLink, message: Message) -> None:
        if isinstance(message, Warm):
            self.warmer.message(link, message)
        elif isinstance(message, CacheList | Keep | Collect):
            self.answers.message(link, message)
        elif self.seeding is not None:
            self.seeding.message(link, message)
        else:
            self.downloads.message(link, message)
        if isinstance(message, Drop):
            self.answers.drop(message.task)

    def _exchanged(self, events: list[ExchangeEvent]) -> None:
        if self.seeding is None:
            self.downloads.exchanged(events)
            return
        for event in events:
            if isinstance(event, StoreBroke):
                for link in self.supernodes:
                    self.seeding.broke(link, event.task, event.message)

    async def _janitor(self) -> None:
        await asyncio.sleep(self.config.tidy_after_s)
        while True:
            try:
                await self.keeper.tidy()
            except OSError as error:
                _log.error("the store cannot be tidied: %s", error)
            await asyncio.sleep(self.config.tidy_every_s)

    async def purge(self) -> list[str]:
        """Delete every complete content that need not be kept: the process ends, and nobody would serve or delete them."""
        return await self.keeper.purge()


async def open_peer(config: PeerConfig, *, clock: Clock | None = None) -> PeerProcess:
    """A running peer. Raises OSError in words when a port or a folder cannot be had."""
    peer = PeerProcess(config, clock=clock or SystemClock())
    await peer.bind()
    peer.start()
    return peer


def tune_allocator() -> None:
    """Keep large message buffers instead of giving them back to the kernel after each frame: tens of thousands of page
    faults per GiB less. First thing in a process that moves pieces; glibc only, silently nothing elsewhere.

    And let the cycle collector pass over what the imports made, and pass less often: messages and blocks make no cycles.
    """
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    trim, top_pad, mmap_threshold = -1, -2, -3
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(mmap_threshold, 32 << 20)
    mallopt(trim, 512 << 20)
    mallopt(top_pad, 1 << 20)


def own_address(supernodes: tuple[str, ...]) -> str:
    """The address that this host uses towards its first supernode. No packet is sent: a UDP socket is only connected."""
    for node in supernodes:
        host, _, port = node.rpartition(":")
        try:
            family, kind, proto, _, address = socket.getaddrinfo(host.strip("[]"), int(port or 8002), type=socket.SOCK_DGRAM)[0]
            with socket.socket(family, kind, proto) as probe:
                probe.connect(address)
                return str(probe.getsockname()[0])
        except (OSError, ValueError):
            continue
    return "127.0.0.1"


def _is_local(ip: str) -> bool:
    """Whether the address is this host's own, so that it can be bound."""
    try:
        family = socket.AF_INET6 if ipaddress.ip_address(ip).version == 6 else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((ip, 0))
            return True
    except (OSError, ValueError):
        return False
