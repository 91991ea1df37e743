"""Conditional requests (RFC 9110 §13)."""

import pytest

from gateway.core.conditions import Outcome, Validators, evaluate, range_applies

_AT = "Tue, 24 Nov 2026 08:00:00 GMT"
_BEFORE = "Tue, 24 Nov 2026 07:59:59 GMT"
_AFTER = "Tue, 24 Nov 2026 08:00:01 GMT"
_HERE = Validators(etags=('"a"', 'W/"w"', '"x,y"'), last_modified=_AT)


@pytest.mark.parametrize(
    ("fields", "outcome"),
    [
        ({}, Outcome.GO_ON),
        ({"If-None-Match": '"a"'}, Outcome.NOT_MODIFIED),
        ({"If-None-Match": 'W/"a"'}, Outcome.NOT_MODIFIED),
        ({"If-None-Match": '"b", W/"w"'}, Outcome.NOT_MODIFIED),
        ({"If-None-Match": '"q", "x,y"'}, Outcome.NOT_MODIFIED),
        ({"If-None-Match": "*"}, Outcome.NOT_MODIFIED),
        ({"If-None-Match": '"b"'}, Outcome.GO_ON),
        ({"If-None-Match": "b"}, Outcome.GO_ON),
        ({"If-None-Match": '"b"', "If-Modified-Since": _AT}, Outcome.GO_ON),
        ({"If-Modified-Since": _AT}, Outcome.NOT_MODIFIED),
        ({"If-Modified-Since": _AFTER}, Outcome.NOT_MODIFIED),
        ({"If-Modified-Since": _BEFORE}, Outcome.GO_ON),
        ({"If-Modified-Since": "yesterday"}, Outcome.GO_ON),
        ({"If-Match": '"a"'}, Outcome.GO_ON),
        ({"If-Match": "*"}, Outcome.GO_ON),
        ({"If-Match": 'W/"w"'}, Outcome.FAILED),
        ({"If-Match": '"b"'}, Outcome.FAILED),
        ({"If-Match": '"a"', "If-Unmodified-Since": _BEFORE}, Outcome.GO_ON),
        ({"If-Match": '"a"', "If-None-Match": '"a"'}, Outcome.NOT_MODIFIED),
        ({"If-Unmodified-Since": _AT}, Outcome.GO_ON),
        ({"If-Unmodified-Since": _BEFORE}, Outcome.FAILED),
        ({"If-Unmodified-Since": "?"}, Outcome.GO_ON),
    ],
)
def test_the_outcome(fields: dict[str, str], outcome: Outcome) -> None:
    assert evaluate(tuple(fields.items()), _HERE) is outcome


def test_without_a_date_no_date_decides() -> None:
    nothing = Validators()
    assert evaluate((("If-Modified-Since", _AT),), nothing) is Outcome.GO_ON
    assert evaluate((("If-Unmodified-Since", _AT),), nothing) is Outcome.GO_ON


def test_lines_of_one_field_are_one_list() -> None:
    assert evaluate((("If-None-Match", '"b"'), ("if-none-match", '"a"')), _HERE) is Outcome.NOT_MODIFIED


@pytest.mark.parametrize(
    ("if_range", "applies"),
    [
        (None, True),
        (' "a" ', True),
        ('"b"', False),
        ('W/"w"', False),
        (_AT, True),
        (_AFTER, False),
        ("never", False),
    ],
)
def test_if_range_holds_for_exactly_this_version(if_range: str | None, applies: bool) -> None:
    headers = () if if_range is None else (("If-Range", if_range),)
    assert range_applies(headers, _HERE) is applies


def test_if_range_by_date_needs_a_date() -> None:
    assert not range_applies((("If-Range", _AT),), Validators(etags=('"a"',)))
