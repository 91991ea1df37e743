"""Where `supernode`'s settings come from: flags, else environment (SUPERNODE_*), else supernode.yml, else the default.

The keys are those of 1.x (supernode/config/config.go), all below `base:`. What has no meaning here is taken and named once.
"""

import dataclasses
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from broker.config import CacheConfig, SupernodeConfig
from broker.preheat.config import PreheatSection, checked
from worker_peer.host import schema
from worker_peer.host.allowed_hosts import parse_allowed
from worker_peer.host.command_line import software_version
from worker_peer.host.schema import SettingsError, setting
from worker_peer.host.values import parse_duration, parse_link_rate, parse_rate, parse_size

DEFAULT_FILE: Final = Path("/etc/dragonfly/supernode.yml")
ENVIRONMENT: Final = "SUPERNODE_"
_NO_LIMITS: Final = "what a link carries decides how much it is given"
_NO_DELAY: Final = "tidying goes on all the time"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogConfig:
    """`base.logConfig`."""

    max_size: int = setting(40, "MB of a log file before it is rotated", key="maxSize")
    max_backups: int = setting(1, "rotated files that are kept", key="maxBackups")
    path: str = setting("", "log file", ignored="the log is <homeDir>/logs/app.log, as in 1.x")


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseConfig:
    """`base`: all of 1.x's keys, and ours behind them."""

    cdn_pattern: str = setting("local", "local: with a seed of its own", key="cdnPattern")
    listen_port: int = setting(8002, "HTTP: what peers' --node names; 0: any free one", key="listenPort")
    download_port: int = setting(8001, "the seed's pieces; 0: any free one", key="downloadPort")
    home_dir: str = setting("/home/admin/supernode", "folder of contents and logs", key="homeDir")
    scheduler_core_pool_size: int = setting(
        10, "scheduling threads", key="schedulerCorePoolSize", ignored="there is no pool of scheduling threads"
    )
    peer_up_limit: int = setting(5, "pieces that a peer uploads at once", key="peerUpLimit", ignored=_NO_LIMITS)
    peer_down_limit: int = setting(4, "pieces that a peer downloads at once", key="peerDownLimit", ignored=_NO_LIMITS)
    elimination_limit: int = setting(
        5, "failures that eliminate a peer", key="eliminationLimit", ignored="a peer is judged by who reports it and how often"
    )
    failure_count_limit: int = setting(
        5, "failures that isolate a peer", key="failureCountLimit", ignored="a peer is judged by who reports it and how often"
    )
    link_limit: str = setting("20MB", "rate of a peer's link", key="linkLimit", syntax=parse_rate, ignored=_NO_LIMITS)
    system_reserved_bandwidth: str = setting(
        "0B",
        "bytes per second of maxBandwidth that sources may not take",
        key="systemReservedBandwidth",
        syntax=parse_rate,
    )
    max_bandwidth: str = setting(
        "0B", "bytes per second read from sources, with what is reserved; 0: not limited", key="maxBandwidth", syntax=parse_rate
    )
    enable_profiler: bool = setting(False, "serve /debug/pprof", key="enableProfiler", ignored="use py-spy on the process")
    debug: bool = setting(False, "log more")
    advertise_ip: str = setting("", "address by which peers reach this host; empty: its first one", key="advertiseIP")
    fail_access_interval: str = setting(
        "3m0s",
        "how long a failed source is not asked again",
        key="failAccessInterval",
        syntax=parse_duration,
        ignored="a task whose source failed is tried again for the next who asks",
    )
    gc_initial_delay: str = setting("6s", "wait before the disk is tidied first", key="gcInitialDelay", syntax=parse_duration)
    gc_meta_interval: str = setting(
        "2m0s", "time between tidyings of tasks", key="gcMetaInterval", syntax=parse_duration, ignored=_NO_DELAY
    )
    gc_disk_interval: str = setting("15s", "time between tidyings of the disk", key="gcDiskInterval", syntax=parse_duration)
    task_expire_time: str = setting(
        "3m0s", "a task that nobody has or wants is forgotten after", key="taskExpireTime", syntax=parse_duration
    )
    peer_gc_delay: str = setting(
        "3m0s",
        "a peer that is gone is forgotten after",
        key="peerGCDelay",
        syntax=parse_duration,
        ignored="a peer that is gone is forgotten at once",
    )
    young_gc_threshold: str = setting(
        "100GB",
        "free space below which contents go that nobody has used for IntervalThreshold; 100GB: or a tenth of a smaller disk",
        key="youngGCThreshold",
        syntax=parse_size,
    )
    full_gc_threshold: str = setting(
        "5GB",
        "free space below which all contents go that are not in use or kept; 5GB: or a fiftieth of a smaller disk",
        key="fullGCThreshold",
        syntax=parse_size,
    )
    interval_threshold: str = setting(
        "2h0m0s", "how long a content counts as used", key="IntervalThreshold", syntax=parse_duration
    )
    clean_ratio: int = setting(1, "tenths of those that one tidying deletes below youngGCThreshold", key="cleanRatio")
    log_config: LogConfig = setting(LogConfig, "the log file", key="logConfig")
    no_seed: bool = setting(False, "no seed of its own: seeds run elsewhere, as `dfget server --seed`", key="noSeed")
    broker_port: int = setting(8003, "ZeroMQ ROUTER; 0: any free one", key="brokerPort")
    seed_bandwidth: str = setting(
        "0B", "bytes per second that the seed sends; 0: not limited", key="seedBandwidth", syntax=parse_rate
    )
    link_rate: str = setting(
        "",
        "the seed's link, of which others come first: 1gbit, 120MB, or auto to learn it; empty: do not look",
        key="linkRate",
        syntax=parse_link_rate,
    )
    zone_rate: str = setting(
        "0B",
        "bytes per second that may enter each zone, which peers' --location tells; 0: not limited",
        key="zoneRate",
        syntax=parse_rate,
    )
    json_log: bool = setting(False, "log in JSON lines", key="jsonLog")
    source_allow: tuple[str, ...] = setting(
        (),
        "hosts that the seed may ask for what hosts pull, as in preheat.allow; empty: any but link-local ones",
        key="sourceAllow",
    )
    cache_quota: str = setting(
        "0B", "bytes on disk that the seed's contents may take; 0: not limited", key="cacheQuota", syntax=parse_size
    )
    preheat_quota: int = setting(50, "percent of cacheQuota that preheated and pinned contents may take", key="preheatQuota")


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """All of supernode.yml."""

    base: BaseConfig = setting(BaseConfig, "the supernode")
    preheat: PreheatSection = setting(PreheatSection, "preheat jobs: who may send them, and how they are run")
    plugins: dict[str, Any] = setting(dict, "plugins by their type", ignored="there are no plugins")
    storages: dict[str, Any] = setting(dict, "storages by their name", ignored="there is one storage, homeDir")


#: 1.x's flags (cmd/supernode/app/root.go) and ours, and the key below `base` that each one sets.
FLAG_KEYS: Final[Mapping[str, schema.Place]] = {
    flag: ("base", key)
    for flag, key in {
        "cdn-pattern": "cdnPattern",
        "no-seed": "noSeed",
        "port": "listenPort",
        "download-port": "downloadPort",
        "home-dir": "homeDir",
        "system-bandwidth": "systemReservedBandwidth",
        "max-bandwidth": "maxBandwidth",
        "pool-size": "schedulerCorePoolSize",
        "profiler": "enableProfiler",
        "debug": "debug",
        "up-limit": "peerUpLimit",
        "down-limit": "peerDownLimit",
        "advertise-ip": "advertiseIP",
        "fail-access-interval": "failAccessInterval",
        "gc-initial-delay": "gcInitialDelay",
        "gc-meta-interval": "gcMetaInterval",
        "task-expire-time": "taskExpireTime",
        "peer-gc-delay": "peerGCDelay",
        "broker-port": "brokerPort",
        "seed-bandwidth": "seedBandwidth",
        "link-rate": "linkRate",
        "zone-rate": "zoneRate",
        "json-log": "jsonLog",
        "cache-quota": "cacheQuota",
        "preheat-quota": "preheatQuota",
    }.items()
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A configuration that has been checked, and what the user should hear about it once."""

    config: SupernodeConfig
    warnings: tuple[str, ...]


def load(*, flags: Mapping[str, Any], environment: Mapping[str, str], file: Path | None) -> Loaded:
    """The settings in force. `flags`: name to value, given ones only. `file` None: the default one, if there is one.

    Raises SettingsError.
    """
    found = schema.chosen_file(file, environment, ENVIRONMENT, default=DEFAULT_FILE)
    values = schema.read_yaml(found) if found is not None else {}
    # The file alone first: what is wrong in it is then told in its own words, and a flag cannot hide it.
    schema.build(Document, values)
    # 1.x's variables are the keys with or without BASE_, or the flags.
    bare = {key: ("base", key) for key in (schema.key_of(field) for field in dataclasses.fields(BaseConfig))}
    schema.merge(values, schema.from_environment(Document, ENVIRONMENT, environment, {**bare, **FLAG_KEYS}))
    warnings = schema.ignored(Document, values)
    schema.merge(values, schema.nested({FLAG_KEYS[name]: value for name, value in flags.items()}))
    of_flags = [f"--{name} has no meaning here: {why}" for name in flags if (why := _ignored_flag(name))]
    document = schema.build(Document, values)
    warnings = [each for each in warnings if not any(FLAG_KEYS[name][1] == each.split()[0].rpartition(".")[2] for name in flags)]
    return Loaded(config=_config(document.base, document.preheat), warnings=(*of_flags, *warnings))


def _ignored_flag(name: str) -> str:
    key = FLAG_KEYS[name][1]
    (field,) = (each for each in dataclasses.fields(BaseConfig) if schema.key_of(each) == key)
    return str(field.metadata.get(schema.IGNORED, ""))


def _config(base: BaseConfig, preheat: PreheatSection) -> SupernodeConfig:
    for key, port in (("listenPort", base.listen_port), ("downloadPort", base.download_port), ("brokerPort", base.broker_port)):
        if not 0 <= port <= 65535:
            raise SettingsError(f"{key}: {port} is no port; allowed: from 0 (any free one) to 65535")
    if base.cdn_pattern == "source":
        raise SettingsError("cdnPattern: source is not built: the seed is what asks the source once; use local")
    if base.cdn_pattern != "local":
        raise SettingsError(f"cdnPattern: {base.cdn_pattern[:40]!r}; allowed: local")
    if base.advertise_ip:
        try:
            ipaddress.ip_address(base.advertise_ip)
        except ValueError:
            raise SettingsError(
                f"advertiseIP must be an address of this host, as 10.0.0.10, not {base.advertise_ip[:64]!r}"
            ) from None
    if base.log_config.max_size < 1 or base.log_config.max_backups < 0:
        raise SettingsError("logConfig: maxSize must be 1 (MB) or more, maxBackups 0 or more")
    if not 1 <= base.clean_ratio <= 10:
        raise SettingsError(f"cleanRatio: {base.clean_ratio}; allowed: 1 to 10 (tenths)")
    if not 0 <= base.preheat_quota <= 100:
        raise SettingsError(f"preheatQuota: {base.preheat_quota}; allowed: 0 to 100 (percent of cacheQuota)")
    return SupernodeConfig(
        home=Path(base.home_dir).absolute(),
        http_port=base.listen_port,
        broker_port=base.broker_port,
        download_port=base.download_port,
        advertise_ip=base.advertise_ip,
        with_seed=not base.no_seed,
        source_rate=_source_rate(base),
        upload_rate=parse_rate(base.seed_bandwidth),
        link_rate=base.link_rate,
        zone_rate=parse_rate(base.zone_rate),
        source_allow=_source_allow(base),
        task_expire_s=parse_duration(base.task_expire_time),
        cache=CacheConfig(
            quota=parse_size(base.cache_quota),
            kept_percent=base.preheat_quota,
            young_free=parse_size(base.young_gc_threshold),
            full_free=parse_size(base.full_gc_threshold),
            unused_s=max(0.0, parse_duration(base.interval_threshold)),
            clean_tenths=base.clean_ratio,
            tidy_after_s=max(0.0, parse_duration(base.gc_initial_delay)),
            tidy_every_s=max(0.1, parse_duration(base.gc_disk_interval)),
        ),
        debug=base.debug,
        json_log=base.json_log,
        log_rotate_bytes=base.log_config.max_size << 20,
        log_rotated_files=max(1, base.log_config.max_backups),
        version=software_version(),
        preheat=checked(preheat, base.source_allow),
    )


def _source_allow(base: BaseConfig) -> tuple[str, ...]:
    try:
        return parse_allowed(base.source_allow).entries
    except ValueError as error:
        raise SettingsError(f"sourceAllow: {error}") from None


def _source_rate(base: BaseConfig) -> int:
    """1.x: what is left of maxBandwidth. 0 of maxBandwidth is no limit, from which nothing can be taken away."""
    most, reserved = parse_rate(base.max_bandwidth), parse_rate(base.system_reserved_bandwidth)
    if most and reserved >= most:
        raise SettingsError(
            f"maxBandwidth ({base.max_bandwidth}) leaves nothing for sources beside systemReservedBandwidth "
            f"({base.system_reserved_bandwidth}): raise the one or lower the other"
        )
    return most - reserved if most else 0


def default_document() -> str:
    """The default configuration as commented YAML, which `load` reads back to the same."""
    return schema.document(
        Document(), "supernode.yml: every key with its default. Precedence: flags, SUPERNODE_* variables, this file."
    )
