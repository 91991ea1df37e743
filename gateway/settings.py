"""Where `dfdaemon`'s settings come from: flags, else environment (DFDAEMON_*), else the file, else the default.

Reads the file and the environment it is given; decides nothing about what is a good value but its type (config.py
does). Data flows from texts to a GatewayConfig, and back to a commented YAML document for `config default`.
"""

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast, get_args, get_origin, get_type_hints

import yaml

from gateway.config import ABOUT, KEY, MEANINGLESS, ConfigError, GatewayConfig, validate

DEFAULT_FILE: Final = Path("/etc/dragonfly/dfdaemon.yml")
ENVIRONMENT: Final = "DFDAEMON_"
#: Flags whose name is not the file's key.
FLAG_KEYS: Final = {"node": ("supernodes",), "registry": ("registry_mirror", "remote")}
#: A configuration is small; a wrong path must not be read into memory.
_MAX_FILE_BYTES: Final = 4 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A configuration that has been checked, and what the user should hear about it once."""

    config: GatewayConfig
    warnings: tuple[str, ...]
    given: frozenset[str]
    """Top-level keys that the user set, anywhere."""


def load(*, flags: Mapping[str, Any], environment: Mapping[str, str], file: Path | None) -> Loaded:
    """The settings in force. `flags`: name to value, given ones only. `file` None: the default one, if there is one.

    Raises ConfigError.
    """
    values = _from_file(file)
    _merge(values, _from_environment(environment))
    _merge(values, _nested({FLAG_KEYS.get(name, (name,)): value for name, value in flags.items()}))
    config = cast("GatewayConfig", _build(GatewayConfig, values, ""))
    validate(config)
    warnings = [f"{key} has no meaning here: {why}" for key, why in MEANINGLESS.items() if key in values]
    return Loaded(config=config, warnings=tuple(warnings), given=frozenset(values))


def _from_file(path: Path | None) -> dict[str, Any]:
    if path is None:
        if not DEFAULT_FILE.exists():
            return {}
        path = DEFAULT_FILE
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {path}: {error.strerror}") from None
    if len(text) > _MAX_FILE_BYTES:
        raise ConfigError(f"{path} is larger than {_MAX_FILE_BYTES >> 20} MiB: it is no configuration")
    try:
        values = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no YAML: {str(error).splitlines()[0]} {_place(error)}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: the document must be a map of keys")
    return {str(key): value for key, value in values.items()}


def _place(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    return f"(line {mark.line + 1})" if mark else ""


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """DFDAEMON_<KEY>, upper case, for every key that is not a list of maps, and for each flag."""
    names: dict[str, tuple[str, ...]] = {name.upper(): path for name, path in FLAG_KEYS.items()}
    for key, kind in _keys(GatewayConfig).values():
        if dataclasses.is_dataclass(kind):
            for inner, inner_kind in _keys(cast("type", kind)).values():
                if inner_kind in (str, int, bool, tuple[str, ...]):
                    names[f"{key}_{inner}".upper()] = (key, inner)
        elif kind in (str, int, bool, tuple[str, ...]):
            names[key.upper()] = (key,)
    found: dict[tuple[str, ...], Any] = {}
    for name, path in names.items():
        value = environment.get(ENVIRONMENT + name)
        # Kubernetes sets DFDAEMON_PORT=tcp://... in every pod beside a service named dfdaemon.
        if value is not None and not value.startswith("tcp://"):
            found[path] = value
    return _nested(found)


def _nested(flat: Mapping[tuple[str, ...], Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for path, value in flat.items():
        inner = values
        for name in path[:-1]:
            inner = inner.setdefault(name, {})
        inner[path[-1]] = value
    return values


def _merge(below: dict[str, Any], above: Mapping[str, Any]) -> None:
    """Lay `above` over `below`; maps are merged key by key, everything else is replaced."""
    for key, value in above.items():
        if isinstance(value, dict) and isinstance(below.get(key), dict):
            _merge(below[key], value)
        else:
            below[key] = value


def _keys(schema: type) -> dict[str, tuple[str, Any]]:
    """Field name to (key in the file, type)."""
    hints = get_type_hints(schema)
    return {each.name: (each.metadata.get(KEY, each.name), hints[each.name]) for each in dataclasses.fields(schema)}


def _build(schema: type, values: Any, where: str) -> object:
    if not isinstance(values, dict):
        raise ConfigError(f"{where}: must be a map of keys")
    keys = _keys(schema)
    known = {key: (name, kind) for name, (key, kind) in keys.items()}
    # viper, 1.x's reader, does not care about case.
    by_case = {key.lower(): key for key in known}
    taken: dict[str, Any] = {}
    for given, value in values.items():
        key = by_case.get(str(given).lower())
        inside = f"{where}.{given}" if where else str(given)
        if key is None:
            near = difflib.get_close_matches(str(given), known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(sorted(known))}"
            raise ConfigError(f"unknown key {inside!r}: {hint}")
        name, kind = known[key]
        if value is not None:
            taken[name] = _value(kind, value, inside)
    return schema(**taken)


def _value(kind: Any, value: Any, where: str) -> Any:
    """`value` as a field of type `kind`. Raises ConfigError naming the key and the type."""
    if dataclasses.is_dataclass(kind):
        return _build(cast("type", kind), value, where)
    if get_origin(kind) is tuple:
        item = get_args(kind)[0]
        if isinstance(value, str):
            # From the environment or --node: a comma list.
            value = [part for part in value.split(",") if part]
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{where}: must be a list")
        return tuple(_value(item, each, f"{where}[{number}]") for number, each in enumerate(value))
    if kind is bool:
        return _flag(value, where)
    if kind is int:
        text = str(value)
        if isinstance(value, bool) or not text.lstrip("-").isdigit():
            raise ConfigError(f"{where}: {value!r} is not a whole number")
        return int(text)
    if isinstance(value, dict | list):
        raise ConfigError(f"{where}: must be a text")
    return str(value)


def _flag(value: Any, where: str) -> bool:
    # Go's strconv.ParseBool, which 1.x used.
    word = str(value).lower()
    if word in ("true", "t", "1"):
        return True
    if word in ("false", "f", "0"):
        return False
    raise ConfigError(f"{where}: {value!r}; allowed: true, false")


def default_document() -> str:
    """The default configuration as commented YAML, which `load` reads back to the same."""
    lines = ["# dfdaemon.yml: every key with its default. Precedence: flags, DFDAEMON_* variables, this file."]
    _document(GatewayConfig(), lines, "")
    return "\n".join(lines) + "\n"


def _document(config: Any, lines: list[str], indent: str) -> None:
    for each in dataclasses.fields(config):
        value, key = getattr(config, each.name), each.metadata.get(KEY, each.name)
        lines.append(f"{indent}# {each.metadata[ABOUT]}")
        if dataclasses.is_dataclass(value):
            lines.append(f"{indent}{key}:")
            _document(value, lines, indent + "  ")
        else:
            shown = yaml.safe_dump(list(value) if isinstance(value, tuple) else value, default_flow_style=True)
            lines.append(f"{indent}{key}: {shown.removesuffix('...' + chr(10)).strip()}")
