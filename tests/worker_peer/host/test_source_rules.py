"""What goes to a source, and what its answers mean: the rules alone."""

import base64
from typing import Any

import pytest

from wire.errors import ErrorCode
from wire.ids import ByteRange
from worker_peer.host.source_rules import (
    Answer,
    SourceError,
    may_condition,
    read_answer,
    request_headers,
    status_error,
    target_of,
    wanted_range,
    without_credentials,
)


def answered(status: int, headers: dict[str, str], **changes: Any) -> Answer:
    asked: dict[str, Any] = {"byte_range": None, "offset": 0, "validator": "", "encoding_asked": False}
    return read_answer(status, headers, name="https://h/p", **(asked | changes))


# URLs


@pytest.mark.parametrize(
    ("url", "sent", "origin"),
    [
        ("http://h", "http://h/", ("http", "h", 80)),
        ("HTTPS://H:8443/a%2Fb?x=%7e&y=a+b", "https://h:8443/a%2Fb?x=%7e&y=a+b", ("https", "h", 8443)),
        ("https://h/a b/ü?q=é#fragment", "https://h/a%20b/%C3%BC?q=%C3%A9", ("https", "h", 443)),
        ("http://[::1]:80/x", "http://[::1]:80/x", ("http", "::1", 80)),
        ("http://bücher.example/", "http://xn--bcher-kva.example/", ("http", "xn--bcher-kva.example", 80)),
        ("https://h/s3?Signature=a%2Bb%3D&Expires=1", "https://h/s3?Signature=a%2Bb%3D&Expires=1", ("https", "h", 443)),
    ],
)
def test_a_url_is_sent_as_it_is_spelled(url: str, sent: str, origin: tuple[str, str, int]) -> None:
    target = target_of(url)
    assert (target.url, target.origin, target.basic) == (sent, origin, None)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/p",
        "ftp://h/p",
        "file:///etc/passwd",
        "http://",
        "http:///p",
        "http://h:x/",
        "http://h:99999/",
        "http://h/\r\nX: y",
        "http://h h/",
    ],
)
def test_what_is_no_url_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(SourceError, match="the source's URL cannot be used") as caught:
        target_of(url)
    assert caught.value.code is ErrorCode.SOURCE_ERROR
    assert not caught.value.retryable


def test_user_information_becomes_basic_credentials() -> None:
    target = target_of("https://us%40er:p%3Aw@h/p?sig=1")
    assert target.url == "https://h/p?sig=1"
    assert target.basic == "Basic " + base64.b64encode(b"us@er:p:w").decode()
    assert target.name == "https://h/p?..."


# Headers


def test_headers_of_one_connection_and_of_other_answers_stay_here() -> None:
    given = (
        ("Connection", "close, X-Hop"),
        ("X-Hop", "1"),
        ("Keep-Alive", "5"),
        ("Proxy-Authorization", "Basic x"),
        ("proxy-connection", "x"),
        ("TE", "trailers"),
        ("Trailer", "x"),
        ("Transfer-Encoding", "chunked"),
        ("Upgrade", "h2c"),
        ("Host", "evil"),
        ("Range", "bytes=0-1"),
        ("If-None-Match", '"x"'),
        ("X-One", "1"),
        ("x-one", "2"),
        ("Authorization", "Bearer t"),
    )
    assert request_headers(given, "agent/1", None) == (
        ("X-One", "1"),
        ("x-one", "2"),
        ("Authorization", "Bearer t"),
        ("User-Agent", "agent/1"),
        ("Accept-Encoding", "identity"),
    )


def test_the_callers_own_words_win() -> None:
    given = (("user-agent", "mine"), ("accept-encoding", "gzip"), ("AUTHORIZATION", "Bearer t"))
    assert request_headers(given, "agent/1", "Basic url") == given
    assert ("Authorization", "Basic url") in request_headers((), "agent/1", "Basic url")


@pytest.mark.parametrize("pair", [("X\r\nY", "1"), ("", "1"), ("a b", "1"), ("X", "1\r\nY: 2"), ("X", "\0"), ("X", "a\nb")])
def test_a_header_that_would_be_two_is_refused(pair: tuple[str, str]) -> None:
    with pytest.raises(SourceError, match="not well formed"):
        request_headers((pair,), "agent", None)


def test_credentials_by_whatever_name() -> None:
    secret = (
        "Authorization",
        "cookie",
        "Proxy-Authorization",
        "X-Auth",
        "PRIVATE-TOKEN",
        "x-client-secret",
        "X-Api-Key",
        "X-JFrog-Art-Api",
    )
    kept = (("User-Agent", "a"), ("Accept", "*/*"), ("X-Trace", "1"))
    assert without_credentials((*((name, "s") for name in secret), *kept)) == kept


# Ranges


def test_the_range_to_ask_for() -> None:
    assert wanted_range(None, 0) is None
    assert wanted_range(None, 5) == ByteRange(5, None)
    assert wanted_range(ByteRange(10, 19), 0) == ByteRange(10, 19)
    assert wanted_range(ByteRange(10, 19), 9) == ByteRange(19, 19)
    assert wanted_range(ByteRange(10, None), 5) == ByteRange(15, None)
    assert wanted_range(None, 0, 7) == ByteRange(0, 6)
    assert wanted_range(ByteRange(10, None), 5, 7) == ByteRange(15, 16)
    assert wanted_range(ByteRange(10, 19), 5, 7) == ByteRange(15, 16)
    assert wanted_range(ByteRange(10, 19), 5, 70) == ByteRange(15, 19)
    with pytest.raises(ValueError, match="past the end"):
        wanted_range(ByteRange(10, 19), 10)


@pytest.mark.parametrize(
    ("content_range", "byte_range", "offset", "span"),
    [
        ("bytes 5-99/100", None, 5, (100, 5, 95)),
        ("bytes 10-19/100", ByteRange(10, 19), 0, (10, 0, 10)),
        ("bytes 14-19/100", ByteRange(10, 19), 4, (10, 4, 6)),
        ("bytes 10-19/*", ByteRange(10, 19), 0, (10, 0, 10)),
        ("bytes 10-99/100", ByteRange(10, None), 0, (90, 0, 90)),
        ("bytes 90-99/100", ByteRange(90, 500), 0, (10, 0, 10)),
    ],
)
def test_a_right_part(content_range: str, byte_range: ByteRange | None, offset: int, span: tuple[int, int, int]) -> None:
    answer = answered(206, {"Content-Range": content_range}, byte_range=byte_range, offset=offset)
    assert (answer.length, answer.offset, answer.body_length) == span


@pytest.mark.parametrize(
    ("content_range", "byte_range", "offset", "length"),
    [
        ("", ByteRange(10, 19), 0, None),
        ("bytes 10-19/100", None, 0, None),
        ("bytes 0-9/100", ByteRange(10, 19), 0, None),
        ("bytes 10-18/100", ByteRange(10, 19), 0, None),
        ("bytes 10-20/100", ByteRange(10, 19), 0, None),
        ("bytes 10-5/100", ByteRange(10, 19), 0, None),
        ("bytes 10-18/*", ByteRange(10, 19), 0, None),
        ("bytes 10-19/100", ByteRange(10, 19), 0, "11"),
        ("bytes 5-98/100", None, 5, None),
        ("bytes 5-99/*", None, 5, None),
        ("items 10-19/100", ByteRange(10, 19), 0, None),
        ("bytes */100", ByteRange(10, 19), 0, None),
    ],
)
def test_a_wrong_part(content_range: str, byte_range: ByteRange | None, offset: int, length: str | None) -> None:
    headers = {"Content-Range": content_range} | ({"Content-Length": length} if length else {})
    with pytest.raises(SourceError) as caught:
        answered(206, headers, byte_range=byte_range, offset=offset)
    assert caught.value.code is ErrorCode.SOURCE_ERROR
    assert not caught.value.retryable


def test_a_whole_answer_to_a_part() -> None:
    for full in (ByteRange(0, None), ByteRange(0, 99), ByteRange(0, 500)):
        assert answered(200, {"Content-Length": "100"}, byte_range=full).length == 100
    for part in (ByteRange(0, 98), ByteRange(1, None), ByteRange(10, 19)):
        with pytest.raises(SourceError, match="does not answer ranges"):
            answered(200, {"Content-Length": "100"}, byte_range=part)
    with pytest.raises(SourceError, match="does not answer ranges"):
        answered(200, {}, byte_range=ByteRange(0, 99))


def test_a_whole_answer_to_a_resumption_begins_at_zero() -> None:
    answer = answered(200, {"Content-Length": "100"}, offset=50)
    assert (answer.length, answer.offset, answer.body_length) == (100, 0, 100)


# Lengths, encodings, validators


@pytest.mark.parametrize("text", ["", "-1", "1e3", "12, 12", "９"])
def test_a_length_that_is_none(text: str) -> None:
    assert answered(200, {"Content-Length": text}).length is None


def test_a_transfer_coding_overrides_the_length() -> None:
    assert answered(200, {"Content-Length": "5", "Transfer-Encoding": "chunked"}).length is None


def test_an_encoding_is_taken_only_if_asked_for() -> None:
    with pytest.raises(SourceError, match="'gzip'-encoded bytes without being asked"):
        answered(200, {"Content-Encoding": "gzip"})
    assert answered(200, {"Content-Encoding": "gzip"}, encoding_asked=True).content_encoding == "gzip"
    assert answered(200, {"Content-Encoding": "identity"}).content_encoding == "identity"


@pytest.mark.parametrize(
    ("validator", "headers", "changed"),
    [
        ('"a"', {"ETag": '"a"'}, False),
        ('"a"', {"ETag": '"b"'}, True),
        ('W/"a"', {"ETag": 'W/"b"'}, True),
        ('"a"', {"Last-Modified": "Sun, 06 Nov 1994 08:49:37 GMT"}, False),
        ("Sun, 06 Nov 1994 08:49:37 GMT", {"ETag": '"b"', "Last-Modified": "Sun, 06 Nov 1994 08:49:37 GMT"}, False),
        ("Sun, 06 Nov 1994 08:49:37 GMT", {"Last-Modified": "Mon, 07 Nov 1994 08:49:37 GMT"}, True),
        ("", {"ETag": '"b"'}, False),
    ],
)
def test_another_content_under_the_same_url(validator: str, headers: dict[str, str], changed: bool) -> None:
    if not changed:
        assert answered(200, headers, validator=validator).validator == headers.get("ETag", headers.get("Last-Modified"))
        return
    with pytest.raises(SourceError) as caught:
        answered(200, headers, validator=validator)
    assert caught.value.code is ErrorCode.SOURCE_CHANGED


def test_a_weak_validator_is_no_condition() -> None:
    assert may_condition('"a"')
    assert may_condition("Sun, 06 Nov 1994 08:49:37 GMT")
    assert not may_condition('W/"a"')
    assert not may_condition("")


@pytest.mark.parametrize(
    ("status", "code", "retryable"),
    [
        (401, ErrorCode.SOURCE_NEEDS_AUTH, False),
        (407, ErrorCode.SOURCE_NEEDS_AUTH, False),
        (403, ErrorCode.SOURCE_FORBIDDEN, False),
        (404, ErrorCode.SOURCE_NOT_FOUND, False),
        (410, ErrorCode.SOURCE_NOT_FOUND, False),
        (416, ErrorCode.SOURCE_ERROR, False),
        (204, ErrorCode.SOURCE_ERROR, False),
        (304, ErrorCode.SOURCE_ERROR, False),
        (400, ErrorCode.SOURCE_ERROR, False),
        (429, ErrorCode.SOURCE_ERROR, True),
        (500, ErrorCode.SOURCE_ERROR, True),
        (503, ErrorCode.SOURCE_ERROR, True),
    ],
)
def test_statuses(status: int, code: ErrorCode, retryable: bool) -> None:
    with pytest.raises(SourceError, match=f"https://h/p answers {status}: it ") as caught:
        answered(status, {})
    assert (caught.value.code, caught.value.status, caught.value.retryable) == (code, status, retryable)


def test_a_source_that_became_shorter_has_changed() -> None:
    assert status_error(416, "n", resumed_at=5).code is ErrorCode.SOURCE_CHANGED
