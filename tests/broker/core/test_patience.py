"""What is done about those that wait for too long."""

from collections.abc import Callable

from broker.core.matcher import SEED, MatcherSettings
from tests.support.small_swarm import SmallSwarm


def ticks(swarm: SmallSwarm, until: Callable[[], bool], *, at_most_s: float = 60.0) -> float:
    """Let time pass, with ticks only, until something is so. Returns how long that took."""
    began = swarm.now
    while not until():
        due = swarm.matcher.next_tick()
        assert due is not None, "nobody waits"
        assert due - began <= at_most_s, "it never comes"
        swarm.now = max(swarm.now, due)
        swarm.matcher.tick(swarm.now)
        swarm.take()
    return swarm.now - began


def test_the_only_holder_among_many_parents_is_found() -> None:
    """A sample of 32 out of 2,000 free parents would meet it once in a minute."""
    swarm = SmallSwarm(40, seed=False)
    for number in range(2000):
        swarm.have[f"other-{number}"] = 1
        swarm.matcher.join(f"other-{number}", 0.0, have=1, wants=False)
    swarm.join("holder", have=2, wants=False)
    swarm.join("child", have=(1 << 40) - 1 - 2)
    took = ticks(swarm, lambda: bool(swarm.matcher.outstanding("child")))
    assert swarm.told[-1].parent == "holder"
    assert took < 10.0


def test_a_slow_parent_will_do_when_there_is_no_other() -> None:
    swarm = SmallSwarm(40, seed=False)
    swarm.join("usual-1", "usual-2", have=1, wants=False, upload_rate=1e7)
    swarm.join("slow", have=2, wants=False, upload_rate=1e5)
    swarm.join("child", have=(1 << 40) - 1 - 2)
    assert swarm.matcher.outstanding("child") == []
    assert 0.1 < ticks(swarm, lambda: bool(swarm.matcher.outstanding("child"))) < 5.0


def test_the_seed_repeats_a_piece_that_does_not_come_from_where_it_was_sent() -> None:
    """One child sits on the only copy without a word: the others get another, and not one each at once."""
    swarm = SmallSwarm(1, settings=MatcherSettings(cut_through=False))
    swarm.join("silent")
    swarm.join("one", "two", "three")
    repeats = [each for each in swarm.wait(1.5) if each.parent == SEED]
    assert repeats == []
    took = ticks(swarm, lambda: any(each.parent == SEED and each.child != "silent" for each in swarm.told))
    assert took < 5.0
    assert sum(each.parent == SEED for each in swarm.told) == 2
    swarm.run()
    assert all(swarm.complete(peer) for peer in ("one", "two", "three"))


def test_a_silent_parent_is_found_slow_and_its_child_may_have_another() -> None:
    swarm = SmallSwarm(64, seed=False)
    full = (1 << 64) - 1
    names = [f"known-{number}" for number in range(10)]
    swarm.join(*names, have=full, wants=False, upload_rate=3e6)
    swarm.join("teacher", have=full & ~(1 << 10) + 1)
    for _ in range(12):
        if swarm.told:
            swarm.arrive(swarm.told[0], 1e6)
    swarm.join("silent", have=full, wants=False)
    swarm.join(*(f"child-{number}" for number in range(12)))
    mine = [each for each in swarm.told if each.parent == "silent"]
    assert mine, "with twelve empty children everybody serves"
    for _ in range(2000):
        ready = next((each for each in swarm.told if each.parent != "silent" and swarm.is_possible(each)), None)
        if ready is None:
            break
        swarm.now += 0.005
        swarm.arrive(ready, 1e6)
    swarm.run()
    assert all(swarm.complete(f"child-{number}") for number in range(12))
    usual = sum(swarm.sent[name] for name in names) / len(names)
    assert swarm.sent["silent"] < 0.5 * usual
