"""TOML is read, and what is none is named with its line."""

import pytest

from gateway.core.setup.plan import Refused
from gateway.core.setup.toml_text import parse_toml, values_of


def test_what_is_toml() -> None:
    assert parse_toml("f", b"a = 1\r\n[b]\n") == {"a": 1, "b": {}} == values_of("a = 1\n[b]\n")
    assert values_of("a =") is None


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"a = 1\nb = ?\n", "f, line 2: Invalid value. Put it right first; nothing was changed"),
        (b"a = 1\n\nb = '''\n", "f, line 4: Expected"),
        (b"a = 1\n\n\xff = 2\n", "f, line 3: is not UTF-8"),
        (b"a = " + b"[" * 100_000, "f, line 1: "),
    ],
)
def test_what_is_none(content: bytes, why: str) -> None:
    with pytest.raises(Refused) as refused:
        parse_toml("f", content)
    assert str(refused.value).startswith(why)
