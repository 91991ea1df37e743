"""One task on this peer, from the first who asks for it until it is forgotten."""

import asyncio
from dataclasses import dataclass

from worker_peer.api import DownloadRequest
from worker_peer.broker_link import BrokerLink
from worker_peer.content import SharedContent
from worker_peer.core.session import Session, SessionState
from worker_peer.host.limits import TokenBucket
from worker_peer.host.store import TaskFile


@dataclass(slots=True)
class Download:
    """What belongs to it. Times by the clock."""

    request: DownloadRequest
    session: Session
    content: SharedContent
    link: BrokerLink | None
    used_at: float
    began_at: float
    limit: TokenBucket
    file: TaskFile | None = None
    timer: asyncio.TimerHandle | None = None
    reading: asyncio.Task[None] | None = None
    #: When the content was complete, and the supernode's word on it new.
    checked_at: float = 0.0

    def is_stale(self, now: float, fresh_s: float) -> bool:
        """Whether its source may have another content by now. Under a digest there is only one; while somebody reads it,
        who comes shares it; and without a supernode nobody can say."""
        if self.session.wanted_digest is not None or self.session.state is not SessionState.COMPLETE:
            return False
        supernode_is_up = self.link is not None and self.link.is_up
        return (
            supernode_is_up and not self.content.readers and self.content.digest is not None and now - self.checked_at > fresh_s
        )
