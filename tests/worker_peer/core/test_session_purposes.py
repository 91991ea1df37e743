"""What a download is for decides how far it goes: an offer brings nothing here, a warming never reads the source."""

import pytest

from tests.worker_peer.core.session_play import (
    BACK_S,
    DIGEST,
    Play,
    dead,
    empty,
    fetch,
    lease,
    opened,
    prepare,
    register,
    reported,
    swarming,
    told,
)
from wire.bitmap import PieceSet
from wire.errors import ErrorCode
from wire.messages import TaskState
from worker_peer.core.session import NOT_WHOLE, SessionState
from worker_peer.core.session_effects import Fail, Finish, ReadFromSource
from worker_peer.core.session_events import (
    PieceCame,
    Purpose,
    PurposeChanged,
    StoreOpened,
    SupernodeDown,
    SupernodeUp,
    Tick,
)


def test_a_warming_comes_through_the_swarm_as_any_download() -> None:
    play = Play() >> PurposeChanged(Purpose.WARM) >> SupernodeUp() >> StoreOpened() << register() >> told() << prepare()
    play = play >> empty() >> lease(0, 1, 2, 3) << fetch(0, 1, 2, 3) >> told(state=TaskState.CACHED, digest=DIGEST)
    for piece in range(4):
        play = play >> PieceCame(piece=piece, lease=7) << reported((7, piece, 0.0))
    (play << Finish(digest=DIGEST)).over(SessionState.COMPLETE)


def test_a_warming_without_a_supernode_waits_for_it_until_somebody_waits_for_the_content() -> None:
    play = swarming() >> PurposeChanged(Purpose.WARM) >> PieceCame(piece=2, lease=7) << reported((7, 2, 0.0))
    play = play >> SupernodeDown()
    assert play.session.next_deadline() is None
    play = play.at(3600.0) >> Tick()
    play.over(SessionState.SWARMING)
    play = play >> PurposeChanged(Purpose.READ)
    assert play.session.next_deadline() == BACK_S
    play = play >> Tick() << ReadFromSource(pieces=PieceSet.of(4, (0, 1, 3)), digest=None)
    play.over(SessionState.BACK_TO_SOURCE)


def test_a_warming_goes_on_where_it_was_when_the_supernode_is_back() -> None:
    play = swarming() >> PurposeChanged(Purpose.WARM) >> PieceCame(piece=2, lease=7) << reported((7, 2, 0.0))
    play = play >> SupernodeDown() >> SupernodeUp() << register(2) >> lease(0) << fetch(0)
    play.over(SessionState.SWARMING)


def test_a_dead_task_ends_a_warming_with_the_sources_answer_and_keeps_what_came() -> None:
    play = swarming() >> PurposeChanged(Purpose.WARM) >> PieceCame(piece=2, lease=7) << reported((7, 2, 0.0))
    play = play >> dead(ErrorCode.SOURCE_ERROR, 502) << Fail(code=ErrorCode.SOURCE_ERROR, status=502, message="no")
    play.over(SessionState.FAILED)


def test_pieces_by_two_supernodes_are_digested_by_a_warming_too() -> None:
    play = Play() >> PurposeChanged(Purpose.WARM) >> SupernodeUp("one") >> StoreOpened() << register() >> told() << prepare()
    play = play >> empty() >> PieceCame(piece=0) << reported((0, 0, 0.0)) >> SupernodeUp("two") << register(0)
    for piece in (1, 2, 3):
        play = play >> PieceCame(piece=piece) << reported((0, piece, 0.0))
    play = play >> told(state=TaskState.CACHED, digest=DIGEST) << ReadFromSource(pieces=PieceSet(4), digest=DIGEST)
    play.over(SessionState.BACK_TO_SOURCE)


def test_an_offer_serves_what_is_whole() -> None:
    play = Play(DIGEST) >> PurposeChanged(Purpose.OFFER) >> SupernodeUp() >> opened(0, 1, 2, 3, digest=DIGEST)
    (play << register(0, 1, 2, 3, serves_only=True) << Finish(digest=DIGEST)).over(SessionState.COMPLETE)


@pytest.mark.parametrize("found", [StoreOpened(), opened(0, 1), opened(0, 1, 2, 3)])
def test_an_offer_of_what_is_not_whole_asks_for_nothing(found: StoreOpened) -> None:
    play = Play(DIGEST) >> PurposeChanged(Purpose.OFFER) >> SupernodeUp() >> found
    (play << Fail(code=ErrorCode.CANCELLED, message=NOT_WHOLE)).over(SessionState.FAILED)


def test_who_wants_what_was_only_to_be_offered_gets_it() -> None:
    play = Play(DIGEST) >> PurposeChanged(Purpose.OFFER) >> SupernodeUp() >> PurposeChanged(Purpose.READ) >> opened(0)
    play = play << register(0) >> told() >> lease(1) << fetch(1)
    play.over(SessionState.SWARMING)
