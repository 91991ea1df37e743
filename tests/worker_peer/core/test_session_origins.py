"""Pieces of two origins in one file: this peer's earlier run, or two runs of supernodes. The whole is digested before it counts.

A supernode vouches for the pieces by what its seed has read; of what came by another's word it knows nothing.
"""

from collections.abc import Iterator

import pytest

from tests.worker_peer.core.session_play import (
    BACK_S,
    DIGEST,
    LAYOUT,
    OTHER_DIGEST,
    PLAYS,
    Play,
    complete,
    dead,
    empty,
    fetch,
    lease,
    opened,
    prepare,
    register,
    reported,
    told,
)
from wire.bitmap import PieceSet
from wire.errors import ErrorCode
from wire.messages import TaskState
from worker_peer.core.session import SessionState
from worker_peer.core.session_effects import Fail, Finish, ReadFromSource
from worker_peer.core.session_events import PieceCame, SourceEnded, StoreOpened, SupernodeDown, SupernodeUp, Tick

CACHED = told(state=TaskState.CACHED, digest=DIGEST)
#: Nothing is missing: only digested.
CHECK = ReadFromSource(pieces=PieceSet(LAYOUT.piece_count), digest=DIGEST)


@pytest.fixture(autouse=True)
def every_play_is_over() -> Iterator[None]:
    """Nothing is done at a play's end that it does not say."""
    PLAYS.clear()
    yield
    assert PLAYS
    for play in PLAYS:
        play.over()


def begun(run: str = "run-1") -> Play:
    """A download of a URL with an empty file and a supernode of this run."""
    play = Play() >> SupernodeUp(run) >> StoreOpened() << register() >> told() << prepare() >> empty()
    return play.over(SessionState.SWARMING)


def rest(play: Play, *pieces: int) -> Play:
    """The other pieces come."""
    for piece in pieces:
        play = play.over() >> PieceCame(piece=piece, lease=7) << reported((7, piece, 0.0))
    return play


def resumed(*have: int) -> Play:
    """A download under a digest of which an earlier run has left something."""
    return Play(DIGEST) >> SupernodeUp("run-1") >> opened(*have) << register(*have) >> CACHED


# -- an earlier run of this peer --------------------------------------------------------------------------------------------


def test_what_an_earlier_run_left_is_digested_with_the_rest_before_it_counts() -> None:
    play = rest(resumed(1, 2), 0, 3) << CHECK
    play.over(SessionState.BACK_TO_SOURCE)
    assert play.session.next_deadline() is None
    (play >> SourceEnded(digest=DIGEST) << Finish(digest=DIGEST)).over(SessionState.COMPLETE)


def test_what_an_earlier_run_left_and_is_wrong_goes() -> None:
    play = rest(resumed(1, 2), 0, 3) << CHECK >> SourceEnded(code=ErrorCode.DIGEST_MISMATCH, message="wrong")
    (play << Fail(code=ErrorCode.DIGEST_MISMATCH, message="wrong", discard=True)).over(SessionState.FAILED)


@pytest.mark.parametrize("digest", [None, OTHER_DIGEST])
def test_all_pieces_of_an_earlier_run_without_the_right_digest_are_not_the_content_yet(digest: str | None) -> None:
    play = Play(DIGEST) >> SupernodeUp("run-1") >> opened(0, 1, 2, 3, digest=digest) << register(0, 1, 2, 3)
    play.over(SessionState.REGISTERING)
    (play >> CACHED << CHECK).over(SessionState.BACK_TO_SOURCE)


def test_an_earlier_run_that_left_no_piece_makes_no_difference() -> None:
    play = Play(DIGEST) >> SupernodeUp("run-1") >> opened() << register() >> CACHED
    (rest(play, 0, 1, 2, 3) << Finish(digest=DIGEST)).over(SessionState.COMPLETE)


def test_pieces_of_a_url_that_a_lease_has_confirmed_need_no_digest() -> None:
    play = Play() >> SupernodeUp("run-1") >> opened(0, 1) << register() >> CACHED >> lease(0, 1)
    play = play << reported((7, 0, 0.0), (7, 1, 0.0))
    (rest(play, 2, 3) << Finish(digest=DIGEST)).over(SessionState.COMPLETE)


# -- two runs of supernodes -------------------------------------------------------------------------------------------------


def test_pieces_by_two_supernodes_words_are_digested_before_they_count() -> None:
    play = rest(begun(), 0) >> SupernodeDown() >> SupernodeUp("run-2") << register(0) >> CACHED
    play = rest(play, 1, 2, 3) << CHECK
    play.over(SessionState.BACK_TO_SOURCE)
    (play >> SourceEnded(digest=DIGEST) << Finish(digest=DIGEST)).over(SessionState.COMPLETE)


def test_a_supernode_that_has_only_lost_sight_of_us_is_believed() -> None:
    play = rest(begun(), 0) >> SupernodeDown() >> SupernodeUp("run-1") << register(0) >> CACHED
    (rest(play, 1, 2, 3) << Finish(digest=DIGEST)).over(SessionState.COMPLETE)


def test_another_supernode_before_anything_was_granted_is_believed() -> None:
    play = begun() >> SupernodeUp("run-2") << register() >> CACHED
    (rest(play, 0, 1, 2, 3) << Finish(digest=DIGEST)).over(SessionState.COMPLETE)


def test_the_first_run_again_does_not_make_it_good() -> None:
    play = rest(begun(), 0) >> SupernodeUp("run-2") << register(0)
    play = rest(play, 1) >> SupernodeUp("run-1") << register(0, 1) >> CACHED
    (rest(play, 2, 3) << CHECK).over(SessionState.BACK_TO_SOURCE)


def test_a_piece_granted_by_the_former_and_come_under_the_next_counts_as_the_formers() -> None:
    play = begun() >> lease(0) << fetch(0) >> SupernodeUp("run-2") << register() >> CACHED
    (rest(play, 0, 1, 2, 3) << CHECK).over(SessionState.BACK_TO_SOURCE)


def test_a_lease_of_the_former_that_waits_for_the_file_counts_as_the_formers() -> None:
    play = Play() >> SupernodeUp("run-1") >> StoreOpened() << register() >> lease(0) >> SupernodeUp("run-2") << register()
    play = play >> CACHED << prepare() >> empty() << fetch(0)
    (rest(play, 0, 1, 2, 3) << CHECK).over(SessionState.BACK_TO_SOURCE)


def test_what_is_complete_stays_so_under_the_next_supernode() -> None:
    play = complete() >> SupernodeUp("run-2") << register(0, 1, 2, 3, serves_only=True)
    play = play >> SupernodeUp("run-3") << register(0, 1, 2, 3, serves_only=True) >> CACHED
    play.over(SessionState.COMPLETE)


# -- while it is digested ---------------------------------------------------------------------------------------------------


def test_while_it_is_digested_the_supernodes_words_change_nothing_but_that_it_is_wrong() -> None:
    play = rest(resumed(1, 2), 0, 3) << CHECK >> CACHED >> SupernodeDown() >> Tick() >> dead(ErrorCode.NO_SEED)
    play = play.over(SessionState.BACK_TO_SOURCE) >> lease(0, number=9) << reported((9, 0, 0.0))
    play = play >> dead(ErrorCode.DIGEST_MISMATCH)
    (play << Fail(code=ErrorCode.DIGEST_MISMATCH, message="no", discard=True)).over(SessionState.FAILED)


def test_without_a_supernode_the_rest_of_a_resumed_content_and_its_digest_are_the_sources() -> None:
    play = resumed(1, 2) >> SupernodeDown()
    play = play.at(BACK_S) >> Tick() << ReadFromSource(pieces=PieceSet.of(4, (0, 3)), digest=DIGEST)
    play = rest(play, 0, 3).over(SessionState.BACK_TO_SOURCE)
    (play >> SourceEnded(digest=DIGEST) << Finish(digest=DIGEST)).over(SessionState.COMPLETE)
