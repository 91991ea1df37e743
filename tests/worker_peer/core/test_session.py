"""One download's decisions, as a play: what happens on the left, what is to be done on the right."""

from collections.abc import Iterator

import pytest

from tests.worker_peer.core.session_play import (
    AGAIN_S,
    BACK_S,
    DIGEST,
    LAYOUT,
    OTHER_DIGEST,
    OTHER_LAYOUT,
    PATIENCE_S,
    PLAYS,
    TASK,
    Play,
    back_to_source,
    complete,
    dead,
    digests_of,
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
from wire.messages import MAX_PIECES_PER_MESSAGE, Origin, PieceFailure, Task, TaskState
from wire.pieces import PieceLayout
from worker_peer.core.session import NO_SUPERNODE, SessionState
from worker_peer.core.session_effects import (
    Fail,
    FetchPieces,
    Finish,
    PrepareFile,
    ReadFromSource,
    ReportPieces,
)
from worker_peer.core.session_events import (
    LeaseGiven,
    PieceCame,
    PieceLost,
    SourceEnded,
    StoreOpened,
    StorePrepared,
    StoreRefused,
    SupernodeDown,
    SupernodeUp,
    TaskTold,
    Tick,
)


@pytest.fixture(autouse=True)
def every_play_is_over() -> Iterator[None]:
    """Nothing is done at a play's end that it does not say."""
    PLAYS.clear()
    yield
    assert PLAYS
    for play in PLAYS:
        play.over()


# -- opening and registering ------------------------------------------------------------------------------------------------


def test_a_new_content_is_registered_prepared_fetched_and_finished() -> None:
    play = Play() >> StoreOpened()
    play.over(SessionState.REGISTERING)
    play = play >> SupernodeUp() << register() >> told(None, TaskState.PROBING)
    play = play >> told(content_type="text/plain") << PrepareFile(layout=LAYOUT, content_type="text/plain")
    play.over(SessionState.REGISTERING)
    play = play >> empty() >> lease(0, 1) << fetch(0, 1) >> lease(2, 3, number=8) << fetch(2, 3, number=8)
    assert play.session.promised == {0: 7, 1: 7, 2: 8, 3: 8}
    for piece, number in ((1, 7), (0, 7), (3, 8)):
        play = play >> PieceCame(piece=piece, lease=number, rate=2.0) << reported((number, piece, 2.0))
    play = play >> PieceCame(piece=2, lease=8, rate=3.0) << reported((8, 2, 3.0))
    play.over(SessionState.SWARMING)  # all is here, but nobody has said that it is right
    play = play >> told(state=TaskState.CACHED, digest=DIGEST) << Finish(digest=DIGEST)
    play.over(SessionState.COMPLETE)
    assert play.session.next_deadline() is None


def test_a_content_that_comes_with_its_task_is_there_at_once() -> None:
    data = bytes(LAYOUT.length)
    play = Play() >> SupernodeUp() >> StoreOpened() << register()
    given = PrepareFile(layout=LAYOUT, content_type="", content=data, digest=DIGEST)
    play = play >> told(state=TaskState.CACHED, digest=DIGEST, content=data) << given
    whole = PieceSet.full(LAYOUT.piece_count)
    reports = reported(*((0, piece, 0.0) for piece in range(LAYOUT.piece_count)))
    (play >> StorePrepared(have=whole) << reports << Finish(digest=DIGEST)).over(SessionState.COMPLETE)


def test_a_content_that_could_not_be_taken_is_fetched() -> None:
    data = bytes(LAYOUT.length)
    play = Play() >> SupernodeUp() >> StoreOpened() << register()
    given = PrepareFile(layout=LAYOUT, content_type="", content=data, digest=DIGEST)
    play = play >> told(state=TaskState.CACHED, digest=DIGEST, content=data) << given >> empty()
    (play.at(play.now + AGAIN_S) >> Tick() << register()).over(SessionState.SWARMING)


@pytest.mark.parametrize(("content", "digest"), [(b"short", DIGEST), (bytes(LAYOUT.length), None)])
def test_a_content_of_another_length_or_without_its_digest_is_not_taken(content: bytes, digest: str | None) -> None:
    play = Play() >> SupernodeUp() >> StoreOpened() << register()
    (play >> told(digest=digest, content=content) << prepare()).over(SessionState.REGISTERING)


def test_a_supernode_that_is_up_first_hears_of_the_task_when_the_store_is_open() -> None:
    play = Play() >> SupernodeUp()
    play.over(SessionState.OPENING)
    (play >> StoreOpened() << register()).over(SessionState.REGISTERING)


def test_words_of_an_earlier_registration_are_not_taken_for_this_ones() -> None:
    play = Play() >> SupernodeUp() >> told() >> dead(ErrorCode.SOURCE_ERROR)
    play.over(SessionState.OPENING)
    (play >> StoreOpened() << register()).over(SessionState.REGISTERING)


def test_leases_that_come_before_the_file_is_ready_wait_for_it() -> None:
    play = Play() >> SupernodeUp() >> StoreOpened() << register() >> lease(1) >> told() << prepare() >> lease(0, number=8)
    (play >> empty() << fetch(1) << fetch(0, number=8)).over(SessionState.SWARMING)


def test_a_second_word_about_the_length_prepares_nothing_twice() -> None:
    play = Play() >> SupernodeUp() >> StoreOpened() << register() >> told() << prepare() >> told()
    play.over(SessionState.REGISTERING)


def test_a_supernode_that_is_up_and_says_nothing_is_none() -> None:
    play = Play() >> StoreOpened()
    play = play.at(0.5) >> SupernodeUp() << register()
    assert play.session.next_deadline() == 0.5 + PATIENCE_S
    play = play.at(0.5 + PATIENCE_S) >> Tick()
    effect = play.only()
    assert isinstance(effect, Fail)
    assert effect.code is ErrorCode.NO_SUPERNODE


def test_a_supernode_that_knows_no_length_yet_is_asked_again() -> None:
    play = Play() >> StoreOpened() >> SupernodeUp() << register()
    play = play.at(0.5) >> told(None, TaskState.PROBING)
    assert play.session.next_deadline() == 0.5 + AGAIN_S
    play = play.at(0.4 + AGAIN_S) >> Tick()
    play = play.at(0.5 + AGAIN_S) >> Tick() << register()
    assert play.session.next_deadline() == 0.5 + 2 * AGAIN_S
    play = play.at(7.0) >> told(None, TaskState.PROBING)
    assert play.session.next_deadline() == 7.0 + AGAIN_S


def test_a_slow_look_into_the_store_is_not_the_supernodes_fault() -> None:
    play = (Play() >> SupernodeUp()).at(30.0) >> StoreOpened() << register()
    assert play.session.next_deadline() == 30.0 + PATIENCE_S
    down = Play().at(30.0) >> StoreOpened()
    assert down.session.next_deadline() == 30.0 + PATIENCE_S


def test_without_a_supernode_it_fails_when_patience_ends() -> None:
    play = Play() >> StoreOpened()
    assert play.session.next_deadline() == PATIENCE_S
    play = play.at(PATIENCE_S - 0.01) >> Tick()
    play.over(SessionState.REGISTERING)
    play = play.at(PATIENCE_S) >> Tick()
    play << Fail(code=ErrorCode.NO_SUPERNODE, message=NO_SUPERNODE)
    play.over(SessionState.FAILED)
    assert play.session.next_deadline() is None


def test_patience_begins_anew_when_a_supernode_goes() -> None:
    play = Play() >> StoreOpened() >> SupernodeUp() << register()
    play = play.at(20.0) >> SupernodeDown()
    play = play.at(20.5) >> SupernodeDown()
    assert play.session.next_deadline() == 20.0 + PATIENCE_S


def test_nothing_happens_after_a_failure() -> None:
    play = swarming() >> StoreRefused(code=ErrorCode.STORE_FULL, message="full")
    play << Fail(code=ErrorCode.STORE_FULL, message="full")
    play = play >> lease(0) >> told() >> PieceCame(piece=0) >> SupernodeUp() >> Tick()
    play.over(SessionState.FAILED)
    assert play.session.promised == {}


def test_a_cut_that_cannot_be_is_the_supernodes_fault() -> None:
    play = Play() >> SupernodeUp() >> StoreOpened() << register()
    play = play >> TaskTold(told=Task(task=TASK, state=TaskState.CACHING, length=10, piece_length=0, block_length=0))
    effect = play.only()
    assert isinstance(effect, Fail)
    assert effect.code is ErrorCode.INTERNAL


# -- what the store holds ---------------------------------------------------------------------------------------------------


def test_a_whole_content_under_its_digest_is_complete_at_once_and_offered() -> None:
    play = Play(DIGEST) >> opened(0, 1, 2, 3, digest=DIGEST) << Finish(digest=DIGEST)
    play.over(SessionState.COMPLETE)
    (play >> SupernodeUp() << register(0, 1, 2, 3, serves_only=True)).over(SessionState.COMPLETE)
    known = Play(DIGEST) >> SupernodeUp() >> opened(0, 1, 2, 3, digest=DIGEST)
    known << register(0, 1, 2, 3, serves_only=True) << Finish(digest=DIGEST)


def test_stored_pieces_under_a_digest_count_at_once() -> None:
    play = Play(DIGEST) >> SupernodeUp() >> opened(1, 2) << register(1, 2) >> told()
    play.over(SessionState.SWARMING)
    play = play >> lease(0, 1) << reported((7, 1, 0.0)) << fetch(0)
    assert play.session.promised == {0: 7}


def test_stored_pieces_of_another_cut_go() -> None:
    play = Play(DIGEST) >> SupernodeUp() >> opened(1, 2) << register(1, 2) >> told(OTHER_LAYOUT)
    play = play << prepare(layout=OTHER_LAYOUT) >> StorePrepared(have=PieceSet(5))
    play.over(SessionState.SWARMING)
    assert play.session.have == PieceSet(5)


def test_stored_pieces_of_a_url_count_only_when_a_lease_says_the_same() -> None:
    play = Play() >> SupernodeUp() >> opened(0, 1, 2) << register() >> told()
    play.over(SessionState.SWARMING)
    changed = digests_of(0) + b"another content".ljust(128)
    play = play >> lease(0, 1, digests=changed) << reported((7, 0, 0.0))
    effect = play.only()
    assert isinstance(effect, FetchPieces)
    assert effect.pieces == (1,)
    assert play.session.have == PieceSet.of(4, [0])


def test_stored_pieces_of_a_url_all_count_when_the_whole_has_the_same_digest() -> None:
    play = Play() >> SupernodeUp() >> opened(0, 1, 2, 3, digest=DIGEST) << register()
    play = play >> told(state=TaskState.CACHED, digest=DIGEST)
    play << reported(*((0, piece, 0.0) for piece in range(4))) << Finish(digest=DIGEST)
    play.over(SessionState.COMPLETE)


def test_a_finished_content_of_a_url_goes_when_the_whole_is_another_or_not_known() -> None:
    for news in (told(), told(state=TaskState.CACHED, digest=OTHER_DIGEST)):
        play = Play() >> SupernodeUp() >> opened(0, 1, 2, 3, digest=DIGEST) << register() >> news << prepare() >> empty()
        play = play >> lease(0) << fetch(0)
        play.over(SessionState.SWARMING)


def test_a_lease_that_waited_is_looked_at_when_a_stored_file_is_taken() -> None:
    play = Play() >> SupernodeUp() >> opened(1) << register() >> lease(1, 2)
    (play >> told() << reported((7, 1, 0.0)) << fetch(2)).over(SessionState.SWARMING)


def test_many_adopted_pieces_are_reported_in_several_messages() -> None:
    count = MAX_PIECES_PER_MESSAGE + 1
    layout = PieceLayout(count * 1024, 1024, 1024)
    whole = StoreOpened(
        layout=layout, have=PieceSet.full(count), piece_digests={piece: bytes(32) for piece in range(count)}, digest=DIGEST
    )
    play = Play() >> SupernodeUp() >> whole << register() >> told(layout, TaskState.CACHED, digest=DIGEST)
    play << reported(*((0, piece, 0.0) for piece in range(MAX_PIECES_PER_MESSAGE)))
    play << reported((0, MAX_PIECES_PER_MESSAGE, 0.0)) << Finish(digest=DIGEST)


# -- the swarm --------------------------------------------------------------------------------------------------------------


def test_a_lost_piece_is_reported_and_may_be_granted_again() -> None:
    play = swarming() >> lease(0, 1) << fetch(0, 1)
    play = play >> PieceLost(piece=0, lease=7, failure=PieceFailure.GONE) << ReportPieces(failed=((7, 0, PieceFailure.GONE),))
    assert play.session.promised == {1: 7}
    play = play >> lease(0, number=9) << fetch(0, number=9)
    play = play >> PieceLost(piece=0, lease=7, failure=PieceFailure.STALLED)
    play << ReportPieces(failed=((7, 0, PieceFailure.STALLED),))
    assert play.session.promised == {0: 9, 1: 7}


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(lease(0, 4, digests=digests_of(0) * 2), id="a piece past the end"),
        pytest.param(lease(0, 1, digests=digests_of(0)), id="too few digests"),
        pytest.param(lease(0, digests=digests_of(0) * 2), id="too many digests"),
    ],
)
def test_a_lease_that_is_nonsense_changes_nothing(bad: LeaseGiven) -> None:
    play = Play() >> SupernodeUp() >> opened(0) << register() >> told() >> bad
    play.over(SessionState.SWARMING)
    assert play.session.promised == {}
    assert play.session.have == PieceSet(4)


def test_a_lease_after_the_end_is_answered_with_what_is_here() -> None:
    play = complete() >> lease(1, 3, number=9) << reported((9, 1, 0.0), (9, 3, 0.0))
    play = play >> lease(9, number=9, digests=bytes(128))
    play.over(SessionState.COMPLETE)


def test_a_piece_that_is_none_of_the_contents_is_nobodys() -> None:
    play = swarming() >> PieceCame(piece=4)
    play.over()
    (Play() >> PieceCame(piece=0)).over(SessionState.OPENING)


def test_another_digest_than_the_wanted_one_fails_and_discards() -> None:
    play = swarming(DIGEST) >> told(digest=OTHER_DIGEST)
    effect = play.only()
    assert isinstance(effect, Fail)
    assert (effect.code, effect.discard) == (ErrorCode.DIGEST_MISMATCH, True)
    assert DIGEST in effect.message
    assert OTHER_DIGEST in effect.message


def test_another_cut_in_mid_download_fails_and_discards() -> None:
    play = swarming() >> told(OTHER_LAYOUT)
    effect = play.only()
    assert isinstance(effect, Fail)
    assert (effect.code, effect.discard) == (ErrorCode.SOURCE_CHANGED, True)


def test_words_about_a_complete_task_change_nothing() -> None:
    play = complete() >> told(OTHER_LAYOUT) >> dead(ErrorCode.SOURCE_NOT_FOUND) >> SourceEnded(code=ErrorCode.INTERNAL) >> Tick()
    play.over(SessionState.COMPLETE)


def test_a_supernode_that_is_back_hears_what_is_here() -> None:
    play = swarming() >> PieceCame(piece=1, lease=7) << reported((7, 1, 0.0)) >> SupernodeDown() >> SupernodeUp()
    (play << register(1)).over(SessionState.SWARMING)
    (complete() >> SupernodeDown() >> SupernodeUp() << register(0, 1, 2, 3, serves_only=True)).over()


# -- a task that is dead ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "discard"),
    [(ErrorCode.SOURCE_NOT_FOUND, False), (ErrorCode.DIGEST_MISMATCH, True), (ErrorCode.SOURCE_CHANGED, True)],
)
def test_a_dead_task_of_which_nothing_is_here_fails_with_the_sources_answer(code: ErrorCode, discard: bool) -> None:
    play = swarming() >> dead(code, 404, "gone")
    (play << Fail(code=code, message="gone", status=404, discard=discard)).over(SessionState.FAILED)


def test_a_dead_task_without_a_reason_fails_all_the_same() -> None:
    (swarming() >> dead(None) << Fail(code=ErrorCode.INTERNAL, message="no")).over(SessionState.FAILED)


def test_a_dead_task_of_which_something_is_here_goes_on_from_the_source() -> None:
    play = swarming() >> PieceCame(piece=0) << reported((0, 0, 0.0)) >> dead(ErrorCode.NO_SEED)
    play << ReadFromSource(pieces=PieceSet.of(4, (1, 2, 3)), digest=None)
    play = play >> dead(ErrorCode.NO_SEED)
    play.over(SessionState.BACK_TO_SOURCE)


def test_a_content_that_is_known_to_be_wrong_goes_whatever_is_here() -> None:
    play = swarming() >> PieceCame(piece=0) << reported((0, 0, 0.0)) >> dead(ErrorCode.DIGEST_MISMATCH)
    (play << Fail(code=ErrorCode.DIGEST_MISMATCH, message="no", discard=True)).over(SessionState.FAILED)
    play = back_to_source() >> dead(ErrorCode.SOURCE_CHANGED)
    (play << Fail(code=ErrorCode.SOURCE_CHANGED, message="no", discard=True)).over(SessionState.FAILED)


# -- back to source ---------------------------------------------------------------------------------------------------------


def test_peers_go_on_without_a_supernode_until_nothing_is_promised_any_more() -> None:
    play = swarming() >> lease(0) << fetch(0)
    play = play.at(10.0) >> SupernodeDown()
    assert play.session.next_deadline() is None
    play = play.at(99.0) >> Tick()
    play.over(SessionState.SWARMING)
    play = play >> PieceCame(piece=0, lease=7) << reported((7, 0, 0.0))
    assert play.session.next_deadline() == 10.0 + BACK_S
    (play >> Tick() << ReadFromSource(pieces=PieceSet.of(4, (1, 2, 3)), digest=None)).over(SessionState.BACK_TO_SOURCE)


@pytest.mark.parametrize(("wanted", "said"), [(DIGEST, None), (None, DIGEST)])
def test_the_digest_goes_with_the_reading(wanted: str | None, said: str | None) -> None:
    play = swarming(wanted) >> told(digest=said) >> SupernodeDown()
    play.at(BACK_S) >> Tick() << ReadFromSource(pieces=PieceSet.full(4), digest=DIGEST)


def test_a_file_that_is_ready_after_the_supernode_went_is_filled_from_the_source() -> None:
    play = Play() >> SupernodeUp() >> StoreOpened() << register() >> told() << prepare() >> SupernodeDown()
    play = play.at(BACK_S) >> empty() << ReadFromSource(pieces=PieceSet.full(4), digest=None)
    play.over(SessionState.BACK_TO_SOURCE)


def test_what_the_source_gives_completes_the_content() -> None:
    play = back_to_source()
    for piece in (0, 1, 3):
        play = play >> PieceCame(piece=piece, origin=Origin.SOURCE) << reported((0, piece, 0.0))
    play.over(SessionState.BACK_TO_SOURCE)
    play = play >> lease(0, number=9) << reported((9, 0, 0.0))
    (play >> SourceEnded(digest=DIGEST) << Finish(digest=DIGEST)).over(SessionState.COMPLETE)


def test_a_supernode_that_is_back_does_not_stop_the_source() -> None:
    play = (
        back_to_source()
        >> SupernodeUp()
        << register(2)
        >> lease(0)
        >> told()
        >> PieceLost(piece=0, lease=7, failure=PieceFailure.GONE)
    )
    play << ReportPieces(failed=((7, 0, PieceFailure.GONE),))
    assert play.session.next_deadline() is None
    play.over(SessionState.BACK_TO_SOURCE)


@pytest.mark.parametrize(
    ("ended", "discard"),
    [
        (SourceEnded(code=ErrorCode.SOURCE_NOT_FOUND, status=404, message="gone"), False),
        (SourceEnded(code=ErrorCode.DIGEST_MISMATCH, message="wrong"), True),
        (SourceEnded(code=ErrorCode.SOURCE_CHANGED, message="changed"), True),
        (SourceEnded(message="no digest"), False),
    ],
)
def test_a_source_that_fails_ends_the_download(ended: SourceEnded, discard: bool) -> None:
    play = back_to_source() >> ended
    play << Fail(code=ended.code or ErrorCode.INTERNAL, message=ended.message, status=ended.status, discard=discard)
    play.over(SessionState.FAILED)


def test_a_tick_too_many_does_nothing() -> None:
    (back_to_source() >> Tick()).over(SessionState.BACK_TO_SOURCE)
    (swarming() >> Tick()).over(SessionState.SWARMING)


def test_validate_sees_a_promise_of_what_is_here() -> None:
    play = swarming() >> PieceCame(piece=0) << reported((0, 0, 0.0))
    play.session.promised[0] = 7
    with pytest.raises(AssertionError):
        play.session.validate()
