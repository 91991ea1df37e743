"""What a peer is told when it starts. Plain values; where they come from is the command line's business."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wire.messages import Role
from worker_peer.core.eviction import Rules

#: 1.x's minRate.
LEAST_RATE: Final = 64 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerConfig:
    """One peer of one host."""

    home: Path
    """Folder of everything that the peer keeps: `data/` (contents), `meta/` (control socket, lock), `logs/`."""

    supernodes: tuple[str, ...] = ()
    """`host:port` (HTTP) of supernodes, in the order to try; a download may name others."""

    ip: str = ""
    """Address that other peers reach this one by. Empty: the one that this host uses towards its supernode."""

    data_port: int = 0
    """Port that serves blocks; 0: any free one."""

    role: Role = Role.PEER
    """A seed reads sources for its supernode; everybody else is a peer."""

    total_rate: int = 0
    """Bytes per second that all downloads of the peer may take together; 0: not limited."""

    upload_rate: int = 0
    """Bytes per second that the peer may serve; 0: not limited."""

    link_rate: int | None = None
    """Bytes per second of this host's link, of which the peer leaves to others what they take; 0: to be learned. None: the
    peer does not look at others' traffic."""

    min_rate: int = LEAST_RATE
    """Bytes per second that the peer may always move, whatever others take."""

    source_rate: int = 0
    """Bytes per second that may be read from sources; 0: not limited."""

    location: str = ""
    """Rack or zone, `a/b/c` from the widest to the narrowest."""

    control_socket: bool = True
    """Whether dfget on this host may use this peer (an ipc socket in `meta/`)."""

    software: str = ""
    """Release, told to others for people to read."""

    alive_s: float = 300.0
    """`dfget server` ends after so long without work; 0 or less: never."""

    expire_s: float = 180.0
    """A content that nobody has used for so long is deleted; 0 or less: never."""

    cache_quota: int = 0
    """Bytes on disk that all contents together may take; 0: not limited."""

    kept_percent: int = 50
    """What preheated and pinned contents may take of the quota."""

    young_free: int = 0
    """Free bytes of the disk below which contents are deleted that nobody has used for `unused_s`, some at a time."""

    full_free: int = 0
    """Free bytes of the disk below which all contents are deleted that are neither in use nor kept."""

    unused_s: float = 7200.0
    """See `young_free`."""

    clean_tenths: int = 1
    """Tenths of those that `young_free` is about which go at a time."""

    tidy_after_s: float = 0.0
    """The store is tidied first so long after the start."""

    tidy_every_s: float = 15.0
    """And then this often."""

    fresh_s: float = 2.0
    """A content of a URL that names no digest is given without asking its supernode again for so long."""

    supernode_patience_s: float = 0.9
    """A download fails when no supernode has answered for so long: whoever asked goes to the source by himself. Short for
    a gateway, whose client waits; longer for dfget, which had better wait for a busy supernode than go to the source."""

    back_to_source_after_s: float = 3.0
    """Without a supernode, and with nothing left to fetch from other peers, for so long: read the rest from the source."""

    @property
    def rules(self) -> Rules:
        """What the store goes by."""
        return Rules(
            quota=self.cache_quota,
            kept_percent=self.kept_percent,
            expire_s=self.expire_s,
            young_free=self.young_free,
            full_free=self.full_free,
            unused_s=self.unused_s,
            clean_tenths=self.clean_tenths,
        )
