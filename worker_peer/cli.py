"""`dfget` and `dfget server`: flags to a configuration, nothing decided here. Flags and defaults as Dragonfly 1.x."""

import argparse
import ipaddress
import os
import random
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from wire.ids import ByteRange, is_sha256_digest, url_without_secrets
from worker_peer.host.command_line import (
    CommandParser,
    parse_port,
    parse_switch,
    say_help,
    software_version,
    typed,
    write_documents,
)
from worker_peer.host.values import Node, expand_nodes, parse_duration, parse_link_rate, parse_nodes, parse_rate, parse_size
from worker_peer.oneshot_options import OneshotOptions
from worker_peer.properties import Properties, PropertiesError, load_properties

#: A supernode that is up but busy had better be waited for than the source be asked; one that is down is known at once.
_SUPERNODE_PATIENCE_S = 5.0

#: Flags of 1.x that have no meaning here; given, each is named once.
_WITHOUT_MEANING = {
    "clientqueue": "pieces are written as they come, there is no queue to size",
    "console": "the log is the host's peer's: <home>/logs/dfclient.log",
}
_SERVER_WITHOUT_MEANING = {
    "data": "contents are in <home>/data",
    "meta": "the control socket is in <home>/meta",
}
_QUOTA = "bytes on disk of all contents, the least recently used go first: 20GB; 0: not limited (default)"


def _flag(parser: argparse.ArgumentParser, *names: str, help: str) -> None:
    parser.add_argument(*names, nargs="?", const=True, default=False, type=typed(parse_switch, "switch"), help=help)


def _address(text: str) -> str:
    if text:
        try:
            ipaddress.ip_address(text)
        except ValueError:
            raise ValueError(f"{text[:64]!r} is no IP address: give one of this host's, as 10.0.0.21") from None
    return text


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise ValueError("a header is Key:Value; this one has no colon, or no key before it")  # it may be a secret
    return name.strip(), value.strip()


def _oneshot_parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="dfget",
        allow_abbrev=False,
        description="Download one file through the swarm.",
        epilog="Sub-commands: server, version, gen-doc, help. "
        "Precedence: flags, DFGET_* variables, /etc/dragonfly/dfget.yml (else /etc/dragonfly.conf), defaults.",
    )
    rate, duration, port = typed(parse_rate, "rate"), typed(parse_duration, "duration"), typed(parse_port, "port")
    address = typed(_address, "address")
    add = parser.add_argument
    add("-u", "--url", default="", help="http or https URL of the file")
    add("-o", "--output", default="", help="where to put it (default: the URL's last part, here)")
    add("-s", "--locallimit", type=rate, default=None, help="bytes per second of this download: 20MB, 512K; 0: not limited")
    add("--totallimit", type=rate, default=None, help="bytes per second of all downloads of this host; 0: not limited")
    add(
        "--minrate",
        type=rate,
        default=None,
        help="without --timeout: the swarm may take the file's length by this rate, and 10 s; then the source is asked",
    )
    add("-e", "--timeout", type=duration, default=0.0, help="give up after so long (90s, 5m); 0: never")
    add("-m", "--md5", default="", help="md5 that the file must have")
    add("-i", "--identifier", default="", help="splits downloads of one URL (only without --md5)")
    add("--digest", default="", help="sha256:<hex> that the file must have")
    add("--callsystem", default="", help="who asks, for logs and metrics")
    add("--cacerts", action="append", default=[], help="PEM files: the only roots for the source's certificate")
    add(
        "-p",
        "--pattern",
        choices=("p2p", "cdn", "source"),
        default="p2p",
        help="source: without the swarm; cdn: as p2p",
    )
    add("-f", "--filter", default="", help="query keys that do not count, as Expires&Signature")
    add("--header", action="append", default=[], type=typed(_header, "header"), help="Key:Value for the source; repeatable")
    add("-n", "--node", type=typed(parse_nodes, "node"), default=None, help="supernodes: host[:port][=weight],...")
    _flag(parser, "--notbs", help="never go back to the source")
    _flag(parser, "--dfdaemon", help="marks dfdaemon as the caller")
    _flag(parser, "--insecure", help="do not verify the source's certificate")
    add("--clientqueue", type=int, default=None, help="accepted, without meaning")
    _flag(parser, "-b", "--showbar", help="draw a progress bar even where the output is no terminal")
    _flag(parser, "--console", help="accepted, without meaning: the log is in <home>/logs/dfclient.log")
    _flag(parser, "--verbose", help="log more")
    add("--home", type=Path, default=None, help="folder of contents and logs (default: $HOME/.small-dragonfly)")
    add("--ip", type=address, default="", help="address that other peers reach this host by")
    add("--port", type=port, default=0, help="port that serves pieces; 0: any free one")
    add("--expiretime", type=duration, default=180.0, help="keep an unused content so long (default 3m)")
    add("--alivetime", type=duration, default=300.0, help="the peer left behind ends after so long without work (default 5m)")
    add("--cache-quota", type=typed(parse_size, "size"), default=None, help=_QUOTA)
    add("--report", type=Path, default=None, help="write a JSON report there when done")
    return parser


def _server_parser() -> argparse.ArgumentParser:
    parser = CommandParser(prog="dfget server", allow_abbrev=False, description="Run this host's peer in the foreground.")
    rate, duration, port = typed(parse_rate, "rate"), typed(parse_duration, "duration"), typed(parse_port, "port")
    address = typed(_address, "address")
    add = parser.add_argument
    add("--home", type=Path, default=None, help="folder of contents and logs (default: $HOME/.small-dragonfly)")
    add("--data", default="", help="accepted, without meaning: contents are in <home>/data")
    add("--meta", default="", help="accepted, without meaning: the control socket is in <home>/meta")
    add("-n", "--node", type=typed(parse_nodes, "node"), default=None, help="supernodes: host[:port][=weight],...")
    add("--ip", type=address, default="", help="address that other peers reach this host by")
    add("--port", type=port, default=0, help="port that serves pieces; 0: any free one")
    add("--totallimit", type=rate, default=None, help="bytes per second of all downloads of this host; 0: not limited")
    add("--uploadlimit", type=rate, default=0, help="bytes per second served to other peers; 0: not limited")
    add(
        "--linkrate",
        default=None,
        help="this host's link, of which others come first: 1gbit, 100mbit, 120MB, or auto to learn it; 0: do not look",
    )
    add("--minrate", type=rate, default=None, help="bytes per second that others leave in any case (default 64KB)")
    add("--location", default="", help="rack or zone, a/b/c from the widest to the narrowest")
    add("--expiretime", type=duration, default=180.0, help="keep an unused content so long (default 3m)")
    add("--alivetime", type=duration, default=300.0, help="end after so long without work (default 5m); 0: never")
    add("--cache-quota", type=typed(parse_size, "size"), default=None, help=_QUOTA)
    add("--preheat-quota", type=int, choices=range(101), metavar="PERCENT", default=50, help="of the quota, for what is kept")
    _flag(parser, "--verbose", help="log more")
    _flag(parser, "--json-log", help="log in JSON lines")
    # The supernode starts its seed with these; they are not for people.
    add("--seed", action="store_true", help=argparse.SUPPRESS)
    add("--sourcelimit", type=rate, default=0, help=argparse.SUPPRESS)
    for name in ("--young-free", "--full-free"):
        add(name, type=typed(parse_size, "size"), default=0, help=argparse.SUPPRESS)
    for name, seconds in (("--unused-for", 7200.0), ("--tidy-after", 0.0), ("--tidy-every", 15.0)):
        add(name, type=duration, default=seconds, help=argparse.SUPPRESS)
    add("--clean-tenths", type=int, default=1, help=argparse.SUPPRESS)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The `dfget` command. Returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    match given[:1]:
        case ["server"]:
            return _server(given[1:])
        case ["version"]:
            print(f"dfget version:{software_version()}")
            return 0
        case ["gen-doc"]:
            return write_documents(_parsers(), given[1:])
        case ["help"]:
            return say_help(_parsers(), given[1:])
    return _oneshot(given)


def _parsers() -> dict[str, argparse.ArgumentParser]:
    return {"": _oneshot_parser(), "server": _server_parser()}


def _properties(parser: argparse.ArgumentParser) -> Properties:
    try:
        return load_properties(environment=os.environ)
    except (PropertiesError, OSError) as error:
        parser.error(str(error))


def _home(given: Path | None, properties: Properties) -> Path:
    chosen = given or properties.work_home or Path(os.environ.get("HOME", "/root")) / ".small-dragonfly"
    return chosen.expanduser().absolute()


def _supernodes(given: list[Node] | None, properties: Properties) -> tuple[str, ...]:
    nodes = given or list(properties.nodes) or parse_nodes("127.0.0.1")
    return tuple(expand_nodes(nodes, random.Random()))


def _oneshot(given: list[str]) -> int:
    parser = _oneshot_parser()
    if not given:
        print("Please use the command 'help' to show the help information.", file=sys.stderr)
        return 1
    flags = parser.parse_args(given)
    properties = _properties(parser)
    for name, reason in _WITHOUT_MEANING.items():
        if getattr(flags, name) not in (None, False):
            print(f"dfget: --{name} has no meaning here: {reason}", file=sys.stderr)
    if flags.pattern == "cdn":
        print("dfget: --pattern cdn has no meaning here: the host's peer serves what it has; it is p2p", file=sys.stderr)
    for warning in properties.warnings:
        print(f"dfget: {warning}", file=sys.stderr)
    from worker_peer.oneshot import run_oneshot

    return run_oneshot(_options(parser, flags, properties))


def _options(parser: argparse.ArgumentParser, flags: argparse.Namespace, properties: Properties) -> OneshotOptions:
    url = flags.url
    scheme, _, rest = url.partition("://")
    if scheme.lower() not in ("http", "https") or not rest.split("/", 1)[0]:
        parser.error(f"--url must be http://host/... or https://host/..., not {url_without_secrets(url)[:80]!r}")
    headers, byte_range = _without_range(parser, flags.header)
    limit = flags.locallimit if flags.locallimit is not None else properties.local_limit
    total = flags.totallimit if flags.totallimit is not None else properties.total_limit
    return OneshotOptions(
        url=url,
        output=Path(flags.output or _name_of(parser, url)).absolute(),
        rate=limit or 0,
        total_rate=total or 0,
        min_rate=(flags.minrate if flags.minrate is not None else properties.min_rate) or 0,
        timeout_s=flags.timeout,
        md5=_md5(parser, flags.md5),
        identifier=flags.identifier or None,
        digest=_digest(parser, flags.digest),
        caller=flags.callsystem or ("dfdaemon" if flags.dfdaemon else ""),
        certificates=_certificates(parser, flags.cacerts),
        from_source=flags.pattern == "source",
        filters=tuple(part for part in flags.filter.split("&") if part),
        headers=headers,
        byte_range=byte_range,
        supernodes=_supernodes(flags.node, properties),
        back_to_source=not flags.notbs,
        insecure=flags.insecure,
        bar=flags.showbar,
        verbose=flags.verbose,
        home=_home(flags.home, properties),
        ip=flags.ip,
        port=flags.port,
        expire_s=flags.expiretime,
        alive_s=flags.alivetime,
        cache_quota=flags.cache_quota if flags.cache_quota is not None else properties.cache_quota or 0,
        report=flags.report,
    )


def _without_range(
    parser: argparse.ArgumentParser, headers: list[tuple[str, str]]
) -> tuple[tuple[tuple[str, str], ...], ByteRange | None]:
    """A Range header makes another task of the same URL, as in 1.x; it is not one of the headers then."""
    kept = tuple(each for each in headers if each[0].lower() != "range")
    ranges = [value for name, value in headers if name.lower() == "range"]
    if not ranges:
        return kept, None
    unit, _, span = ranges[-1].partition("=")
    first, dash, last = span.partition("-")
    if unit.strip() != "bytes" or not dash or not first.isdigit() or not (last == "" or last.isdigit()):
        parser.error(f"--header Range must be bytes=<first>-<last> or bytes=<first>-, not {ranges[-1]!r}")
    if last and int(last) < int(first):
        parser.error(f"--header Range: {ranges[-1]!r} ends before it begins")
    return kept, ByteRange(int(first), int(last) if last else None)


def _md5(parser: argparse.ArgumentParser, text: str) -> str | None:
    if text and re.fullmatch(r"[0-9a-fA-F]{32}", text) is None:
        parser.error("--md5 must be 32 hexadecimal digits, as md5sum prints them")
    return text.lower() or None


def _digest(parser: argparse.ArgumentParser, text: str) -> str | None:
    if text and not is_sha256_digest(text):
        parser.error("--digest must be sha256: and 64 lower-case hexadecimal digits")
    return text or None


def _name_of(parser: argparse.ArgumentParser, url: str) -> str:
    name = url.split("?", 1)[0].split("#", 1)[0].partition("://")[2].partition("/")[2].rpartition("/")[2]
    if not name:
        parser.error("the URL ends without a file's name: say where to put it with --output")
    return name


def _certificates(parser: argparse.ArgumentParser, files: list[str]) -> tuple[bytes, ...]:
    found = []
    for path in (part for each in files for part in each.split(",") if part):
        try:
            found.append(Path(path).read_bytes())
        except OSError as error:
            parser.error(f"--cacerts {path}: {error.strerror}")
    return tuple(found)


def _server(given: list[str]) -> int:
    parser = _server_parser()
    flags = parser.parse_args(given)
    # A seed obeys its supernode alone: the file is about this host's own downloads.
    properties = Properties() if flags.seed else _properties(parser)
    for name, reason in _SERVER_WITHOUT_MEANING.items():
        if getattr(flags, name):
            print(f"dfget server: --{name} has no meaning here: {reason}", file=sys.stderr)
    from wire.messages import Role
    from worker_peer.config import LEAST_RATE, PeerConfig
    from worker_peer.serve import run_server

    total = flags.totallimit if flags.totallimit is not None else properties.total_limit
    config = PeerConfig(
        home=_home(flags.home, properties),
        supernodes=_supernodes(flags.node, properties),
        ip=flags.ip,
        data_port=flags.port,
        role=Role.SEED if flags.seed else Role.PEER,
        total_rate=total or 0,
        upload_rate=flags.uploadlimit,
        link_rate=_link_rate(parser, properties.link_rate if flags.linkrate is None else flags.linkrate),
        min_rate=(flags.minrate if flags.minrate is not None else properties.min_rate) or LEAST_RATE,
        source_rate=flags.sourcelimit,
        location=flags.location,
        control_socket=not flags.seed,
        software=software_version(),
        alive_s=flags.alivetime,
        expire_s=flags.expiretime,
        cache_quota=flags.cache_quota if flags.cache_quota is not None else properties.cache_quota or 0,
        kept_percent=flags.preheat_quota,
        young_free=flags.young_free,
        full_free=flags.full_free,
        unused_s=flags.unused_for,
        clean_tenths=flags.clean_tenths,
        tidy_after_s=flags.tidy_after,
        tidy_every_s=flags.tidy_every,
        supernode_patience_s=_SUPERNODE_PATIENCE_S,
    )
    return run_server(
        config,
        verbose=flags.verbose,
        as_json=flags.json_log,
        rotate_bytes=properties.log_rotate_bytes,
        rotated_files=properties.log_rotated_files,
    )


def _link_rate(parser: argparse.ArgumentParser, text: str) -> int | None:
    try:
        return parse_link_rate(text)
    except ValueError as error:
        parser.error(f"--linkrate: {error}")


if __name__ == "__main__":
    sys.exit(main())
