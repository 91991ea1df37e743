"""Whose turn it is: who has had least, and a late comer does not make up for what it was not there for."""

from worker_peer.core.turns import Turns


def test_who_has_had_least_comes_first() -> None:
    turns = Turns()
    turns.began("a")
    turns.began("b")
    turns.took("a", 100)
    turns.took("b", 60)
    assert sorted(["a", "b"], key=turns.had) == ["b", "a"]
    turns.began("a")
    assert turns.had("a") == 100, "it had begun"


def test_a_late_comer_begins_where_the_last_one_is() -> None:
    turns = Turns()
    turns.began("a")
    turns.began("b")
    turns.took("a", 100)
    turns.took("b", 60)
    turns.began("c")
    assert turns.had("c") == 60
    turns.ended("a")
    turns.ended("never began")
    assert turns.had("a") == 0
