"""Change one member of a JSON object and leave every other byte of its text as it is. Pure.

docker reads strict JSON (RFC 8259) and no comments, so neither is anything else taken here.
"""

import json
from dataclasses import dataclass
from typing import Any, Final

from gateway.core.setup.plan import Refused

_SPACE: Final = " \t\r\n"


class _Wrong(ValueError):
    """Well-formed, and yet not to be touched."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _Wrong(f"{twice!r} is there twice")
    return made


def _no_constant(name: str) -> Any:
    raise _Wrong(f"{name} is no JSON")


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Object:
    """Where the top-level object's parts are in the text."""

    opened_at: int
    """Behind the opening brace."""
    closed_at: int
    """Of the closing brace."""
    values: dict[str, tuple[int, int]]
    last_end: int
    """Behind the last value."""
    lead: str
    """White space in front of the first name."""


def parse_object(text: str, path: str) -> dict[str, Any]:
    """The object that a whole file is; an empty file is an empty one. Raises Refused with the line."""
    if not text.strip(_SPACE):
        return {}
    if text.startswith("\ufeff"):
        raise Refused(f"{path}, line 1: begins with a byte order mark, which docker does not read; take it out")
    try:
        found = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        # What is wrong stands behind the white space that it was looked for in.
        at = error.pos + len(text[error.pos :]) - len(text[error.pos :].lstrip(_SPACE))
        line = text.count("\n", 0, at) + 1
        has_comment = text.startswith(("//", "/*", "#"), at)
        why = "a comment; JSON has none, and the runtime does not read the file either" if has_comment else error.msg
        raise Refused(f"{path}, line {line}: {why}. Put it right first; nothing was changed") from None
    except (_Wrong, RecursionError) as error:
        why = str(error) if isinstance(error, _Wrong) else "nested too deeply"
        raise Refused(f"{path}: {why}. Put it right first; nothing was changed") from None
    if not isinstance(found, dict):
        raise Refused(f"{path}, line 1: is no JSON object ({{...}}). Put it right first; nothing was changed")
    return found


def with_member(text: str, name: str, value: Any) -> str:
    """The text with this member changed or added at the end. `text`: what parse_object has taken."""
    if not text.strip(_SPACE):
        return "{\n" + f"    {json.dumps(name)}: {_shown(value, '    ')}\n" + "}\n"
    found = _scan(text)
    if name in found.values:
        begin, end = found.values[name]
        is_long = "\n" in text[begin:end]
        # Inline as it was, or in lines as it was.
        new = _shown(value, _unit(found.lead), lines=is_long) if is_long else json.dumps(value, ensure_ascii=False)
        return text[:begin] + _line_ends(new, text) + text[end:]
    if not found.values:
        member = f"\n    {json.dumps(name)}: {_shown(value, '    ')}\n"
        return text[: found.opened_at] + _line_ends(member, text) + text[found.closed_at :]
    lead = found.lead
    if "\n" in lead:
        member = f",{lead}{json.dumps(name)}: {_shown(value, _unit(lead))}"
    else:
        member = f", {json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}"
    return text[: found.last_end] + _line_ends(member, text) + text[found.last_end :]


def _scan(text: str) -> _Object:
    def skip(at: int) -> int:
        while text[at] in _SPACE:
            at += 1
        return at

    opened_at = skip(0) + 1
    at = skip(opened_at)
    lead = text[opened_at:at]
    values: dict[str, tuple[int, int]] = {}
    last_end = opened_at
    while text[at] != "}":
        name, at = _DECODER.raw_decode(text, at)
        # Behind the colon.
        begin = skip(skip(at) + 1)
        _, last_end = _DECODER.raw_decode(text, begin)
        values[name] = begin, last_end
        at = skip(last_end)
        if text[at] == ",":
            at = skip(at + 1)
    return _Object(opened_at=opened_at, closed_at=at, values=values, last_end=last_end, lead=lead)


def _unit(lead: str) -> str:
    return lead.rpartition("\n")[2] or "  "


def _shown(value: Any, unit: str, *, lines: bool = False) -> str:
    """A list in one line, an object in lines, indented by `unit` within the top-level object."""
    if isinstance(value, dict) or lines:
        return json.dumps(value, indent=unit, ensure_ascii=False).replace("\n", f"\n{unit}")
    return json.dumps(value, ensure_ascii=False)


def _line_ends(made: str, text: str) -> str:
    return made.replace("\r\n", "\n").replace("\n", "\r\n") if "\r\n" in text else made
