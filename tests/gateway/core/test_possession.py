"""Which registries count as having a content, and what is compared."""

import pytest

from gateway.core.possession import SAMPLE_BYTES, WHOLE_BYTES, Possessions, registry_of, sample_of


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("https://registry.example/v2/a/blobs/x", "https://Registry.example:443/v2/b", True),
        ("https://registry.example/x", "http://registry.example/x", True),
        ("https://index.docker.io/x", "https://registry-1.docker.io/x", True),
        ("https://registry.example/x", "https://registry.example:5000/x", False),
        ("https://registry.example/x", "https://evil.example/registry.example", False),
        ("https://registry.example/x", "https://registry.example@evil.example/x", False),
    ],
)
def test_a_registry_is_its_server(one: str, other: str, same: bool) -> None:
    assert (registry_of(one) == registry_of(other)) is same


def test_a_small_content_is_compared_whole_and_a_large_one_where_nobody_can_know() -> None:
    assert sample_of(0, lambda n: n - 1, is_here=True) == (0, 0)
    assert sample_of(WHOLE_BYTES, lambda n: n - 1, is_here=True) == (0, WHOLE_BYTES)
    assert sample_of(10**9, lambda n: n - 1, is_here=True) == (10**9 - SAMPLE_BYTES, 10**9)
    assert sample_of(10**9, lambda n: 0, is_here=True) == (0, SAMPLE_BYTES)
    start, stop = sample_of(10**9, lambda n: n - 1, is_here=False)
    assert stop <= 1 << 20
    assert stop - start == SAMPLE_BYTES
    start, stop = sample_of(WHOLE_BYTES + 1, lambda n: n - 1, is_here=False)
    assert stop == WHOLE_BYTES + 1


def test_what_one_has_is_not_anothers() -> None:
    known = Possessions()
    assert not known.is_anothers("a", "d")
    known.shown("a", "d")
    assert known.has("a", "d")
    assert not known.is_anothers("a", "d")
    assert known.is_anothers("b", "d")
    assert not known.is_anothers("b", "other")
    known.shown("b", "d")
    assert known.has("a", "d")
    assert known.has("b", "d")


def test_nobody_tries_until_it_fits() -> None:
    known = Possessions()
    for _ in range(3):
        assert known.may_show("d")
        known.was_wrong("d")
    assert not known.may_show("d")
    assert known.may_show("other")


def test_what_is_kept_is_bounded() -> None:
    known = Possessions()
    for number in range(20_000):
        known.shown("a", str(number))
        known.was_wrong(str(number))
    assert not known.has("a", "0")
    assert known.has("a", "19999")
    for number in range(100):
        known.shown(str(number), "d")
    assert known.has("0", "d")
    assert not known.has("99", "d")
