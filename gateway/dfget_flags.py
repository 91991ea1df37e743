"""`dfget_flags` of dfdaemon.yml: 1.x handed them to a dfget process, here they become settings of the gateway's own peer.

Tolerant as a front end must be: what has no meaning here is reported, not refused; a value that cannot be read is
refused with its flag's name. Nothing is read but the list itself.
"""

from dataclasses import dataclass, field
from typing import Final

from gateway.config import ConfigError, ExitCode
from worker_peer.host.values import parse_duration, parse_rate, parse_size

#: Flags of `dfget` (1.x: cmd/dfget/app/root.go) that take a value, by their long name.
_WITH_VALUE: Final = {
    "url", "output", "locallimit", "minrate", "totallimit", "timeout", "md5", "identifier", "callsystem", "cacerts",
    "pattern", "filter", "header", "node", "clientqueue", "home", "ip", "port", "expiretime", "alivetime",
    "cache-quota",
}  # fmt: skip
_SWITCHES: Final = {"notbs", "dfdaemon", "insecure", "showbar", "console", "verbose"}
_SHORT: Final = {
    "u": "url", "o": "output", "s": "locallimit", "e": "timeout", "m": "md5", "i": "identifier", "p": "pattern",
    "f": "filter", "n": "node", "b": "showbar",
}  # fmt: skip
#: What changes something here. `dfdaemon` and `verbose` are what the gateway says anyway, so they deserve no warning.
_TAKEN: Final = {
    "locallimit", "minrate", "totallimit", "filter", "header", "node", "ip", "port", "expiretime", "cacerts", "insecure",
    "callsystem", "dfdaemon", "verbose", "cache-quota",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class DfgetFlags:
    """What `dfget_flags` ask for. Rates in bytes per second, 0: not limited; None: not said."""

    nodes: str = ""
    """`host[:port][=weight]`, comma separated. Given twice, the last one wins, as in 1.x."""
    filters: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    local_limit: int | None = None
    total_limit: int | None = None
    min_rate: int | None = None
    ip: str = ""
    port: int = 0
    expire_s: float | None = None
    cache_quota: int | None = None
    certificate_files: tuple[str, ...] = ()
    insecure: bool = False
    caller: str = ""
    warnings: tuple[str, ...] = ()


def parse_flags(flags: tuple[str, ...]) -> DfgetFlags:
    """The list as settings. Raises ConfigError naming the flag whose value cannot be read."""
    given: dict[str, list[str]] = {}
    warnings: list[str] = []
    for name, value in _pairs(flags, warnings):
        given.setdefault(name, []).append(value)
    warnings += [f"dfget_flags: --{name} has no meaning in dfdaemon" for name in given if name not in _TAKEN]

    def last(name: str) -> str:
        return given.get(name, [""])[-1]

    return DfgetFlags(
        nodes=last("node"),
        filters=tuple(key for key in last("filter").split("&") if key),
        headers=tuple(_header(text) for text in given.get("header", [])),
        local_limit=_rate("locallimit", last("locallimit")),
        min_rate=_rate("minrate", last("minrate")),
        total_limit=_rate("totallimit", last("totallimit")),
        ip=last("ip"),
        port=_port(last("port")),
        expire_s=_duration("expiretime", last("expiretime")),
        cache_quota=_size("cache-quota", last("cache-quota")),
        certificate_files=tuple(path for text in given.get("cacerts", []) for path in text.split(",") if path),
        insecure=last("insecure") == "true",
        caller=last("callsystem"),
        warnings=tuple(warnings),
    )


def _pairs(flags: tuple[str, ...], warnings: list[str]) -> list[tuple[str, str]]:
    """(long name, value) of each flag, as pflag reads them: `--name value`, `--name=value`, `-n value`, `-nvalue`."""
    pairs: list[tuple[str, str]] = []
    rest = list(flags)
    while rest:
        word = rest.pop(0)
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
        elif word.startswith("-") and len(word) > 1:
            name, value = _SHORT.get(word[1], word[1]), word[2:].removeprefix("=")
            equals = value
        else:
            warnings.append(f"dfget_flags: {word!r} is no flag and is ignored")
            continue
        if name in _SWITCHES:
            pairs.append((name, (value or "true").lower()))
        elif name not in _WITH_VALUE:
            warnings.append(f"dfget_flags: {word.partition('=')[0]!r} is no flag of dfget and is ignored")
        elif equals:
            pairs.append((name, value))
        elif rest:
            pairs.append((name, rest.pop(0)))
        else:
            raise ConfigError(f"dfget_flags: --{name} needs a value")
    return pairs


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        # The text may be a secret: it is not repeated.
        raise ConfigError("dfget_flags: --header must be Key:Value")
    return name.strip(), value.strip()


def _rate(name: str, text: str) -> int | None:
    try:
        return parse_rate(text) if text else None
    except ValueError as error:
        raise ConfigError(f"dfget_flags: --{name}: {error}", exit_code=ExitCode.RATE) from None


def _size(name: str, text: str) -> int | None:
    try:
        return parse_size(text) if text else None
    except ValueError as error:
        raise ConfigError(f"dfget_flags: --{name}: {error}") from None


def _duration(name: str, text: str) -> float | None:
    try:
        return parse_duration(text) if text else None
    except ValueError as error:
        raise ConfigError(f"dfget_flags: --{name}: {error}") from None


def _port(text: str) -> int:
    if text and not (text.isascii() and text.isdigit() and int(text) <= 65535):
        raise ConfigError(f"dfget_flags: --port: {text!r} is no port; allowed: 0 to 65535", exit_code=ExitCode.PORT)
    return int(text or 0)
