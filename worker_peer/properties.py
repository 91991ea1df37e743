"""dfget's configuration file, as 1.x has it: `/etc/dragonfly/dfget.yml`, else `/etc/dragonfly.conf` (INI). Flags win."""

import configparser
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from worker_peer.host.values import Node, parse_nodes, parse_rate

_FILES: Final = (Path("/etc/dragonfly/dfget.yml"), Path("/etc/dragonfly.conf"))
_KEYS: Final = ("nodes", "localLimit", "minRate", "totalLimit", "clientQueueSize", "workHome", "logConfig")


class PropertiesError(ValueError):
    """The file says something that it may not. The text names the file, the key and what is allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Properties:
    """What the file may set; None: not set."""

    nodes: tuple[Node, ...] = ()
    """Supernodes, `host[:port][=weight]`."""

    local_limit: int | None = None
    """Bytes per second of one download, 0: not limited."""

    total_limit: int | None = None
    """Bytes per second of all downloads of the host, 0: not limited."""

    min_rate: int | None = None
    """1.x computed time-outs from it."""

    work_home: Path | None = None
    """Folder of contents, logs and the control socket."""


def load_properties(files: tuple[Path, ...] = _FILES) -> Properties:
    """The first of the files that exists. Raises PropertiesError."""
    for path in files:
        if path.is_file():
            text = path.read_text(encoding="utf-8")
            return _from_ini(path, text) if path.suffix == ".conf" else _from_yaml(path, text)
    return Properties()


def _from_ini(path: Path, text: str) -> Properties:
    parser = configparser.ConfigParser()
    try:
        parser.read_string(text)
        addresses = parser.get("node", "address", fallback="")
        return Properties(nodes=tuple(parse_nodes(addresses)) if addresses else ())
    except (configparser.Error, ValueError) as error:
        raise PropertiesError(f"{path}: {error}") from None


def _from_yaml(path: Path, text: str) -> Properties:
    try:
        values = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise PropertiesError(f"{path} is not YAML: {error}") from None
    if not isinstance(values, Mapping):
        raise PropertiesError(f"{path}: a map of keys is expected; known keys: {', '.join(_KEYS)}")
    for key in values:
        if key not in _KEYS:
            nearest = difflib.get_close_matches(str(key), _KEYS, 1)
            hint = f"did you mean {nearest[0]}?" if nearest else f"known keys: {', '.join(_KEYS)}"
            raise PropertiesError(f"{path}: unknown key {key!r}: {hint}")
    return Properties(
        nodes=_nodes(path, values.get("nodes")),
        local_limit=_rate(path, values, "localLimit"),
        total_limit=_rate(path, values, "totalLimit"),
        min_rate=_rate(path, values, "minRate"),
        work_home=Path(str(values["workHome"])) if values.get("workHome") else None,
    )


def _nodes(path: Path, value: Any) -> tuple[Node, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise PropertiesError(f"{path}: nodes is a list of host[:port][=weight]")
    try:
        # Together: a weight counts against the others'.
        return tuple(parse_nodes(",".join(str(each) for each in value))) if value else ()
    except ValueError as error:
        raise PropertiesError(f"{path}: nodes: {error}") from None


def _rate(path: Path, values: Mapping[str, Any], key: str) -> int | None:
    value = values.get(key)
    if value is None:
        return None
    try:
        return parse_rate(value if isinstance(value, int) else str(value))
    except ValueError as error:
        raise PropertiesError(f"{path}: {key}: {error}") from None
