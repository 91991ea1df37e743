"""`dfdaemon why`: asks the running dfdaemon what became of a pull, and draws the answer. Blocking.

Where none runs, or none that may be asked, the file that the last one left behind is read.
"""

import http.client
import json
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from gateway.config import GatewayConfig, home_of, own_host
from gateway.core import why
from gateway.core.trace import PART_OF, Part, Wait
from gateway.core.verdict import seconds, size
from gateway.traces import read_file, traces_file
from wire.ids import SEED_PREFIX
from worker_peer.host.source_rules import basic_of

_PATIENCE_S: Final = 10.0
_MAX_ANSWER_BYTES: Final = 32 << 20
_BAR_CELLS: Final = 32
_STRIP_CELLS: Final = 44
_REQUESTS_DRAWN: Final = 40
_LETTERS: Final[Mapping[Part, str]] = {
    Part.ACCESS: "a",
    Part.WAITING: "w",
    Part.SUPERNODE: "n",
    Part.REGISTRY: "R",
    Part.SEED: "s",
    Part.PEERS: "p",
    Part.DISK: "d",
    Part.CLIENT: "c",
}
_ABOUT: Final[Mapping[Wait, str]] = {
    Wait.ACCESS: "the registry says whether this client may have it",
    Wait.OWN: "inside dfdaemon",
    Wait.SUPERNODE: "its answers and grants",
    Wait.SEED_OPENS: "before the seed's first byte",
    Wait.SEED_READS: "while the seed reads it",
    Wait.SOURCE: "read by this host, without the swarm",
    Wait.HEAD: "its answers",
    Wait.BODY: "its bytes, straight",
    Wait.SEED: "its pieces",
    Wait.PEERS: "their pieces",
    Wait.DISK: "this host's store",
    Wait.CLIENT: "takes what is there",
    Wait.BETWEEN: "between its requests",
}
_PLACES: Final = {"registry": "registry, straight", "store": "this host's store", "dfdaemon": "dfdaemon's own words"}


class CannotAsk(Exception):
    """Nobody can be asked. The text says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """An answer of `/debug/why`."""

    text: str
    told: dict[str, Any]
    is_known: bool
    note: str = ""
    """For stderr: where it comes from, if not from the running dfdaemon."""


def ask(config: GatewayConfig, question: str) -> Said:
    """Of the dfdaemon that this configuration is of. Raises CannotAsk."""
    place = f"{config.host_ip}:{config.port}"
    try:
        status, text = _get(config, f"{why.PATH}?of={quote(question, safe='')}")
        if status in (200, 404):
            return _said(text, is_known=status == 200)
        trouble = f"dfdaemon on {place} answers {status}"
        step = (
            "give why its --config: it takes basicAuth from there"
            if status == 407
            else "restart it: it may be of an older release"
        )
    except (OSError, http.client.HTTPException, ValueError) as error:
        trouble, step = f"no dfdaemon answers on {place} ({error})", "start it, or give why its --config or --port"
    file = traces_file(home_of(config))
    found = read_file(file)
    if not found:
        raise CannotAsk(f"{trouble}: {step}")
    made = why.answer(found, question)
    return _said(made.text, is_known=made.status == 200, note=f"{trouble}: this is of {file}, up to when it was last written")


def _said(text: str, *, is_known: bool, note: str = "") -> Said:
    told = json.loads(text)
    if not isinstance(told, dict):
        raise ValueError("no answer of dfdaemon's")
    return Said(text=text.strip(), told=told, is_known=is_known, note=note)


def _get(config: GatewayConfig, path: str) -> tuple[int, str]:
    host = own_host(config)
    connection: http.client.HTTPConnection
    if config.certpem:
        # Nothing secret but the proxy's own password is told, and it is this host that answers.
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection(host, config.port, timeout=_PATIENCE_S, context=context)
    else:
        connection = http.client.HTTPConnection(host, config.port, timeout=_PATIENCE_S)
    headers = {}
    if config.basic_auth.username:
        who = f"{config.basic_auth.username}:{config.basic_auth.password}"
        headers["Proxy-Authorization"] = basic_of(who)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read(_MAX_ANSWER_BYTES).decode()
    finally:
        connection.close()


def not_known(told: Mapping[str, Any]) -> str:
    """For people: what is not known, and what is."""
    nearest = [str(each) for each in told.get("nearest", ())]
    near = "\n  known are:\n" + "\n".join(f"    {each}" for each in nearest) if nearest else ""
    return _printable(f"{told.get('error', 'nothing is known')}{near}")


def _printable(text: str) -> str:
    """What a client called itself or asked for must not be able to speak to a terminal."""
    return "".join(each if each.isprintable() or each == "\n" else "?" for each in text)


# -- the drawing ----------------------------------------------------------------------------------------------------------


def drawn(told: Mapping[str, Any], encoding: str = "utf-8") -> str:
    """An answer with status 200, as lines for people."""
    try:
        full, eighths = "█", "▏▎▍▌▋▊▉"
        (full + eighths).encode(encoding)
    except (UnicodeError, LookupError):
        full, eighths = "#", ""
    if "last" in told:
        return _printable(_list(told["last"]))
    requests = told["requests"]
    clients = ", ".join(dict.fromkeys(each["client"] for each in requests if each["client"])) or "a client"
    lines = [
        f"{told['title']}",
        f"{_when(told['began'])}, {_seconds(told['seconds'])}, {size(told['bytes'])}, "
        f"{len(requests)} request{'s' if len(requests) != 1 else ''} of {clients}",
        "",
        "where the time went",
    ]
    for part in Part:
        spent = told["phases"][part.value]
        lines.append(
            f"  {part.value:<10}{_seconds(spent):>9} {_percent(spent, told['seconds']):>5}  "
            f"{_bar(spent, told['seconds'], full, eighths)}  {_about(part, told['waits'])}".rstrip()
        )
    lines += ["", "where the bytes came from"]
    names = [(_place(each), each["bytes"]) for each in told["from"]] or [("nowhere: there is no body", 0)]
    width = max(len(name) for name, _ in names)
    for name, count in names:
        share = f"{_percent(count, told['bytes']):>5}  {_bar(count, told['bytes'], full, eighths)}"
        lines.append(f"  {name:<{width}} {size(count):>10} {share}".rstrip())
    lines += ["", *_strips(told), "", f"verdict: {told['verdict']}"]
    return _printable("\n".join(lines))


def _list(last: list[Mapping[str, Any]]) -> str:
    if not last:
        return "nothing has been asked of this dfdaemon yet: pull an image, then ask again"
    lines = ["the last requests; ask for one by its image, digest or trace id:", ""]
    for each in last:
        lines.append(
            f"{_when(each['began'])}  {_seconds(each['seconds']):>8}  {size(each['bytes']):>10}  {each['status'] or '-':>3}  "
            f"{each['method']:<4}  {each['trace'][:12]}  {_cut(each['ask'], 60)}"
        )
    return "\n".join(lines)


def _strips(told: Mapping[str, Any]) -> list[str]:
    """A line for each request: when it ran, and what it waited for then."""
    requests, whole_s = told["requests"], max(told["seconds"], 1e-6)
    legend = ", ".join(f"{letter} {part.value}" for part, letter in _LETTERS.items())
    lines = [f"requests, from left to right in time ({legend})"]
    for each in requests[:_REQUESTS_DRAWN]:
        shown = each["reference"] if each["kind"] == "manifest" else each["digest"]
        name = f"{each['method']} {each['kind']} {(shown or each['url'])[:19]}"
        state = str(each["status"] or "-") + ("" if each["end"] == "complete" else "!")
        lines.append(
            f"  {name:<33} {state:>4} {_seconds(each['seconds']):>8} {size(each['bytes']):>10} "
            f"|{_strip(each, each['began'] - told['began'], whole_s)}| {each['trace'][:12]}"
        )
    if len(requests) > _REQUESTS_DRAWN:
        lines.append(f"  and {len(requests) - _REQUESTS_DRAWN} more: --json has all of them")
    return lines


def _strip(request: Mapping[str, Any], offset_s: float, whole_s: float) -> str:
    step_s = request["timeline"]["step_s"]
    cells: list[dict[Part, float]] = [{} for _ in range(_STRIP_CELLS)]
    cell_s = whole_s / _STRIP_CELLS
    for number, waits in enumerate(request["timeline"]["steps"]):
        start = offset_s + number * step_s
        stop = min(start + step_s, offset_s + request["seconds"])
        total = sum(waits.values()) or 1.0
        first, last = int(start / cell_s), int(stop / cell_s)
        for cell in range(max(0, first), min(_STRIP_CELLS - 1, last) + 1):
            overlap = min(stop, (cell + 1) * cell_s) - max(start, cell * cell_s)
            for wait, spent in waits.items():
                part = PART_OF[Wait(wait)]
                cells[cell][part] = cells[cell].get(part, 0.0) + max(0.0, overlap) * spent / total
    if not any(cells):
        cells[min(_STRIP_CELLS - 1, max(0, int(offset_s / cell_s)))] = {Part.WAITING: 1.0}
    return "".join(_LETTERS[max(each, key=lambda part: each[part])] if each else " " for each in cells)


def _about(part: Part, waits: Mapping[str, float]) -> str:
    found = sorted(
        (wait for wait in Wait if PART_OF[wait] is part and waits.get(wait.value)), key=lambda each: -waits[each.value]
    )
    return "; ".join(f"{_ABOUT[each]} {_seconds(waits[each.value])}" if len(found) > 1 else _ABOUT[each] for each in found)


def _place(given: Mapping[str, Any]) -> str:
    place = str(given["place"])
    name = str(given["name"])
    if place == "seed":
        return f"seed {name.removeprefix(SEED_PREFIX)}".strip()
    return f"{place}s, {name}" if name.endswith(" others") else _PLACES.get(place, f"{place} {name}".strip())


def _bar(part: float, whole: float, full: str, eighths: str) -> str:
    cells = part / whole * _BAR_CELLS if whole else 0.0
    rest = int((cells - int(cells)) * 8)
    drawn = full * int(cells) + (eighths[rest - 1] if eighths and rest else "")
    return f"{drawn:<{_BAR_CELLS}}"


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.0f} %" if whole else "0 %"


def _seconds(value: float) -> str:
    return seconds(round(value * 1e6))


def _when(unix_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(unix_s))


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 3]}..."
