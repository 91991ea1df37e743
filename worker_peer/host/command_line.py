"""What the three commands read their command lines with, so that all of them answer alike, and as 1.x's did."""

import argparse
import difflib
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NoReturn, TypeVar

_Value = TypeVar("_Value")


class CommandParser(argparse.ArgumentParser):
    """argparse with 1.x's exit code: 1 for a wrong command line, where argparse would exit with 2.

    An unknown flag is answered with the nearest one, also where argparse takes its value for a sub-command that is none.
    """

    _given: Sequence[str] = ()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's, and what was given is remembered for `error`."""
        self._given = list(sys.argv[1:] if args is None else args)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Usage and the reason to stderr; the process ends."""
        self.print_usage(sys.stderr)
        known = _flags(self)
        before = self._given[: self._given.index("--")] if "--" in self._given else self._given
        words = [word.partition("=")[0] for word in before]
        unknown = [word for word in words if re.fullmatch(r"--[A-Za-z][A-Za-z-]*", word) and word not in known]
        if unknown and "invalid choice" in message:
            message = f"unrecognized arguments: {unknown[0]}"
        if message.startswith("unrecognized arguments") and unknown:
            lower = {flag.lower(): flag for flag in known}
            near = difflib.get_close_matches(unknown[0].lower(), lower, n=1)
            message += f": did you mean {lower[near[0]]}?" if near else ""
        self.exit(1, f"Error: {message}\n")


def _flags(parser: argparse.ArgumentParser) -> set[str]:
    """The long flags of a command and of its sub-commands."""
    found: set[str] = set()
    for action in parser._actions:
        found.update(flag for flag in action.option_strings if flag.startswith("--"))
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                found |= _flags(each)
    return found


def typed(parse: Callable[[str], _Value], name: str) -> Callable[[str], _Value]:
    """A value syntax as an argparse type that keeps the syntax's own words for what is wrong."""

    def read(text: str) -> _Value:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    read.__name__ = name
    return read


def checked(parse: Callable[[str], object], name: str) -> Callable[[str], str]:
    """As `typed`, and the text itself is the value."""

    def read(text: str) -> str:
        parse(text)
        return text

    return typed(read, name)


def parse_port(text: str) -> int:
    """A port, 0 for any free one. Raises ValueError."""
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65535):
        raise ValueError(f"a port is a number from 0 (any free one) to 65535, not {text[:20]!r}")
    return int(text)


def parse_switch(text: str) -> bool:
    """The value of a boolean flag, as Go's strconv.ParseBool. Raises ValueError."""
    if text.lower() in ("1", "t", "true"):
        return True
    if text.lower() in ("0", "f", "false"):
        return False
    raise ValueError(f"{text!r} is neither true nor false")


def with_values(arguments: Sequence[str], switches: Iterable[str]) -> list[str]:
    """The arguments with `=true` behind each switch that stands alone.

    Go's boolean flags stand alone or carry `=value`, and never take the next word as argparse's would.
    `switches`: with their dashes.
    """
    alone = set(switches)
    given = list(arguments)
    # Behind a bare -- there are no flags.
    end = given.index("--") if "--" in given else len(given)
    return [f"{word}=true" if word in alone else word for word in given[:end]] + given[end:]


def software_version() -> str:
    """The installed release, `0` when it runs from a tree that is not installed."""
    try:
        return version("damselfly")
    except PackageNotFoundError:
        return "0"


def say_help(parsers: Mapping[str, argparse.ArgumentParser], words: Sequence[str]) -> int:
    """`<command> help [sub-command]`: the exit code. `parsers`: by sub-command, the command itself under an empty name."""
    parser = parsers.get(" ".join(words))
    if parser is None:
        print(f"Error: there is no help for {' '.join(words)!r}: known are {', '.join(filter(None, parsers))}", file=sys.stderr)
        return 1
    parser.print_help()
    return 0


def write_documents(parsers: Mapping[str, argparse.ArgumentParser], words: Sequence[str]) -> int:
    """`<command> gen-doc [--path DIR]`: one Markdown page per command, into DIR or to stdout. Returns the exit code."""
    own = CommandParser(prog="gen-doc", allow_abbrev=False, description="Write the manual as Markdown.")
    own.add_argument("-p", "--path", type=Path, help="folder to write into; without it: to stdout")
    folder = own.parse_args(words).path
    for parser in parsers.values():
        page = f"## {parser.prog}\n\n```\n{parser.format_help().rstrip()}\n```\n"
        if folder is None:
            print(page)
            continue
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{parser.prog.replace(' ', '_')}.md").write_text(page, encoding="utf-8")
        except OSError as error:
            print(f"Error: {folder} cannot be written: {error.strerror}", file=sys.stderr)
            return 1
    return 0
