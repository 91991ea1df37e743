"""What a registry wants before it answers: WWW-Authenticate challenges, and what a token server's answer means. Pure.

RFC 9110 §11.6.1; docker's token specification (distribution/spec/auth/token).
"""

import json
import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlencode

_WORD: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_SCHEME: Final = re.compile(rf"\s*({_WORD})(?:\s+|\s*\Z|\s*(?=,))")
_PARAMETER: Final = re.compile(rf'\s*({_WORD})\s*=\s*("(?:[^"\\]|\\.)*"|{_WORD})\s*(?:,|\Z)')
#: A token whose life is not told lives for so long (the token specification's default), seconds.
_USUAL_LIFE_S: Final = 60.0
_LONGEST_LIFE_S: Final = 3600.0
#: Used no more so long before its end: a request under way must still find it valid.
MARGIN_S: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """One challenge."""

    #: `bearer`, `basic`, or what else.
    scheme: str
    parameters: dict[str, str] = field(default_factory=dict)

    def token_url(self) -> str | None:
        """Where to ask for a token. None: the challenge does not tell."""
        realm = self.parameters.get("realm", "")
        if self.scheme != "bearer" or not realm:
            return None
        wanted = [("service", self.parameters.get("service", ""))]
        wanted += [("scope", scope) for scope in self.parameters.get("scope", "").split()]
        query = urlencode([(name, value) for name, value in wanted if value])
        if not query:
            return realm
        return f"{realm}{'&' if '?' in realm else '?'}{query}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token."""

    text: str = field(repr=False)
    #: From when it is given, seconds.
    life_s: float = _USUAL_LIFE_S


def parse_challenges(values: list[str]) -> list[Challenge]:
    """The challenges of all WWW-Authenticate fields. What cannot be read ends the reading of its field."""
    found: list[Challenge] = []
    for value in values:
        at = 0
        while at < len(value) and (scheme := _SCHEME.match(value, at)):
            at = scheme.end()
            parameters: dict[str, str] = {}
            while parameter := _PARAMETER.match(value, at):
                parameters[parameter[1].lower()] = _unquoted(parameter[2])
                at = parameter.end()
            found.append(Challenge(scheme=scheme[1].lower(), parameters=parameters))
            while at < len(value) and value[at] in ", ":
                at += 1
    return found


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1]) if text.startswith('"') else text


def parse_token(body: bytes) -> Token | None:
    """The token in a token server's answer. None: there is none."""
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(told, dict):
        return None
    text = told.get("token") or told.get("access_token")
    if not isinstance(text, str) or not text.isascii() or not text.isprintable():
        return None
    life = told.get("expires_in")
    life_s = float(life) if isinstance(life, int | float) and not isinstance(life, bool) and life > 0 else _USUAL_LIFE_S
    return Token(text=text, life_s=min(life_s, _LONGEST_LIFE_S))
