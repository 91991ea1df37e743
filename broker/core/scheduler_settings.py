"""What may be tuned about the scheduler: how patient it is with peers, leases, seeds and tasks."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerSettings:
    """Times in seconds."""

    alive_every_s: float = 1.0
    """Peers say ALIVE this often, or less often where that would be more than `alives_per_s`."""

    alives_per_s: float = 500.0
    """ALIVEs of all peers together: a twentieth of what a broker can do, whatever the number of peers."""

    lost_after_s: float = 10.0
    """A peer that has said nothing for so long, or for three of its own ALIVEs, is gone."""

    probe_after_s: float = 1.5
    """A peer that has said nothing for so many ALIVEs is spoken to: ZeroMQ knows by that whether its connection is closed."""

    doubt_s: float = 2.5
    """A peer that a child holds for gone is asked, and must say something within this time."""

    lease_s: float = 10.0
    """A lease that its child does not name as in work ends after so long."""

    renewed_lease_s: float = 60.0
    """A lease that its child works on ends only after so long without a word of it."""

    seed_patience_s: float = 5.0
    """With no seed for so long a task that needs one is dead."""

    task_expire_s: float = 180.0
    """A task that nobody has or wants any more is forgotten after so long (1.x's --task-expire-time)."""

    fresh_s: float = 2.0
    """What was read from a URL that names no digest is given without asking the source for so long."""

    source_allow: tuple[str, ...] = ()
    """Hosts that the seed may ask for what peers want, as in FETCH; none: all but link-local and the like."""

    retry_s: float = 1.0
    """A dead task is tried again for the first who asks after so long."""

    zone_rate: float = 0.0
    """Bytes per second that may enter each zone (`--location`), by all tasks together; 0: not limited."""
