"""Who comes first gets the link within two seconds, and the swarm has all the rest: never less than its floor, and steadily.

The link here gives both what they ask for while it can. When it cannot, others who are greedy push the swarm aside as fast
as TCP would, and always have at least one flow's share.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker_peer.core.yielding import OVERHEAD, Yielding, YieldSettings

MB = 1_000_000
FLOOR = 64 << 10
TICK_S = 0.25
MARGIN = 0.1
LINK = 12 * MB
#: A share of the link.
SHARES = st.floats(0.0, 0.8)
LINKS = st.integers(1 * MB, 1_250 * MB)

Demand = Callable[[float], float]


@dataclass
class Link:
    """A link, others' demand of it, and a swarm that takes all that it may."""

    link: float
    others: Demand
    yielding: Yielding
    #: What the swarm would take of the link, on the wire, if nothing held it back.
    wants: float = 1e12
    now: float = 100.0
    carried: float = 0.0
    own: float = 0.0
    limits: list[float] = field(default_factory=list)
    had: list[tuple[float, float]] = field(default_factory=list)

    def run(self, seconds: float) -> "Link":
        """Let so much time pass."""
        other_had = self.had[-1][1] if self.had else 0.0
        for _ in range(round(seconds / TICK_S)):
            limit = self.yielding.limit or 1e12
            own = min(self.wants, limit * OVERHEAD, self.link)
            demand = self.others(self.now)
            # A flow that is held back gets its share, and then more of what is free as time goes on.
            free = self.link - own
            other = min(demand, max(free, self.link / 8, min(free, other_had + self.link / 4)))
            own = min(own, self.link - other)
            other_had = other
            self.now += TICK_S
            self.own += own / OVERHEAD * TICK_S
            self.carried += (own + other) * TICK_S
            self.yielding.sampled(int(self.carried), int(self.own), self.now)
            self.limits.append(self.yielding.limit)
            self.had.append((own, other))
        return self

    def last(self, seconds: float) -> list[tuple[float, float]]:
        """(own, others) in the last seconds."""
        return self.had[-round(seconds / TICK_S) :]


def made(link: float, others: Demand, **settings: float) -> Link:
    fixed = {"link_rate": int(link), "floor": FLOOR, "margin": MARGIN} | settings
    return Link(link, others, Yielding(YieldSettings(**fixed), 100.0))  # type: ignore[arg-type]


def nobody(_: float) -> float:
    return 0.0


@settings(deadline=None)
@given(
    settings_of=st.builds(
        YieldSettings,
        link_rate=st.integers(0, 1 << 31),
        first_guess=st.integers(0, 1 << 31),
        floor=st.integers(1, 1 << 20),
        margin=st.floats(0, 0.5),
    ),
    steps=st.lists(st.tuples(st.floats(0, 30), st.integers(-1000, 1 << 31), st.integers(0, 1 << 31)), max_size=60),
)
def test_whatever_is_counted_the_limit_is_between_the_floor_and_the_link(
    settings_of: YieldSettings, steps: list[tuple[float, int, int]]
) -> None:
    yielding, now, link, own = Yielding(settings_of, 0.0), 0.0, 0, 0
    for pause, more, ours in steps:
        now, link, own = now + pause, max(0, link + more), own + ours
        limit = yielding.sampled(link, own, now)
        assert limit == yielding.limit
        known = yielding.link_rate
        if limit:
            assert limit >= min(settings_of.floor, known)
            assert limit <= max(settings_of.floor, known * (1 if settings_of.link_rate else 1.25))
        else:
            assert known == 0 or len(yielding._samples) < 2 or not yielding._samples
        assert yielding.other_rate >= 0


@given(link=LINKS)
@settings(max_examples=30, deadline=None)
def test_alone_it_has_all_but_the_margin(link: int) -> None:
    world = made(link, nobody).run(5.0)
    assert [own for own, _ in world.last(1.0)] == [pytest.approx((1 - MARGIN) * link, rel=0.01)] * 4


@given(link=LINKS, share=SHARES)
@settings(max_examples=60, deadline=None)
def test_beside_steady_traffic_it_settles_and_stays(link: int, share: float) -> None:
    world = made(link, lambda _: share * link).run(20.0)
    own = [each for each, _ in world.last(10.0)]
    assert [other for _, other in world.last(10.0)] == [pytest.approx(share * link)] * 40, "others have all that they ask for"
    # Below the noise it is the margin's business.
    left = (1 - MARGIN - share) * link
    assert min(own) >= min(max(left, FLOOR), link - share * link) * 0.98
    assert max(own) - min(own) <= 0.02 * link, "no oscillation"
    assert max(own) + share * link <= link * 1.001


@given(link=LINKS, alone_s=st.floats(3.0, 20.0))
@settings(max_examples=30, deadline=None)
def test_it_makes_room_within_two_seconds_for_others_who_want_everything(link: int, alone_s: float) -> None:
    world = made(link, lambda at: 1e12 if at >= 100.0 + alone_s else 0.0).run(alone_s + 2 * TICK_S)
    world.run(2.0)
    own, other = world.had[-1]
    assert other >= 0.75 * link
    world.run(3.0)
    for own, other in world.last(2.0):
        assert own <= max(FLOOR * OVERHEAD, 0.06 * link)
        assert other >= 0.9 * link - FLOOR * OVERHEAD


@given(link=LINKS, busy_s=st.floats(3.0, 30.0))
@settings(max_examples=30, deadline=None)
def test_it_has_the_link_again_soon_after_they_have_gone(link: int, busy_s: float) -> None:
    world = made(link, lambda at: 1e12 if at < 100.0 + busy_s else 0.0).run(busy_s + 4.0)
    assert world.had[-1][0] >= 0.85 * link


@given(link=LINKS, share=st.floats(0.1, 0.6), period=st.floats(2.0, 10.0))
@settings(max_examples=30, deadline=None)
def test_beside_traffic_that_comes_and_goes_both_get_on(link: int, share: float, period: float) -> None:
    world = made(link, lambda at: share * link if at % (2 * period) < period else 0.0).run(60.0)
    for own, other in world.had[8:]:
        assert own + other <= 1.001 * link
        assert own >= FLOOR * 0.99
    mean = sum(each for each, _ in world.had) / len(world.had)
    assert mean >= (1 - MARGIN - share) * link * 0.85, "not much less than if they were there all the time"


# -- a link whose rate nobody states ----------------------------------------------------------------------------------------


@given(link=LINKS, first=st.sampled_from([0, 1_250 * MB]))
@settings(max_examples=30, deadline=None)
def test_what_a_link_carries_is_learned(link: int, first: int) -> None:
    world = made(link, nobody, link_rate=0, first_guess=first).run(30.0)
    assert world.yielding.link_rate == pytest.approx(link, rel=0.01)
    assert world.last(1.0)[0][0] == pytest.approx((1 - MARGIN) * link, rel=0.05)


def test_before_anything_is_learned_the_card_is_believed_and_without_it_nothing_is_limited() -> None:
    world = made(LINK, nobody, link_rate=0, first_guess=2 * LINK).run(1.0)
    assert (world.yielding.link_rate, world.yielding.limit) == (2 * LINK, int(2 * LINK * (1 - MARGIN) / OVERHEAD))
    world = made(LINK, nobody, link_rate=0).run(1.0)
    assert (world.yielding.link_rate, world.yielding.limit) == (0, 0)


def test_others_alone_teach_nothing() -> None:
    world = made(LINK, lambda _: 0.3 * LINK, link_rate=0)
    world.wants = 0.1 * LINK
    world.run(20.0)
    assert world.yielding.link_rate == 0


def test_a_swarm_that_was_slow_at_first_is_not_taken_for_the_link() -> None:
    world = made(LINK, nobody, link_rate=0)
    world.wants = LINK / 20
    world.run(20.0)
    assert world.yielding.link_rate < LINK / 10
    world.wants = 1e12
    world.run(40.0)
    assert world.yielding.link_rate == pytest.approx(LINK, rel=0.02)


def test_a_rate_learned_beside_others_is_tried_out() -> None:
    world = made(LINK, lambda _: 0.3 * LINK, link_rate=0)
    world.wants = 0.35 * LINK
    world.run(20.0)
    assert world.yielding.link_rate == pytest.approx(0.65 * LINK, rel=0.1)
    world.wants = 1e12
    world.run(120.0)
    assert world.yielding.link_rate == pytest.approx(LINK, rel=0.05)


def test_what_is_tried_in_vain_is_tried_less_often() -> None:
    world = made(LINK, nobody, link_rate=0).run(60.0)
    before = len([limit for limit in world.limits if limit > LINK])
    world.run(1000.0)
    tries = sum(1 for a, b in zip(world.limits, world.limits[1:], strict=False) if a <= LINK < b)
    assert before
    assert 3 <= tries <= 10


def test_yields_with_a_learned_rate_too() -> None:
    world = made(LINK, lambda at: 1e12 if at >= 160.0 else 0.0, link_rate=0).run(62.0 + 2 * TICK_S)
    assert world.had[-1][1] >= 0.75 * LINK


# -- counters ---------------------------------------------------------------------------------------------------------------


def test_a_counter_that_begins_anew_is_no_traffic() -> None:
    world = made(LINK, nobody).run(5.0)
    limit = world.yielding.limit
    assert world.yielding.sampled(0, 0, world.now + 1.0) == limit
    assert world.yielding.sampled(int(LINK * 0.9), int(LINK * 0.9 / OVERHEAD), world.now + 2.0) == pytest.approx(limit, rel=0.01)


def test_samples_too_near_to_each_other_are_not_taken() -> None:
    world = made(LINK, nobody).run(5.0)
    seen = world.yielding.own_rate
    world.yielding.sampled(int(world.carried) + LINK, int(world.own), world.now + 0.01)
    assert world.yielding.own_rate == seen


def test_rates_are_of_the_wire() -> None:
    world = made(LINK, lambda _: 0.2 * LINK).run(10.0)
    assert world.yielding.other_rate == pytest.approx(0.2 * LINK, rel=0.01)
    assert world.yielding.own_rate == pytest.approx(0.7 * LINK, rel=0.01)
