"""The demonstration's result, and how it is shown: a table for people, one object for programs."""

from dataclasses import dataclass

from scripts.demonstration.measure import HostUse

_MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerResult:
    """One peer's download."""

    name: str
    #: Why the copy is not right; empty: it is.
    problem: str
    #: Wall time of its dfget, from start to end, the program's own start included.
    seconds: float
    length: int
    source_bytes: int = 0
    seed_bytes: int = 0
    peer_bytes: int = 0
    disk_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The whole run."""

    url: str
    length: int
    sha256: str
    peers: list[PeerResult]
    #: Bytes that the source gave in all, to the seed and to peers.
    source_bytes: int
    #: Who counted them.
    source_counted_by: str
    #: From the first dfget's start to the last one's end.
    wall_seconds: float
    host: HostUse

    @property
    def is_right(self) -> bool:
        """Whether every peer has the right file."""
        return not any(peer.problem for peer in self.peers)

    @property
    def delivered_bytes(self) -> int:
        """Bytes of right copies on all peers together."""
        return sum(peer.length for peer in self.peers if not peer.problem)

    def as_json(self) -> dict[str, object]:
        """The report for programs."""
        return {
            "ok": self.is_right,
            "peers": len(self.peers),
            "bytes": self.delivered_bytes,
            "length": self.length,
            "sha256": self.sha256,
            "source_bytes": self.source_bytes,
            "seed_bytes": sum(peer.seed_bytes for peer in self.peers),
            "peer_bytes": sum(peer.peer_bytes for peer in self.peers),
            "seconds": [round(peer.seconds, 3) for peer in self.peers],
            "wall_seconds": round(self.wall_seconds, 3),
            "host_sent_bytes": dict(self.host.sent_bytes),
            "cpu_seconds": {name: round(spent, 3) for name, spent in self.host.group_cpu_seconds.items()},
            "problems": [f"{peer.name}: {peer.problem}" for peer in self.peers if peer.problem],
        }

    def as_text(self) -> str:
        """The report for people."""
        return "\n".join([*self._peer_table(), "", *self._totals(), "", *self._host_use(), "", self._verdict()])

    def _peer_table(self) -> list[str]:
        rows = [("peer", "time", "speed", "from source", "from seed", "from peers", "file")]
        rows += [
            (
                peer.name,
                f"{peer.seconds:.2f} s",
                f"{mebibytes(peer.length / peer.seconds)}/s" if peer.seconds else "-",
                mebibytes(peer.source_bytes),
                mebibytes(peer.seed_bytes),
                mebibytes(peer.peer_bytes),
                "WRONG" if peer.problem else "right",
            )
            for peer in self.peers
        ]
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]

    def _totals(self) -> list[str]:
        multiple = f"{self.source_bytes / self.length:.3f} x the file" if self.length else "an empty file"
        from_peers = sum(peer.peer_bytes for peer in self.peers)
        share = f"{from_peers / self.delivered_bytes:.0%}" if self.delivered_bytes else "none"
        delivered = f"{mebibytes(self.delivered_bytes)} to {len(self.peers)} peers in {self.wall_seconds:.2f} s"
        return [
            f"file            {mebibytes(self.length)}, sha256 {self.sha256}",
            f"source's egress {mebibytes(self.source_bytes)} = {multiple} (counted by {self.source_counted_by})",
            f"delivered       {delivered}, {share} of it by peers",
        ]

    def _host_use(self) -> list[str]:
        use = self.host
        lines = [
            f"{'bandwidth' if not index else '':<16}{name} {mebibytes(sent)} sent, {mebibytes(sent / use.seconds)}/s"
            for index, (name, sent) in enumerate(sorted(use.sent_bytes.items(), key=lambda pair: -pair[1]))
        ]
        percent = use.cpu_seconds / use.cpu_capacity_seconds if use.cpu_capacity_seconds else 0.0
        groups = ", ".join(f"{name} {spent:.2f} s" for name, spent in use.group_cpu_seconds.items())
        lines.append(f"CPU             {use.cpu_seconds:.2f} s = {percent:.0%} of the host; of it: {groups}")
        return lines

    def _verdict(self) -> str:
        if self.is_right:
            return f"OK: all {len(self.peers)} copies have the source's sha256"
        return "\n".join(["FAILED:", *(f"  {peer.name}: {peer.problem}" for peer in self.peers if peer.problem)])


def mebibytes(count: float) -> str:
    """A count of bytes, for people."""
    return f"{count / _MIB:.1f} MiB"
