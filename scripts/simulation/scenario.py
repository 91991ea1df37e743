"""What is simulated: the options of scripts/simulate as values, and the least time that physics allows for them."""

from dataclasses import dataclass
from math import ceil

from wire.pieces import PieceLayout

#: Everybody of a flash crowd comes within this time.
FLASH_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One run. Rates with `_x` are multiples of `peer_rate`."""

    peers: int
    layout: PieceLayout
    peer_rate: float = 6.25e6
    """Bytes per second of a peer's link, each way (50 Mbit/s). 15,000 of them and 4 MiB pieces are 22,000 pieces a second."""

    spread: float = 0.05
    """Uplinks differ by up to this share, evenly. Equal ones are some 0.02 nearer to the ideal."""

    seed_x: float = 4.0
    source_x: float = 0.0
    """What the seed reads from the source; 0: it has the content from the start."""

    slow: float = 0.0
    """Share of the peers whose uplink is ten times slower. Nobody is told."""

    deaths: float = 0.0
    """Share of the peers that die in silence, between 20 and 80 % of the ideal time."""

    detect_s: float = 0.25
    """How long until the supernode knows of a death."""

    zones: tuple[int, ...] = ()
    """How many zones, and how many in each of those, and so on: (3, 4) is 3 data centres of 4 racks."""

    zone_link_x: float = 0.0
    """What the link of a zone of any level carries, each way; 0: as much as its peers send."""

    told_zones: bool = True
    """Whether the supernode knows who is where."""

    learn_zones: bool = False
    """Whether it may learn it: the peers of each narrowest zone are a subnet."""

    arrivals_s: float = FLASH_S
    control_s: float = 0.002
    """Control latency, one way; a request for data takes `data_s` to its parent."""

    data_s: float = 0.0005
    message_s: float = 40e-6
    """CPU time of the supernode per report that it takes in, with its answers."""

    message_budget: float = 20_000.0
    """Reports per second that one supernode takes in. Peers put more pieces into each where needed."""

    at_once: int = 4
    """A peer's first so many pieces are reported at once, where reports are not batched: few know anything yet."""

    cut_through: bool = True
    random_seed: int = 1

    @property
    def pieces_per_report(self) -> int:
        """So many that all peers at full speed stay within the supernode's message budget."""
        rate = self.peers * self.peer_rate / self.layout.piece_length
        return max(1, ceil(rate / self.message_budget))

    @property
    def flush_s(self) -> float:
        """No report waits longer for more pieces: a little more than a full one takes to come together."""
        return max(0.25, 1.2 * self.pieces_per_report * self.layout.piece_length / self.peer_rate)

    def ideal_s(self, uplinks: list[float]) -> float:
        """T_min = max(F/source, F/us, F/d, N·F/(us + Σu)) (Kumar and Ross 2006), in seconds."""
        length, seed_rate = self.layout.length, self.seed_x * self.peer_rate
        times = [length / seed_rate, length / self.peer_rate, self.peers * length / (seed_rate + sum(uplinks))]
        if self.source_x:
            times.append(length / (self.source_x * self.peer_rate))
        return max(times)
