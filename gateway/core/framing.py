"""What a request's head must be before anybody believes it (RFC 9112 §3.2, §6.3): the ways to smuggle a request. Pure.

Tornado parses; what it lets pass and another server might read otherwise is refused here.
"""

import re
from typing import Final

from gateway.core.headers import Headers
from gateway.core.rules import Authority, parse_authority

_LENGTH: Final = re.compile(r"[0-9]{1,18}")


def fault_of(version: str, target: str, headers: Headers, *, opened: Authority | None) -> str | None:
    """What is wrong with a request's head, in words; None: nothing. `opened`: the tunnel that it came out of."""
    lengths = _values(headers, "content-length")
    codings = _values(headers, "transfer-encoding")
    hosts = _values(headers, "host")
    if len(lengths) > 1 or any(not _LENGTH.fullmatch(each) for each in lengths):
        return "Content-Length must be one number"
    if codings and (version == "HTTP/1.0" or lengths or [each.lower() for each in codings] != ["chunked"]):
        return "Transfer-Encoding must be chunked, and alone"
    if len(hosts) > 1 or (not hosts and version != "HTTP/1.0"):
        return "one Host field is needed"
    if hosts and hosts[0] and parse_authority(hosts[0], default_port=80) is None:
        return "Host must be host or host:port"
    if opened is not None and target.startswith("/") and hosts and parse_authority(hosts[0], default_port=443) != opened:
        return f"this connection leads to {opened} and nowhere else"
    return None


def _values(headers: Headers, name: str) -> list[str]:
    return [value for key, value in headers if key.lower() == name]
