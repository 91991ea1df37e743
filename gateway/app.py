"""The composition root of `dfdaemon`: the only place that builds the gateway's real parts, and takes them down again.

Configuration in, a running gateway out. What the parts do is theirs.
"""

import asyncio
import dataclasses
import errno
import importlib.metadata
import ipaddress
import random
import re
import socket
import ssl
import uuid
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

import psutil

from gateway.access import Access
from gateway.cache_metrics import CacheCollector
from gateway.certs import CertificateStore, Shown, listener_context, read_pem
from gateway.config import ConfigError, GatewayConfig
from gateway.config import home_of as home_of
from gateway.connect import Probe, Tunnels
from gateway.core.gate import Gate, WhiteHost
from gateway.core.images import ImageRule, parse_pattern
from gateway.core.permits import WhenDown
from gateway.core.request_key import DownloadDefaults
from gateway.core.rules import Authority, HijackHost, Mirror, ProxyRule, RuleTable, Trust, authority_of
from gateway.data_plane import DataPlaneCollector
from gateway.dfget_flags import DfgetFlags, parse_flags
from gateway.link_metrics import LinkCollector
from gateway.metrics import Metrics
from gateway.possession import Possession
from gateway.proxy import About, Proxy
from gateway.reload import Reloader
from gateway.resume import Resume
from gateway.server import GatewayServer, HttpDoor
from gateway.stream import BlobServer, Patience
from gateway.swarm_health import SwarmHealth
from gateway.traces import Traces, traces_file
from gateway.upgrade import Upgrades
from gateway.upstream import Upstream, client_context
from worker_peer.api import Peer
from worker_peer.config import LEAST_RATE, PeerConfig
from worker_peer.host.background import Background
from worker_peer.host.clock import SystemClock
from worker_peer.host.values import expand_nodes, parse_duration, parse_link_rate, parse_nodes, parse_rate, parse_size

#: 1.x's dfget, where nobody names a supernode.
_DEFAULT_NODES: Final = "127.0.0.1:8002"
#: Connections that wait to be accepted: a node that starts many pods at once.
_BACKLOG: Final = 1024

OpenPeer = Callable[[PeerConfig], Awaitable[Peer]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reread:
    """How a running gateway hears of a new configuration."""

    read: Callable[[], GatewayConfig]
    """Reads it again: blocks, raises ConfigError."""
    file: Path | None
    hangup: asyncio.Event


class GatewayError(Exception):
    """The gateway cannot start. The text says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A gateway that takes requests."""

    host: str
    port: int
    scheme: str
    peer_id: str
    supernodes: tuple[str, ...]

    @property
    def url(self) -> str:
        """What goes into HTTP_PROXY."""
        return f"{self.scheme}://{Authority(self.host, self.port)}"


def version() -> str:
    """The installed release."""
    try:
        return importlib.metadata.version("damselfly")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def rules_from(config: GatewayConfig) -> RuleTable:
    """The rules in force. Reads the certificate files: blocks. Raises ConfigError."""
    mirror = config.registry_mirror
    return RuleTable(
        mirror=Mirror(
            remote=mirror.remote.rstrip("/"),
            trust=_trust(mirror.certs, "registry_mirror.certs", insecure=mirror.insecure),
            direct=mirror.direct,
        ),
        proxies=tuple(
            ProxyRule(pattern=re.compile(rule.regx), use_https=rule.use_https, direct=rule.direct, redirect=rule.redirect)
            for rule in config.proxies
        ),
        hijack_hosts=tuple(
            HijackHost(
                pattern=re.compile(host.regx),
                trust=_trust(host.certs, f"hijack_https.hosts[{number}].certs", insecure=host.insecure),
            )
            for number, host in enumerate(config.hijack_https.hosts)
        ),
        images=tuple(ImageRule(pattern=parse_pattern(rule.image), direct=rule.direct) for rule in config.images),
        manifests=config.manifests,
    )


def gate_from(config: GatewayConfig) -> Gate:
    """Who may use the proxy, and for what."""
    return Gate(
        username=config.basic_auth.username,
        password=config.basic_auth.password,
        white_list=tuple(
            WhiteHost(
                host=each.host,
                pattern=re.compile(each.regx) if each.regx else None,
                ports=frozenset(int(port) for port in each.ports),
            )
            for each in config.white_list
        ),
    )


def _trust(files: tuple[str, ...], key: str, *, insecure: bool) -> Trust:
    trust = Trust(insecure=insecure, certificates=tuple(read_pem(Path(name), key) for name in files))
    try:
        client_context(trust)
    except ssl.SSLError as error:
        raise ConfigError(f"{key}: {', '.join(files)}: no certificate can be read: {error.reason or error}") from None
    return trust


def supernodes_from(config: GatewayConfig, flags: DfgetFlags, rng: random.Random) -> tuple[str, ...]:
    """`host:port` in the order to try: the gateway's own setting, else dfget_flags', else 1.x's default. Raises ConfigError."""
    try:
        return tuple(expand_nodes(parse_nodes(",".join(config.supernodes) or flags.nodes or _DEFAULT_NODES), rng))
    except ValueError as error:
        raise ConfigError(f"supernodes: {error}") from None


def peer_config_from(config: GatewayConfig, flags: DfgetFlags, supernodes: tuple[str, ...]) -> PeerConfig:
    """The gateway's peer: it lives as long as the gateway."""
    made = PeerConfig(
        home=home_of(config),
        supernodes=supernodes,
        ip=config.local_ip or flags.ip,
        data_port=config.peer_port or flags.port,
        total_rate=parse_rate(config.ratelimit) or flags.total_limit or 0,
        link_rate=parse_link_rate(config.link_rate),
        min_rate=flags.min_rate or parse_rate(config.min_rate) or LEAST_RATE,
        cache_quota=parse_size(config.cache_quota) or flags.cache_quota or 0,
        location=config.location,
        software=f"damselfly/{version()}",
        alive_s=0,
    )
    return made if flags.expire_s is None else dataclasses.replace(made, expire_s=flags.expire_s)


def defaults_from(config: GatewayConfig, flags: DfgetFlags) -> DownloadDefaults:
    """What all downloads share. Reads certificate files: blocks. Raises ConfigError."""
    return DownloadDefaults(
        filters=flags.filters,
        headers=flags.headers,
        rate=parse_rate(config.ratelimit) or flags.local_limit or 0,
        caller=flags.caller or "dfdaemon",
        trust=_trust(flags.certificate_files, "dfget_flags: --cacerts", insecure=flags.insecure),
    )


async def run(
    config: GatewayConfig,
    *,
    ready: Callable[[Running], None] | None = None,
    stop: asyncio.Event | None = None,
    open_peer: OpenPeer | None = None,
    patience: Patience | None = None,
    reread: Reread | None = None,
) -> None:
    """Serve until `stop` is set or the caller cancels. `ready` is called once requests are taken.

    Raises ConfigError and GatewayError before that. `open_peer` is worker_peer.app.open_peer where none is given.
    `reread`: by what rules are taken over while it runs.
    """
    flags = parse_flags(config.dfget_flags)
    clock = SystemClock()
    rules = await asyncio.to_thread(rules_from, config)
    defaults = await asyncio.to_thread(defaults_from, config, flags)
    supernodes = supernodes_from(config, flags, random.Random())
    async with AsyncExitStack() as stack:
        listener = stack.enter_context(_bind(config))
        shown = Shown(clock)
        stack.push_async_callback(asyncio.to_thread, shown.close)
        shown.take_over(await asyncio.to_thread(shown.read, config))
        peer = await (open_peer or _open_real_peer)(peer_config_from(config, flags, supernodes))
        stack.push_async_callback(peer.close)
        upstream = Upstream()
        stack.push_async_callback(upstream.close)
        background = Background()
        traces = Traces(background, traces_file(home_of(config)))
        stack.push_async_callback(traces.close)
        stack.push_async_callback(background.close)
        await traces.load()
        metrics = Metrics()
        metrics.registry.register(LinkCollector(lambda: peer.moved, lambda: peer.link))
        metrics.registry.register(DataPlaneCollector(peer.data_plane))
        metrics.registry.register(CacheCollector(peer.cache))
        probe = Probe(clock)
        access = Access(
            upstream,
            clock,
            background,
            recheck_s=parse_duration(config.authorization.recheck),
            when_down=WhenDown(config.authorization.when_registry_down),
        )
        blobs = BlobServer(
            peer,
            defaults,
            metrics,
            clock,
            patience,
            access=access,
            possession=Possession(supernodes, upstream, clock, background),
            health=SwarmHealth(supernodes, upstream, clock, background),
            resume=Resume(upstream),
            background=background,
        )
        port = int(listener.getsockname()[1])
        proxy = Proxy(
            rules=rules,
            upstream=upstream,
            blobs=blobs,
            access=access,
            probe=probe,
            upgrades=Upgrades(upstream, background),
            metrics=metrics,
            traces=traces,
            about=About(
                version=version(),
                peer=peer.peer_id,
                pseudonym=f"damselfly-{uuid.uuid4().hex[:12]}",
                scheme="https" if config.certpem else "http",
            ),
            is_own=_own_addresses(config, port),
            clock=clock,
            gate=gate_from(config),
        )
        if proxy.is_own(cast("Authority", authority_of(rules.mirror.remote))):
            raise GatewayError("registry_mirror.remote is this gateway itself: name the registry")
        opened = HttpDoor(proxy.handle, background)
        stack.push_async_callback(opened.close)
        tunnels = Tunnels(
            rules=lambda: proxy.rules,
            certificates=lambda: shown.store,
            serve=lambda stream, target: opened.serve(stream, opened=target),
            metrics=metrics,
            probe=probe,
        )
        door = HttpDoor(
            proxy.handle, background, on_connect=tunnels.connect, admits=lambda request: proxy.refusal(request) is None
        )
        stack.push_async_callback(door.close)
        tls = await asyncio.to_thread(listener_context, Path(config.certpem), Path(config.keypem)) if config.certpem else None
        server = GatewayServer(door, background, tls=tls)
        stack.callback(server.stop)
        server.add_sockets([listener])
        if reread is not None:
            read: list[CertificateStore | None] = [shown.store]

            def take_over(new: GatewayConfig, table: RuleTable) -> None:
                proxy.rules, proxy.gate = table, gate_from(new)
                shown.take_over(read[0])

            def build(new: GatewayConfig) -> RuleTable:
                table = rules_from(new)
                if proxy.is_own(cast("Authority", authority_of(table.mirror.remote))):
                    raise ConfigError("registry_mirror.remote is this gateway itself: name the registry")
                read[:] = [shown.read(new)]
                return table

            reloader = Reloader(read=reread.read, build=build, apply=take_over, config=config, file=reread.file)
            background.spawn(reloader.run(reread.hangup), "reload")
        if ready is not None:
            scheme = "https" if tls else "http"
            ready(Running(host=config.host_ip, port=port, scheme=scheme, peer_id=peer.peer_id, supernodes=supernodes))
        await (stop or asyncio.Event()).wait()


async def _open_real_peer(config: PeerConfig) -> Peer:
    # Not needed where a test brings its own; and a command line that only prints should not pay for it.
    from worker_peer.app import open_peer

    try:
        return cast("Peer", await open_peer(config))
    except OSError as error:
        raise GatewayError(f"the peer cannot start: {error}") from None


def _bind(config: GatewayConfig) -> socket.socket:
    try:
        address = ipaddress.ip_address(config.host_ip)
    except ValueError:
        raise ConfigError(f"hostIp: {config.host_ip!r} is no IP address; allowed: one of this host's, or 0.0.0.0") from None
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    try:
        made = socket.create_server((config.host_ip, config.port), family=family, backlog=_BACKLOG)
        made.setblocking(False)
        return made
    except OSError as error:
        where = f"port {config.port} on {config.host_ip}"
        match error.errno:
            case errno.EADDRINUSE:
                raise GatewayError(f"{where} is in use by another process: stop it, or choose another --port") from None
            case errno.EACCES:
                raise GatewayError(f"{where} may not be used by this user: choose a --port above 1023") from None
            case errno.EADDRNOTAVAIL:
                raise ConfigError(f"hostIp: {config.host_ip} is no address of this host") from None
        raise GatewayError(f"{where} cannot be listened on: {error.strerror}") from None


def _own_addresses(config: GatewayConfig, port: int) -> Callable[[Authority], bool]:
    """Whether an address leads to our own listener."""
    address = ipaddress.ip_address(config.host_ip)
    hosts = {config.host_ip}
    if address.is_unspecified:
        hosts |= {each.address.partition("%")[0].lower() for found in psutil.net_if_addrs().values() for each in found}
    if address.is_unspecified or address.is_loopback:
        hosts.add("localhost")
    return lambda target: target.port == port and target.host in hosts
