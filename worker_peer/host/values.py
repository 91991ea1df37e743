"""Values as 1.x writes them on its command lines and in its YAML: rates, sizes, durations, nodes. Text in, numbers out.

Dragonfly 1.x: pkg/rate, common/util/fsize, Go's time.ParseDuration, dfget/config (SupernodesValue). Each parser raises
ValueError with a text that says what is allowed.
"""

import math
import random
import re
from dataclasses import dataclass
from typing import Final

#: The supernode's HTTP port, where a node names none.
DEFAULT_NODE_PORT: Final = 8002
_MAX_WEIGHT: Final = 1_000_000
_MAX_NUMBER: Final = (1 << 63) - 1
_UNIT_BYTES: Final = {"G": 1 << 30, "M": 1 << 20, "K": 1 << 10, "B": 1}
_RATE: Final = re.compile(r"([0-9]{1,19})(MB?|m|KB?|k|GB?|g|B)?")
_BITS: Final = re.compile(r"([0-9]{1,9})([gmk])bit")
_SIZE: Final = re.compile(r"([0-9]{1,19})([GMK]B?|B)?")
_DURATION: Final = re.compile(r"([-+]?)((?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:ns|us|µs|μs|ms|s|m|h))+")
_DURATION_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")
_UNIT_SECONDS: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_NODE: Final = re.compile(r"(\[(?P<six>[^\]]*)\]|(?P<host>[^:=\[\]]*))(?P<port>:[^:=]*)?(?P<weight>=[^=]*)?")


def parse_rate(value: str | int) -> int:
    """Bytes per second of `20MB`, `20M`, `20m`, `64K`, `1g`, `512B` or a whole number of bytes; 0 means not limited."""
    return _parse_bytes(value, _RATE, "rate", "a whole number with g, G, GB, m, M, MB, k, K, KB or B behind it, as 20MB")


def parse_size(value: str | int) -> int:
    """Bytes of `5G`, `5GB`, `100M`, `10B` or a whole number of bytes. Capitals only, unlike a rate."""
    return _parse_bytes(value, _SIZE, "size", "a whole number with G, GB, M, MB, K, KB or B behind it, as 5GB")


def parse_link_rate(text: str) -> int | None:
    """Bytes per second of a link: a rate (`120MB`), or bits as links are named (`1gbit`, `100mbit`, `64kbit`). 0: `auto`, which
    means that it is to be learned. None: nothing, or 0, which means that no link is looked at."""
    if text == "auto":
        return 0
    if found := _BITS.fullmatch(text.lower()):
        return int(int(found[1]) * {"g": 1e9, "m": 1e6, "k": 1e3}[found[2]] / 8) or None
    try:
        return parse_rate(text or 0) or None
    except ValueError:
        raise ValueError(f"{text!r} is no link's rate: write 1gbit, 100mbit, a rate as 120MB, or auto") from None


def _parse_bytes(value: str | int, pattern: re.Pattern[str], what: str, allowed: str) -> int:
    found = None if isinstance(value, bool) else pattern.fullmatch(str(value))
    number = int(found[1]) * _UNIT_BYTES[found[2][0].upper() if found[2] else "B"] if found else -1
    if not 0 <= number <= _MAX_NUMBER:
        raise ValueError(f"{value!r} is no {what}: write {allowed}, or plain bytes")
    return number


def format_rate(rate: int) -> str:
    """A rate with the largest unit that divides it: `20MB`, `64KB`, `1000B`, `0B`."""
    for unit in "GMK":
        if rate and rate % _UNIT_BYTES[unit] == 0:
            return f"{rate // _UNIT_BYTES[unit]}{unit}B"
    return f"{rate}B"


def parse_duration(text: str) -> float:
    """Seconds of a Go duration: `3m0s`, `300ms`, `1.5h`, `-1s`, `0`. A number other than 0 needs its unit."""
    if text in ("0", "+0", "-0"):
        return 0.0
    found = _DURATION.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise ValueError(f"{text!r} is no duration: write numbers with units (h, m, s, ms, us, ns), as 3m0s or 300ms")
    seconds = sum(float(part[1]) * _UNIT_SECONDS[part[2]] for part in _DURATION_PART.finditer(text))
    if seconds * 1e9 > _MAX_NUMBER:
        raise ValueError(f"{text!r} is too long: at most 2562047h")
    return -seconds if found[1] == "-" else seconds


def format_duration(seconds: float) -> str:
    """A duration as Go prints it: `3m0s`, `1h0m0s`, `1.5s`, `300ms`, `0s`. Exact to the nanosecond."""
    nanoseconds = round(abs(seconds) * 1e9)
    sign = "-" if seconds < 0 and nanoseconds else ""
    if nanoseconds == 0:
        return "0s"
    for unit, size in (("ns", 1), ("µs", 1_000), ("ms", 1_000_000)):
        if nanoseconds < size * 1000 and nanoseconds < 1_000_000_000:
            return f"{sign}{_decimal(nanoseconds, size)}{unit}"
    minutes, rest = divmod(nanoseconds, 60_000_000_000)
    hours, minutes = divmod(minutes, 60)
    words = f"{hours}h" if hours else ""
    words += f"{minutes}m" if hours or minutes else ""
    return f"{sign}{words}{_decimal(rest, 1_000_000_000)}s"


def _decimal(number: int, size: int) -> str:
    """`number / size` without rounding and without zeros at the end; `size` is a power of ten."""
    whole, rest = divmod(number, size)
    digits = len(str(size)) - 1
    fraction = f"{rest:0{digits}d}".rstrip("0") if digits else ""
    return f"{whole}.{fraction}" if fraction else str(whole)


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A supernode as the user names it."""

    host: str
    #: Its HTTP port.
    port: int = DEFAULT_NODE_PORT
    #: Share of the peers that try it first, against the other nodes' weights.
    weight: int = 1

    @property
    def endpoint(self) -> str:
        """`host:port`, an IPv6 address in brackets."""
        return f"{bracketed(self.host)}:{self.port}"


def bracketed(host: str) -> str:
    """A host as it stands before a port: an IPv6 address in brackets (RFC 3986 §3.2.2), everything else as it is."""
    return f"[{host}]" if ":" in host else host


def parse_nodes(text: str) -> list[Node]:
    """The nodes of a comma list of `host[:port][=weight]`; weights are divided by their greatest common divisor.

    An IPv6 address stands in brackets, with or without a port (1.x cannot have one at all).
    """
    nodes = [_parse_node(part.strip()) for part in text.split(",")]
    divisor = math.gcd(*(node.weight for node in nodes))
    return [Node(host=node.host, port=node.port, weight=node.weight // divisor) for node in nodes]


def _parse_node(text: str) -> Node:
    found = _NODE.fullmatch(text)
    host = (found["six"] or found["host"]) if found else None
    if not found or not host or any(character.isspace() or character == "/" for character in host):
        raise ValueError(f"{text!r} is no node: write host[:port][=weight], several with commas, as 10.0.0.10:8002=1")
    if found["six"] and ":" not in found["six"]:
        raise ValueError(f"{text!r} is no node: brackets are for an IPv6 address")
    port = _whole(found["port"], DEFAULT_NODE_PORT)
    if not 1 <= port <= 65535:
        raise ValueError(f"{text!r} is no node: its port must be a whole number from 1 to 65535")
    weight = _whole(found["weight"], 1)
    if not 1 <= weight <= _MAX_WEIGHT:
        raise ValueError(f"{text!r} is no node: its weight must be a whole number from 1 to {_MAX_WEIGHT}")
    return Node(host=host, port=port, weight=weight)


def _whole(part: str | None, default: int) -> int:
    """The number behind a `:` or `=`; `default` where the part is missing, -1 where it is no number."""
    if part is None:
        return default
    return int(part[1:]) if re.fullmatch(r"[0-9]{1,9}", part[1:]) else -1


def expand_nodes(nodes: list[Node], rng: random.Random) -> list[str]:
    """Every endpoint once, in a random order in which heavier ones tend to come first.

    Each place is drawn from the nodes that are left, in proportion to their weights (Efraimidis and Spirakis 2006).
    """
    weights: dict[str, int] = {}
    for node in nodes:
        weights[node.endpoint] = weights.get(node.endpoint, 0) + node.weight
    # 1 - random() is never 0, so its logarithm exists.
    return sorted(weights, key=lambda endpoint: math.log(1.0 - rng.random()) / weights[endpoint], reverse=True)
