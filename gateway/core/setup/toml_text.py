"""Read TOML and say in which line it is broken. Pure."""

import re
import tomllib
from typing import Any

from gateway.core.setup.plan import Refused, text_of


def values_of(text: str) -> dict[str, Any] | None:
    """A text's values; None: it is no TOML."""
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError):
        return None


def parse_toml(path: str, content: bytes) -> dict[str, Any]:
    """A settings file's values. Raises Refused with the line."""
    text = text_of(path, content)
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        found = re.search(r"\(at line (\d+), column \d+\)", str(error))
        line = int(found[1]) if found else text.count("\n") + 1
        why = re.sub(r" \(at .*\)$", "", str(error))
        raise Refused(f"{path}, line {line}: {why}. Put it right first; nothing was changed") from None
