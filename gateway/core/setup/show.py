"""A change as a person sees it before it is made: a unified diff without anybody's secrets. Pure."""

import difflib
import re
from typing import Final

_MAX_LINES: Final = 400
_SECRETS: Final = (
    # user:password in an address.
    (re.compile(r"(://)[^/@\s\"']+(?=@)"), r"\1***"),
    # A field or a key whose value is one; the whole rest of the line may be it.
    (re.compile(r"((?:authorization|\bauth|password|passwd|secret|token)\w*[\"']?\s*[:=]\s*).+", re.IGNORECASE), r"\1***"),
)


def difference(path: str, before: bytes | None, after: bytes | None) -> str:
    """From one content of a file to another; None: there is no file."""
    old, new = _lines(before), _lines(after)
    names = ("/dev/null" if before is None else path), ("/dev/null" if after is None else path)
    made = [line.rstrip("\n") for line in difflib.unified_diff(old, new, *names)]
    if len(made) > _MAX_LINES:
        made = [*made[:_MAX_LINES], f"... and {len(made) - _MAX_LINES} lines more"]
    return "\n".join(without_secrets(line) for line in made)


def without_secrets(line: str) -> str:
    """A line of somebody's settings that may be shown."""
    for pattern, shown in _SECRETS:
        line = pattern.sub(shown, line)
    return line


def _lines(content: bytes | None) -> list[str]:
    lines = (content or b"").decode("utf-8", "replace").split("\n")
    return [line.replace("\r", "\\r") + "\n" for line in (lines[:-1] if lines[-1] == "" else lines)]
