"""Seeds: which one is asked, what happens while there is none, and when one dies and comes back."""

from broker.core.effects import Effect, Forget, Notice, Tell
from broker.core.events import PeerGone, Tick
from broker.core.scheduler import Scheduler, SchedulerSettings
from tests.support.broker_words import (
    CONTENT_DIGEST,
    OTHER_SEED,
    OTHER_TASK,
    SEED,
    TASK,
    URL,
    done,
    failed,
    greeted,
    leased,
    leases_in,
    register,
    said,
    scheduler,
    seed_failed,
    seed_greeted,
    seeded,
    told,
)
from tests.support.playbook import At, Noticed, Playbook
from wire.errors import ErrorCode
from wire.messages import Alive, Fetch, Leave, LeaveReason, Role, SeedFailed, Task, TaskState

NO_SEED = Task(task=TASK, state=TaskState.DEAD, code=ErrorCode.NO_SEED, message="the supernode has no seed: look into its log")


def fetch(seed: str = SEED, task: str = TASK) -> Tell:
    return Tell(peer=seed, message=Fetch(task=task, url=URL))


def probing(peer: str) -> Tell:
    return Tell(peer=peer, message=told(TaskState.PROBING))


def everybody_is_alive(made: Scheduler, now: float) -> None:
    for peer in list(made.state.peers):
        made.handle(said(peer, Alive()), now)


def test_without_a_seed_a_task_waits_and_then_dies_with_words() -> None:
    script = (
        Playbook(scheduler(SchedulerSettings(seed_patience_s=5.0, probe_after_s=1e6)))
        >> At(1.0, greeted("a"))
        >> At(1.0, said("a", register())) << probing("a")
        >> At(3.0, said("a", register())) << probing("a")
        >> At(6.0, Tick())
        >> At(6.6, Tick()) << Tell(peer="a", message=NO_SEED) << Noticed(Notice.TASK_DEAD, task=TASK, text="no seed")
    )  # fmt: skip
    made = script.check()
    assert made.state.tasks[TASK].members == {}
    made.handle(seed_greeted(), 7.0)
    assert made.state.tasks[TASK].seed is None, "it is dead: nobody waits for it"


def test_a_seed_that_comes_in_time_is_asked_for_all_that_wait_for_one() -> None:
    script = (
        Playbook(scheduler())
        >> At(0.0, greeted("a"))
        >> At(0.1, said("a", register())) << probing("a")
        >> At(0.2, said("a", register(OTHER_TASK))) << Tell(peer="a", message=told(TaskState.PROBING, task=OTHER_TASK))
        >> At(4.9, seed_greeted()) << fetch() << fetch(task=OTHER_TASK)
        >> At(9.0, said(SEED, seeded(0, of=1)))
        << Tell(peer="a", message=told(TaskState.CACHING, pieces=1)) << leased("a", 1, SEED, 0)
    )  # fmt: skip
    assert script.check().state.counters.seed_fetches == 2


def test_the_seeds_share_the_tasks_and_the_same_one_is_asked_for_the_same_task() -> None:
    def shares(*seeds: str) -> dict[str, str | None]:
        made = scheduler()
        for seed in seeds:
            made.handle(seed_greeted(seed), 0.0)
        made.handle(greeted("a"), 0.0)
        for number in range(64):
            made.handle(said("a", register(f"{number:064x}")), 0.1)
        return {task.task: task.seed for task in made.state.tasks.values()}

    both = shares(SEED, OTHER_SEED)
    assert both == shares(OTHER_SEED, SEED)
    assert 16 < sum(seed == SEED for seed in both.values()) < 48


def test_a_seed_that_dies_leaves_its_tasks_to_another_and_its_children_to_each_other() -> None:
    made = scheduler()
    for event in (seed_greeted(), greeted("a"), greeted("b"), said("a", register()), said(SEED, seeded(0, of=1))):
        made.handle(event, 0.0)
    # b joins with the only piece; a waits for the seed's copy of it.
    made.handle(said("b", register(have=frozenset({0}), pieces=1)), 0.1)
    assert [(lease.child, lease.parent) for lease in made.state.leases] == [("a", SEED)]
    made.handle(seed_greeted(OTHER_SEED), 0.2)
    script = (
        Playbook(made)
        >> At(0.3, PeerGone(peer=SEED)) << Forget(peer=SEED) << fetch(OTHER_SEED) << leased("a", 2, "b", 0)
        << Noticed(Notice.PEER_LOST, peer=SEED)
    )  # fmt: skip
    script.check()
    assert [(lease.child, lease.parent) for lease in made.state.leases] == [("a", "b")]


def test_a_seed_that_dies_and_comes_back_goes_on_where_it_was() -> None:
    script = (
        Playbook(scheduler())
        >> At(0.0, seed_greeted())
        >> At(0.0, greeted("a"))
        >> At(0.1, said("a", register())) << fetch() << probing("a")
        >> At(0.2, said(SEED, seeded(0, of=2)))
        << Tell(peer="a", message=told(TaskState.CACHING, pieces=2)) << leased("a", 1, SEED, 0)
        >> At(0.3, said("a", done(1, 0)))
        >> At(0.4, PeerGone(peer=SEED)) << Forget(peer=SEED)
        >> At(0.5, said("a", Alive())) << Tell(peer="a", message=Alive())
        >> At(4.0, seed_greeted("cdnnode:s2")) << fetch("cdnnode:s2")
        >> At(4.1, said("cdnnode:s2", seeded(0, of=2)))
        >> At(4.2, said("cdnnode:s2", seeded(1, of=2))) << leased("a", 2, "cdnnode:s2", 1)
    )  # fmt: skip
    made = script.check()
    everybody_is_alive(made, 9.9)
    made.handle(Tick(), 10.0)
    assert made.state.tasks[TASK].state is TaskState.CACHING, "the new seed is there, whatever the time of the first one"


def test_a_seed_that_says_hello_again_is_asked_again() -> None:
    script = (
        Playbook(scheduler())
        >> At(0.0, seed_greeted())
        >> At(0.0, greeted("a"))
        >> At(0.1, said("a", register())) << fetch() << probing("a")
        >> At(0.2, said(SEED, seeded(0, of=1)))
        << Tell(peer="a", message=told(TaskState.CACHING, pieces=1)) << leased("a", 1, SEED, 0)
        >> At(0.3, seed_greeted()) << fetch() << Noticed(Notice.PEER_LOST, peer=SEED, text="hello again")
    )  # fmt: skip
    made = script.check()
    assert len(made.state.leases) == 0, "it may have another process and port behind its name"
    leases = leases_in(made.handle(said(SEED, seeded(0, of=1)), 1.0))
    assert [(lease.parent, lease.pieces) for lease in leases] == [(SEED, (0,))]


def test_a_cached_task_outlives_its_seed_while_peers_have_it() -> None:
    made = scheduler()
    for event in (
        seed_greeted(),
        greeted("a"),
        said("a", register()),
        said(SEED, seeded(0, of=1, digest=CONTENT_DIGEST)),
        said("a", done(1, 0)),
        PeerGone(peer=SEED),
    ):
        made.handle(event, 0.0)
    for now in range(1, 30):
        everybody_is_alive(made, float(now))
        made.handle(Tick(), float(now))
    made.handle(greeted("b"), 30.0)
    effects = made.handle(said("b", register()), 30.0)
    assert Tell(peer="b", message=told(TaskState.CACHED, pieces=1, digest=CONTENT_DIGEST)) in effects
    assert [lease.parent for lease in leases_in(effects)] == ["a"]


def test_a_caching_task_dies_when_its_seed_does_not_come_back() -> None:
    made = scheduler(SchedulerSettings(seed_patience_s=5.0))
    for event in (seed_greeted(), greeted("a"), said("a", register()), said(SEED, seeded(0, of=2))):
        made.handle(event, 0.0)
    made.handle(PeerGone(peer=SEED), 100.0)
    everybody_is_alive(made, 104.9)
    made.handle(Tick(), 104.9)
    assert made.state.tasks[TASK].state is TaskState.CACHING
    everybody_is_alive(made, 105.5)
    made.handle(Tick(), 105.5)
    assert (made.state.tasks[TASK].state, made.state.tasks[TASK].code) == (TaskState.DEAD, ErrorCode.NO_SEED)
    made.validate()


def test_only_the_seed_that_was_asked_is_believed() -> None:
    made = scheduler()
    for seed in (SEED, OTHER_SEED):
        made.handle(seed_greeted(seed), 0.0)
    made.handle(greeted("a"), 0.0)
    made.handle(said("a", register()), 0.0)
    asked = made.state.tasks[TASK].seed
    other = OTHER_SEED if asked == SEED else SEED
    failure = SeedFailed(task=TASK, code=ErrorCode.SOURCE_ERROR)
    for message in (seeded(0, of=3), failure, seeded(0, of=1, task=OTHER_TASK), SeedFailed(task=OTHER_TASK, code=failure.code)):
        assert made.handle(said(other, message), 0.1) == []
    assert made.state.tasks[TASK].state is TaskState.PROBING
    assert made.state.counters.seed_failures == 0


def test_a_seed_that_speaks_of_a_dead_task_is_too_late() -> None:
    made = scheduler()
    for event in (seed_greeted(), greeted("a"), said("a", register())):
        made.handle(event, 0.0)
    made.handle(seed_failed(SeedFailed(task=TASK, code=ErrorCode.SOURCE_ERROR, message="once")), 0.1)
    assert made.handle(said(SEED, seeded(0, of=1)), 0.2) == []
    assert made.state.tasks[TASK].message == "once"


def test_the_seeds_upload_limit_reaches_the_matcher_whenever_it_comes() -> None:
    """With a slow seed the swarm gets each piece of it once: who comes second takes it from the first."""
    made = scheduler()
    for event in (seed_greeted(upload_rate=1000), greeted("a"), said("a", register()), said(SEED, seeded(of=1))):
        made.handle(event, 0.0)
    assert made.state.peers[SEED].role is Role.SEED
    made.handle(PeerGone(peer=SEED), 0.1)
    made.handle(seed_greeted(OTHER_SEED, upload_rate=1000), 0.2)
    assert [lease.parent for lease in leases_in(made.handle(said(OTHER_SEED, seeded(0, of=1)), 0.3))] == [OTHER_SEED]
    made.validate()


# -- a content that the seed has evicted ------------------------------------------------------------------------------------


def cached(*peers: str, pieces: int = 1) -> Scheduler:
    """A task that the seed has whole, and peers that have taken all of it."""
    made = scheduler()
    made.handle(seed_greeted(), 0.0)
    for peer in peers or ("a",):
        made.handle(greeted(peer), 0.0)
        made.handle(said(peer, register()), 0.1)
    made.handle(said(SEED, seeded(*range(pieces), of=pieces, digest=CONTENT_DIGEST)), 0.2)
    for peer in peers:
        made.handle(said(peer, done(0, *range(pieces))), 0.3)
    return made


EVICTED = Leave(task=TASK, reason=LeaveReason.EVICTED)


def fetches(effects: list[Effect]) -> list[str]:
    """Which seeds are asked."""
    return [each.peer for each in effects if isinstance(each, Tell) and isinstance(each.message, Fetch)]


def test_what_the_seed_has_evicted_is_not_read_again_before_somebody_wants_it() -> None:
    made = cached("a")
    assert made.handle(said(SEED, EVICTED), 1.0) == []
    record = made.state.tasks[TASK]
    assert (record.seed, record.evicted, record.state) == (None, True, TaskState.CACHED)
    made.validate()
    assert made.handle(said(SEED, EVICTED), 1.1) == [], "said again, it says nothing new"
    # Neither a tick, nor a seed that comes back, nor one who has it all and says so again makes anybody read it.
    everybody_is_alive(made, 2.0)
    assert fetches(made.handle(Tick(), 2.1)) == []
    assert fetches(made.handle(seed_greeted(), 3.0)) == []
    assert fetches(made.handle(said("a", register(have=frozenset([0]), pieces=1)), 3.1)) == []
    # A peer that has all of it gives it to the next one.
    made.handle(greeted("b"), 4.0)
    effects = made.handle(said("b", register()), 4.1)
    assert fetches(effects) == []
    assert [(lease.parent, lease.pieces) for lease in leases_in(effects, child="b")] == [("a", (0,))]
    made.validate()


def test_without_a_peer_that_has_it_whole_the_seed_is_asked_with_what_the_new_asker_may() -> None:
    made = cached("a")
    made.handle(said(SEED, EVICTED), 1.0)
    made.handle(PeerGone(peer="a"), 1.1)
    made.handle(greeted("b"), 2.0)
    effects = made.handle(said("b", register(url=URL + "?new")), 2.1)
    assert [each for each in effects if isinstance(each, Tell) and each.peer == SEED] == [
        Tell(peer=SEED, message=Fetch(task=TASK, url=URL + "?new"))
    ]
    assert not made.state.tasks[TASK].evicted
    # It has it again: from then on it is leased from.
    effects = made.handle(said(SEED, seeded(0, of=1, digest=CONTENT_DIGEST)), 2.2)
    assert [lease.parent for lease in leases_in(effects, child="b")] == [SEED]
    made.validate()


def test_when_the_last_one_that_has_it_leaves_the_seed_is_asked_for_those_that_lack_it() -> None:
    made = cached("a", pieces=2)
    made.handle(said(SEED, EVICTED), 1.0)
    made.handle(greeted("b"), 2.0)
    assert fetches(made.handle(said("b", register()), 2.1)) == []
    assert fetches(made.handle(PeerGone(peer="a"), 2.2)) == [SEED]
    made.validate()


def test_a_peer_that_does_not_give_what_it_says_to_have_does_not_keep_the_seed_from_being_asked() -> None:
    made = cached("a")
    made.handle(said(SEED, EVICTED), 1.0)
    made.handle(greeted("b"), 2.0)
    (lease,) = leases_in(made.handle(said("b", register()), 2.1), child="b")
    assert fetches(made.handle(said("b", failed(lease.lease, 0)), 2.2)) == [SEED]
    made.validate()


def test_a_seed_that_gives_up_what_somebody_waits_for_is_asked_at_once_and_its_leases_end() -> None:
    made = scheduler()
    made.handle(seed_greeted(), 0.0)
    made.handle(greeted("a"), 0.0)
    made.handle(said("a", register()), 0.1)
    assert len(leases_in(made.handle(said(SEED, seeded(0, of=2)), 0.2), child="a")) == 1
    assert fetches(made.handle(said(SEED, EVICTED), 0.3)) == [SEED]
    assert [lease for lease in made.state.leases if lease.parent == SEED] == []
    made.validate()
