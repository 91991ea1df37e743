"""Well-formed nonsense of a greeted peer: it is counted or skipped, and hurts nobody but, at most, who says it."""

import pytest

from broker.core.effects import Notice, Tell
from broker.core.scheduler import Scheduler
from tests.support.broker_words import (
    CONTENT_DIGEST,
    OTHER_TASK,
    SEED,
    TASK,
    done,
    failed,
    greeted,
    hello,
    leases_in,
    register,
    said,
    scheduler,
    seed_greeted,
    seeded,
)
from tests.support.playbook import At, Noticed, Playbook
from wire.errors import ErrorCode
from wire.messages import (
    Alive,
    Blocks,
    Cancel,
    Download,
    Drop,
    Fetch,
    Finished,
    GetBlocks,
    Have,
    Hello,
    Lease,
    Message,
    NoBlocks,
    NotKnown,
    PieceFailure,
    Placed,
    Progress,
    Refused,
    SeedFailed,
    Task,
    TaskState,
    Welcome,
)
from wire.version import PROTOCOL


def swarm() -> Scheduler:
    """`a` gets both pieces from the seed; `liar` is greeted and a member."""
    made = scheduler()
    for event in (seed_greeted(), greeted("a"), said("a", register()), said(SEED, seeded(0, 1, of=2)), greeted("liar")):
        made.handle(event, 0.0)
    assert {(lease.child, lease.parent) for lease in made.state.leases} == {("a", SEED)}
    return made


def picture(made: Scheduler) -> object:
    """All that others depend on."""
    task = made.state.tasks[TASK]
    assert task.matcher is not None
    return (
        [(lease.lease, lease.child, lease.parent, sorted(lease.pieces), lease.until) for lease in made.state.leases],
        task.state,
        task.digest,
        [task.matcher.holders(piece) for piece in range(2)],
        {peer: (record.strikes, record.doubted_at) for peer, record in made.state.peers.items()},
    )


NEVER_FROM_A_PEER = [
    hello("x"),
    Welcome(protocol=PROTOCOL, supernode="s"),
    Refused(code=ErrorCode.INTERNAL, message=""),
    Task(task=TASK, state=TaskState.DEAD),
    Lease(task=TASK, lease=1, parent="p", endpoint="", pieces=(0,), digests=b"", until_s=1.0),
    NotKnown(),
    Fetch(task=TASK, url="http://x/"),
    seeded(0, of=9),
    SeedFailed(task=TASK, code=ErrorCode.SOURCE_ERROR),
    Drop(task=TASK),
    GetBlocks(task=TASK, piece=0, first=0, count=1),
    Blocks(task=TASK, piece=0, first=0, count=1),
    NoBlocks(task=TASK, piece=0, code=ErrorCode.BUSY),
    Have(task=TASK, peer="liar", pieces=(0,)),
    Download(url="http://x/"),
    Progress(task=TASK),
    Finished(task=TASK, path=""),
    Cancel(),
    Placed(task=TASK),
]


@pytest.mark.parametrize("message", NEVER_FROM_A_PEER, ids=lambda message: message.KIND.name)
def test_what_a_peer_may_not_say_is_counted_by_name(message: Message) -> None:
    made = swarm()
    before = picture(made)
    script = Playbook(made) >> At(0.5, said("liar", message)) << Noticed(Notice.UNEXPECTED, peer="liar", text=message.KIND.name)
    script.check()
    (script >> At(0.6, said("liar", message))).check()
    assert made.state.counters.unexpected == {message.KIND.name: 2}
    assert picture(made) == before
    assert isinstance(message, Hello) or made.state.peers["liar"].heard_at == 0.6


def test_a_seed_does_not_register() -> None:
    """It would be its own child, and the end of its membership would end what it serves."""
    made = swarm()
    before = picture(made)
    made.handle(said(SEED, register()), 0.5)
    assert made.state.counters.unexpected == {"REGISTER": 1}
    assert SEED not in made.state.tasks[TASK].members
    assert picture(made) == before


@pytest.mark.parametrize("why", PieceFailure)
def test_reports_of_what_was_not_leased_blame_nobody(why: PieceFailure) -> None:
    made = swarm()
    made.handle(said("liar", register()), 0.1)
    made.handle(said("liar", failed(0, 0, 1)), 0.2)
    before = picture(made)
    numbers = [lease.lease for lease in made.state.leases if lease.child == "a"]
    for number in (0, 77, *numbers):
        effects = made.handle(said("liar", failed(number, 0, 1, 1_000_000, why=why)), 0.3)
        assert [effect for effect in effects if isinstance(effect, Tell)] == []
        made.validate()
    assert picture(made) == before
    own = [lease for lease in made.state.leases if lease.child == "liar"]
    for lease in own:
        others = {0, 1, 7} - lease.pieces
        made.handle(said("liar", failed(lease.lease, *others, why=why)), 0.4)
    assert picture(made) == before, "pieces that the lease does not have"


def test_who_is_no_member_of_a_task_reports_nothing_of_it() -> None:
    made = swarm()
    before = picture(made)
    for report in (done(1, 0), failed(1, 0), done(1, 0, task=OTHER_TASK), done(0, 0, 1)):
        assert made.handle(said("liar", report), 0.1) == []
    assert picture(made) == before
    assert made.state.counters.pieces_reported == 0
    assert OTHER_TASK not in made.state.tasks


def test_reports_before_the_length_is_known_are_nothing() -> None:
    made = scheduler()
    for event in (greeted("liar"), said("liar", register())):
        made.handle(event, 0.0)
    assert made.handle(said("liar", done(0, 0)), 0.1) == []
    made.validate()


def test_pieces_out_of_range_or_without_digests_are_not_had() -> None:
    made = scheduler()
    for event in (seed_greeted(), greeted("liar"), said("liar", register()), said(SEED, seeded(0, of=3))):
        made.handle(event, 0.0)
    made.handle(said("liar", done(0, 1, 2, 3, 1_000_000)), 0.1)
    made.validate()
    task = made.state.tasks[TASK]
    assert task.matcher is not None
    assert [task.matcher.holders(piece) for piece in range(3)] == [0, 0, 0]
    assert made.state.counters.pieces_reported == 0
    made.handle(said(SEED, seeded(1, 2, of=3)), 0.2)
    made.validate()
    assert [task.matcher.holders(piece) for piece in range(3)] == [0, 0, 0]


def test_the_same_piece_many_times_in_one_report_is_one_piece() -> None:
    made = swarm()
    (lease, *_) = list(made.state.leases)
    piece = min(lease.pieces)
    made.handle(said("a", done(lease.lease, *[piece] * 200)), 0.1)
    made.validate()
    task = made.state.tasks[TASK]
    assert task.matcher is not None
    assert task.matcher.holders(piece) == 1


def test_a_liar_that_claims_everything_is_found_out_by_its_children() -> None:
    made = scheduler()
    for event in (
        seed_greeted(upload_rate=1000),
        greeted("liar"),
        said("liar", register()),
        said("liar", register(have=frozenset({0}), pieces=1, serves_only=True)),
        said(SEED, seeded(0, of=1, digest=CONTENT_DIGEST)),
        greeted("a"),
    ):
        made.handle(event, 0.0)
    (lease,) = leases_in(made.handle(said("a", register()), 0.1))
    assert lease.parent == "liar"
    effects = made.handle(said("a", failed(lease.lease, 0, why=PieceFailure.REFUSED)), 0.2)
    assert [each.parent for each in leases_in(effects)] == [SEED]
    assert made.state.peers["liar"].strikes == {"a"}


def test_leases_named_by_who_has_none_are_nothing() -> None:
    made = swarm()
    before = picture(made)
    made.handle(said("liar", Alive(leases=tuple(range(4096)), received=(1,) * 8, sent=1)), 0.1)
    made.validate()
    assert picture(made) == before
