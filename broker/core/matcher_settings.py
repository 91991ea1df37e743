"""What may be tuned about the matching of peers. Defaults are what simulations (scripts/simulate) found;
no rate of any link is in here."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSettings:
    """How links are turned into slots and leases."""

    upload_slots: int = 3
    """Leases that a usual peer serves at once; as many feed a child (simulated: 2 and 4 are worse by 0.01)."""

    lease_pieces: int = 2
    """Pieces promised per lease at least: the second hides the supernode's answer (lc = 50 ms: 1.18 instead of 1.72)."""

    lease_s: float = 0.02
    """A lease lasts about so long at least: where a piece takes a millisecond, two would not hide the answer."""

    max_lease_pieces: int = 16
    """No lease promises more pieces than this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MatcherSettings:
    """What may be tuned. Defaults are what simulations found; rates are learned, so none is in here."""

    links: LinkSettings = LinkSettings()
    """Slots and leases."""

    cut_through: bool = True
    """Whether a peer offers what it is receiving, block by block: the data plane must let such requests wait."""

    settle_s: float = 0.01
    """A piece is offered by who receives it so long after its lease was granted: its lease must have reached it."""

    tick_s: float = 0.02
    """Between two looks at children that wait."""

    idle_s: float = 0.2
    """A child without any lease for so long (two pieces' time, where that is more) takes slow and distant parents too."""

    overdue: float = 2.1
    """A lease's first piece that takes more than so many times as long as a new peer's should shows that its parent is slow."""

    patience_s: float = 1.0
    """After so long without any arrival (four pieces' time, where that is more) the seed repeats a piece beyond its ration."""

    avoid_s: float = 2.0
    """A child that a parent has kept waiting is not sent to it again for so long; doubled every time."""

    retry_s: float = 0.05
    """The same after a failure that nobody is to blame for."""
