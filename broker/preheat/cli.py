"""`supernode preheat`: a job for a running supernode over HTTP, and how far it is. Flags in, lines and an exit code out.

Passwords are never flags: they come from the environment or from a file.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from broker.amounts import counted, size
from broker.api_client import API_HEADER, ApiClient, CommandFailed, add_flags, client_of
from broker.core.image_name import manifest_url_of, parse_manifest_url
from broker.core.manifests import parse_platform
from worker_peer.host.command_line import CommandParser, parse_switch, typed, with_values
from worker_peer.host.progress_bar import ProgressBar
from worker_peer.host.source_rules import basic_of

PASSWORD: Final = "SUPERNODE_PREHEAT_PASSWORD"  # noqa: S105  a variable's name
_COMMANDS: Final = ("ls", "show", "stop", "rm")
_SWITCHES: Final = ("--wait", "--insecure", "--plain-http", "--json")
#: What `--wait` ends with: 0 is proof.
EXIT_CODES: Final = {"SUCCESS": 0, "FAILED": 1, "PARTIAL": 2, "STOPPED": 3}
_POLL_S: Final = 0.5
_PATIENCE_S: Final = 60.0
_SHOWN_ROWS: Final = 20


def parser() -> argparse.ArgumentParser:
    """The flags of `supernode preheat IMAGE|URL`."""
    made = CommandParser(
        prog="supernode preheat",
        allow_abbrev=False,
        description="Have an image or a file ready on the seed, or on hosts, and prove it.",
        usage="supernode preheat IMAGE|URL [flags] | supernode preheat ls|show|stop|rm [JOB] [flags]",
        epilog=f"Exit code with --wait: 0 proven, 1 failed, 2 some hosts lack something, 3 stopped. The registry's password: "
        f"{PASSWORD} or --password-file. What the supernode's API wants: {API_HEADER}='Authorization: Bearer ...'.",
    )
    switch = typed(parse_switch, "switch")
    add = made.add_argument
    add("what", metavar="IMAGE|URL", help="as docker pull takes it, or a URL of a manifest or of a file; or ls, show, stop, rm")
    add("job", nargs="?", metavar="JOB", help="number of the job to show, stop or rm")
    add("--platform", action="append", default=[], help="of an image: linux/amd64; several allowed; all: every one")
    add("--scope", default="seed", help="seed (default), all hosts, or hosts by name, address or id, commas between")
    add("--wait", type=switch, default=False, metavar="BOOL", help="wait for the end, and show how far it is")
    add("--keep", default="", help="keep it for at least so long: 7d, 12h; 0s: as any other content")
    add("--timeout", default="", help="it has failed when it is not done within: 30m")
    add("--header", action="append", default=[], metavar="NAME:VALUE", help="for the registry or source; several allowed")
    add("--user", default="", help="name at the registry")
    add("--password-file", type=Path, help="file with the password; -: standard input")
    add("--filter", default="", help="query keys of a file's URL that do not count, & between them")
    add("--identifier", default="", help="of a file: as dfget's --identifier")
    add("--insecure", type=switch, default=False, metavar="BOOL", help="do not verify the registry's certificate")
    add("--cacerts", type=Path, action="append", default=[], help="PEM file: the only CAs to verify the registry by")
    add("--plain-http", type=switch, default=False, metavar="BOOL", help="an image's registry speaks http")
    add_flags(made)
    return made


def main(arguments: Sequence[str]) -> int:
    """`supernode preheat ...`. Returns the exit code."""
    flags = parser().parse_args(with_values(list(arguments), _SWITCHES))
    supernode = client_of(flags)
    try:
        if flags.what in _COMMANDS:
            return _command(flags, supernode)
        if flags.job is not None:
            raise CommandFailed(f"one image or URL at a time: {flags.job[:80]!r} is too much")
        return _preheat(flags, supernode)
    except CommandFailed as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("the job goes on: supernode preheat ls shows it, stop ends it", file=sys.stderr)
        return 130


# -- a job -----------------------------------------------------------------------------------------------------------------


def _preheat(flags: argparse.Namespace, supernode: ApiClient) -> int:
    job = supernode.ask("POST", "/jobs", _document(flags))
    if flags.wait:
        job = _wait(job, supernode)
    if flags.json:
        print(json.dumps(job))
    else:
        print(_line(job))
    if not flags.wait:
        return 0
    if job["state"] != "SUCCESS" and not flags.json:
        _print_rows([row for row in _rows(job["id"], supernode) if row["state"] != "DONE"], sys.stderr)
    return EXIT_CODES.get(job["state"], 1)


def _document(flags: argparse.Namespace) -> dict[str, Any]:
    """The request. Raises CommandFailed."""
    headers: dict[str, list[str]] = {}
    for each in flags.header:
        name, mark, value = each.partition(":")
        if not mark or not name.strip():
            raise CommandFailed("--header must be NAME:VALUE")
        headers.setdefault(name.strip(), []).append(value.strip())
    if flags.user:
        headers["Authorization"] = [basic_of(f"{flags.user}:{_password(flags)}")]
    try:
        kind, url = _kind_and_url(flags.what, plain_http=flags.plain_http)
        platforms = [str(parse_platform(each)) for text in flags.platform for each in text.split(",") if each != "all"]
        certificates = [path.read_text(encoding="ascii") for path in flags.cacerts]
    except ValueError as error:
        raise CommandFailed(str(error)) from None
    except OSError as error:
        raise CommandFailed(f"--cacerts: {error.filename}: {error.strerror}") from None
    document: dict[str, Any] = {"type": kind, "url": url, "headers": headers, "platforms": platforms, "insecure": flags.insecure}
    document |= {"certificates": certificates, "filter": flags.filter, "identifier": flags.identifier}
    document |= {"keep": flags.keep or None, "timeout": flags.timeout or None}
    return document | ({"scope": flags.scope} if flags.scope in ("seed", "all") else {"hosts": flags.scope})


def _kind_and_url(what: str, *, plain_http: bool) -> tuple[str, str]:
    """Raises ValueError."""
    if not what.lower().startswith(("http://", "https://")):
        return "image", manifest_url_of(what, plain_http=plain_http)
    try:
        parse_manifest_url(what)
    except ValueError:
        return "file", what
    return "image", what


def _password(flags: argparse.Namespace) -> str:
    if flags.password_file is None:
        if PASSWORD not in os.environ:
            raise CommandFailed(f"--user wants a password: set {PASSWORD}, or name a --password-file")
        return os.environ[PASSWORD]
    try:
        if str(flags.password_file) == "-":
            return sys.stdin.readline().rstrip("\r\n")
        return str(flags.password_file.read_text(encoding="utf-8").splitlines()[0])
    except (OSError, UnicodeDecodeError, IndexError):
        raise CommandFailed(f"--password-file: {flags.password_file} cannot be read, or is empty") from None


def _wait(job: dict[str, Any], supernode: ApiClient) -> dict[str, Any]:
    """The job when it has ended. A supernode that restarts is waited for: its jobs go on."""
    number = job["id"]
    with ProgressBar(always=False) as bar:
        while job["state"] not in EXIT_CODES:
            bar.show(job["verified_bytes"], job["bytes"])
            time.sleep(_POLL_S)
            job = _patiently(lambda: supernode.ask("GET", f"/jobs/{number}?limit=1"))
    return job


def _patiently(ask: Callable[[], Any]) -> Any:
    until = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return ask()
        except CommandFailed as error:
            if not error.again or time.monotonic() > until:
                raise
        time.sleep(_POLL_S)


# -- jobs that are there -----------------------------------------------------------------------------------------------------


def _command(flags: argparse.Namespace, supernode: ApiClient) -> int:
    if flags.what == "ls":
        return _list(flags, supernode)
    if not flags.job:
        raise CommandFailed(f"supernode preheat {flags.what} JOB: name the job's number, as ls shows it")
    path = f"/jobs/{quote(flags.job, safe='')}"
    match flags.what:
        case "show":
            job = supernode.ask("GET", f"{path}?limit=1")
            rows = _rows(job["id"], supernode)
            if flags.json:
                print(json.dumps({**job, "rows": rows, "next": None}))
            else:
                print(_line(job))
                _print_rows(rows, sys.stdout, most=len(rows))
        case "stop":
            job = supernode.ask("POST", f"{path}/stop", {})
            print(json.dumps(job) if flags.json else _line(job))
        case _:
            job = supernode.ask("DELETE", path)
            print(
                json.dumps(job) if flags.json else f"job {job['deleted']} is forgotten; what it fetched stays until it is evicted"
            )
    return 0


def _list(flags: argparse.Namespace, supernode: ApiClient) -> int:
    jobs: list[dict[str, Any]] = []
    after = 0
    while True:
        told = supernode.ask("GET", f"/jobs?after={after}&limit=1000")
        jobs += told["jobs"]
        if told["next"] is None:
            break
        after = told["next"]
    if flags.json:
        print(json.dumps({"jobs": jobs, "next": None}))
        return 0
    for job in jobs:
        print(_line(job))
    return 0


def _rows(number: int, supernode: ApiClient) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    after: int | None = 0
    while after is not None:
        told = supernode.ask("GET", f"/jobs/{number}?after={after}&limit=10000")
        rows += told["rows"]
        after = told["next"]
    return rows


def _line(job: dict[str, Any]) -> str:
    where = "the seed" + (f" and {counted(job['hosts'], 'host')}" if job["hosts"] else "")
    proven = size(job["verified_bytes"]) + (f" of {size(job['bytes'])}" if job["bytes"] is not None else "")
    told = f"job {job['id']} {job['state']} {job['url']}: {counted(job['blobs'], 'blob')} on {where}, {proven} verified"
    return f"{told}; {job['error']}" if job["error"] else told


def _print_rows(rows: list[dict[str, Any]], stream: Any, most: int = _SHOWN_ROWS) -> None:
    for row in rows[:most]:
        length = row["bytes"] if row["bytes"] is not None else "?"
        error = f"  {row['error']}" if row["error"] else ""
        print(
            f"  {row['state']:8} {row['name'] or row['host']}  {row['verified_bytes']}/{length}  {row['blob']}{error}",
            file=stream,
        )
    if len(rows) > most:
        print(f"  and {len(rows) - most} more: supernode preheat show", file=stream)
