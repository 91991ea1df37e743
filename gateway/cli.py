"""`dfdaemon`: flags to configuration to run to exit code. No logic of the gateway lives here.

Flags, sub-commands and defaults are 1.x's (cmd/dfdaemon/app/root.go, cert.go); where ours differ, --help says so.
"""

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gateway.setup import arguments as setup_arguments
from worker_peer.host.command_line import CommandParser, say_help, with_values, write_documents

if TYPE_CHECKING:
    from gateway.config import GatewayConfig
    from gateway.settings import Loaded

# Only what --help needs is imported here; the rest, with Tornado, aiohttp and ZeroMQ, when there is something to run.

_SWITCHES: Final = ("verbose", "streamMode")
#: Name, what it means.
_VALUES: Final = (
    ("maxprocs", "accepted, no meaning here"),
    ("hostIp", "address to listen on, default 127.0.0.1. Honoured here: 1.x listened on all addresses whatever it said"),
    ("port", "port of the gateway, default 65001; 0: any free one"),
    ("peerPort", "port that serves pieces to other peers, default 0: any free one"),
    ("certpem", "PEM certificate: with --keypem the gateway's own port speaks HTTPS"),
    ("keypem", "its private key"),
    ("registry", "URL of the registry to mirror, default https://index.docker.io"),
    ("localrepo", "accepted, no meaning here: blobs stream, nothing is written twice"),
    ("workHome", "folder of data, logs and sockets, default $HOME/.small-dragonfly"),
    ("dfpath", "accepted, no meaning here: no dfget process is started"),
    ("ratelimit", "bytes per second of all downloads together (20MB, 64K), default 0: not limited"),
    ("linkrate", "this host's link, of which others come first (1gbit, 120MB, auto), default: do not look"),
    ("minrate", "bytes per second of it that others leave in any case, default 64KB"),
    ("node", "supernodes, host[:port][=weight], comma separated"),
    ("cacheQuota", "bytes on disk of all contents, the least recently used go first (20GB), default 0: not limited"),
    ("location", "rack or zone, a/b/c from the widest to the narrowest"),
)


def _add_settings(parser: argparse.ArgumentParser) -> None:
    """Every flag of the configuration."""
    parser.add_argument("--config", metavar="FILE", help="configuration, default /etc/dragonfly/dfdaemon.yml if it is there")
    for name in _SWITCHES:
        about = "log everything" if name == "verbose" else "accepted, no meaning here: blobs always stream"
        parser.add_argument(f"--{name}", metavar="BOOL", help=about)
    for name, about in _VALUES:
        parser.add_argument(f"--{name}", metavar="VALUE", help=about)
    parser.add_argument("--log-format", dest="log_format", metavar="FORMAT", help="classic (default) or json")


def _parsers() -> dict[str, argparse.ArgumentParser]:
    """By sub-command; the daemon itself, which parses for all, under an empty name."""
    parser = CommandParser(
        prog="dfdaemon",
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
        description="The host's gateway: an HTTP(S) proxy and registry mirror that fetches blobs through the swarm.",
        epilog="Precedence: flags, DFDAEMON_* variables, the configuration file, defaults.",
    )
    _add_settings(parser)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=CommandParser)

    def command(name: str, about: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, allow_abbrev=False, argument_default=argparse.SUPPRESS, help=about, description=about)

    command("version", "print the release")
    command("config", "about the configuration").add_argument(
        "what", choices=["default"], help="default: print every key with its default, as YAML"
    )
    _add_rules(command("rules", "say what the rules would do with a URL; nothing is asked"))
    _add_gen_ca(command("gen-ca", "make a CA for hijack_https"))
    doctor = command("doctor", "say what is wrong with this host's gateway, and what to do; exit code 1 where something is")
    _add_settings(doctor)
    doctor.add_argument("--json", default="false", metavar="BOOL", help="for programs")
    _add_setup(command("setup", "set docker, containerd or podman up for dfdaemon: shows the change first; --undo takes it back"))
    explain = command("why", "say where a pull's time went and where its bytes came from; without a name: the last ones")
    _add_settings(explain)
    explain.add_argument("question", nargs="?", metavar="NAME", help="image (name:tag, name@sha256:..), digest or trace id")
    explain.add_argument("--json", default="false", metavar="BOOL", help="for programs")
    command("gen-doc", "write the manual as Markdown").add_argument("-p", "--path", help="folder to write into; else stdout")
    command("help", "help about a command").add_argument("words", nargs="*", metavar="COMMAND", help="the command")
    return {"": parser, **commands.choices}


def _add_rules(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("urls", nargs="+", metavar="URL", help="http(s)://host/path, or a path as a mirror is asked")
    parser.add_argument("--config", metavar="FILE", help="configuration, default /etc/dragonfly/dfdaemon.yml if it is there")
    parser.add_argument("--method", default="GET", help="of the request, default GET")
    parser.add_argument("--json", default="false", metavar="BOOL", help="one JSON object a line")


def _add_setup(parser: argparse.ArgumentParser) -> None:
    setup_arguments.add_arguments(parser)
    parser.add_argument("--config", metavar="FILE", help="configuration, default /etc/dragonfly/dfdaemon.yml if it is there")
    for name, about in _VALUES:
        if name in setup_arguments.SETTINGS:
            parser.add_argument(f"--{name}", metavar="VALUE", help=f"the daemon's: {about}")


def _add_gen_ca(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--common-name", default=socket.gethostname(), help="the CA's name, default: the host's")
    parser.add_argument("--expire-duration", default="87600h", help="how long it is valid, default 87600h (ten years)")
    parser.add_argument("--key-output", type=Path, default=Path("/tmp/ca.key"), help="default /tmp/ca.key, mode 0600")  # noqa: S108
    parser.add_argument("--cert-output", type=Path, default=Path("/tmp/ca.crt"), help="default /tmp/ca.crt")  # noqa: S108
    parser.add_argument("--overwrite", default="false", metavar="BOOL", help="replace files that are there")


#: Boolean flags of all commands.
_ALONE: Final = (
    *(f"--{name}" for name in _SWITCHES),
    "--overwrite",
    "--json",
    *(f"--{name}" for name in setup_arguments.SWITCHES),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """The process's exit code. argparse ends the process by itself for --help and for a wrong command line."""
    parsers = _parsers()
    given = vars(parsers[""].parse_args(with_values(sys.argv[1:] if arguments is None else arguments, _ALONE)))
    match given.pop("command", None):
        case "version":
            from gateway.app import version

            print(f"dfdaemon (damselfly) {version()}")
            return 0
        case "config":
            from gateway.settings import default_document

            print(default_document(), end="")
            return 0
        case "gen-ca":
            return _gen_ca(given)
        case "rules":
            return _rules(given)
        case "doctor":
            return _doctor(given)
        case "setup":
            return _setup(given)
        case "why":
            return _why(given)
        case "gen-doc":
            return write_documents(parsers, ["--path", given["path"]] if "path" in given else [])
        case "help":
            return say_help(parsers, given.get("words", []))
    return _serve(given)


def _rules(given: dict[str, Any]) -> int:
    import dataclasses
    import json

    from gateway.app import rules_from
    from gateway.config import ConfigError
    from gateway.dry_run import judge
    from gateway.settings import load

    urls, method, as_json = given.pop("urls"), given.pop("method"), given.pop("json").lower() in ("true", "t", "1")
    named = given.pop("config", None)
    try:
        config = load(flags=given, environment=os.environ, file=Path(named) if named is not None else None).config
        table = rules_from(config)
        for url in urls:
            answer = judge(method, url, config, table)
            print(json.dumps(dataclasses.asdict(answer)) if as_json else answer.text())
    except ConfigError as error:
        return _failed(str(error), error.exit_code)
    except ValueError as error:
        return _failed(str(error), 1)
    return 0


def _doctor(given: dict[str, Any]) -> int:
    import datetime

    from gateway import doctor
    from gateway.config import ConfigError
    from gateway.finding import as_text
    from gateway.settings import load

    as_json = given.pop("json").lower() in ("true", "t", "1")
    file = given.pop("config", None)
    try:
        config = load(flags=given, environment=os.environ, file=Path(file) if file is not None else None).config
    except ConfigError as error:
        findings = [doctor.broken_configuration(error)]
    else:
        findings = doctor.examine(config, now=datetime.datetime.now(datetime.UTC))
    print(doctor.as_json(findings) if as_json else as_text(findings))
    return doctor.exit_code(findings)


def _setup(given: dict[str, Any]) -> int:
    from gateway.config import ConfigError
    from gateway.core.setup.plan import Refused
    from gateway.settings import load
    from gateway.setup import command

    file = given.pop("config", None)
    try:
        options = setup_arguments.options_from(given)
        config = load(flags=given, environment=os.environ, file=Path(file) if file is not None else None).config
    except (ValueError, Refused) as error:
        return _failed(str(error), 1)
    except ConfigError as error:
        return _failed(str(error), error.exit_code)
    return command.run(options, config, command.terminal())


def _why(given: dict[str, Any]) -> int:
    from gateway import why
    from gateway.config import ConfigError
    from gateway.settings import load

    as_json = given.pop("json").lower() in ("true", "t", "1")
    question, file = given.pop("question", None) or "", given.pop("config", None)
    try:
        config = load(flags=given, environment=os.environ, file=Path(file) if file is not None else None).config
        said = why.ask(config, question)
    except ConfigError as error:
        return _failed(str(error), error.exit_code)
    except why.CannotAsk as error:
        return _failed(str(error), 1)
    if said.note:
        print(f"dfdaemon: {said.note}", file=sys.stderr)
    if as_json:
        print(said.text)
    elif said.is_known:
        print(why.drawn(said.told, sys.stdout.encoding or "ascii"))
    else:
        return _failed(why.not_known(said.told), 1)
    return int(not said.is_known)


def _gen_ca(given: dict[str, Any]) -> int:
    import datetime

    from gateway.certs import generate_ca
    from worker_peer.host.values import parse_duration

    key, cert = given["key_output"], given["cert_output"]
    overwrite = given["overwrite"].lower() in ("true", "t", "1")
    for path in (key, cert):
        if path.exists() and not overwrite:
            return _failed(f"{path} is there already: give --overwrite to replace it, or another path", 1)
    try:
        lifetime = datetime.timedelta(seconds=parse_duration(given["expire_duration"]))
        if lifetime <= datetime.timedelta():
            return _failed("--expire-duration must be longer than nothing", 1)
        certificate, secret = generate_ca(given["common_name"], lifetime)
        _write(key, secret, 0o600)
        _write(cert, certificate, 0o644)
    except (ValueError, OverflowError, OSError) as error:
        return _failed(f"gen-ca: {error}", 1)
    print(f"CA certificate: {cert} (clients must trust it)\nCA key: {key} (keep it secret)")
    return 0


def _write(path: Path, content: bytes, mode: int) -> None:
    path.unlink(missing_ok=True)
    # Exclusive: nobody else's file or link in a shared folder is written through.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def _serve(given: dict[str, Any]) -> int:
    from gateway.app import GatewayError
    from gateway.config import ConfigError, ExitCode
    from gateway.dfget_flags import parse_flags
    from gateway.settings import load
    from worker_peer.app import tune_allocator
    from worker_peer.host.process_limits import allow_many_files

    tune_allocator()
    allow_many_files()
    named = given.pop("config", None)
    file = Path(named) if named is not None else None
    with contextlib.ExitStack() as stack:
        try:
            loaded = load(flags=given, environment=os.environ, file=file)
            warnings = (*loaded.warnings, *parse_flags(loaded.config.dfget_flags).warnings)
            try:
                _open_logs(loaded.config, stack)
            except OSError as error:
                return _failed(f"cannot write the logs: {error}; choose another --workHome", ExitCode.FOLDER)
            for warning in warnings:
                print(f"dfdaemon: {warning}", file=sys.stderr)
                logging.getLogger("dfdaemon").warning("%s", warning)
            asyncio.run(_run(loaded, lambda: load(flags=given, environment=os.environ, file=file).config))
        except ConfigError as error:
            return _failed(str(error), error.exit_code)
        except GatewayError as error:
            return _failed(str(error), ExitCode.FAILED)
    return 0


def _open_logs(config: "GatewayConfig", stack: contextlib.ExitStack) -> None:
    """Two files, as 1.x: dfdaemon.log, and dfclient.log for the transfers, which people grep for. Raises OSError."""
    from gateway.app import home_of
    from worker_peer.host.logs import configure

    home, sign, as_json = home_of(config), str(os.getpid()), config.log_format == "json"
    transfers = logging.getLogger("worker_peer.transfer")
    stack.callback(configure(home / "logs" / "dfclient.log", as_json=as_json, sign=sign).close)
    # The writer that is the root logger's just now becomes this logger's own.
    transfers.handlers[:], transfers.propagate = logging.getLogger().handlers, False
    stack.callback(transfers.handlers.clear)
    path = Path(config.log_config.path) if config.log_config.path else home / "logs" / "dfdaemon.log"
    level = logging.DEBUG if config.verbose else logging.INFO
    size, kept = config.log_config.max_size << 20, max(1, config.log_config.max_backups)
    stack.callback(configure(path, level=level, as_json=as_json, sign=sign, rotate_bytes=size, rotated_files=kept).close)


async def _run(loaded: "Loaded", read: "Callable[[], GatewayConfig]") -> None:
    """Serve until SIGTERM or SIGINT; SIGHUP, and a change of the file, take over the rules that `read` returns."""
    from gateway.app import Reread, Running, run

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    hangup = asyncio.Event()
    loop.add_signal_handler(signal.SIGHUP, hangup.set)

    def ready(running: Running) -> None:
        nodes = ",".join(running.supernodes)
        print(f"dfdaemon ready: {running.url}, peer {running.peer_id}, supernodes {nodes}", flush=True)

    await run(loaded.config, ready=ready, stop=stop, reread=Reread(read=read, file=loaded.file, hangup=hangup))


def _failed(text: str, code: int) -> int:
    print(f"dfdaemon: {text}", file=sys.stderr)
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
