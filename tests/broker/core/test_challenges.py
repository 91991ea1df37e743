"""What registries want, in all the ways in which they write it."""

import json

import pytest

from broker.core.challenges import Challenge, parse_challenges, parse_token


def test_docker_s_challenge() -> None:
    (found,) = parse_challenges(['Bearer realm="https://auth.example/token",service="registry",scope="repository:a/b:pull,push"'])
    assert found == Challenge(
        scheme="bearer",
        parameters={"realm": "https://auth.example/token", "service": "registry", "scope": "repository:a/b:pull,push"},
    )
    assert found.token_url() == "https://auth.example/token?service=registry&scope=repository%3Aa%2Fb%3Apull%2Cpush"


def test_several_challenges_in_one_field_and_in_several() -> None:
    found = parse_challenges(['Basic realm="a, \\"b\\"", Bearer realm=x, service="y"', "Negotiate"])
    assert [each.scheme for each in found] == ["basic", "bearer", "negotiate"]
    assert found[0].parameters == {"realm": 'a, "b"'}
    assert found[1].parameters == {"realm": "x", "service": "y"}


def test_where_a_token_is_asked_for() -> None:
    def url(**parameters: str) -> str | None:
        return Challenge(scheme="bearer", parameters=parameters).token_url()

    assert url(realm="http://a/t") == "http://a/t"
    assert url(realm="http://a/t?x=1", service="s") == "http://a/t?x=1&service=s"
    assert url(realm="http://a/t", scope="one two") == "http://a/t?scope=one&scope=two"
    assert url(service="s") is None
    assert Challenge(scheme="basic", parameters={"realm": "http://a/t"}).token_url() is None


@pytest.mark.parametrize("value", ["", ",", '"', 'Bearer realm="unclosed', "=", "Bearer ,,,", "a=b=c"])
def test_garbage_is_read_to_an_end(value: str) -> None:
    assert all(each.token_url() is None for each in parse_challenges([value]))


def test_tokens() -> None:
    def read(**told: object) -> tuple[str, float] | None:
        found = parse_token(json.dumps(told).encode())
        return None if found is None else (found.text, found.life_s)

    assert read(token="a", expires_in=300) == ("a", 300.0)
    assert read(access_token="b") == ("b", 60.0)
    assert read(token="a", expires_in=10**9) == ("a", 3600.0)
    assert read(token="a", expires_in="x") == ("a", 60.0)
    assert read(token="a", expires_in=True) == ("a", 60.0)
    assert read(token="a", expires_in=-1) == ("a", 60.0)
    assert read(token="a\r\nX: y") is None
    assert read(token=1) is None
    assert read() is None
    assert parse_token(b"no") is None
    assert parse_token(b"[]") is None
    assert "secret" not in repr(parse_token(b'{"token":"secret"}'))
