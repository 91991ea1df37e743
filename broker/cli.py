"""`supernode`: flags to a configuration, nothing decided here. Flags and defaults as Dragonfly 1.x, and `--broker-port`."""

import argparse
import dataclasses
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from broker.cache import cli as cache
from broker.config import SupernodeConfig
from broker.own_address import first_address
from broker.preheat import cli as preheat
from broker.settings import default_document, load
from worker_peer.host.command_line import (
    CommandParser,
    checked,
    parse_port,
    parse_switch,
    say_help,
    software_version,
    with_values,
    write_documents,
)
from worker_peer.host.schema import SettingsError
from worker_peer.host.values import parse_duration, parse_link_rate, parse_rate, parse_size

#: Flags of 1.x without a meaning here; why is said in broker/settings.py. Given, each is named once.
_WITHOUT_MEANING: Final = {
    "pool-size": "number",
    "up-limit": "number",
    "down-limit": "number",
    "profiler": "switch",
    "fail-access-interval": "duration",
    "gc-meta-interval": "duration",
    "peer-gc-delay": "duration",
}
_SWITCHES: Final = ("--debug", "-D", "--profiler", "--json-log", "--no-seed")


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise ValueError(f"{text[:20]!r} is not a whole number")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="supernode",
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
        description="The broker of a swarm, and its seed.",
        epilog="Sub-commands: preheat, cache, version, config default, gen-doc, help. "
        "Precedence: flags, SUPERNODE_* variables, the configuration file, defaults.",
    )
    port, rate, duration = checked(parse_port, "port"), checked(parse_rate, "rate"), checked(parse_duration, "duration")
    switch, number = checked(parse_switch, "switch"), checked(_number, "number")
    add = parser.add_argument
    add("--config", type=Path, metavar="FILE", help="configuration, default /etc/dragonfly/supernode.yml if it is there")
    add("--port", type=port, help="HTTP: what peers' --node names (default 8002; 0: any free one)")
    add("--broker-port", type=port, help="ZeroMQ ROUTER (default 8003; 0: any free one)")
    add("--download-port", type=port, help="the seed's pieces (default 8001; 0: any free one)")
    add("--home-dir", help="contents and logs (default /home/admin/supernode)")
    add("--advertise-ip", help="address by which peers reach this host (default: its first one)")
    add("--cdn-pattern", choices=("local", "source"), help="local: with a seed of its own (default)")
    about = "no seed of its own: seeds run elsewhere, as `dfget server --seed --node ...`"
    add("--no-seed", type=switch, metavar="BOOL", help=about)
    add("--max-bandwidth", type=rate, help="bytes per second read from sources: 200MB; 0: not limited (default)")
    add("--system-bandwidth", type=rate, help="bytes per second of --max-bandwidth that are kept from it (default 0)")
    add("--seed-bandwidth", type=rate, help="bytes per second that the seed sends; 0: not limited (default)")
    about = "the seed's link, of which others come first: 1gbit, 120MB, auto to learn it; 0: do not look (default)"
    add("--link-rate", type=checked(parse_link_rate, "link's rate"), help=about)
    about = "bytes per second that may enter each zone, which peers' --location tells: 200MB; 0: not limited (default)"
    add("--zone-rate", type=rate, help=about)
    add("--task-expire-time", type=duration, help="a task that nobody wants is forgotten after (default 3m)")
    add("--cache-quota", type=checked(parse_size, "size"), help="bytes on disk of the seed's contents; 0: not limited (default)")
    add("--preheat-quota", type=number, metavar="PERCENT", help="of --cache-quota, for preheated and pinned ones (default 50)")
    add("--gc-initial-delay", type=duration, help="wait before the disk is tidied first (default 6s)")
    add("-D", "--debug", type=switch, metavar="BOOL", help="log more")
    add("--json-log", type=switch, metavar="BOOL", help="log in JSON lines")
    kinds = {"number": number, "duration": duration, "switch": switch}
    for name, kind in _WITHOUT_MEANING.items():
        add(f"--{name}", type=kinds[kind], metavar=kind.upper(), help="accepted, without meaning")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The `supernode` command. Returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = _parser()
    commands = {"": parser, "preheat": preheat.parser(), "cache": cache.parser()}
    match given[:1]:
        case ["version"]:
            print(f"supernode version:{software_version()}")
            return 0
        case ["config"]:
            if given[1:] != ["default"]:
                parser.error("config: the one thing to ask for is `supernode config default`")
            print(default_document(), end="")
            return 0
        case ["preheat"]:
            return preheat.main(given[1:])
        case ["cache"]:
            return cache.main(given[1:])
        case ["gen-doc"]:
            return write_documents(commands, given[1:])
        case ["help"]:
            return say_help(commands, given[1:])
    flags = {name.replace("_", "-"): value for name, value in vars(parser.parse_args(with_values(given, _SWITCHES))).items()}
    try:
        loaded = load(flags=flags, environment=os.environ, file=flags.pop("config", None))
    except SettingsError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    for warning in loaded.warnings:
        print(f"supernode: {warning}", file=sys.stderr)
    config = loaded.config
    return _run(config if config.advertise_ip else dataclasses.replace(config, advertise_ip=first_address()))


def _run(config: SupernodeConfig) -> int:
    import asyncio
    import logging

    from broker.app import log_file, run
    from worker_peer.host import logs
    from worker_peer.host.process_limits import allow_many_files

    allow_many_files()

    level = logging.DEBUG if config.debug else logging.INFO
    try:
        output = logs.configure(
            log_file(config),
            level=level,
            as_json=config.json_log,
            sign=str(os.getpid()),
            rotate_bytes=config.log_rotate_bytes,
            rotated_files=config.log_rotated_files,
        )
    except OSError as error:
        print(f"supernode: {error}: choose another --home-dir", file=sys.stderr)
        return 1
    try:
        return asyncio.run(run(config))
    finally:
        output.close()


if __name__ == "__main__":
    sys.exit(main())
