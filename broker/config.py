"""What the supernode is told when it starts."""

from dataclasses import dataclass
from pathlib import Path


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

    zone_rate: int = 0
    """Bytes per second that may enter each zone (peers' `--location`); 0: not limited."""

    task_expire_s: float = 180.0
    """A task that nobody has or wants is forgotten after so long."""

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
