"""What the supernode is told when it starts."""

from dataclasses import dataclass
from pathlib import Path

from broker.preheat.config import PreheatConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheConfig:
    """How much the seed may keep: the fields of `worker_peer.config.PeerConfig`, and what its command line calls them."""

    quota: int = 0
    """Bytes on disk of all contents; 0: not limited."""

    kept_percent: int = 50
    """What preheated and pinned ones may take of it."""

    young_free: int = 100 << 30
    """Free bytes of the disk below which contents go that nobody has used for `unused_s`, some at a time."""

    full_free: int = 5 << 30
    """Free bytes of the disk below which all go that are neither in use nor kept."""

    unused_s: float = 7200.0
    clean_tenths: int = 1

    tidy_after_s: float = 6.0
    """The disk is tidied first so long after the start."""

    tidy_every_s: float = 15.0

    def flags(self) -> list[str]:
        """For `dfget server --seed`."""
        return [
            *("--cache-quota", str(self.quota), "--preheat-quota", str(self.kept_percent)),
            *("--young-free", str(self.young_free), "--full-free", str(self.full_free)),
            *("--unused-for", f"{self.unused_s:f}s", "--clean-tenths", str(self.clean_tenths)),
            *("--tidy-after", f"{self.tidy_after_s:f}s", "--tidy-every", f"{self.tidy_every_s:f}s"),
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class SupernodeConfig:
    """One supernode."""

    home: Path
    """Folder of everything that it keeps: the seed's contents in `repo/`, logs in `logs/`."""

    http_port: int = 8002
    """HTTP: cluster document, health, metrics, tasks, peers; what `--node` of peers names. 0: any free one."""

    broker_port: int = 8003
    """ZeroMQ ROUTER. 0: any free one."""

    download_port: int = 8001
    """The seed's pieces. 0: any free one."""

    advertise_ip: str = ""
    """Address by which peers reach the supernode and its seed. Empty: this host's first address that is not loopback."""

    with_seed: bool = True
    """Whether it runs a seed of its own (1.x's cdn pattern `local`)."""

    source_rate: int = 0
    """Bytes per second that may be read from sources; 0: not limited."""

    link_rate: str = ""
    """The seed's link, of which others come first: `1gbit`, `120MB`, `auto`. Empty: the seed does not look at it."""

    upload_rate: int = 0
    """Bytes per second that the seed may send to peers; 0: not limited."""

    source_allow: tuple[str, ...] = ()
    """Hosts that the seed may ask for what hosts pull; none: all but link-local and the like."""

    zone_rate: int = 0
    """Bytes per second that may enter each zone (peers' `--location`); 0: not limited."""

    task_expire_s: float = 180.0
    """A task that nobody has or wants is forgotten after so long."""

    cache: CacheConfig = CacheConfig()
    """How much the seed may keep."""

    debug: bool = False
    """Log more."""

    json_log: bool = False
    """Log in JSON lines."""

    log_rotate_bytes: int = 40 << 20
    """The log file is rotated at so many bytes."""

    log_rotated_files: int = 1
    """Rotated log files that are kept."""

    version: str = ""
    """Release."""

    preheat: PreheatConfig = PreheatConfig()
    """Who may send preheat jobs, what they may ask for, and how they are run."""
