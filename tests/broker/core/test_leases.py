"""The book of leases: what is granted is found again from all sides, and ends in just the ways it may."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from broker.core.leases import LeaseBook


def book() -> LeaseBook:
    """Two leases: 1 feeds a from p, 2 feeds b from p."""
    made = LeaseBook()
    made.grant(1, task="t", child="a", parent="p", pieces=[3, 4], until=10.0)
    made.grant(2, task="t", child="b", parent="p", pieces=[5], until=20.0)
    made.validate()
    return made


def numbers(made: LeaseBook) -> list[int]:
    return sorted(lease.lease for lease in made)


def test_a_second_grant_of_a_number_adds_pieces_and_never_shortens() -> None:
    made = book()
    made.grant(1, task="t", child="a", parent="p", pieces=[7], until=5.0)
    (lease,) = [each for each in made if each.lease == 1]
    assert (lease.pieces, lease.until) == ({3, 4, 7}, 10.0)
    made.grant(1, task="t", child="a", parent="p", pieces=[8], until=30.0)
    assert lease.until == 30.0
    assert len(made) == 2


def test_a_lease_ends_with_its_last_piece() -> None:
    made = book()
    assert made.take_back("a", "t", 1, 3) == "p"
    assert numbers(made) == [1, 2]
    assert made.take_back("a", "t", 1, 4) == "p"
    assert numbers(made) == [2]
    made.validate()
    assert made.take_back("a", "t", 1, 4) is None


@pytest.mark.parametrize(
    ("child", "task", "number", "piece"),
    [
        ("b", "t", 1, 3),  # another child's lease
        ("a", "u", 1, 3),  # another task's
        ("a", "t", 9, 3),  # nobody's
        ("a", "t", 1, 5),  # a piece that is not in it
    ],
)
def test_only_what_was_granted_is_taken_back(child: str, task: str, number: int, piece: int) -> None:
    made = book()
    assert made.take_back(child, task, number, piece) is None
    assert {lease.lease: lease.pieces for lease in made} == {1: {3, 4}, 2: {5}}


def test_only_its_child_renews_a_lease() -> None:
    made = book()
    made.renew("b", 1, 99.0)
    made.renew("a", 7, 99.0)
    assert [lease.lease for lease in made.expire(10.0)] == [1]
    made.renew("b", 2, 99.0)
    assert made.expire(98.9) == []


def test_leases_expire_at_their_time_and_not_before() -> None:
    made = book()
    assert made.expire(9.99) == []
    assert [(lease.child, lease.pieces) for lease in made.expire(10.0)] == [("a", {3, 4})]
    assert [lease.lease for lease in made.expire(20.0)] == [2]
    assert len(made) == 0
    made.validate()


def test_a_member_that_leaves_ends_what_it_was_to_get_and_to_give_of_that_task_only() -> None:
    made = book()
    made.grant(3, task="u", child="a", parent="q", pieces=[0], until=1.0)
    made.grant(4, task="t", child="c", parent="a", pieces=[0], until=1.0)
    made.end_of_member("a", "t")
    assert numbers(made) == [2, 3]
    made.end_of_member("nobody", "t")
    assert numbers(made) == [2, 3]
    made.validate()


def test_a_parent_that_serves_no_more_may_go_on_as_a_child() -> None:
    made = book()
    made.grant(3, task="u", child="a", parent="p", pieces=[0], until=1.0)
    made.grant(4, task="t", child="p", parent="q", pieces=[0], until=1.0)
    made.end_of_parent("p", "t")
    assert numbers(made) == [3, 4]
    made.end_of_parent("a", "t")
    assert numbers(made) == [3, 4]
    made.validate()


names, some_tasks, some_numbers = st.sampled_from("abc"), st.sampled_from("tu"), st.integers(1, 6)
steps = st.one_of(
    st.tuples(st.just("grant"), some_numbers, st.integers(0, 3), st.floats(0, 10)),
    st.tuples(st.just("take back"), names, some_tasks, some_numbers, st.integers(0, 3)),
    st.tuples(st.just("renew"), names, some_numbers, st.floats(0, 10)),
    st.tuples(st.just("member"), names, some_tasks),
    st.tuples(st.just("parent"), names, some_tasks),
    st.tuples(st.just("expire"), st.floats(0, 10)),
)


@given(st.lists(steps, max_size=30))
def test_whatever_happens_its_indexes_agree(script: list[tuple[object, ...]]) -> None:
    made = LeaseBook()
    for step in script:
        match step:
            case "grant", int(number), int(piece), float(until):
                # A number belongs to one task, child and parent, as the matcher gives them out.
                made.grant(
                    number, task="tu"[number % 2], child="abc"[number % 3], parent="bca"[number % 3], pieces=[piece], until=until
                )
            case "take back", str(child), str(task), int(number), int(piece):
                made.take_back(child, task, number, piece)
            case "renew", str(child), int(number), float(until):
                made.renew(child, number, until)
            case "member", str(peer), str(task):
                made.end_of_member(peer, task)
            case "parent", str(parent), str(task):
                made.end_of_parent(parent, task)
            case "expire", float(now):
                assert all(lease.until <= now for lease in made.expire(now))
                assert all(lease.until > now for lease in made)
        made.validate()
