"""One `dfget`: ask the host's peer for the content, put it where it belongs, or go to the source; print 1.x's lines.

Blocking, one thing after the other. The moving is done by the host's peer, which stays behind to serve others.
"""

import asyncio
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any, Final

from wire.errors import ErrorCode, LocalError
from wire.ids import digest_in_url, url_without_secrets
from wire.messages import Download, Finished, Origin, Progress
from worker_peer.host.command_line import software_version
from worker_peer.host.limits import lowest
from worker_peer.host.placement import OutputError, Placement, check_output, place_output
from worker_peer.host.progress_bar import ProgressBar
from worker_peer.host.source import SourceError
from worker_peer.host.values import format_rate
from worker_peer.host_peer import NoHostPeer, connect_or_start
from worker_peer.oneshot_options import OneshotOptions

# 1.x's codes; the shell sees them modulo 256.
_PREPARE_FAILED: Final = 1101
_NEEDS_AUTH: Final = 1103
_DOWNLOAD_FAILED: Final = 1104
#: 1.x's time for a download: its length by --minrate, and so much more.
_MIN_RATE_GRACE_S: Final = 10.0


class Reason(IntEnum):
    """Why a download went to the source: 1.x's numbers. 1000 more when --notbs forbade it."""

    NONE = 0
    REGISTER = 1
    DOWNLOAD = 3
    WRITE = 6
    NO_SUPERNODE = 8
    SOURCE = 10
    USER = 100


@dataclass(slots=True)
class _Outcome:
    """How it went."""

    length: int = -1
    digest: str = ""
    task: str = ""
    received: dict[Origin, int] = field(default_factory=lambda: dict.fromkeys(Origin, 0))
    reason: Reason = Reason.NONE
    code: int = 0
    message: str = ""


class _Failed(Exception):
    """The swarm does not give it."""

    def __init__(self, reason: Reason, message: str, code: int = _DOWNLOAD_FAILED) -> None:
        super().__init__(message)
        self.reason = reason
        self.code = code


def run_oneshot(options: OneshotOptions) -> int:
    """Download, print, report. Returns the exit code."""
    began, began_at = time.time(), time.monotonic()
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(began))
    _say(f"--{stamp}--  {url_without_secrets(options.url)}")
    _say(f"dfget version:{software_version()}")
    _say(f"workspace:{options.home}")
    _say(f"sign:{os.getpid()}-{began:.3f}")
    try:
        check_output(options.output)
        outcome = _download(options)
    except OutputError as error:
        outcome = _Outcome(code=_PREPARE_FAILED, message=str(error))
    except KeyboardInterrupt:
        outcome = _Outcome(code=130, message="interrupted")
    cost = time.monotonic() - began_at
    _report(options, outcome, cost)
    if outcome.code == 0:
        _say(f"download SUCCESS cost:{cost:.3f}s length:{outcome.length} reason:{int(outcome.reason)}")
        return 0
    forbidden = 1000 if not options.back_to_source and outcome.code != _PREPARE_FAILED else 0
    error_text = json.dumps({"Code": outcome.code, "Msg": outcome.message}, separators=(",", ":"), ensure_ascii=False)
    _say(
        f"download FAIL({outcome.code}) cost:{cost:.3f}s length:{outcome.length} "
        f"reason:{int(outcome.reason) + forbidden} error:{error_text}"
    )
    return outcome.code % 256


def _say(line: str) -> None:
    print(line, flush=True)


def _download(options: OneshotOptions) -> _Outcome:
    if options.from_source:
        return _from_source(options, Reason.USER)
    try:
        return _from_swarm(options)
    except _Failed as error:
        if not options.back_to_source:
            return _Outcome(reason=error.reason, code=error.code, message=str(error))
        _say(f"failed to download by dragonfly: {error}, and start try to download from source")
        return _from_source(options, error.reason)


# -- the swarm ----------------------------------------------------------------------------------------------------------


def _from_swarm(options: OneshotOptions) -> _Outcome:
    """Raises _Failed, OutputError."""
    try:
        peer = connect_or_start(options.home, _server_arguments(options))
    except NoHostPeer as error:
        raise _Failed(Reason.REGISTER, str(error)) from None
    try:
        began_at = time.monotonic()
        deadline = began_at + options.timeout_s if options.timeout_s > 0 else None
        finished = None
        through = ""
        with ProgressBar(always=options.bar) as bar:
            try:
                for message in peer.download(_request(options), deadline):
                    if isinstance(message, Progress):
                        _check_pace(options, message, began_at)
                        through = _on_progress(options, message, bar, through)
                    else:
                        finished = message
            except TimeoutError:
                raise _Failed(Reason.NONE, f"it took longer than --timeout {options.timeout_s:g}s") from None
            except NoHostPeer as error:
                raise _Failed(Reason.DOWNLOAD, str(error)) from None
            except LocalError as error:
                # A URL or a header longer than the protocol carries.
                raise _Failed(Reason.REGISTER, f"the swarm cannot be asked for it: {error}: shorten it") from None
            except (KeyboardInterrupt, _Failed):
                peer.cancel()
                raise
        assert finished is not None
        return _place(options, peer.placed, finished)
    finally:
        peer.close()


def _check_pace(options: OneshotOptions, message: Progress, began_at: float) -> None:
    """1.x's --minrate: the time that the swarm has, where --timeout says nothing. Raises _Failed when it is over."""
    # What the user's own limits slow down is not the swarm's fault.
    least = lowest(options.min_rate, options.rate, options.total_rate) if options.min_rate else 0
    if not least or options.timeout_s > 0 or message.length is None:
        return
    allowed_s = message.length / least + _MIN_RATE_GRACE_S
    if time.monotonic() - began_at > allowed_s:
        raise _Failed(Reason.NONE, f"it took longer than {allowed_s:.0f}s, which is slower than --minrate {format_rate(least)}")


def _on_progress(options: OneshotOptions, message: Progress, bar: ProgressBar, through: str) -> str:
    """Show how far it is. The supernode that it goes through, and went through before (`through`)."""
    if message.supernode and message.supernode != through:
        bar.clear()
        if through:
            _say(f"migrated to node:{message.supernode}")
        else:
            _say(f"client:{options.ip or _own_address(message.supernode)} connected to node:{message.supernode}")
            _say("start download by dragonfly...")
    bar.show(sum(message.received), message.length)
    return message.supernode or through


def _own_address(node: str) -> str:
    """The address that this host uses towards a supernode (`host:port`)."""
    host = node.rpartition(":")[0].strip("[]")
    try:
        # Connecting a datagram socket sends nothing: it only asks for the route.
        family, kind, _, _, address = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as routed:
            routed.connect(address)
            return str(routed.getsockname()[0])
    except OSError:
        return "127.0.0.1"


def _place(options: OneshotOptions, placed: Callable[..., None], finished: Finished) -> _Outcome:
    """The content's file becomes the output. Raises _Failed, OutputError."""
    if finished.code is not None:
        raise _Failed(_reason_for(finished.code), finished.message, _code_for(finished.code))
    placement = place_output(Path(finished.path), options.output)
    placed(finished.task, linked=placement is Placement.HARDLINK)
    received = dict(zip(Origin, finished.received, strict=False))
    return _Outcome(length=finished.length, digest=finished.digest, task=finished.task, received=received)


def _reason_for(code: ErrorCode) -> Reason:
    match code:
        case ErrorCode.NO_SUPERNODE:
            return Reason.NO_SUPERNODE
        case ErrorCode.STORE_FULL:
            return Reason.WRITE
        case (
            ErrorCode.SOURCE_UNREACHABLE
            | ErrorCode.SOURCE_NEEDS_AUTH
            | ErrorCode.SOURCE_FORBIDDEN
            | ErrorCode.SOURCE_NOT_FOUND
            | ErrorCode.SOURCE_ERROR
        ):
            return Reason.SOURCE
    return Reason.DOWNLOAD


def _code_for(code: ErrorCode) -> int:
    return _NEEDS_AUTH if code is ErrorCode.SOURCE_NEEDS_AUTH else _DOWNLOAD_FAILED


def _request(options: OneshotOptions) -> Download:
    byte_range = options.byte_range
    return Download(
        url=options.url,
        headers=options.headers,
        filters=options.filters,
        digest=options.digest,
        md5=options.md5,
        identifier=options.identifier,
        byte_range=(byte_range.first, byte_range.last) if byte_range is not None else None,
        insecure=options.insecure,
        certificates=options.certificates,
        supernodes=options.supernodes,
        caller=options.caller,
        rate=options.rate,
        total_rate=options.total_rate,
    )


def _server_arguments(options: OneshotOptions) -> list[str]:
    arguments = ["--node", ",".join(options.supernodes), "--port", str(options.port)]
    arguments += ["--expiretime", f"{options.expire_s}s", "--alivetime", f"{options.alive_s}s"]
    if options.ip:
        arguments += ["--ip", options.ip]
    if options.total_rate:
        arguments += ["--totallimit", format_rate(options.total_rate)]
    if options.cache_quota:
        arguments += ["--cache-quota", str(options.cache_quota)]
    if options.verbose:
        arguments.append("--verbose")
    return arguments


# -- the source ---------------------------------------------------------------------------------------------------------


def _from_source(options: OneshotOptions, reason: Reason) -> _Outcome:
    """Raises OutputError."""
    from worker_peer.direct import OutputUnwritable, WrongContent, download_directly

    _say(f"start download {options.output.name} from the source station")
    outcome = _Outcome(reason=reason)
    wanted = options.digest or (digest_in_url(options.url) if options.byte_range is None else None)
    work = download_directly(
        url=options.url,
        headers=options.headers,
        byte_range=options.byte_range,
        insecure=options.insecure,
        certificates=options.certificates,
        digest=wanted,
        md5=options.md5,
        # Nobody else on the host knows of this one: it keeps to the host's limit by itself.
        rate=lowest(options.rate, options.total_rate),
        output=options.output,
    )
    try:
        outcome.length, outcome.digest = asyncio.run(_bounded(work, options.timeout_s))
        outcome.received[Origin.SOURCE] = outcome.length
    except SourceError as error:
        outcome.code = _NEEDS_AUTH if error.code is ErrorCode.SOURCE_NEEDS_AUTH else _DOWNLOAD_FAILED
        outcome.message = str(error)
        if reason is Reason.USER:
            outcome.reason = Reason.SOURCE
    except TimeoutError:
        outcome.code, outcome.message = _DOWNLOAD_FAILED, f"it took longer than --timeout {options.timeout_s:g}s"
    except WrongContent as error:
        outcome.code, outcome.message = _DOWNLOAD_FAILED, str(error)
    except OutputUnwritable as error:
        outcome.code, outcome.message = _PREPARE_FAILED, str(error)
    return outcome


async def _bounded(work: Coroutine[Any, Any, tuple[int, str]], timeout_s: float) -> tuple[int, str]:
    return await asyncio.wait_for(work, timeout_s if timeout_s > 0 else None)


# -- the report ---------------------------------------------------------------------------------------------------------


def _report(options: OneshotOptions, outcome: _Outcome, cost: float) -> None:
    if options.report is None:
        return
    told = {
        "ok": outcome.code == 0,
        "task": outcome.task,
        "length": outcome.length,
        "digest": outcome.digest,
        "seconds": round(cost, 4),
        "reason": int(outcome.reason),
        "code": outcome.code,
        "message": outcome.message,
        **{f"{origin.name.lower()}_bytes": outcome.received.get(origin, 0) for origin in Origin},
    }
    try:
        options.report.write_text(json.dumps(told) + "\n", encoding="utf-8")
    except OSError as error:
        print(f"dfget: --report {options.report}: {error.strerror}", file=sys.stderr)
