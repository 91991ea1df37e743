"""Of one content: who gave which piece, and what a reader who has not got a piece yet waits for. Pure.

Follows the download's events beside its session (session.py), and decides nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, assert_never

from wire.ids import is_seed_id
from wire.messages import Origin, Task, TaskState
from wire.pieces import PieceLayout
from worker_peer.core.causes import Cause, Giver
from worker_peer.core.session import Session, SessionState
from worker_peer.core.session_events import Event, LeaseGiven, SupernodeUp, TaskTold

#: Grants whose parents are known: one for each parent that has fed this peer, more than a host ever meets.
_LEASES_KEPT: Final = 4096
_STORE: Final[Giver] = (Origin.DISK, "")


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment of a content's arrival: how many pieces were here, and bytes by who had given them."""

    count: int
    totals: Mapping[Giver, int]


class Provenance:
    """Which piece came when, and from whom."""

    def __init__(self) -> None:
        #: By piece: its number in the order of arrival, and its giver's.
        self._came: dict[int, tuple[int, Giver]] = {}
        self._totals: dict[Giver, int] = {}
        # The same tuple for all pieces of one parent.
        self._givers: dict[Giver, Giver] = {}
        self._parents: dict[int, str] = {}
        self._told: Task | None = None
        #: The download's; None: there is none, all that is wanted is on the disk.
        self.session: Session | None = None

    def mark(self) -> Mark:
        """Now, for `given_by`."""
        return Mark(len(self._came), dict(self._totals))

    def happened(self, event: Event) -> None:
        """What the session has been told."""
        match event:
            case LeaseGiven():
                if len(self._parents) >= _LEASES_KEPT:
                    self._parents.clear()
                self._parents[event.lease.lease] = event.lease.parent
            case TaskTold():
                self._told = event.told
            case SupernodeUp():
                self._told = None
            case _:
                pass

    def came(self, piece: int, size: int, giver: Giver) -> bool:
        """A piece of so many bytes is here. False: it was before."""
        if piece in self._came:
            return False
        giver = self._givers.setdefault(giver, giver)
        self._came[piece] = (len(self._came), giver)
        self._totals[giver] = self._totals.get(giver, 0) + size
        return True

    def given_by(self, layout: PieceLayout, start: int, stop: int, since: Mark) -> dict[Giver, int]:
        """Bytes of [start, stop) by giver, `stop - start` in all. What was here at `since` is the disk's.

        Blocks of a piece that is not whole yet are of the parent that it has been granted from.
        """
        if stop <= start:
            return {}
        if start == 0 and stop == layout.length and len(self._came) == layout.piece_count:
            found = {giver: more for giver, size in self._totals.items() if (more := size - since.totals.get(giver, 0))}
        else:
            found = self._given_pieces(layout, start, stop, since)
        if left := stop - start - sum(found.values()):
            found[_STORE] = found.get(_STORE, 0) + left
        return found

    def _given_pieces(self, layout: PieceLayout, start: int, stop: int, since: Mark) -> dict[Giver, int]:
        found: dict[Giver, int] = {}
        for piece in range(start // layout.piece_length, -(-stop // layout.piece_length)):
            giver = self._giver_since(piece, since)
            if giver is not None:
                offset, size = layout.piece_span(piece)
                found[giver] = found.get(giver, 0) + min(stop, offset + size) - max(start, offset)
        return found

    def _giver_since(self, piece: int, since: Mark) -> Giver | None:
        came = self._came.get(piece)
        if came is not None:
            return came[1] if came[0] >= since.count else None
        parent = self._coming_from(piece)
        return (_kind(parent), parent) if parent else None

    def _coming_from(self, piece: int) -> str:
        lease = self.session.promised.get(piece) if self.session is not None else None
        return self._parents.get(lease, "") if lease is not None else ""

    def cause(self, piece: int) -> Cause:
        """What whoever wants the piece waits for just now."""
        session, told = self.session, self._told
        if session is None:
            return Cause.STORE
        match session.state:
            case SessionState.OPENING | SessionState.COMPLETE | SessionState.FAILED:
                return Cause.STORE
            case SessionState.REGISTERING:
                if told is None or not session.has_supernode:
                    return Cause.SUPERNODE
                return Cause.SEED_OPENS if told.length is None else Cause.STORE
            case SessionState.BACK_TO_SOURCE:
                # With nothing missing, what is here is only digested.
                return Cause.STORE if session.have is not None and session.have.is_full else Cause.SOURCE
            case SessionState.SWARMING:
                return self._swarming(session, piece)
            case _:
                assert_never(session.state)

    def _swarming(self, session: Session, piece: int) -> Cause:
        # The piece itself, or what was granted first and is in front of it.
        lease = session.promised.get(piece) or next(iter(session.promised.values()), None)
        if lease is not None:
            return Cause.SEED if _kind(self._parents.get(lease, "")) is Origin.SEED else Cause.PEERS
        cached = self._told is not None and self._told.state is TaskState.CACHED
        if session.have is not None and session.have.is_full:
            # The seed's digest is the last word; then only the journal is written.
            return Cause.STORE if cached else Cause.SEED_READS
        return Cause.SUPERNODE if cached or not session.has_supernode else Cause.SEED_READS


def _kind(parent: str) -> Origin:
    return Origin.SEED if is_seed_id(parent) else Origin.PEER
