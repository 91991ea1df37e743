"""Who may use this proxy, and for which upstreams. Pure: a request's words in, a refusal or nothing out."""

import base64
import binascii
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from gateway.core.headers import Headers, first
from gateway.core.rules import Authority

#: What a probe may ask without credentials: it says nothing but that the gateway is there.
_OPEN_PATHS: Final = frozenset({"/_ping"})
_CHALLENGE: Final = (("Proxy-Authenticate", 'Basic realm="dfdaemon", charset="UTF-8"'),)


@dataclass(frozen=True, slots=True, kw_only=True)
class WhiteHost:
    """One of `whiteList`."""

    host: str = ""
    pattern: re.Pattern[str] | None = None
    ports: frozenset[int] = frozenset()

    def covers(self, target: Authority) -> bool:
        """Whether it lets clients through to an upstream."""
        if self.ports and target.port not in self.ports:
            return False
        return self.pattern.search(target.host) is not None if self.pattern else self.host.lower() == target.host


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """The answer in a request's place."""

    status: int
    reason: str
    text: str
    headers: Headers = ()


class NotServed(Exception):
    """What a request leads to on its way is refused: its answer in the request's place."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.text)
        self.refusal = refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Empty: everybody may do everything."""

    username: str = ""
    password: str = field(default="", repr=False)
    white_list: Sequence[WhiteHost] = ()

    def refuses_client(self, target: str, headers: Headers) -> Refusal | None:
        """A request on the plain port (RFC 9110 §11.7): 407 until it says who it is, whatever it asks for."""
        if not self.username or target.partition("?")[0] in _OPEN_PATHS:
            return None
        said = _credentials(first(headers, "Proxy-Authorization") or "")
        if said is not None and hmac.compare_digest(said, f"{self.username}:{self.password}".encode()):
            return None
        why = "wrong user name or password" if said is not None else "this proxy asks for a user name and a password"
        return Refusal(status=407, reason="Proxy Authentication Required", text=f"dfdaemon: {why}\n", headers=_CHALLENGE)

    def refuses_upstream(self, target: Authority) -> Refusal | None:
        """An upstream that a client names by itself: 401 as Dragonfly 2. The mirror's is the operator's own choice."""
        if not self.white_list or any(each.covers(target) for each in self.white_list):
            return None
        return Refusal(status=401, reason="Unauthorized", text=f"dfdaemon: whiteList does not name {target}\n")


def _credentials(field_value: str) -> bytes | None:
    """`user:password` of a Basic field (RFC 7617), or None."""
    scheme, _, token = field_value.strip().partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(token.strip(), validate=True)
    except binascii.Error:
        return None
