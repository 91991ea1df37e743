"""`supernode cache`: what is in the stores of a swarm, over HTTP. Flags in, a table and an exit code out."""

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import quote, urlencode

from broker.amounts import counted, size
from broker.api_client import API_HEADER, ApiClient, CommandFailed, add_flags, client_of
from wire.ids import digest_in_url, is_sha256_digest, task_id
from worker_peer.host.command_line import CommandParser, with_values
from worker_peer.host.values import format_duration

_SWITCHES: Final = ("--json",)
_PAGE: Final = 100
_DIGITS: Final = 12
_URL: Final = 60
#: Why a content stays, and what to do about it, by the words of CACHE_PAGE.
_STAYS: Final = {
    "kept": "kept (supernode cache pin TASK --keep 0s lets them go)",
    "in use": "in use, or served a moment ago: try again later",
    "linked": "a user has a hard link, so that deleting them frees nothing",
}


def parser() -> argparse.ArgumentParser:
    """The flags of `supernode cache`."""
    made = CommandParser(
        prog="supernode cache",
        allow_abbrev=False,
        description="See what hosts and seeds have stored, keep it, delete it.",
        usage="supernode cache ls|pin|rm|gc [TASK] [flags]",
        epilog="ls: what is stored where. pin TASK: keep it (--keep 0s: no longer). rm TASK: delete it, kept or not. gc: delete "
        "what the rules want deleted, or so many bytes (--free). Without --host: ls and rm everywhere, pin and gc on the seeds. "
        f"What the supernode's API wants: {API_HEADER}='Authorization: Bearer ...'.",
    )
    add = made.add_argument
    add("what", choices=("ls", "pin", "rm", "gc"), metavar="ls|pin|rm|gc", help="what to do")
    add("task", nargs="?", default="", metavar="TASK", help="a digest (sha256:...), a URL, or the first digits of a task's id")
    add("--host", default="", help="seed, or hosts by name, address or id, commas between")
    add("--keep", default="24h", help="pin: for so long: 7d, 12h (default 24h); 0s: no longer")
    add("--free", default="0", help="gc: delete the least recently used until so much more is free: 10GB")
    add("--filter", default="", help="query keys of a URL that do not count, & between them")
    add_flags(made)
    return made


def main(arguments: Sequence[str]) -> int:
    """`supernode cache ...`. Returns the exit code."""
    flags = parser().parse_args(with_values(list(arguments), _SWITCHES))
    supernode = client_of(flags)
    try:
        if flags.what != "gc" and flags.what != "ls" and not flags.task:
            raise CommandFailed(
                f"supernode cache {flags.what} TASK: name a digest, a URL, or the first digits of a task, as ls shows them"
            )
        match flags.what:
            case "ls":
                told = _listed(flags, supernode)
                text = _table(told)
            case "pin":
                path = f"/cache/{_task(flags)}/pin{_query(flags)}"
                told = supernode.ask("POST", path, {"keep": flags.keep})
                text = _pinned(told)
            case "rm":
                told = supernode.ask("DELETE", f"/cache/{_task(flags)}{_query(flags)}")
                text = _removed(told)
            case _:
                told = supernode.ask("POST", f"/cache/gc{_query(flags)}", {"free": flags.free})
                text = _collected(told)
    except CommandFailed as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    print(json.dumps(told) if flags.json else text)
    for host in told["hosts"]:
        if host["error"]:
            print(f"{host['host'] or host['peer']}: {host['error']}", file=sys.stderr)
    return 1 if any(host["error"] for host in told["hosts"]) or told.get("in_use") else 0


def _task(flags: argparse.Namespace) -> str:
    """The task's id, or its first digits. Raises CommandFailed."""
    text = flags.task
    if is_sha256_digest(text):
        return task_id("", digest=text)
    if "://" in text:
        filters = tuple(filter(None, flags.filter.split("&")))
        return task_id(text, filters=filters, digest=digest_in_url(text))
    if not text or any(digit not in "0123456789abcdef" for digit in text) or len(text) > 64:
        raise CommandFailed(f"{text[:80]!r} is no digest, no URL, and no digits of a task")
    return str(text)


def _query(flags: argparse.Namespace) -> str:
    return f"?host={quote(flags.host)}" if flags.host else ""


def _listed(flags: argparse.Namespace, supernode: ApiClient) -> Any:
    """All pages in one. Raises CommandFailed."""
    query = {"host": flags.host} if flags.host else {}
    if flags.task:
        return supernode.ask("GET", "/cache?" + urlencode(query | {"task": _task(flags)}))
    told = supernode.ask("GET", "/cache?" + urlencode(query | {"limit": _PAGE}))
    while told["next"]:
        following = supernode.ask("GET", "/cache?" + urlencode(query | {"limit": _PAGE, "after": told["next"]}))
        told["contents"] += following["contents"]
        told["next"] = following["next"]
    return told


def _span(seconds: float) -> str:
    return format_duration(float(round(seconds)))


def _table(told: Any) -> str:
    rows = [["TASK", "LENGTH", "HOSTS", "LAST USED", "KEPT FOR", "", "URL"]]
    for content in told["contents"]:
        hosts = content["hosts"]
        kept = max(each["kept_s"] for each in hosts)
        where = hosts[0]["host"] or hosts[0]["peer"] if len(hosts) == 1 else f"{len(hosts)} hosts"
        rows.append(
            [
                content["task"][:_DIGITS],
                size(content["length"]),
                f"{where} (seed)" if len(hosts) == 1 and hosts[0]["role"] == "seed" else where,
                f"{_span(min(each['unused_s'] for each in hosts))} ago",
                _span(kept) if kept else "-",
                "in use" if any(each["in_use"] for each in hosts) else "",
                content["url"] if len(content["url"]) <= _URL else f"{content['url'][: _URL - 3]}...",
            ]
        )
    stores = [["HOST", "USED", "QUOTA", "KEPT", "FREE"]]
    for host in told["hosts"]:
        quota = "-" if host["quota"] == 0 else size(host["quota"])
        name = f"{host['host'] or host['peer']}{' (seed)' if host['role'] == 'seed' else ''}"
        stores.append([name, size(host["used"]), quota, size(host["kept"]), size(host["free"])])
    return f"{aligned(rows)}\n\n{aligned(stores)}"


def aligned(rows: list[list[str]]) -> str:
    """The rows with their columns below each other."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def _pinned(told: Any) -> str:
    kept = [each for each in told["hosts"] if each.get("kept_s")]
    if not kept:
        return f"task {told['task'][:_DIGITS]} is as any other content now"
    return f"task {told['task'][:_DIGITS]} is kept for {_span(kept[0]['kept_s'])} on {_names(kept)}"


def _removed(told: Any) -> str:
    if told["in_use"]:
        return f"task {told['task'][:_DIGITS]} is in use on {', '.join(told['in_use'])}, and stays there: try again later"
    if not told.get("deleted", True):
        return f"no host had task {told['task'][:_DIGITS]} yet: the supernode has forgotten it"
    return f"task {told['task'][:_DIGITS]} is deleted"


def _collected(told: Any) -> str:
    text = f"{counted(told['removed'], 'content')} deleted, {size(told['removed_bytes'])}"
    # A supernode of before says nothing of it.
    for why, left in told.get("left", {}).items():
        text += f"\n{counted(left['contents'], 'content')} left, {size(left['bytes'])}: {_STAYS.get(why, why)}"
    return text


def _names(hosts: list[Any]) -> str:
    return ", ".join(each["host"] or each["peer"] for each in hosts)
