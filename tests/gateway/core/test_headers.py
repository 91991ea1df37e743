"""Which header fields cross the gateway."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.headers import (
    HOP_BY_HOP,
    Headers,
    end_to_end,
    first,
    has_passed,
    impersonal,
    is_conditional,
    is_shareable,
    listed,
    representation,
    to_client,
    to_source,
    to_upstream,
    via,
    without,
)

_NAMES = st.sampled_from(
    ["Accept", "X-A", "x-b", "Set-Cookie", "Connection", "TE", "Keep-Alive", "Host", "Authorization", "Range"]
)
_FIELDS = st.lists(st.tuples(_NAMES, st.sampled_from(["x-a", "close", "X-B, te", "1", "authorization"])), max_size=12).map(tuple)


@given(_FIELDS)
def test_what_stays_keeps_its_order_and_repeats(fields: tuple[tuple[str, str], ...]) -> None:
    kept = end_to_end(fields)
    rest = iter(fields)
    assert all(each in rest for each in kept)
    dropped = HOP_BY_HOP | set(listed(fields, "Connection"))
    lost = [name for name, _ in fields if (name.lower() not in {key.lower() for key, _ in kept})]
    assert all(name.lower() in dropped for name in lost)
    assert not any(name.lower() in HOP_BY_HOP for name, _ in kept)


@given(_FIELDS)
def test_nobody_can_take_the_credentials_away_by_naming_them_in_connection(fields: tuple[tuple[str, str], ...]) -> None:
    kept = end_to_end(fields)
    assert [each for each in kept if each[0] == "Authorization"] == [each for each in fields if each[0] == "Authorization"]


def test_fields_that_connection_names_end_here_in_both_directions() -> None:
    fields = (("Connection", "close, X-Hop"), ("x-hop", "1"), ("X-End", "2"))
    assert end_to_end(fields) == (("X-End", "2"),)
    assert to_client(fields) == (("X-End", "2"),)


def test_the_upstream_gets_its_own_host_and_the_clients_other_fields_as_they_were() -> None:
    fields = (("Host", "proxy"), ("Accept", "a"), ("Accept", "b"), ("Proxy-Authorization", "Basic x"), ("Expect", "100-continue"))
    assert to_upstream(fields, host="registry:5000") == (("Host", "registry:5000"), ("Accept", "a"), ("Accept", "b"))


def test_the_source_of_a_whole_content_gets_no_part_no_condition_and_no_coding() -> None:
    fields = (
        ("Host", "h"), ("Range", "bytes=1-"), ("If-Range", '"a"'), ("Accept-Encoding", "gzip"), ("If-None-Match", '"a"'),
        ("Authorization", "Bearer t"), ("User-Agent", "docker"), ("Connection", "close"), ("Content-Length", "0"),
    )  # fmt: skip
    assert to_source(fields) == (("Authorization", "Bearer t"), ("User-Agent", "docker"))


def test_names_are_compared_without_case() -> None:
    assert first((("cONTENT-type", "a"), ("Content-Type", "b")), "Content-Type") == "a"
    assert first((), "Content-Type") is None
    assert is_conditional((("if-none-MATCH", "*"),))
    assert not is_conditional((("If-Range", '"a"'),))


def test_a_hop_leaves_its_name_and_knows_it_again() -> None:
    noted = via((("Via", "1.0 fred"), ("A", "b")), "HTTP/1.1", "damselfly-1")
    assert noted == (("Via", "1.0 fred"), ("A", "b"), ("Via", "1.1 damselfly-1"))
    assert has_passed(noted, "Damselfly-1")
    assert not has_passed(noted, "damselfly")
    assert not has_passed((), "damselfly-1")


def test_another_origin_hears_nothing_of_the_client() -> None:
    fields = (("Authorization", "a"), ("Cookie", "b"), ("X-Anything", "c"), ("Accept", "d"), ("User-Agent", "e"))
    assert impersonal(fields) == (("Accept", "d"), ("User-Agent", "e"))


def test_the_contents_own_fields() -> None:
    fields = (("ETag", "a"), ("Server", "b"), ("Set-Cookie", "c"), ("Docker-Content-Digest", "d"), ("Content-Length", "5"))
    assert representation(fields) == (("ETag", "a"), ("Docker-Content-Digest", "d"))
    assert without(fields, "etag") == fields[1:]


@pytest.mark.parametrize(
    ("fields", "shared"),
    [
        ((("ETag", '"a"'),), True),
        ((("Last-Modified", "x"), ("Vary", "Accept-Encoding")), True),
        ((), False),
        ((("ETag", '"a"'), ("Cache-Control", "max-age=1, private=x")), False),
        ((("ETag", '"a"'), ("Cache-Control", "no-store")), False),
        ((("ETag", '"a"'), ("Vary", "*")), False),
        ((("ETag", '"a"'), ("set-cookie", "a=b")), False),
    ],
)
def test_what_may_be_shared(fields: Headers, shared: bool) -> None:
    assert is_shareable(fields) is shared
