"""Range requests (RFC 9110 §14)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.ranges import Part, Unsatisfiable, Whole, resolve


@pytest.mark.parametrize(
    ("value", "answer"),
    [
        (None, Whole()),
        ("bytes=0-499", Part(0, 500)),
        ("bytes=500-999", Part(500, 1000)),
        ("bytes=500-", Part(500, 1000)),
        ("bytes=-500", Part(500, 1000)),
        ("bytes=-5000", Part(0, 1000)),
        ("bytes=999-", Part(999, 1000)),
        ("bytes=0-100000000000000000000", Part(0, 1000)),
        ("Bytes = 0-0", Part(0, 1)),
        ("bytes=0-0,", Part(0, 1)),
        ("bytes=1000-", Unsatisfiable()),
        ("bytes=-0", Unsatisfiable()),
        ("bytes=1000-1001,2000-", Unsatisfiable()),
        ("bytes=0-0,-1", Whole()),
        ("bytes=0-0,5000-", Whole()),
        ("bytes=5-2", Whole()),
        ("bytes=a-b", Whole()),
        ("bytes=-", Whole()),
        ("bytes=", Whole()),
        ("bytes", Whole()),
        ("", Whole()),
        ("lines=0-1", Whole()),
        ("bytes=+1-2", Whole()),
        ("bytes=١-٢", Whole()),
        ("bytes=" + ",".join(["1000-"] * 1000), Whole()),
        ("bytes=" + "9" * 5000 + "-", Whole()),
    ],
)
def test_of_a_thousand_bytes(value: str | None, answer: object) -> None:
    assert resolve(value, length=1000) == answer


def test_how_the_answer_names_it() -> None:
    assert Part(500, 1000).content_range(1000) == "bytes 500-999/1000"
    assert Unsatisfiable().content_range(1000) == "bytes */1000"


def test_an_empty_content_has_no_part() -> None:
    assert resolve("bytes=0-", length=0) == Unsatisfiable()
    assert resolve("bytes=-1", length=0) == Whole()


@pytest.mark.parametrize(
    ("if_range", "etag", "holds"),
    [
        ('"sha256:a"', '"sha256:a"', True),
        ('"sha256:b"', '"sha256:a"', False),
        ('W/"sha256:a"', '"sha256:a"', False),
        ("Wed, 21 Oct 2015 07:28:00 GMT", '"sha256:a"', False),
        ('"sha256:a"', None, False),
    ],
)
def test_if_range_holds_for_exactly_this_content(if_range: str, etag: str | None, holds: bool) -> None:
    assert resolve("bytes=0-0", length=10, if_range=if_range, etag=etag) == (Part(0, 1) if holds else Whole())


@given(st.integers(0, 200), st.integers(0, 200), st.integers(1, 100))
def test_a_range_is_what_a_slice_is(first: int, last: int, length: int) -> None:
    content = bytes(length)
    answer = resolve(f"bytes={first}-{last}", length=length)
    if last < first:
        assert answer == Whole()
    elif first >= length:
        assert answer == Unsatisfiable()
    else:
        assert isinstance(answer, Part)
        assert content[answer.start : answer.stop] == content[first : last + 1]
        assert 0 <= answer.start < answer.stop <= length


@given(st.text(max_size=40), st.integers(0, 1 << 44))
def test_no_text_breaks_it(text: str, length: int) -> None:
    for value in (text, f"bytes={text}"):
        answer = resolve(value, length=length)
        assert not isinstance(answer, Part) or 0 <= answer.start < answer.stop <= length
