"""dfget's configuration: `/etc/dragonfly/dfget.yml`, else `/etc/dragonfly.conf` (INI), as 1.x; DFGET_* over it; flags win."""

import configparser
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from worker_peer.host import schema
from worker_peer.host.logs import ROTATE_BYTES, ROTATED_FILES
from worker_peer.host.schema import SettingsError, setting
from worker_peer.host.values import Node, parse_link_rate, parse_nodes, parse_rate, parse_size

_FILES: Final = (Path("/etc/dragonfly/dfget.yml"), Path("/etc/dragonfly.conf"))
ENVIRONMENT: Final = "DFGET_"
#: Flags that mean the same as a key of the file.
FLAG_KEYS: Final[Mapping[str, schema.Place]] = {
    "node": ("nodes",),
    "locallimit": ("localLimit",),
    "minrate": ("minRate",),
    "totallimit": ("totalLimit",),
    "clientqueue": ("clientQueueSize",),
    "home": ("workHome",),
    "cache-quota": ("cacheQuota",),
}


class PropertiesError(ValueError):
    """The file says something that it may not. The text names the file, the key and what is allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogConfig:
    """`logConfig`."""

    max_size: int = setting(ROTATE_BYTES >> 20, "MB of a log file before it is rotated", key="maxSize")
    max_backups: int = setting(ROTATED_FILES, "rotated files that are kept", key="maxBackups")
    path: str = setting("", "log file", ignored="the log is <workHome>/logs/dfclient.log, as in 1.x")


@dataclass(frozen=True, slots=True, kw_only=True)
class PropertiesFile:
    """All keys of dfget.yml (1.x: dfget/config)."""

    nodes: tuple[str, ...] = setting((), "supernodes, host[:port][=weight]")
    local_limit: str = setting("0B", "bytes per second of one download; 0: not limited", key="localLimit", syntax=parse_rate)
    min_rate: str = setting(
        "64KB",
        "bytes per second that bound a download's time, as --minrate; said by nobody: nothing does",
        key="minRate",
        syntax=parse_rate,
    )
    total_limit: str = setting(
        "0B", "bytes per second of all downloads of the host; 0: not limited", key="totalLimit", syntax=parse_rate
    )
    client_queue_size: int = setting(
        6, "pieces that wait to be written", key="clientQueueSize", ignored="pieces are written as they come"
    )
    link_rate: str = setting(
        "",
        "this host's link, of which others come first: 1gbit, 120MB, or auto to learn it; empty: do not look",
        key="linkRate",
        syntax=parse_link_rate,
    )
    work_home: str = setting("", "folder of contents and logs; empty: $HOME/.small-dragonfly", key="workHome")
    cache_quota: str = setting(
        "0B", "bytes on disk of all contents of the host's peer; 0: not limited", key="cacheQuota", syntax=parse_size
    )
    log_config: LogConfig = setting(LogConfig, "the log file", key="logConfig")


@dataclass(frozen=True, slots=True, kw_only=True)
class Properties:
    """What the file and the environment may set; None: not set."""

    nodes: tuple[Node, ...] = ()
    """Supernodes, `host[:port][=weight]`."""

    local_limit: int | None = None
    """Bytes per second of one download, 0: not limited."""

    total_limit: int | None = None
    """Bytes per second of all downloads of the host, 0: not limited."""

    min_rate: int | None = None
    """Bytes per second by which a download's length bounds its time in the swarm, 0: nothing does."""

    link_rate: str = ""
    """This host's link, see `parse_link_rate`."""

    work_home: Path | None = None
    """Folder of contents, logs and the control socket."""

    cache_quota: int | None = None
    """Bytes on disk of all contents, 0: not limited."""

    log_rotate_bytes: int = ROTATE_BYTES
    """The log file is rotated at so many bytes."""

    log_rotated_files: int = ROTATED_FILES
    """Rotated log files that are kept."""

    warnings: tuple[str, ...] = ()
    """What was said and changes nothing here."""


def load_properties(files: tuple[Path, ...] = _FILES, environment: Mapping[str, str] | None = None) -> Properties:
    """The file that DFGET_CONFIG names, else the first that exists, and the environment over it. Raises PropertiesError."""
    environment = environment or {}
    named = environment.get(f"{ENVIRONMENT}CONFIG")
    path = Path(named) if named else next((each for each in files if each.is_file()), None)
    where = ""
    try:
        values: dict[str, Any] = {}
        if path is not None:
            where = f"{path}: "
            values = _from_ini(path) if path.suffix == ".conf" else schema.read_yaml(path)
            _build(values)
            where = ""
        schema.merge(values, schema.from_environment(PropertiesFile, ENVIRONMENT, environment, FLAG_KEYS))
        return _build(values)
    except (SettingsError, configparser.Error, UnicodeDecodeError, ValueError) as error:
        text = str(error)
        raise PropertiesError(text if path is not None and str(path) in text else f"{where}{text}") from None


def _from_ini(path: Path) -> dict[str, Any]:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(path.read_text(encoding="utf-8"))
    addresses = parser.get("node", "address", fallback="")
    return {"nodes": addresses} if addresses else {}


def _build(values: Mapping[str, Any]) -> Properties:
    """Raises SettingsError, ValueError."""
    made = schema.build(PropertiesFile, values, any_case=False)
    given = {key for key, value in values.items() if value is not None}
    if made.log_config.max_size < 1 or made.log_config.max_backups < 0:
        raise SettingsError("logConfig: maxSize must be 1 (MB) or more, maxBackups 0 or more")
    try:
        # Together: a weight counts against the others'.
        nodes = tuple(parse_nodes(",".join(made.nodes))) if made.nodes else ()
    except ValueError as error:
        raise SettingsError(f"nodes: {error}") from None
    return Properties(
        nodes=nodes,
        local_limit=parse_rate(made.local_limit) if "localLimit" in given else None,
        total_limit=parse_rate(made.total_limit) if "totalLimit" in given else None,
        min_rate=parse_rate(made.min_rate) if "minRate" in given else None,
        link_rate=made.link_rate,
        work_home=Path(made.work_home) if made.work_home else None,
        cache_quota=parse_size(made.cache_quota) if "cacheQuota" in given else None,
        log_rotate_bytes=made.log_config.max_size << 20,
        log_rotated_files=max(1, made.log_config.max_backups),
        warnings=tuple(schema.ignored(PropertiesFile, values)),
    )
