"""A request's trace id: the client's own, where it sends one as W3C Trace Context says, else a new one. Pure."""

import re
from typing import Final

from gateway.core.headers import Headers, first

HEADER: Final = "X-Damselfly-Trace"
#: W3C Trace Context §3.2: version, trace id, parent id, flags; a later version may say more behind them.
_TRACEPARENT: Final = re.compile(r"(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?")


def trace_id(headers: Headers, fresh: str) -> str:
    """`fresh`: 32 hexadecimal digits, for a request that brings none that is valid."""
    found = _TRACEPARENT.fullmatch((first(headers, "traceparent") or "").strip())
    if found is None or (found[1] == "00" and found[4]) or not found[2].strip("0") or not found[3].strip("0"):
        return fresh
    return found[2]
