"""Settings from texts to a frozen schema and back: what is read, what is refused, and in which words."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from worker_peer.host import schema
from worker_peer.host.schema import SettingsError, setting
from worker_peer.host.values import parse_rate


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    """A section."""

    some_name: str = setting("x", "a text", key="someName")
    names: tuple[str, ...] = setting((), "texts")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outer:
    """A document."""

    number: int = setting(7, "a number")
    switch: bool = setting(False, "a switch")
    rate: str = setting("20MB", "a rate", syntax=parse_rate)
    inner: Inner = setting(Inner, "a section")
    rules: tuple[Inner, ...] = setting((), "sections")
    anything: dict[str, Any] = setting(dict, "a map")
    word: str = setting("", "a secret", secret=True)
    old: int = setting(1, "something of old", ignored="nobody needs it")


def test_an_empty_document_is_the_default() -> None:
    assert schema.build(Outer, {}) == Outer()


def test_texts_become_values() -> None:
    values = {
        "number": "-3", "switch": "T", "rate": 5, "inner": {"SOMENAME": 1, "names": "a, b,"}, "rules": [{"names": [1]}],
        "anything": {"a": 1}, "old": None,
    }  # fmt: skip
    assert schema.build(Outer, values) == Outer(
        number=-3,
        switch=True,
        rate="5",
        inner=Inner(some_name="1", names=("a", "b")),
        rules=(Inner(names=("1",)),),
        anything={"a": 1},
    )


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"nmber": 1}, "unknown key 'nmber': did you mean 'number'?"),
        ({"zzz": 1}, "unknown key 'zzz': known keys: anything, inner"),
        ({"inner": {"somname": 1}}, "unknown key 'inner.somname': did you mean 'someName'?"),
        ({"rules": [{}, {"name": 1}]}, "unknown key 'rules[1].name': did you mean 'names'?"),
        ({"number": 1, "Number": 2}, "Number: is given twice, in two spellings; keep 'number'"),
        ({"number": True}, "number: 'True' is not a whole number"),
        ({"number": "²"}, "number: '²' is not a whole number"),
        ({"number": 1.5}, "number: '1.5' is not a whole number"),
        ({"switch": "perhaps"}, "switch: 'perhaps'; allowed: true, false"),
        ({"rate": "fast"}, "rate: 'fast' is no rate"),
        ({"rate": True}, "rate: True is no rate"),
        ({"inner": 1}, "inner: must be a map of keys"),
        ({"inner": {"names": {}}}, "inner.names: must be a list"),
        ({"inner": {"someName": []}}, "inner.someName: must be a text"),
        ({"anything": []}, "anything: must be a map of keys"),
        ({1: 1}, "unknown key '1'"),
    ],
)
def test_what_is_wrong_is_named(values: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        schema.build(Outer, values)
    assert str(caught.value).startswith(words)


def test_case_counts_where_it_is_asked_for() -> None:
    with pytest.raises(SettingsError, match=r"unknown key 'inner\.somename': did you mean 'someName'\?"):
        schema.build(Outer, {"inner": {"somename": "a"}}, any_case=False)


def test_the_environment_names_keys_sections_and_flags() -> None:
    environment = {
        "X_NUMBER": "1", "X_INNER_SOMENAME": "a", "X_THE_FLAG": "9MB", "X_SWITCH": "tcp://10.0.0.1:1", "NUMBER": "2",
        "X_RULES": "a",
    }  # fmt: skip
    found = schema.from_environment(Outer, "X_", environment, {"the-flag": ("rate",)})
    assert found == {"number": "1", "inner": {"someName": "a"}, "rate": "9MB"}


def test_what_lies_above_wins_key_by_key_in_any_case() -> None:
    below: dict[str, Any] = {"Inner": {"someName": "a", "names": ["b"]}, "number": 1}
    schema.merge(below, {"inner": {"SomeName": "c"}, "number": 2, "switch": True})
    assert below == {"Inner": {"someName": "c", "names": ["b"]}, "number": 2, "switch": True}


def test_keys_without_a_meaning_are_named() -> None:
    assert schema.ignored(Outer, {"OLD": 1, "inner": {"names": []}}) == ["old has no meaning here: nobody needs it"]


def test_a_document_reads_back_to_the_same(tmp_path: Path) -> None:
    made = Outer(number=9, inner=Inner(names=("a", "b: c")), word="x: y")
    path = tmp_path / "x.yml"
    path.write_text(schema.document(made, "title"))
    assert schema.build(Outer, schema.read_yaml(path)) == made
    assert path.read_text().startswith("# title\n# a number\nnumber: 9\n")
    assert "# something of old (no meaning here: nobody needs it)\nold: 1\n" in path.read_text()


@pytest.mark.parametrize(
    ("text", "words"),
    [(b"- a", "must be a map of keys"), (b"a: [", "is no YAML"), (b"\xff\xfe\xfd", "is no YAML"), (b"[" * 5000, "is no YAML")],
)
def test_a_file_that_is_none_is_named(tmp_path: Path, text: bytes, words: str) -> None:
    path = tmp_path / "x.yml"
    path.write_bytes(text)
    with pytest.raises(SettingsError, match=words) as caught:
        schema.read_yaml(path)
    assert str(path) in str(caught.value)


def test_a_huge_or_missing_file_is_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot read the configuration"):
        schema.read_yaml(tmp_path / "none")
    (tmp_path / "huge").write_bytes(b"#" * (4 << 20) + b"\n")
    with pytest.raises(SettingsError, match="larger than 4 MiB"):
        schema.read_yaml(tmp_path / "huge")


def test_a_secret_is_in_no_repr() -> None:
    assert "s3cr3t" not in repr(Outer(word="s3cr3t"))
