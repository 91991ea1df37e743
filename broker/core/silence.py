"""Which peers are held for dead, and which are asked: what a peer's silence means. Pure."""

from broker.core.scheduler_settings import SchedulerSettings
from broker.core.state import PeerRecord


def why_lost(record: PeerRecord, settings: SchedulerSettings, now: float) -> str:
    """Why the peer is held for dead, in words; empty: it is not.

    In a large cluster it was told to say ALIVE less often than usual, and has three times as long as that.
    """
    silent_s = now - record.heard_at
    slow = record.alive_every_s > settings.alive_every_s
    if silent_s > max(settings.lost_after_s, 3 * record.alive_every_s if slow else 0.0):
        return f"silent for {silent_s:.1f} s"
    if record.doubted_at is not None and now - record.doubted_at > settings.doubt_s:
        return "its children cannot reach it, and it says nothing"
    return ""


def is_to_be_asked(record: PeerRecord, settings: SchedulerSettings, now: float) -> bool:
    """Whether the peer has been silent for so long that its connection may be closed: that shows when it is spoken to."""
    return now - record.heard_at > settings.probe_after_s * max(1.0, record.alive_every_s)
