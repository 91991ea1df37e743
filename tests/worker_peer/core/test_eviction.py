"""Who goes from a store: least recently used first, nobody in use, nobody kept, never more and never fewer than needed."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from worker_peer.core.eviction import (
    Content,
    Rules,
    Shortage,
    Why,
    by_age,
    collected,
    may_go,
    room_for,
    room_to_keep,
    tidied,
)

NOW = 10_000.0
PLENTY = 1 << 50

sizes = st.integers(0, 100)
stores = st.lists(
    st.builds(
        Content,
        task=st.uuids().map(lambda each: each.hex),
        size=sizes,
        used_at=st.floats(0, NOW, allow_nan=False),
        kept_until=st.sampled_from([0.0, 0.0, 0.0, NOW - 1, NOW, NOW + 1]),
        in_use=st.sampled_from([False, False, False, True]),
        frees=st.sampled_from([None, None, 0]),
    ),
    max_size=12,
    unique_by=lambda each: each.task,
)


def of(*tasks: str, size: int = 10, **more: float | bool) -> list[Content]:
    """Contents of one size, the first one least recently used."""
    return [Content(task=task, size=size, used_at=float(number), **more) for number, task in enumerate(tasks, 1)]  # type: ignore[arg-type]


def names(contents: list[Content] | Shortage) -> str:
    """Their tasks in order."""
    assert not isinstance(contents, Shortage)
    return "".join(each.task for each in contents)


# -- room for a new one -----------------------------------------------------------------------------------------------------


def test_as_many_go_as_the_quota_needs_the_least_recently_used_first() -> None:
    store = of("a", "b", "c", "d")
    assert names(room_for(10, store, Rules(quota=50), NOW, free=PLENTY)) == ""
    assert names(room_for(11, store, Rules(quota=50), NOW, free=PLENTY)) == "a"
    assert names(room_for(21, store, Rules(quota=50), NOW, free=PLENTY)) == "ab"
    assert names(room_for(50, store, Rules(quota=50), NOW, free=PLENTY)) == "abcd"
    assert room_for(51, store, Rules(quota=50), NOW, free=PLENTY) == Shortage(50, PLENTY + 40, passes=False)


def test_what_others_were_promised_counts_as_taken() -> None:
    assert names(room_for(10, of("a", "b"), Rules(quota=40), NOW, free=PLENTY, promised=20)) == "a"
    assert names(room_for(10, of("a", "b"), Rules(), NOW, free=25, promised=20)) == "a"


def test_the_disk_has_room_made_too_and_a_linked_content_gives_none() -> None:
    store = of("a", "b", "c")
    assert names(room_for(15, store, Rules(), NOW, free=15)) == ""
    assert names(room_for(15, store, Rules(), NOW, free=5)) == "a"
    assert names(room_for(15, [replace(store[0], frees=0), *store[1:]], Rules(), NOW, free=5)) == "b"
    assert isinstance(room_for(36, store, Rules(), NOW, free=5), Shortage)


def test_the_reserve_of_the_disk_is_asked_of_others_but_refuses_nobody() -> None:
    store = of("a", "b", "c")
    assert names(room_for(10, store, Rules(full_free=20), NOW, free=15)) == "ab"
    assert names(room_for(10, store, Rules(full_free=1000), NOW, free=15)) == "abc"
    assert names(room_for(10, [], Rules(full_free=1000), NOW, free=15)) == ""
    assert isinstance(room_for(16, [], Rules(full_free=1000), NOW, free=15), Shortage)


def test_a_shortage_passes_only_when_those_in_use_are_what_lacks() -> None:
    in_use = of("a", "b", in_use=True)
    kept = of("c", kept_until=NOW + 1)
    found = room_for(15, in_use + kept, Rules(quota=30), NOW, free=PLENTY)
    assert found == Shortage(0, PLENTY, passes=True)
    assert room_for(21, in_use + kept, Rules(quota=30), NOW, free=PLENTY) == Shortage(0, PLENTY, passes=False)


@given(stores, st.integers(0, 400), st.integers(0, 300), st.integers(0, 300), st.integers(0, 50), st.integers(0, 100))
def test_room_is_made_exactly_and_only_from_those_that_may_go(
    store: list[Content], quota: int, needed: int, free: int, promised: int, reserve: int
) -> None:
    rules = Rules(quota=quota, full_free=reserve)
    used = promised + sum(each.size for each in store)
    found = room_for(needed, store, rules, NOW, free=free, promised=promised)
    order = by_age(store, NOW)
    if isinstance(found, Shortage):
        # Not even all of them would have made room.
        no_quota = bool(quota) and used - sum(each.size for each in order) + needed > quota
        no_disk = free + sum(each.gives for each in order) < needed + promised
        assert no_quota or no_disk
        return
    assert all(may_go(each, NOW) for each in found)
    assert not quota or used - sum(each.size for each in found) + needed <= quota
    assert free + sum(each.gives for each in found) >= needed + promised
    # In order: whoever was passed over for an older one would not have helped.
    assert found == [each for each in order if each in found]
    if found:
        without = found[:-1]
        enough = not quota or used - sum(each.size for each in without) + needed <= quota
        assert not (enough and free + sum(each.gives for each in without) >= needed + promised + reserve)
        younger = order[: order.index(found[-1])]
        assert all(each in found or not each.gives for each in younger)


# -- from time to time ------------------------------------------------------------------------------------------------------


def test_what_nobody_has_used_for_long_expires_and_what_is_kept_does_not() -> None:
    store = [*of("a", "b"), *of("c", kept_until=NOW + 1), *of("d", in_use=True)]
    young = Content(task="e", size=10, used_at=NOW - 60)
    assert tidied([*store, young], Rules(expire_s=60), NOW, free=PLENTY) == [(store[0], Why.EXPIRED), (store[1], Why.EXPIRED)]
    assert tidied([*store, young], Rules(expire_s=0), NOW, free=PLENTY) == []
    assert [each.task for each, _ in tidied([*store, young], Rules(expire_s=60), NOW + 1, free=PLENTY)] == ["a", "c", "b", "e"]


def test_a_quota_that_was_lowered_is_reached_again() -> None:
    store = of("a", "b", "c")
    assert tidied(store, Rules(quota=15), NOW, free=PLENTY) == [(store[0], Why.QUOTA), (store[1], Why.QUOTA)]


def test_a_disk_that_is_nearly_full_takes_all_until_it_is_not() -> None:
    store = [replace(each, used_at=NOW - 1) for each in of("a", "b", "c")]
    assert tidied(store, Rules(full_free=20), NOW, free=5) == [(store[0], Why.FULL), (store[1], Why.FULL)]
    assert len(tidied(store, Rules(full_free=200), NOW, free=5)) == 3


def test_a_disk_that_fills_up_takes_the_old_ones_a_tenth_at_a_time() -> None:
    store = of(*"abcdefghijklmnopqrstuvwxy")
    recent = Content(task="z", size=10, used_at=NOW - 7199)
    rules = Rules(young_free=1000)
    assert [each.task for each, why in tidied([*store, recent], rules, NOW, free=5) if why is Why.YOUNG] == ["a", "b", "c"]
    assert len(tidied([*store, recent], replace(rules, clean_tenths=10), NOW, free=5)) == 25
    assert len(tidied([*store, recent], replace(rules, clean_tenths=0), NOW, free=5)) == 1
    assert len(tidied([*store, recent], rules, NOW, free=985)) == 2
    assert tidied([recent], rules, NOW, free=5) == []


@given(
    stores,
    st.builds(
        Rules,
        quota=st.integers(0, 400),
        expire_s=st.sampled_from([0.0, 1.0, 5000.0]),
        young_free=st.integers(0, 300),
        full_free=st.integers(0, 300),
        unused_s=st.sampled_from([0.0, 100.0, 7200.0]),
        clean_tenths=st.integers(0, 10),
    ),
    st.integers(0, 300),
)
def test_tidying_spares_whom_it_must_and_leaves_nobody_whom_it_must_not(store: list[Content], rules: Rules, free: int) -> None:
    gone = tidied(store, rules, NOW, free=free)
    tasks = {each.task for each, _ in gone}
    assert len(tasks) == len(gone)
    assert all(may_go(each, NOW) for each, _ in gone)
    left = [each for each in store if each.task not in tasks]
    removable = [each for each in left if may_go(each, NOW)]
    if rules.expire_s:
        assert not any(now_old(each, rules.expire_s) for each in removable)
    if rules.quota and removable:
        assert sum(each.size for each in left) <= rules.quota
    free_now = free + sum(each.gives for each, _ in gone)
    if free_now < rules.full_free:
        assert not any(each.gives for each in removable)
    for each, why in gone:
        older = [other for other in removable if (other.used_at, other.task) < (each.used_at, each.task)]
        # An older one stays only where it would not have helped.
        assert why in (Why.FULL, Why.YOUNG) or not older
        assert all(not other.gives for other in older)


def now_old(content: Content, expire_s: float) -> bool:
    """Whether it has lain unused for longer than that."""
    return NOW - content.used_at > expire_s


# -- asked for --------------------------------------------------------------------------------------------------------------


def test_as_many_go_as_an_operator_wants_free() -> None:
    store = [*of("a", "b", "c"), *of("k", kept_until=NOW + 1), *of("u", in_use=True)]
    assert names(collected(store, 0, NOW)) == ""
    assert names(collected(store, 11, NOW)) == "ab"
    assert names(collected(store, 1000, NOW)) == "abc"
    assert names(collected([replace(store[0], frees=0), store[1]], 5, NOW)) == "b"


def test_kept_contents_have_a_share_of_the_quota() -> None:
    store = [*of("a"), *of("k", kept_until=NOW + 1, size=30), *of("past", kept_until=NOW - 1, size=40)]
    assert room_to_keep("a", store, Rules(quota=100, kept_percent=50), NOW) == 20
    assert room_to_keep("k", store, Rules(quota=100, kept_percent=50), NOW) == 50
    assert room_to_keep("a", store, Rules(quota=40, kept_percent=50), NOW) == 0
    assert room_to_keep("a", store, Rules(quota=0), NOW) is None


# -- a store's whole life ---------------------------------------------------------------------------------------------------


class StoreLife(RuleBasedStateMachine):
    """A store that goes by these rules, whatever comes: its quota holds, who is in use or kept stays."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.store: dict[str, Content] = {}
        self.number = 0

    @initialize(quota=st.integers(1, 200))
    def begin(self, quota: int) -> None:
        self.limits = Rules(quota=quota, expire_s=500)

    @rule(size=st.integers(0, 120))
    def create(self, size: int) -> None:
        found = room_for(size, self.store.values(), self.limits, self.now, free=PLENTY)
        if isinstance(found, Shortage):
            assert found.quota_room is not None
            assert found.quota_room < size
            return
        self.leave([each.task for each in found])
        self.number += 1
        task = f"{self.number:04}"
        self.store[task] = Content(task=task, size=size, used_at=self.now, in_use=True)

    @precondition(lambda self: self.store)
    @rule(data=st.data(), in_use=st.booleans(), kept_s=st.sampled_from([0.0, 0.0, 50.0]))
    def use(self, data: st.DataObject, in_use: bool, kept_s: float) -> None:
        task = data.draw(st.sampled_from(sorted(self.store)))
        content = self.store[task]
        room = room_to_keep(task, self.store.values(), self.limits, self.now)
        until = self.now + kept_s if kept_s and room is not None and content.size <= room else 0.0
        self.store[task] = replace(content, used_at=self.now, in_use=in_use, kept_until=until)

    @rule(seconds=st.integers(1, 600))
    def wait(self, seconds: int) -> None:
        self.now += seconds
        self.leave([each.task for each, _ in tidied(self.store.values(), self.limits, self.now, free=PLENTY)])

    def leave(self, tasks: list[str]) -> None:
        for task in tasks:
            gone = self.store.pop(task)
            assert not gone.in_use
            assert gone.kept_until <= self.now

    @invariant()
    def the_quota_holds(self) -> None:
        if self.store:
            assert sum(each.size for each in self.store.values()) <= self.limits.quota

    @invariant()
    def what_is_kept_has_no_more_than_its_share(self) -> None:
        kept = sum(each.size for each in self.store.values() if each.kept_until > self.now)
        assert not self.store or kept <= self.limits.quota * self.limits.kept_percent // 100


TestStoreLife = StoreLife.TestCase


@pytest.mark.parametrize("tenths", [-1, 11])
def test_a_share_outside_of_ten_tenths_still_ends(tenths: int) -> None:
    assert len(tidied(of("a", "b"), Rules(young_free=100, clean_tenths=tenths), NOW, free=0)) in (1, 2)
