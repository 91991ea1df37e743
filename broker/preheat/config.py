"""What the operator says about preheating: `preheat` in supernode.yml, checked, and how the jobs are run by it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from broker.core.manifests import Platform, parse_platform
from wire.vocabulary import LONGEST_S
from worker_peer.host.allowed_hosts import AllowedHosts, parse_allowed
from worker_peer.host.schema import SettingsError, setting
from worker_peer.host.values import parse_duration, parse_rate

_MAX_PEM_BYTES: Final = 1 << 20
_LEAST_KEPT_S: Final = 60.0
_FIELD: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}:[ \t]*[\x21-\x7e][\x20-\x7e]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class PreheatSection:
    """`preheat` of supernode.yml."""

    basic: str = setting("", "user:password that the API of jobs wants; empty: not this way", secret=True)
    bearer: str = setting("", "token that the API of jobs wants as Authorization: Bearer; empty: not this way", secret=True)
    header: str = setting("", "field that the API of jobs wants, as `X-Key: value`; empty: not this way", secret=True)
    allow: tuple[str, ...] = setting(
        (), "hosts that a job may have asked: registry.example, *.example:5000, 10.0.0.0/8; empty: as base.sourceAllow"
    )
    credentials: tuple[str, ...] = setting(
        (), "host=user:password for registries, where a job brings none", key="credentials", secret=True
    )
    cacerts: tuple[str, ...] = setting((), "host=/path/ca.pem: the CAs of a registry; host may be a pattern")
    insecure: tuple[str, ...] = setting((), "registries whose certificate is not verified; patterns")
    platforms: tuple[str, ...] = setting((), "platforms of an image where a job names none, as linux/amd64; empty: all")
    keep: str = setting(
        "24h0m0s", "preheated content is kept so long where a job does not say; 0s: as any other", syntax=parse_duration
    )
    rate: str = setting("0B", "bytes per second that a host takes for preheating; 0: not limited", syntax=parse_rate)
    tasks_at_once: int = setting(16, "blobs that are fetched at the same time, for all jobs together", key="tasksAtOnce")
    kept_jobs: int = setting(1000, "finished jobs that are remembered", key="keptJobs")
    kept_time: str = setting("168h0m0s", "how long a finished job is remembered", key="keptTime", syntax=parse_duration)


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """How the registries of a pattern are asked."""

    pattern: str
    credentials: str = field(default="", repr=False)
    certificates: tuple[bytes, ...] = ()
    insecure: bool = False

    def covers(self, host: str, port: int) -> bool:
        """Whether it speaks of a host."""
        return fnmatchcase(host, self.pattern) or fnmatchcase(f"{host}:{port}", self.pattern)


@dataclass(frozen=True, slots=True, kw_only=True)
class PreheatConfig:
    """The section, checked."""

    basic: str = field(default="", repr=False)
    bearer: str = field(default="", repr=False)
    header: str = field(default="", repr=False)
    allowed: AllowedHosts = AllowedHosts()
    registries: tuple[Registry, ...] = ()
    platforms: tuple[Platform, ...] = ()
    keep_s: float = 86400.0
    rate: int = 0
    tasks_at_once: int = 16
    kept_jobs: int = 1000
    kept_s: float = 7 * 86400.0

    @property
    def is_open(self) -> bool:
        """Whether anybody may send jobs."""
        return not (self.basic or self.bearer or self.header)


def checked(section: PreheatSection, source_allow: tuple[str, ...] = ()) -> PreheatConfig:
    """The section's values; what it allows is `source_allow` where it does not say. Reads the certificates.

    Raises SettingsError naming the key.
    """
    if section.basic and ":" not in section.basic:
        raise SettingsError("preheat.basic must be user:password")
    if section.header and not _FIELD.fullmatch(section.header):
        raise SettingsError("preheat.header must be a field as `X-Key: value`")
    if not 1 <= section.tasks_at_once <= 1000:
        raise SettingsError("preheat.tasksAtOnce must be from 1 to 1000")
    if not 1 <= section.kept_jobs <= 100_000:
        raise SettingsError("preheat.keptJobs must be from 1 to 100000")
    keep_s = parse_duration(section.keep)
    if not 0 <= keep_s <= LONGEST_S:
        raise SettingsError("preheat.keep must be from 0s to 277h")
    kept_s = parse_duration(section.kept_time)
    if kept_s < _LEAST_KEPT_S:
        raise SettingsError(f"preheat.keptTime must be {_LEAST_KEPT_S:g}s or more: whoever waits for a job asks for its end")
    try:
        allowed = parse_allowed(section.allow or source_allow)
        platforms = tuple(parse_platform(each) for each in section.platforms)
    except ValueError as error:
        raise SettingsError(f"preheat: {error}") from None
    registries = [Registry(pattern=each.lower(), insecure=True) for each in section.insecure]
    for host, value in _pairs("credentials", section.credentials).items():
        if ":" not in value:
            raise SettingsError(f"preheat.credentials: {host[:60]}: must be host=user:password")
        registries.append(Registry(pattern=host, credentials=value))
    for host, value in _pairs("cacerts", section.cacerts).items():
        registries.append(Registry(pattern=host, certificates=(_pem(Path(value)),)))
    return PreheatConfig(
        basic=section.basic,
        bearer=section.bearer,
        header=section.header,
        allowed=allowed,
        registries=tuple(registries),
        platforms=platforms,
        keep_s=keep_s,
        rate=parse_rate(section.rate),
        tasks_at_once=section.tasks_at_once,
        kept_jobs=section.kept_jobs,
        kept_s=kept_s,
    )


def _pairs(key: str, entries: tuple[str, ...]) -> Mapping[str, str]:
    found = {}
    for entry in entries:
        host, mark, value = entry.partition("=")
        if not (host and mark and value):
            # Not the entry itself: it may be a password.
            raise SettingsError(f"preheat.{key}: each entry must be host=value")
        found[host.lower()] = value
    return found


def _pem(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_PEM_BYTES + 1)
    except OSError as error:
        raise SettingsError(f"preheat.cacerts: cannot read {path}: {error.strerror}") from None
    if len(text) > _MAX_PEM_BYTES or b"-----BEGIN CERTIFICATE-----" not in text:
        raise SettingsError(f"preheat.cacerts: {path} holds no PEM certificate")
    return text
