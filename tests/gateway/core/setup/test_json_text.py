"""One member of a JSON text changes, and nothing else does."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.setup.json_text import parse_object, with_member
from gateway.core.setup.plan import Refused

_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
_OBJECTS = st.dictionaries(st.text(), _VALUES, max_size=5)


@given(
    old=_OBJECTS,
    name=st.text(max_size=8),
    value=_VALUES,
    indent=st.sampled_from([None, 0, 2, 4, "\t"]),
    escaped=st.booleans(),
    ends=st.sampled_from(["\n", "\r\n"]),
    around=st.sampled_from(["", "\n", "  ", "\r\n"]),
    known=st.booleans(),
)
def test_a_member_is_set_and_all_others_stay(
    old: dict[str, Any], name: str, value: Any, indent: Any, escaped: bool, ends: str, around: str, known: bool
) -> None:
    if old and known:
        name = sorted(old)[len(name) % len(old)]
    text = around + json.dumps(old, indent=indent, ensure_ascii=escaped).replace("\n", ends) + around
    new = with_member(text, name, value)
    assert parse_object(new, "f") == {**old, name: value}
    # In the same order, and everything in front of the change is byte for byte what it was.
    assert list(parse_object(new, "f")) == list({**old, name: value})
    if name not in old and old:
        last = text.rstrip().removesuffix("}").rstrip()
        assert new.startswith(last)
        assert new.endswith(text[len(last) :])


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ('{\n  "a": 1, // a comment\n  "b": 2\n}', "line 2", "comment"),
        ('{\n\n  # a comment\n  "b": 2}', "line 3", "comment"),
        ('{"a": 1,\n}', "line 2", "Expecting|Illegal"),
        ("[]", "line 1", "no JSON object"),
        ("\ufeff{}", "line 1", "byte order mark"),
        ('{"a": 1, "a": 2}', "", "'a' is there twice"),
        ('{"a": NaN}', "", "NaN is no JSON"),
        ("[" * 100_000, "", "too deeply"),
    ],
)
def test_what_is_no_json_is_refused_with_its_line(text: str, line: str, why: str) -> None:
    with pytest.raises(Refused, match=why) as refused:
        parse_object(text, "/etc/docker/daemon.json")
    assert "/etc/docker/daemon.json" in str(refused.value)
    assert line in str(refused.value)


@pytest.mark.parametrize(
    ("text", "value", "new"),
    [
        ("", ["a"], '{\n    "x": ["a"]\n}\n'),
        (" \n", {"k": "v"}, '{\n    "x": {\n        "k": "v"\n    }\n}\n'),
        ("{}\n", ["a"], '{\n    "x": ["a"]\n}\n'),
        ('{"d": true}', ["a"], '{"d": true, "x": ["a"]}'),
        ('{\n\t"d": 1\n}\n', ["a"], '{\n\t"d": 1,\n\t"x": ["a"]\n}\n'),
        ('{\r\n  "d": 1\r\n}', {"k": "v"}, '{\r\n  "d": 1,\r\n  "x": {\r\n    "k": "v"\r\n  }\r\n}'),
        ('{\n  "x": ["b"],\n  "d": 1e5\n}', ["a", "b"], '{\n  "x": ["a", "b"],\n  "d": 1e5\n}'),
        ('{\n  "x": [\n    "b"\n  ]\n}', ["a", "b"], '{\n  "x": [\n    "a",\n    "b"\n  ]\n}'),
        ('{ "x" : 1 , "d":2}', [], '{ "x" : [] , "d":2}'),
    ],
)
def test_it_is_written_as_people_write(text: str, value: Any, new: str) -> None:
    parse_object(text, "f")
    assert with_member(text, "x", value) == new
