"""What one `dfget` was asked to do."""

from dataclasses import dataclass, field
from pathlib import Path

from wire.ids import ByteRange


@dataclass(frozen=True, slots=True, kw_only=True)
class OneshotOptions:
    """One download by the command line. Rates in bytes per second, 0: not limited; times in seconds, 0: no limit."""

    url: str
    output: Path
    rate: int
    total_rate: int
    min_rate: int
    timeout_s: float
    md5: str | None
    identifier: str | None
    digest: str | None
    caller: str
    certificates: tuple[bytes, ...]
    from_source: bool
    filters: tuple[str, ...]
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    byte_range: ByteRange | None
    supernodes: tuple[str, ...]
    back_to_source: bool
    insecure: bool
    bar: bool
    verbose: bool
    home: Path
    ip: str
    port: int
    expire_s: float
    alive_s: float
    cache_quota: int
    report: Path | None
