"""Who gave which piece to whom, and what a reader waits for."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.worker_peer.core.session_play import DIGEST, LAYOUT, TASK, dead, empty, lease, opened, told
from wire.bitmap import PieceSet
from wire.errors import ErrorCode
from wire.messages import Lease, Origin, PieceFailure, TaskState
from wire.pieces import PieceLayout
from worker_peer.core import provenance
from worker_peer.core.causes import Cause, Giver
from worker_peer.core.provenance import Provenance
from worker_peer.core.session import Session, SessionSettings
from worker_peer.core.session_events import (
    Event,
    LeaseGiven,
    PieceCame,
    PieceLost,
    SourceEnded,
    StoreOpened,
    SupernodeDown,
    SupernodeUp,
    Tick,
)

_SEED, _PEER = (Origin.SEED, "cdnnode:10.0.0.1"), (Origin.PEER, "10.0.0.2-1-1.0")
_STORE: Giver = (Origin.DISK, "")


class Watched:
    """A session and what follows it."""

    def __init__(self, wanted: str | None = DIGEST) -> None:
        settings = SessionSettings(supernode_patience_s=1.0, back_to_source_after_s=3.0)
        self.session = Session(TASK, wanted_digest=wanted, settings=settings, now=0.0)
        self.provenance = Provenance()
        self.provenance.session = self.session

    def happens(self, *events: Event, now: float = 0.0) -> "Watched":
        for event in events:
            self.session.handle(event, now)
            self.provenance.happened(event)
        return self

    def waits_for(self, piece: int = 0) -> Cause:
        return self.provenance.cause(piece)


def _lease(*pieces: int, number: int, parent: str) -> LeaseGiven:
    made = lease(*pieces, number=number).lease
    return LeaseGiven(
        lease=Lease(
            task=TASK, lease=number, parent=parent, endpoint=made.endpoint, pieces=pieces, digests=made.digests, until_s=10.0
        )
    )  # fmt: skip


def test_a_reader_waits_for_one_thing_after_the_other() -> None:
    watched = Watched()
    assert watched.waits_for() is Cause.STORE
    watched.happens(StoreOpened())
    assert watched.waits_for() is Cause.SUPERNODE
    watched.happens(SupernodeUp("run"))
    assert watched.waits_for() is Cause.SUPERNODE
    watched.happens(told(None, TaskState.PROBING))
    assert watched.waits_for() is Cause.SEED_OPENS
    watched.happens(told())
    assert watched.waits_for() is Cause.STORE, "its file is made"
    watched.happens(empty())
    assert watched.waits_for() is Cause.SEED_READS
    watched.happens(_lease(1, number=7, parent=_SEED[1]))
    assert watched.waits_for(1) is Cause.SEED
    assert watched.waits_for(0) is Cause.SEED, "what is in front of it"
    watched.happens(_lease(0, number=8, parent=_PEER[1]))
    assert watched.waits_for(0) is Cause.PEERS
    assert watched.waits_for(1) is Cause.SEED
    watched.happens(PieceLost(piece=1, lease=7, failure=PieceFailure.STALLED), PieceCame(piece=0, lease=8))
    assert watched.waits_for(1) is Cause.SEED_READS
    watched.happens(told(state=TaskState.CACHED, digest=DIGEST))
    assert watched.waits_for(1) is Cause.SUPERNODE, "somebody has it, and nothing is granted"


def test_the_end_waits_for_the_seeds_last_word() -> None:
    watched = Watched().happens(StoreOpened(), SupernodeUp("run"), told(), empty())
    watched.happens(*(PieceCame(piece=piece) for piece in range(LAYOUT.piece_count)))
    assert watched.waits_for() is Cause.SEED_READS
    watched.happens(told(state=TaskState.CACHED, digest=DIGEST))
    assert watched.waits_for() is Cause.STORE


def test_a_whole_content_whose_digest_is_known_waits_for_the_disk() -> None:
    watched = Watched(None).happens(StoreOpened(), SupernodeUp("run"), told(), empty())
    watched.session.verdict = None
    watched.happens(*(PieceCame(piece=piece) for piece in range(LAYOUT.piece_count)))
    watched.provenance.happened(told(state=TaskState.CACHED))
    assert watched.waits_for() is Cause.STORE


def test_without_a_supernode_it_is_waited_for_and_then_the_source() -> None:
    watched = Watched().happens(StoreOpened(), SupernodeUp("run"), told(None, TaskState.PROBING), SupernodeDown())
    assert watched.waits_for() is Cause.SUPERNODE
    watched.happens(SupernodeUp("run"))
    assert watched.waits_for() is Cause.SUPERNODE, "what it said before does not count"
    watched.happens(told(), empty(), SupernodeDown())
    assert watched.waits_for() is Cause.SUPERNODE
    watched.happens(Tick(), now=9.0)
    assert watched.waits_for() is Cause.SOURCE
    watched.happens(*(PieceCame(piece=piece) for piece in range(LAYOUT.piece_count)), now=9.0)
    assert watched.waits_for() is Cause.STORE, "it is only digested"
    watched.happens(SourceEnded(digest=DIGEST), now=9.0)
    assert watched.waits_for() is Cause.STORE


def test_what_is_stored_or_has_failed_waits_for_nobody_else() -> None:
    assert Provenance().cause(3) is Cause.STORE
    whole = Watched().happens(opened(*range(LAYOUT.piece_count), digest=DIGEST))
    assert whole.waits_for() is Cause.STORE
    failed = Watched().happens(StoreOpened(), SupernodeUp("run"), dead(ErrorCode.SOURCE_NOT_FOUND))
    assert failed.waits_for() is Cause.STORE


# -- bytes ----------------------------------------------------------------------------------------------------------------


def test_bytes_are_of_who_gave_them_since_a_reader_came() -> None:
    seen = Provenance()
    begin = seen.mark()
    assert seen.came(0, 4096, _SEED)
    assert not seen.came(0, 4096, _PEER)
    later = seen.mark()
    assert seen.came(2, 4096, _PEER)
    assert seen.came(1, 4096, _SEED)
    assert seen.given_by(LAYOUT, 0, 3 * 4096, begin) == {_SEED: 8192, _PEER: 4096}
    assert seen.given_by(LAYOUT, 0, 3 * 4096, later) == {_STORE: 4096, _SEED: 4096, _PEER: 4096}
    assert seen.given_by(LAYOUT, 4000, 4196, later) == {_STORE: 96, _SEED: 100}
    assert seen.given_by(LAYOUT, 5, 5, later) == {}
    assert seen.came(3, 4096, _PEER)
    assert seen.given_by(LAYOUT, 0, LAYOUT.length, later) == {_STORE: 4096, _SEED: 4096, _PEER: 8192}
    assert seen.given_by(LAYOUT, 0, LAYOUT.length, seen.mark()) == {_STORE: LAYOUT.length}


def test_a_piece_under_way_is_of_the_parent_that_it_was_granted_from() -> None:
    watched = Watched().happens(StoreOpened(), SupernodeUp("run"), told(), empty(), _lease(0, number=7, parent=_PEER[1]))
    assert watched.provenance.given_by(LAYOUT, 0, 5000, watched.provenance.mark()) == {_PEER: 4096, _STORE: 904}


@pytest.mark.parametrize("kept", [4096, 1])
def test_the_parents_of_so_many_leases_are_known(kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "_LEASES_KEPT", kept)
    watched = Watched().happens(StoreOpened(), SupernodeUp("run"), told(), empty())
    watched.happens(_lease(0, number=7, parent=_SEED[1]), _lease(1, number=8, parent=_SEED[1]))
    assert watched.waits_for(1) is Cause.SEED
    assert watched.waits_for(0) is (Cause.SEED if kept > 1 else Cause.PEERS)


_GIVERS = st.sampled_from([_SEED, _PEER, (Origin.PEER, "other"), (Origin.DISK, ""), (Origin.SOURCE, "x")])


@given(
    length=st.integers(1, 640),
    came=st.lists(st.tuples(st.integers(0, 9), _GIVERS), max_size=20),
    mark_at=st.integers(0, 20),
    span=st.tuples(st.integers(0, 640), st.integers(0, 640)),
)
def test_the_bytes_make_up_what_was_read(length: int, came: list[tuple[int, Any]], mark_at: int, span: tuple[int, int]) -> None:
    layout, seen = PieceLayout(length, 64, 16), Provenance()
    mark, expected, have = seen.mark(), dict[int, Giver](), PieceSet(layout.piece_count)
    for number, (piece, giver) in enumerate(came):
        if number == mark_at:
            mark, expected = seen.mark(), {}
        if piece < layout.piece_count and seen.came(piece, layout.piece_span(piece)[1], giver):
            expected[piece] = giver
            have.add(piece)
    start, stop = min(span[0], length), min(max(span), length)
    for begin, end in ((start, stop), (0, length)):
        found = seen.given_by(layout, begin, end, mark)
        assert sum(found.values()) == max(0, end - begin)
        by_hand: dict[Giver, int] = {}
        for at in range(begin, end):
            giver = expected.get(at // 64, _STORE)
            by_hand[giver] = by_hand.get(giver, 0) + 1
        assert found == by_hand
