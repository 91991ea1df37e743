"""`scripts/bench KIND --help` says what each option means."""

import argparse

from scripts.benchmark.__main__ import _parser


def test_every_option_of_every_kind_says_what_it_means() -> None:
    (kinds,) = [action for action in _parser()._actions if isinstance(action, argparse._SubParsersAction)]
    silent = [
        (name, action.option_strings) for name, kind in kinds.choices.items() for action in kind._actions if not action.help
    ]
    assert len(kinds.choices) >= 8
    assert silent == []
