"""`scripts/bench KIND --help` says what each option means."""

import argparse

import pytest

from scripts.benchmark.__main__ import _parser


def test_every_option_of_every_kind_says_what_it_means() -> None:
    (kinds,) = [action for action in _parser()._actions if isinstance(action, argparse._SubParsersAction)]
    silent = [
        (name, action.option_strings) for name, kind in kinds.choices.items() for action in kind._actions if not action.help
    ]
    assert len(kinds.choices) >= 8
    assert silent == []


@pytest.mark.parametrize(
    "words", [["--peers", "0"], ["--peers", "-1"], ["--size", "0"], ["--runs", "0"], ["--peer-rate", "fast"]]
)
def test_what_cannot_be_measured_is_refused_at_once(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        _parser().parse_args(["swarm", *words])
    assert ended.value.code == 2
    assert words[0] in capsys.readouterr().err
