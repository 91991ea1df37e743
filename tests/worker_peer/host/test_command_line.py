"""What the three commands share: exit code 1 for a wrong command line, and a value's own words for what is wrong."""

from importlib.metadata import PackageNotFoundError

import pytest

from worker_peer.host import command_line
from worker_peer.host.command_line import CommandParser, typed
from worker_peer.host.values import parse_rate


@pytest.fixture
def parser() -> CommandParser:
    made = CommandParser(prog="dfget")
    made.add_argument("--rate", type=typed(parse_rate, "rate"))
    return made


def test_a_value_is_read(parser: CommandParser) -> None:
    assert parser.parse_args(["--rate", "2M"]).rate == 2 << 20


@pytest.mark.parametrize(
    ("arguments", "reason"), [(["--rate", "fast"], "fast"), (["--no-such"], "unrecognized arguments: --no-such")]
)
def test_a_wrong_command_line_ends_with_1_and_its_reason(
    parser: CommandParser, arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parser.parse_args(arguments)
    assert ended.value.code == 1
    out, error = capsys.readouterr()
    assert not out
    assert error.startswith("usage: dfget")
    last = error.splitlines()[-1]
    assert last.startswith("Error: ")
    assert reason in last


@pytest.mark.parametrize(
    ("arguments", "last"),
    [
        (["--rtae", "2M"], "Error: unrecognized arguments: --rtae 2M: did you mean --rate?"),
        (["--RATE=2M"], "Error: unrecognized arguments: --RATE=2M: did you mean --rate?"),
        (["--colour"], "Error: unrecognized arguments: --colour"),
    ],
)
def test_an_unknown_flag_names_the_nearest(
    parser: CommandParser, arguments: list[str], last: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parser.parse_args(arguments)
    assert capsys.readouterr().err.splitlines()[-1] == last


@pytest.mark.parametrize(
    ("arguments", "last"),
    [
        (["--rtae", "2M"], "Error: unrecognized arguments: --rtae: did you mean --rate?"),
        (["check", "--jsn"], "Error: unrecognized arguments: --jsn: did you mean --json?"),
        (["chek"], "Error: argument COMMAND: invalid choice: 'chek' (choose from 'check')"),
    ],
)
def test_an_unknown_flag_is_not_taken_for_a_sub_command(
    parser: CommandParser, arguments: list[str], last: str, capsys: pytest.CaptureFixture[str]
) -> None:
    commands = parser.add_subparsers(metavar="COMMAND", parser_class=CommandParser)
    commands.add_parser("check").add_argument("--json", action="store_true")
    with pytest.raises(SystemExit):
        parser.parse_args(arguments)
    assert capsys.readouterr().err.splitlines()[-1] == last


def test_a_release_that_is_not_installed_has_version_0(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(command_line, "version", missing)
    assert command_line.software_version() == "0"
