"""Our commands against 1.x's tables: no flag, key, sub-command or code of 1.x is missing, and defaults differ only on purpose."""

import argparse
import asyncio
import dataclasses
import hashlib
import json
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import pytest

import broker.cli
import broker.settings
import gateway.cli
import gateway.config
import gateway.settings
import worker_peer.cli
import worker_peer.oneshot
import worker_peer.properties
from scripts.demonstration.swarm import program
from tests.contract import reference_1x as reference
from tests.support.processes import running_processes
from tests.support.source_server import Page, SourceServer
from tests.support.swarm import short_directory
from worker_peer.host import schema
from worker_peer.host.values import format_duration, format_rate, parse_duration, parse_rate


def _options(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    """Long name to the option."""
    return {name[2:]: action for action in parser._actions for name in action.option_strings if name.startswith("--")}


_TABLES: dict[str, tuple[Callable[[], argparse.ArgumentParser], dict[str, tuple[str, str, str]]]] = {
    "dfget": (worker_peer.cli._oneshot_parser, reference.DFGET_FLAGS),
    "dfget server": (worker_peer.cli._server_parser, reference.DFGET_SERVER_FLAGS),
    "dfdaemon": (lambda: gateway.cli._parsers()[""], reference.DFDAEMON_FLAGS),
    "dfdaemon gen-ca": (lambda: gateway.cli._parsers()["gen-ca"], reference.GEN_CA_FLAGS),
    "supernode": (broker.cli._parser, reference.SUPERNODE_FLAGS),
}


@pytest.mark.parametrize("command", _TABLES)
def test_every_flag_of_1x_is_known_by_its_long_and_short_name(command: str) -> None:
    parser, table = _TABLES[command]
    options = _options(parser())
    assert not set(table) - set(options)
    shorts = {name: action.dest for action in parser()._actions for name in action.option_strings if len(name) == 2}
    for name, (short, _, _) in table.items():
        if short:
            assert shorts.get(f"-{short}") == options[name].dest, name


def _default_of(command: str, flag: str) -> Any:
    """The default here: the flag's own, or that of the key that it sets."""
    if command in ("dfget", "dfget server"):
        parser = _TABLES[command][0]()
        default = _options(parser)[flag].default
        if default is None and flag in worker_peer.properties.FLAG_KEYS:
            default = _at(worker_peer.properties.PropertiesFile(), worker_peer.properties.FLAG_KEYS[flag])
        return default
    if command == "supernode":
        return _at(broker.settings.Document(), broker.settings.FLAG_KEYS[flag])
    if command == "dfdaemon gen-ca":
        return _options(gateway.cli._parsers()["gen-ca"])[flag].default
    return _at(gateway.config.GatewayConfig(), gateway.settings.FLAG_KEYS.get(flag, (flag,)))


def _at(settings: Any, place: tuple[str, ...]) -> Any:
    for key in place:
        (field,) = (each for each in dataclasses.fields(settings) if schema.key_of(each) == key)
        settings = getattr(settings, field.name)
    return settings


def _printed(kind: str, value: Any) -> str:
    """A default as 1.x prints it."""
    match kind:
        case "rate":
            return format_rate(parse_rate(value or 0))
        case "duration":
            return format_duration(parse_duration(value) if isinstance(value, str) else value)
        case "bool":
            return str(value).lower()
    return "" if value in ((), [], None) else str(value)


#: Found out when the command runs, and tested with it.
_COMPUTED = {("dfget", "home"), ("dfget", "node"), ("dfdaemon", "workHome"), ("dfdaemon", "config"), ("supernode", "config")}


@pytest.mark.parametrize(("command", "flag"), [(command, flag) for command, (_, table) in _TABLES.items() for flag in table])
def test_defaults_are_1xs_but_for_those_that_differ_on_purpose(command: str, flag: str) -> None:
    _, kind, theirs = _TABLES[command][1][flag]
    if (command, flag) in _COMPUTED:
        return
    ours = _printed(kind, _default_of(command, flag))
    assert ours == reference.DELIBERATE.get((command, flag), theirs).replace("<hostname>", socket.gethostname())


def test_a_default_that_differs_is_told_to_the_user(repository: Path) -> None:
    text = (repository / "docs" / "compatibility.md").read_text()
    for command, flag in reference.DELIBERATE:
        assert f"`{command} --{flag}`" in text


def _keys(kind: type, above: str = "") -> Iterator[str]:
    hints = get_type_hints(kind)
    for field in dataclasses.fields(kind):
        name, inner = f"{above}{schema.key_of(field)}", hints[field.name]
        item = get_args(inner)[0] if get_origin(inner) is tuple else None
        if dataclasses.is_dataclass(inner):
            yield from _keys(inner, f"{name}.")  # type: ignore[arg-type]
        elif item is not None and dataclasses.is_dataclass(item):
            yield from _keys(item, f"{name}[].")  # type: ignore[arg-type]
        else:
            yield name


@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        (gateway.config.GatewayConfig, reference.DFDAEMON_KEYS),
        (broker.settings.Document, reference.SUPERNODE_KEYS),
    ],
)
def test_every_key_of_1x_is_known(kind: type, keys: tuple[str, ...]) -> None:
    assert not set(keys) - set(_keys(kind))


def test_every_key_of_dfget_yml_is_known() -> None:
    keys = {schema.key_of(field) for field in dataclasses.fields(worker_peer.properties.PropertiesFile)}
    assert keys == {*reference.DFGET_KEYS, "linkRate", "cacheQuota"}, "1.x's, and ours"


def test_codes_and_reasons_are_1xs() -> None:
    assert {code.name: code.value for code in gateway.config.ExitCode} == reference.DFDAEMON_EXIT_CODES
    assert {reason.name: reason.value for reason in worker_peer.oneshot.Reason} == reference.REASONS


@pytest.mark.parametrize("command", reference.SUBCOMMANDS)
def test_every_sub_command_answers(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    main = {"dfget": worker_peer.cli.main, "dfdaemon": gateway.cli.main, "supernode": broker.cli.main}[command]
    for word in reference.SUBCOMMANDS[command]:
        with pytest.raises(SystemExit) as ended:
            sys.exit(main([word, *{"config": ["default"], "gen-ca": ["--help"], "server": ["--help"]}.get(word, [])]))
        assert ended.value.code == 0, word
        assert capsys.readouterr().out


# -- files of 1.x, unchanged, with the real processes -----------------------------------------------------------------------


_CONTENT = bytes(range(256)) * 4000


@pytest.mark.system
async def test_the_three_configuration_files_of_1x_start_the_three_commands() -> None:
    async with SourceServer() as source:
        source.pages["/file"] = Page(body=_CONTENT)
        # The processes are waited for on a thread: the source answers on this one's loop.
        await asyncio.to_thread(_start_the_three, source)


def _start_the_three(source: SourceServer) -> None:
    with short_directory() as folder, running_processes(folder) as processes:
        (folder / "supernode.yml").write_text(reference.SUPERNODE_YML.format(home=folder / "supernode"))
        supernode = processes.start("supernode", [program("supernode"), "--config", str(folder / "supernode.yml")])
        ready = supernode.wait_for(r"supernode ready: http://127\.0\.0\.1:(\d+)")
        said = supernode.output()
        assert said.count("base.peerUpLimit has no meaning here") == 1

        make = [program("dfdaemon"), "gen-ca", "--cert-output", str(folder / "df.crt"), "--key-output", str(folder / "df.key")]
        assert processes.start("gen-ca", make).wait() == 0
        text = reference.DFDAEMON_YML.format(cert=folder / "df.crt", key=folder / "df.key")
        (folder / "dfdaemon.yml").write_text(text)
        command = [program("dfdaemon"), "--config", str(folder / "dfdaemon.yml")]
        dfdaemon = processes.start("dfdaemon", command, environment={"HOME": str(folder / "host")})
        dfdaemon.wait_for(r"dfdaemon ready: http://127\.0\.0\.1:\d+, peer \S+, supernodes 127\.0\.0\.1:1$")
        assert dfdaemon.output().count("maxprocs has no meaning here") == 1

        (folder / "dfget.yml").write_text(reference.DFGET_YML.format(port=ready[1], home=folder / "home"))
        environment = {"DFGET_CONFIG": str(folder / "dfget.yml")}
        arguments = ["-u", source.url("/file"), "-o", str(folder / "out"), "--notbs", "--alivetime", "1s"]
        dfget = processes.start("dfget", [program("dfget"), *arguments], environment=environment)
        assert dfget.wait() == 0, dfget.story()
        assert hashlib.sha256((folder / "out").read_bytes()).digest() == hashlib.sha256(_CONTENT).digest()
        lines = [line for line in dfget.output().splitlines() if not line.startswith("dfget: ")]
        assert lines[2] == f"workspace:{folder / 'home'}"
        assert lines[4] == f"client:127.0.0.1 connected to node:127.0.0.1:{ready[1]}"
        assert json.dumps(lines[-1]).startswith('"download SUCCESS cost:')
