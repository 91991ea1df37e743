"""What `dfdaemon` is told: one frozen schema, its keys those of 1.x's dfdaemon.yml, and what makes a value acceptable.

No file, environment or flag is read here (settings.py does that), and nothing is started. Data flows from the command
line through settings.py into this, and from here into app.py.
"""

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Final

from gateway.core.images import parse_pattern
from worker_peer.host.schema import setting
from worker_peer.host.values import parse_duration, parse_link_rate, parse_nodes, parse_rate, parse_size

_OF_ALL_ADDRESSES: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104


class ExitCode(IntEnum):
    """What `dfdaemon` ends with (1.x: dfdaemon/constant)."""

    FAILED = 1
    CONFIG = 10
    LOCALREPO = 12
    RATE = 13
    PORT = 14
    FOLDER = 16


class ConfigError(Exception):
    """A setting is not acceptable. The text names the key and says what is allowed; `exit_code` is the process's."""

    def __init__(self, message: str, *, exit_code: ExitCode = ExitCode.CONFIG) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True, kw_only=True)
class MirrorConfig:
    """`registry_mirror`: where requests go that name no host (dockerd's registry-mirrors, containerd's hosts.toml)."""

    remote: str = setting("https://index.docker.io", "URL of the registry that is mirrored")
    certs: tuple[str, ...] = setting((), "PEM files: the only roots to verify it by; empty: the system's")
    insecure: bool = setting(False, "do not verify its certificate")
    direct: bool = setting(False, "never use the swarm for it")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyRuleConfig:
    """One of `proxies`, tried in order against the whole URL of a GET; the first that matches decides."""

    regx: str = setting("", "regular expression, searched anywhere in the URL")
    use_https: bool = setting(False, "ask the upstream by https")
    direct: bool = setting(False, "do not use the swarm")
    redirect: str = setting("", "host[:port] to ask instead of the URL's")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRuleConfig:
    """One of `images`: beats `proxies` and `registry_mirror.direct` for the blobs of the images that it names."""

    image: str = setting("", "registry.example, registry.example/team/* or team/app; without a registry: Docker Hub's")
    direct: bool = setting(False, "do not use the swarm for it; false: use it")


@dataclass(frozen=True, slots=True, kw_only=True)
class HijackHostConfig:
    """One of `hijack_https.hosts`: an upstream whose HTTPS is opened here."""

    regx: str = setting("", "regular expression, searched in `host:port` and in `host`")
    insecure: bool = setting(False, "do not verify its certificate")
    certs: tuple[str, ...] = setting((), "PEM files: the only roots to verify it by; empty: the system's")


@dataclass(frozen=True, slots=True, kw_only=True)
class HijackConfig:
    """`hijack_https`: which HTTPS hosts are opened, and what they are shown as."""

    cert: str = setting("", "PEM file: a CA that mints a certificate for each host, or one certificate shown for all")
    key: str = setting("", "PEM file: its private key")
    hosts: tuple[HijackHostConfig, ...] = setting((), "hosts to open: {regx, insecure, certs}; all others are tunnelled")


@dataclass(frozen=True, slots=True, kw_only=True)
class WhiteListConfig:
    """One of `whiteList`: an upstream that clients may reach through this proxy (the key is Dragonfly 2's)."""

    host: str = setting("", "its name or address, exactly; either this or regx")
    regx: str = setting("", "regular expression, searched in the host")
    ports: tuple[str, ...] = setting((), "its ports; empty: all")


@dataclass(frozen=True, slots=True, kw_only=True)
class BasicAuthConfig:
    """`basicAuth`: what clients must say to use this proxy (the key is Dragonfly 2's)."""

    username: str = setting("", "user name; empty: nobody is asked")
    password: str = setting("", "password", secret=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationConfig:
    """`authorization`: who may have what from the cache. Its upstream is asked; no part of 1.x."""

    recheck: str = setting("60s", "how long an upstream's word holds: access that it takes away ends here within it")
    when_registry_down: str = setting("deny", "a cached blob while its upstream cannot say who may have it: deny or allow")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFileConfig:
    """`logConfig`."""

    max_size: int = setting(40, "MB of a log file before it is rotated", key="maxSize")
    max_backups: int = setting(1, "rotated files that are kept", key="maxBackups")
    path: str = setting("", "log file; empty: <workHome>/logs/dfdaemon.log")


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayConfig:
    """All of `dfdaemon`. Field order is the order that `dfdaemon config default` prints."""

    registry_mirror: MirrorConfig = setting(MirrorConfig, "requests that name no host of their own")
    proxies: tuple[ProxyRuleConfig, ...] = setting((), "ordered rules: {regx, use_https, direct, redirect}; first match wins")
    images: tuple[ImageRuleConfig, ...] = setting((), "images switched to the swarm or away: {image, direct}; first match wins")
    manifests: bool = setting(True, "manifests by digest go where their image's blobs go; false: only where a rule matches them")
    hijack_https: HijackConfig = setting(HijackConfig, "HTTPS hosts whose requests are opened and judged by the rules")
    authorization: AuthorizationConfig = setting(AuthorizationConfig, "who may have a blob out of the cache")
    white_list: tuple[WhiteListConfig, ...] = setting(
        (), "upstreams that clients may reach: {host | regx, ports}; empty: all", key="whiteList"
    )
    basic_auth: BasicAuthConfig = setting(BasicAuthConfig, "what clients must say to use the proxy", key="basicAuth")
    host_ip: str = setting("127.0.0.1", "address that the gateway listens on", key="hostIp")
    port: int = setting(65001, "its port; 0: any free one")
    certpem: str = setting("", "PEM file: certificate of the gateway's own listener; with keypem: it speaks HTTPS")
    keypem: str = setting("", "PEM file: its private key")
    verbose: bool = setting(False, "log everything")
    supernodes: tuple[str, ...] = setting((), "supernodes, host[:port][=weight]; empty: dfget_flags' or 127.0.0.1:8002")
    ratelimit: str = setting("0", "bytes per second of all downloads together (20MB, 64K); 0: not limited")
    link_rate: str = setting(
        "", "this host's link, of which others come first: 1gbit, 120MB, or auto to learn it; empty: do not look", key="linkrate"
    )
    min_rate: str = setting("64KB", "bytes per second of it that others leave in any case", key="minrate")
    local_ip: str = setting("", "address that other peers reach this host by; empty: found out", key="localIP")
    peer_port: int = setting(0, "port that serves pieces; 0: any free one", key="peerPort")
    work_home: str = setting("", "folder of data, logs and sockets; empty: $HOME/.small-dragonfly", key="workHome")
    dfget_flags: tuple[str, ...] = setting((), "dfget's flags for every download (--node, -f, --totallimit, --header, ...)")
    cache_quota: str = setting(
        "0", "bytes on disk of all contents, the least recently used go first (20GB); 0: not limited", key="cacheQuota"
    )
    location: str = setting("", "rack or zone, a/b/c from the widest to the narrowest")
    log_format: str = setting("classic", "classic: 1.x's lines; json: one JSON object a line")
    log_config: LogFileConfig = setting(LogFileConfig, "the log file", key="logConfig")
    maxprocs: int = setting(4, "processors to use", ignored="one process serves all")
    localrepo: str = setting("", "folder of downloads (absolute)", ignored="blobs stream, nothing is written twice")
    dfpath: str = setting("", "the dfget program", ignored="no dfget process is started")
    stream_mode: bool = setting(False, "serve while downloading", key="streamMode", ignored="blobs always stream")


def validate(config: GatewayConfig) -> None:
    """Raises ConfigError for the first value that cannot be used, with its key and what is allowed."""
    for key, port in (("port", config.port), ("peerPort", config.peer_port)):
        if not 0 <= port <= 65535:
            raise ConfigError(f"{key}: {port} is no port; allowed: 1 to 65535, or 0 for any free one", exit_code=ExitCode.PORT)
    try:
        parse_rate(config.ratelimit)
    except ValueError as error:
        raise ConfigError(f"ratelimit: {error}", exit_code=ExitCode.RATE) from None
    try:
        parse_link_rate(config.link_rate)
    except ValueError as error:
        raise ConfigError(f"linkrate: {error}", exit_code=ExitCode.RATE) from None
    try:
        parse_rate(config.min_rate)
    except ValueError as error:
        raise ConfigError(f"minrate: {error}", exit_code=ExitCode.RATE) from None
    try:
        if parse_duration(config.authorization.recheck) < 0:
            raise ValueError("must not be negative")
    except ValueError as error:
        raise ConfigError(f"authorization.recheck: {error}; allowed: a duration (60s, 5m), 0s: ask at each request") from None
    if config.authorization.when_registry_down not in ("deny", "allow"):
        wrong = config.authorization.when_registry_down
        raise ConfigError(f"authorization.when_registry_down: {wrong!r}; allowed: deny, allow")
    try:
        parse_size(config.cache_quota)
    except ValueError as error:
        raise ConfigError(f"cacheQuota: {error}") from None
    if config.localrepo and not config.localrepo.startswith("/"):
        raise ConfigError(f"localrepo: {config.localrepo!r} is not an absolute path", exit_code=ExitCode.LOCALREPO)
    if config.log_format not in ("classic", "json"):
        raise ConfigError(f"log_format: {config.log_format!r}; allowed: classic, json")
    for key, first, second in (
        ("certpem and keypem", config.certpem, config.keypem),
        ("hijack_https.cert and hijack_https.key", config.hijack_https.cert, config.hijack_https.key),
    ):
        if bool(first) != bool(second):
            raise ConfigError(f"{key}: one is set without the other; set both, or none")
    if not re.fullmatch(r"https?://[^/?#\s]+/?", config.registry_mirror.remote):
        raise ConfigError(f"registry_mirror.remote: {config.registry_mirror.remote!r}; allowed: http(s)://host[:port]")
    for key, pattern in _patterns(config):
        _check_pattern(key, pattern)
    for number, image in enumerate(config.images):
        try:
            parse_pattern(image.image)
        except ValueError as error:
            raise ConfigError(f"images[{number}].image: {error}") from None
    for number, each in enumerate(config.white_list):
        _check_white(f"whiteList[{number}]", each)
    if config.basic_auth.password and not config.basic_auth.username:
        raise ConfigError("basicAuth: a password without a username; set both")
    if ":" in config.basic_auth.username:
        raise ConfigError("basicAuth.username: may not have a colon (RFC 7617)")
    if config.log_config.max_size < 1 or config.log_config.max_backups < 0:
        raise ConfigError("logConfig: maxSize must be 1 (MB) or more, maxBackups 0 or more")
    for name, address in (("localIP", config.local_ip),):
        if address and not _is_address(address):
            raise ConfigError(f"{name}: {address[:64]!r} is no IP address; allowed: one of this host's, or empty")
    try:
        if config.supernodes:
            parse_nodes(",".join(config.supernodes))
    except ValueError as error:
        raise ConfigError(f"supernodes: {error}") from None


def _patterns(config: GatewayConfig) -> Iterator[tuple[str, str]]:
    for number, rule in enumerate(config.proxies):
        yield f"proxies[{number}].regx", rule.regx
    for number, host in enumerate(config.hijack_https.hosts):
        yield f"hijack_https.hosts[{number}].regx", host.regx


def _check_white(key: str, each: WhiteListConfig) -> None:
    if bool(each.host) == bool(each.regx):
        raise ConfigError(f"{key}: needs either host or regx")
    if each.regx:
        _check_pattern(f"{key}.regx", each.regx)
    for port in each.ports:
        if not (port.isascii() and port.isdigit() and 0 < int(port) <= 65535):
            raise ConfigError(f"{key}.ports: {port!r} is no port; allowed: 1 to 65535")


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _check_pattern(key: str, pattern: str) -> None:
    if not pattern:
        raise ConfigError(f"{key}: is missing or empty; allowed: a regular expression, `.*` for everything")
    try:
        re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"{key}: {pattern!r} is no regular expression: {error}") from None


def own_host(config: GatewayConfig) -> str:
    """Where a client on this host finds the gateway, which may listen on all addresses."""
    return _OF_ALL_ADDRESSES.get(config.host_ip, config.host_ip)


def home_of(config: GatewayConfig) -> Path:
    """`workHome`, or 1.x's default."""
    return Path(config.work_home).expanduser() if config.work_home else Path.home() / ".small-dragonfly"
