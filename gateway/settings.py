"""Where `dfdaemon`'s settings come from: flags, else environment (DFDAEMON_*), else the file, else the default.

Reads the file and the environment it is given; what is a good value config.py says. Data flows from texts to a
GatewayConfig, and back to a commented YAML document for `config default`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gateway.config import ConfigError, GatewayConfig, validate
from worker_peer.host import schema

DEFAULT_FILE: Final = Path("/etc/dragonfly/dfdaemon.yml")
ENVIRONMENT: Final = "DFDAEMON_"
#: Flags whose name is not the file's key.
FLAG_KEYS: Final[Mapping[str, schema.Place]] = {"node": ("supernodes",), "registry": ("registry_mirror", "remote")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A configuration that has been checked, and what the user should hear about it once."""

    config: GatewayConfig
    warnings: tuple[str, ...]
    given: frozenset[str]
    """Top-level keys that the user set, anywhere."""
    file: Path | None = None
    """The file that was read."""


def load(*, flags: Mapping[str, Any], environment: Mapping[str, str], file: Path | None) -> Loaded:
    """The settings in force. `flags`: name to value, given ones only. `file` None: the default one, if there is one.

    Raises ConfigError.
    """
    try:
        found = schema.chosen_file(file, environment, ENVIRONMENT, default=DEFAULT_FILE)
        values = schema.read_yaml(found) if found is not None else {}
        # The file alone first: what is wrong in it is then told in its own words, and a flag cannot hide it.
        schema.build(GatewayConfig, values)
        schema.merge(values, schema.from_environment(GatewayConfig, ENVIRONMENT, environment, FLAG_KEYS))
        schema.merge(values, schema.nested({FLAG_KEYS.get(name, (name,)): value for name, value in flags.items()}))
        config = schema.build(GatewayConfig, values)
        warnings = schema.ignored(GatewayConfig, values)
    except schema.SettingsError as error:
        raise ConfigError(str(error)) from None
    validate(config)
    return Loaded(config=config, warnings=tuple(warnings), given=frozenset(values), file=found)


def default_document() -> str:
    """The default configuration as commented YAML, which `load` reads back to the same."""
    return schema.document(
        GatewayConfig(), "dfdaemon.yml: every key with its default. Precedence: flags, DFDAEMON_* variables, this file."
    )
