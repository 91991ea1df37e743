"""Small contents: one answer instead of a fetch, to whom it helps, and within a bound."""

from hypothesis import given
from hypothesis import strategies as st

from broker.core.effects import Tell
from broker.core.events import Event, PeerGone, TaskDropped
from broker.core.scheduler import Scheduler
from broker.core.small_contents import SmallContents
from tests.support.broker_words import (
    CONTENT_DIGEST,
    OTHER_DIGEST,
    PIECE,
    SEED,
    TASK,
    done,
    greeted,
    leased,
    leases_in,
    register,
    said,
    scheduler,
    seed_greeted,
    seeded,
    told,
)
from tests.support.playbook import At, Playbook
from wire.messages import Fetch, Leave, LeaveReason, Task, TaskState
from wire.pieces import PieceLayout

CONTENT = bytes(range(256)) * 4
SMALL = seeded(0, of=1, digest=CONTENT_DIGEST, content=CONTENT)
GIVEN = told(TaskState.CACHED, pieces=1, digest=CONTENT_DIGEST, content=CONTENT)
BARE = told(TaskState.CACHED, pieces=1, digest=CONTENT_DIGEST)
LAYOUT = PieceLayout(PIECE, PIECE, PIECE)


def cached() -> Scheduler:
    """A swarm of one peer, a, that asked before the seed had the content."""
    made = scheduler()
    events: list[Event] = [seed_greeted(), greeted("a"), said("a", register()), said(SEED, SMALL)]
    for now, event in enumerate(events):
        made.handle(event, float(now))
    return made


def test_who_waits_and_who_comes_later_has_the_content_in_one_answer_and_no_lease() -> None:
    script = (
        Playbook(scheduler())
        >> At(0.0, seed_greeted())
        >> At(0.1, greeted("a"))
        >> At(0.2, said("a", register()))
        << Tell(peer=SEED, message=Fetch(task=TASK, url=register().url))
        << Tell(peer="a", message=told(TaskState.PROBING))
        >> At(0.3, said(SEED, SMALL)) << Tell(peer="a", message=GIVEN)
        >> At(0.4, said("a", done(0, 0)))
        >> At(0.5, greeted("b"))
        >> At(0.6, said("b", register())) << Tell(peer="b", message=GIVEN)
    )  # fmt: skip
    made = script.check()
    assert made.state.counters.leases_granted == 0
    made.handle(said("b", done(0, 0)), 0.7)
    matcher = made.state.tasks[TASK].matcher
    assert matcher is not None
    assert matcher.complete_peers == 2
    assert made.state.tasks[TASK].given == set()


def test_who_asks_again_fetches_it() -> None:
    made = cached()
    effects = made.handle(said("a", register()), 10.0)
    assert Tell(peer="a", message=BARE) in effects
    assert effects[-1] == leased("a", 1, SEED, 0)
    made.handle(said("a", done(1, 0)), 10.1)
    made.validate()


def test_who_offers_or_has_it_already_is_not_given_it() -> None:
    made = cached()
    for peer, asked in (("b", register(serves_only=True)), ("c", register(have=frozenset([0]), pieces=1))):
        made.handle(greeted(peer), 4.0)
        assert Tell(peer=peer, message=BARE) in made.handle(said(peer, asked), 4.0)
    made.validate()


def test_one_that_was_given_it_and_has_gone_leaves_nothing_behind() -> None:
    made = cached()
    assert made.state.tasks[TASK].given == {"a"}
    made.handle(said("a", Leave(task=TASK, reason=LeaveReason.CANCELLED)), 4.0)
    assert made.state.tasks[TASK].given == set()
    made.handle(said("a", register()), 5.0)
    assert made.state.tasks[TASK].given == {"a"}, "it asks for the first time again"
    made.handle(PeerGone(peer="a"), 6.0)
    made.validate()


def test_what_is_dropped_or_differs_is_not_given_any_more() -> None:
    made = cached()
    made.handle(said(SEED, seeded(0, of=1, digest=OTHER_DIGEST, content=CONTENT)), 4.0)
    assert made.state.tasks[TASK].state is TaskState.DEAD
    assert len(made._small) == 0
    made = cached()
    made.handle(TaskDropped(task=TASK), 4.0)
    assert len(made._small) == 0


def test_a_content_that_comes_in_parts_is_fetched() -> None:
    made = scheduler()
    for event in (seed_greeted(), greeted("a"), said("a", register()), said(SEED, seeded(of=1))):
        made.handle(event, 0.0)
    effects = made.handle(said(SEED, SMALL), 1.0)
    assert [each.pieces for each in leases_in(effects, child="a")] == [(0,)]
    assert all(not each.message.content for each in effects if isinstance(each, Tell) and isinstance(each.message, Task))


def test_a_content_without_its_digest_all_of_its_pieces_or_its_length_is_none() -> None:
    contents = SmallContents()
    for message in (
        seeded(0, of=1, content=CONTENT),
        seeded(of=1, digest=CONTENT_DIGEST, content=CONTENT),
        seeded(0, of=1, digest=CONTENT_DIGEST, content=CONTENT[1:]),
        seeded(0, of=1, digest=CONTENT_DIGEST),
    ):
        contents.seeded(TASK, LAYOUT, message)
        assert len(contents) == 0


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3 * PIECE)), max_size=30))
def test_the_bound_holds_and_the_newest_stays(words: list[tuple[int, int]]) -> None:
    contents = SmallContents(4 * PIECE)
    for number, size in words:
        task = f"{number:064x}"
        layout = PieceLayout(size, 1 << 14, 1 << 14)
        word = seeded(0, of=1, task=task, digest=CONTENT_DIGEST, length=size, content=bytes(size))
        contents.seeded(task, layout, word)
        assert len(contents) == sum(map(len, contents._contents.values())) <= 4 * PIECE
        assert not size or task in contents._contents
