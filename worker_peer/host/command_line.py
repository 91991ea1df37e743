"""What the three commands read their command lines with, so that all of them answer alike."""

import argparse
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import NoReturn, TypeVar

_Value = TypeVar("_Value")


class CommandParser(argparse.ArgumentParser):
    """argparse with 1.x's exit code: 1 for a wrong command line, where argparse would exit with 2."""

    def error(self, message: str) -> NoReturn:
        """Usage and the reason to stderr; the process ends."""
        self.print_usage(sys.stderr)
        self.exit(1, f"Error: {message}\n")


def typed(parse: Callable[[str], _Value], name: str) -> Callable[[str], _Value]:
    """A value syntax as an argparse type that keeps the syntax's own words for what is wrong."""

    def read(text: str) -> _Value:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    read.__name__ = name
    return read


def software_version() -> str:
    """The installed release, `0` when it runs from a tree that is not installed."""
    try:
        return version("damselfly")
    except PackageNotFoundError:
        return "0"
