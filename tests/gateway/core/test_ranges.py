"""Range requests (RFC 9110 §14)."""

import email

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.ranges import Part, Several, Unsatisfiable, Whole, answer_for, resolve


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
        ("BYTES=0-0", Part(0, 1)),
        ("bytes= 0 - 0 ", Part(0, 1)),
        ("Bytes = 0-0", Whole()),
        ("bytes=0-0,", Unsatisfiable()),
        ("bytes=1000-", Unsatisfiable()),
        ("bytes=-0", Unsatisfiable()),
        ("bytes=1000-1001,2000-", Unsatisfiable()),
        ("bytes=0-0,-1", Several((Part(0, 1), Part(999, 1000)))),
        ("bytes=5-6, 1-2", Several((Part(5, 7), Part(1, 3)))),
        ("bytes=0-0,5000-", Part(0, 1)),
        ("bytes=0-,0-0", Whole()),
        ("bytes=5-2", Unsatisfiable()),
        ("bytes=a-b", Unsatisfiable()),
        ("bytes=-", Unsatisfiable()),
        ("bytes=", Whole()),
        ("bytes", Whole()),
        ("", Whole()),
        ("lines=0-1", Whole()),
        ("bytes=+1-2", Unsatisfiable()),
        ("bytes=١-٢", Unsatisfiable()),
        ("bytes=" + ",".join(["1000-"] * 1000), Whole()),
        ("bytes=" + "9" * 5000 + "-", Unsatisfiable()),
    ],
)
def test_of_a_thousand_bytes(value: str | None, answer: object) -> None:
    assert resolve(value, length=1000) == answer


def test_how_the_answer_names_it() -> None:
    assert Part(500, 1000).content_range(1000) == "bytes 500-999/1000"
    assert Unsatisfiable().content_range(1000) == "bytes */1000"


def test_an_empty_content_has_no_part() -> None:
    assert resolve("bytes=0-", length=0) == Whole()
    assert resolve("bytes=5-", length=0) == Unsatisfiable()
    assert resolve("bytes=-1", length=0) == Whole()


@given(st.integers(0, 200), st.integers(0, 200), st.integers(1, 100))
def test_a_range_is_what_a_slice_is(first: int, last: int, length: int) -> None:
    content = bytes(length)
    answer = resolve(f"bytes={first}-{last}", length=length)
    if last < first or first >= length:
        assert answer == Unsatisfiable()
    else:
        assert isinstance(answer, Part)
        assert content[answer.start : answer.stop] == content[first : last + 1]
        assert 0 <= answer.start < answer.stop <= length


@given(st.text(max_size=40), st.integers(0, 1 << 44))
def test_no_text_breaks_it(text: str, length: int) -> None:
    for value in (text, f"bytes={text}"):
        answer = resolve(value, length=length)
        parts = answer.parts if isinstance(answer, Several) else (answer,)
        assert all(0 <= each.start < each.stop <= length for each in parts if isinstance(each, Part))


@given(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)), min_size=1, max_size=9))
def test_a_body_of_several_parts_reads_as_what_was_asked_for(pairs: list[tuple[int, int]]) -> None:
    content = bytes(range(100))
    value = "bytes=" + ",".join(f"{first}-{last}" for first, last in pairs)
    answer = resolve(value, length=100)
    if isinstance(answer, Unsatisfiable):
        assert all(last < first for first, last in pairs)
        return
    told = answer_for(answer, length=100, content_type="a/b", boundary="B")
    body = b"".join(each if isinstance(each, bytes) else content[each.start : each.stop] for each in told.body)
    assert len(body) == told.size
    if isinstance(answer, Several):
        message = email.message_from_bytes(b"Content-Type: " + dict(told.headers)["Content-Type"].encode() + b"\r\n\r\n" + body)
        got = [each.get_payload(decode=True) for each in message.walk() if not each.is_multipart()]
        assert got == [content[first : last + 1] for first, last in pairs if last >= first]
        assert told.status == 206
