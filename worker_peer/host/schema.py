"""A process's settings as one frozen dataclass: texts from a file, the environment and flags in, typed values out, and back.

A field's metadata holds what a text needs: its key in the file, its line of documentation, its syntax, and why it changes
nothing here where it is only taken for 1.x's sake. Nothing is read here but what is given; `read_yaml` alone opens a file.
"""

import dataclasses
import difflib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar, cast, get_args, get_origin, get_type_hints

import yaml

KEY: Final = "key"
ABOUT: Final = "about"
SYNTAX: Final = "syntax"
IGNORED: Final = "ignored"
#: A configuration is small; a wrong path must not be read into memory.
_MAX_FILE_BYTES: Final = 4 << 20

_Schema = TypeVar("_Schema")
#: Where a setting stands in the file: its keys from the outermost to its own.
Place = tuple[str, ...]


class SettingsError(Exception):
    """A setting is not acceptable. The text names the key and says what is allowed."""


def setting(
    default: Any,
    about: str,
    *,
    key: str = "",
    syntax: Callable[[str], object] | None = None,
    ignored: str = "",
    secret: bool = False,
) -> Any:
    """A field of a schema.

    `key`: its name in the file, where that is not the field's. `syntax`: raises ValueError for a text that is no value;
    the text itself is kept. `ignored`: why it changes nothing here. `secret`: it is in no repr.
    """
    marks = {KEY: key, ABOUT: about, SYNTAX: syntax, IGNORED: ignored}
    kept = {name: value for name, value in marks.items() if value}
    if dataclasses.is_dataclass(default) or default in (dict, list):
        return dataclasses.field(default_factory=cast("Callable[[], Any]", default), metadata=kept)
    return dataclasses.field(default=default, metadata=kept, repr=not secret)


def key_of(field: "dataclasses.Field[Any]") -> str:
    """A field's name in the file."""
    return str(field.metadata.get(KEY, field.name))


def chosen_file(given: Path | None, environment: Mapping[str, str], prefix: str, *, default: Path) -> Path | None:
    """The configuration file: the one that was given, else `<prefix>CONFIG`'s, else the default where it exists."""
    if given is not None:
        return given
    if named := environment.get(f"{prefix}CONFIG"):
        return Path(named)
    return default if default.exists() else None


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that is a map of keys; an empty one is an empty map. Raises SettingsError naming the file."""
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise SettingsError(f"cannot read the configuration {path}: {error.strerror}") from None
    if len(text) > _MAX_FILE_BYTES:
        raise SettingsError(f"{path} is larger than {_MAX_FILE_BYTES >> 20} MiB: it is no configuration")
    try:
        values = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise SettingsError(f"{path} is no YAML: {str(error).splitlines()[0]} {_line(error)}".rstrip()) from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise SettingsError(f"{path}: the document must be a map of keys")
    return {str(key): value for key, value in values.items()}


def _line(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    return f"(line {mark.line + 1})" if mark else ""


def build(schema: type[_Schema], values: Mapping[str, Any], where: str = "", *, any_case: bool = True) -> _Schema:
    """The values as the schema. Raises SettingsError for an unknown key, naming the nearest one, and for a wrong value.

    `any_case`: whether a key may be spelt in another case, as viper, the reader of 1.x's daemons, had it.
    """
    keys = _keys(schema)
    known = {key_of(field): (field, kind) for field, kind in keys}
    by_case = {key.lower(): key for key in known}
    taken: dict[str, Any] = {}
    for given, value in values.items():
        key = by_case.get(str(given).lower())
        if not any_case and key != given:
            key = None
        inside = f"{where}.{given}" if where else str(given)
        if key is None:
            raise SettingsError(f"unknown key {inside!r}: {_nearest(str(given), known)}")
        field, kind = known[key]
        if field.name in taken:
            raise SettingsError(f"{inside}: is given twice, in two spellings; keep {key!r}")
        if value is not None:
            taken[field.name] = _checked(field, kind, value, inside, any_case)
    return schema(**taken)


def _keys(schema: type) -> list[tuple["dataclasses.Field[Any]", Any]]:
    """Fields with their types."""
    hints = get_type_hints(schema)
    return [(field, hints[field.name]) for field in dataclasses.fields(schema)]


def _nearest(given: str, known: Mapping[str, object]) -> str:
    lower = {key.lower(): key for key in known}
    near = difflib.get_close_matches(given.lower(), lower, n=1, cutoff=0.5)
    return f"did you mean {lower[near[0]]!r}?" if near else f"known keys: {', '.join(sorted(known))}"


def _checked(field: "dataclasses.Field[Any]", kind: Any, value: Any, where: str, any_case: bool) -> Any:
    made = _value(kind, value, where, any_case)
    syntax = field.metadata.get(SYNTAX)
    if syntax is not None:
        try:
            for each in made if isinstance(made, tuple) else [made]:
                # A number in YAML is a text to a syntax, but True is not 1.
                syntax(value if isinstance(value, bool) else each)
        except ValueError as error:
            raise SettingsError(f"{where}: {error}") from None
    return made


def _value(kind: Any, value: Any, where: str, any_case: bool) -> Any:
    """`value` as a field of type `kind`. Raises SettingsError naming the key and the type."""
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise SettingsError(f"{where}: must be a map of keys")
        return build(cast("type[Any]", kind), value, where, any_case=any_case)
    if get_origin(kind) is tuple:
        item = get_args(kind)[0]
        if isinstance(value, str):
            # From the environment or a flag: a comma list.
            value = [part.strip() for part in value.split(",") if part.strip()]
        if not isinstance(value, list | tuple):
            raise SettingsError(f"{where}: must be a list")
        return tuple(_value(item, each, f"{where}[{number}]", any_case) for number, each in enumerate(value))
    if kind is dict or get_origin(kind) is dict:
        if not isinstance(value, dict):
            raise SettingsError(f"{where}: must be a map of keys")
        return value
    if kind is bool:
        return _flag(value, where)
    if kind is int:
        text = str(value)
        if isinstance(value, bool) or not text.isascii() or not text.removeprefix("-").isdigit():
            raise SettingsError(f"{where}: {text[:40]!r} is not a whole number")
        return int(text)
    if isinstance(value, dict | list):
        raise SettingsError(f"{where}: must be a text")
    return str(value)


def _flag(value: Any, where: str) -> bool:
    # Go's strconv.ParseBool, which 1.x used.
    word = str(value).lower()
    if word in ("true", "t", "1"):
        return True
    if word in ("false", "f", "0"):
        return False
    raise SettingsError(f"{where}: {str(value)[:40]!r}; allowed: true, false")


def from_environment(
    schema: type, prefix: str, environment: Mapping[str, str], flags: Mapping[str, Place] | None = None
) -> dict[str, Any]:
    """What variables say: `<prefix><KEY>`, nested keys with `_` between, for every key that is not a list of maps.

    `flags`: more names, those of the command line, and where each one's setting stands.
    """
    names = {_variable(path): path for path in _places(schema, ())}
    names |= {_variable((flag,)): path for flag, path in (flags or {}).items()}
    found: dict[Place, Any] = {}
    for name, path in names.items():
        value = environment.get(prefix + name)
        # Kubernetes sets DFDAEMON_PORT=tcp://... in every pod beside a service named dfdaemon.
        if value is not None and not value.startswith("tcp://"):
            found[path] = value
    return nested(found)


def _variable(path: Place) -> str:
    return "_".join(path).upper().replace("-", "_")


def _places(schema: type, above: Place) -> Iterator[Place]:
    for field, kind in _keys(schema):
        here = (*above, key_of(field))
        if dataclasses.is_dataclass(kind):
            yield from _places(cast("type", kind), here)
        elif kind in (str, int, bool, tuple[str, ...]):
            yield here


def nested(flat: Mapping[Place, Any]) -> dict[str, Any]:
    """{("a", "b"): 1} as {"a": {"b": 1}}."""
    values: dict[str, Any] = {}
    for path, value in flat.items():
        inner = values
        for name in path[:-1]:
            inner = inner.setdefault(name, {})
        inner[path[-1]] = value
    return values


def merge(below: dict[str, Any], above: Mapping[str, Any]) -> None:
    """Lay `above` over `below`; maps are merged key by key, whatever their case; everything else is replaced."""
    by_case = {str(key).lower(): key for key in below}
    for key, value in above.items():
        mine = by_case.get(str(key).lower(), key)
        if isinstance(value, dict) and isinstance(below.get(mine), dict):
            merge(below[mine], value)
        else:
            below[mine] = value


def ignored(schema: type, values: Mapping[str, Any], where: str = "") -> list[str]:
    """One sentence for each key that was given and changes nothing here."""
    known = {key_of(field).lower(): (field, kind) for field, kind in _keys(schema)}
    told: list[str] = []
    for given, value in values.items():
        field, kind = known[str(given).lower()]
        name = f"{where}.{key_of(field)}" if where else key_of(field)
        if why := field.metadata.get(IGNORED):
            told.append(f"{name} has no meaning here: {why}")
        elif dataclasses.is_dataclass(kind) and isinstance(value, dict):
            told += ignored(cast("type", kind), value, name)
    return told


def document(config: Any, title: str) -> str:
    """A configuration as commented YAML, which reads back to the same."""
    lines = [f"# {title}"]
    _document(config, lines, "")
    return "\n".join(lines) + "\n"


def _document(config: Any, lines: list[str], indent: str) -> None:
    for field in dataclasses.fields(config):
        value, key = getattr(config, field.name), key_of(field)
        about, why = field.metadata[ABOUT], field.metadata.get(IGNORED)
        lines.append(f"{indent}# {about}" + (f" (no meaning here: {why})" if why else ""))
        if dataclasses.is_dataclass(value):
            lines.append(f"{indent}{key}:")
            _document(value, lines, indent + "  ")
        else:
            shown = yaml.safe_dump(list(value) if isinstance(value, tuple) else value, default_flow_style=True)
            lines.append(f"{indent}{key}: {shown.removesuffix('...' + chr(10)).strip()}")
