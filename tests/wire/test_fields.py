"""What each field type lets through, what it refuses, and how PROTOCOL.md names it."""

from dataclasses import MISSING, dataclass, fields
from enum import IntEnum
from typing import Any

import pytest

from wire.fields import (
    ABOUT,
    SPEC,
    FieldError,
    Flag,
    Many,
    Maybe,
    OneOf,
    Pattern,
    Raw,
    Real,
    Row,
    Spec,
    Text,
    Whole,
    wired,
)


class Colour(IntEnum):
    RED = 1
    BLUE = 2


HEXADECIMAL = Pattern(lambda text: all(each in "0123456789abcdef" for each in text), "hexadecimal text")
NAN, INFINITE = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("spec", "value"),
    [
        (Text(3), ""),
        (Text(3), "äöü"),
        (HEXADECIMAL, "beef"),
        (Raw(4), b""),
        (Raw(4), b"1234"),
        (Raw(64, 32), bytes(64)),
        (Whole(-1, 5), -1),
        (Whole(-1, 5), 5),
        (Real(2.5), 0.0),
        (Real(2.5), 2.5),
        (Flag(), True),
        (Many(Whole(0, 9), 2), ()),
        (Many(Whole(0, 9), 2), (1, 2)),
        (Row((Flag(), Text(1))), (False, "x")),
        (Maybe(Flag()), None),
        (Maybe(Flag()), False),
    ],
)
def test_lets_through_unchanged(spec: Spec, value: Any) -> None:
    taken = spec.check(value)
    assert taken == value
    assert type(taken) is type(value)


@pytest.mark.parametrize(
    ("spec", "value", "words"),
    [
        (Text(3), "1234", "not a text of at most 3"),
        (Text(3), b"123", "not a text"),
        (Text(3), None, "not a text"),
        (HEXADECIMAL, "xyz", "not a hexadecimal text"),
        (HEXADECIMAL, 7, "not a hexadecimal text"),
        (Raw(4), b"12345", "not at most 4 bytes"),
        (Raw(4), "1234", "not at most 4 bytes"),
        (Raw(4), bytearray(2), "not at most 4 bytes"),
        (Raw(64, 32), bytes(33), "in units of 32"),
        (Whole(0, 5), 6, "from 0 to 5"),
        (Whole(0, 5), -1, "from 0 to 5"),
        (Whole(0, 5), True, "not a whole number"),
        (Whole(0, 5), 1.0, "not a whole number"),
        (Whole(0, 5), "1", "not a whole number"),
        (Real(2.5), 2.6, "from 0 to 2.5"),
        (Real(2.5), -0.1, "from 0 to 2.5"),
        (Real(2.5), NAN, "not a number"),
        (Real(2.5), INFINITE, "not a number"),
        (Real(2.5), -INFINITE, "not a number"),
        (Real(2.5), True, "not a number"),
        (Real(2.5), "1", "not a number"),
        (Flag(), 1, "not true or false"),
        (Flag(), None, "not true or false"),
        (OneOf(Colour), 3, "3 is no Colour"),
        (OneOf(Colour), True, "not a Colour"),
        (OneOf(Colour), 1.0, "not a Colour"),
        (OneOf(Colour), "RED", "not a Colour"),
        (Many(Flag(), 2), (True, True, True), "not a list of at most 2"),
        (Many(Flag(), 2), [True], "not a list"),
        (Many(Flag(), 2), {"a": 1}, "not a list"),
        (Many(Flag(), 2), (True, 1), "not true or false"),
        (Row((Flag(), Flag())), (True,), "not a list of 2"),
        (Row((Flag(), Flag())), (True, True, True), "not a list of 2"),
        (Row((Flag(), Flag())), [True, True], "not a list of 2"),
        (Row((Flag(), Flag())), (True, 0), "not true or false"),
        (Maybe(Flag()), 0, "not true or false"),
    ],
)
def test_refuses_with_the_reason(spec: Spec, value: Any, words: str) -> None:
    with pytest.raises(FieldError, match=words):
        spec.check(value)


def test_a_whole_number_is_a_number_too() -> None:
    taken = Real(10).check(3)
    assert (taken, type(taken)) == (3.0, float)


def test_an_enum_is_given_back_as_its_member() -> None:
    assert OneOf(Colour).check(2) is Colour.BLUE
    assert OneOf(Colour).check(Colour.RED) is Colour.RED
    assert Many(OneOf(Colour), 4).check((1, 2)) == (Colour.RED, Colour.BLUE)
    assert Row((OneOf(Colour),)).check((2,))[0] is Colour.BLUE


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (Text(3), "text ≤ 3"),
        (HEXADECIMAL, "hexadecimal text"),
        (Raw(4), "bytes ≤ 4"),
        (Raw(64, 32), "bytes ≤ 64, n × 32"),
        (Whole(0, 5), "int 0..5"),
        (Real(2.5), "number 0..2.5"),
        (Flag(), "bool"),
        (OneOf(Colour), "Colour"),
        (Many(Flag(), 2), "list ≤ 2 of (bool)"),
        (Row((Flag(), Text(1))), "[bool, text ≤ 1]"),
        (Maybe(Flag()), "bool or nil"),
    ],
)
def test_describes_itself(spec: Spec, words: str) -> None:
    assert spec.describe() == words


def test_a_wired_field_carries_its_spec_and_its_default() -> None:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Example:
        needed: int = wired(Whole(0, 5), "a number")
        spare: int = wired(Whole(0, 5), "another", 4)

    needed, spare = fields(Example)
    assert (needed.metadata[SPEC], needed.metadata[ABOUT], needed.default) == (Whole(0, 5), "a number", MISSING)
    assert (spare.metadata[ABOUT], spare.default) == ("another", 4)
    assert Example(needed=1).spare == 4
