"""scripts/demo: a whole swarm on one machine, from nothing, with a report of where every byte came from.

Starts a source (unless a URL is given), a supernode and the peers, then one dfget per peer at the same time; compares
every output with the source; ends every process and removes every folder, whatever happens.
"""

import json
import os
import shutil
import signal
import sys
import tempfile
import time
import urllib.error
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NoReturn

from scripts.demonstration.arguments import Arguments, parse_arguments
from scripts.demonstration.content import Reference, make_random_file, read_directly, sha256_of
from scripts.demonstration.measure import HostMeter
from scripts.demonstration.processes import Processes, ProcessFailed, RunningProcess
from scripts.demonstration.report import PeerResult, Result, mebibytes
from scripts.demonstration.source import COUNT_PATH
from scripts.demonstration.swarm import Download, Supernode, Swarm, get_text
from wire.ids import url_without_secrets

_REPOSITORY: Final = Path(__file__).resolve().parents[2]
_FILE: Final = "content.bin"
#: A download slower than this, in all, is held for stuck.
_SLOWEST_BYTES_PER_S: Final = 1 << 20
_PATIENCE_S: Final = 120.0
_POLL_S: Final = 0.02
#: Peers and the seed tell the supernode their counters once a second; on a busy machine it takes longer.
_HEARTBEAT_S: Final = 1.2
_HEARD_WITHIN_S: Final = 10.0
_ENDING_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class CannotRun(Exception):
    """The demonstration cannot begin; the text says why and what to do."""


class Source:
    """Where the file comes from: our own server, or the user's URL. Tells how much left it."""

    def __init__(self, url: str, reference: Reference, process: RunningProcess | None) -> None:
        self.url = url
        self.reference = reference
        self.process = process

    @classmethod
    def own(cls, processes: Processes, directory: Path, arguments: Arguments) -> "Source":
        """Make a file and serve it. Raises CannotRun where the disk is too small."""
        # The source's copy, the seed's, and one per peer, whose output is a link to it.
        needed = arguments.size * (arguments.peers + 2)
        free = shutil.disk_usage(directory).free
        if needed > free:
            raise CannotRun(
                f"{arguments.peers} peers and {mebibytes(arguments.size)} need {mebibytes(needed)} in {directory.parent}, "
                f"which has {mebibytes(free)} free: take a smaller --size, fewer --peers, or another folder by TMPDIR"
            )
        root = directory / "source"
        root.mkdir()
        say(f"making a file of {mebibytes(arguments.size)} random bytes")
        reference = make_random_file(root / _FILE, arguments.size)
        process = processes.start(
            "source", [sys.executable, "-m", "scripts.demonstration.source", "--root", str(root)], directory=_REPOSITORY
        )
        address = process.wait_for(r"source ready: (\S+)")[1]
        return cls(f"{address}/{_FILE}", reference, process)

    @classmethod
    def at(cls, url: str) -> "Source":
        """The user's URL, read once directly so that there is something to compare with. Raises CannotRun."""
        say(f"reading {url_without_secrets(url)} once directly, for its sha256")
        try:
            return cls(url, read_directly(url), None)
        except urllib.error.HTTPError as error:
            raise CannotRun(f"the source answers {error.code} {error.reason}") from error
        except OSError as error:
            raise CannotRun(f"the source cannot be read: {error}") from error

    def egress(self, supernode: Supernode) -> tuple[int, str]:
        """Bytes that left it through the swarm, and who counted them. Raises OSError."""
        if self.process is not None:
            address = self.url.rpartition("/")[0]
            return int(json.loads(get_text(address + COUNT_PATH))["body_bytes"]), "the source itself"
        deadline = time.monotonic() + _HEARD_WITHIN_S
        while supernode.source_bytes() < self.reference.length and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        # What came on top of the file, if anything did, is told by the next heartbeat.
        time.sleep(_HEARTBEAT_S)
        return supernode.source_bytes(), "the supernode"


def say(text: str) -> None:
    """A line for whoever watches."""
    print(text, flush=True)


def main() -> int:
    """Run it; the exit code: 0 only if every copy is right."""
    arguments = parse_arguments()
    for number in _ENDING_SIGNALS:
        signal.signal(number, _stop_on_signal)
    try:
        with _scratch_folder() as directory, Processes(directory) as processes:
            result = _run(arguments, processes, directory)
    except KeyboardInterrupt:
        print("scripts/demo: interrupted; everything it had started has ended", file=sys.stderr)
        return 130
    except (CannotRun, ProcessFailed, OSError) as error:
        print(f"scripts/demo: {error}", file=sys.stderr)
        if arguments.as_json:
            say(json.dumps({"ok": False, "peers": arguments.peers, "error": str(error)}))
        return 1
    say(f"\n{result.as_text()}")
    if arguments.as_json:
        say(json.dumps(result.as_json()))
    return 0 if result.is_right else 1


def _stop_on_signal(number: int, frame: object) -> NoReturn:
    # A second Ctrl-C would cut short the ending of what was started.
    for each in _ENDING_SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


@contextmanager
def _scratch_folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="damselfly-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _run(arguments: Arguments, processes: Processes, directory: Path) -> Result:
    source = Source.own(processes, directory, arguments) if arguments.url is None else Source.at(arguments.url)
    swarm = Swarm(processes, directory)
    say("starting the supernode")
    supernode = swarm.start_supernode()
    say(f"starting {arguments.peers} peers")
    hosts = swarm.start_peers(arguments.peers, supernode)
    groups = {"supernode and seed": [supernode.process], "peers": [host.server for host in hosts if host.server is not None]}
    if source.process is not None:
        groups["source"] = [source.process]
    meter = HostMeter(groups)
    started_at = time.monotonic()
    say(f"downloading on {arguments.peers} peers at the same time")
    downloads = [swarm.download(host, supernode, source.url) for host in hosts]
    ended_after = _wait_for_all(downloads, source, meter)
    wall_seconds = time.monotonic() - started_at
    use = meter.so_far()
    peers = [_judge(each, source.reference, ended_after[each.host.name]) for each in downloads]
    source_bytes, counted_by = source.egress(supernode)
    return Result(
        url=source.url,
        length=source.reference.length,
        sha256=source.reference.sha256,
        peers=peers,
        source_bytes=source_bytes,
        source_counted_by=counted_by,
        wall_seconds=wall_seconds,
        host=use,
    )


def _wait_for_all(downloads: list[Download], source: Source, meter: HostMeter) -> dict[str, float]:
    """Seconds that each download took, by its host's name; says every second how far things are."""
    started_at = time.monotonic()
    limit_s = _PATIENCE_S + source.reference.length * len(downloads) / _SLOWEST_BYTES_PER_S
    ended_after: dict[str, float] = {}
    next_line_at = started_at + 1.0
    while len(ended_after) < len(downloads):
        now = time.monotonic()
        for each in downloads:
            if each.host.name not in ended_after and not each.process.is_running:
                ended_after[each.host.name] = now - started_at
        if now - started_at > limit_s:
            stuck = [each.process.story() for each in downloads if each.process.is_running]
            raise ProcessFailed(f"not done after {limit_s:.0f} s:\n" + "\n".join(stuck))
        if now >= next_line_at:
            next_line_at += 1.0
            _say_progress(meter, len(ended_after), len(downloads))
        time.sleep(_POLL_S)
    if sys.stdout.isatty():
        say("")
    return ended_after


def _say_progress(meter: HostMeter, done: int, wanted: int) -> None:
    use = meter.so_far()
    sent = sum(use.sent_bytes.values())
    percent = use.cpu_seconds / use.cpu_capacity_seconds if use.cpu_capacity_seconds else 0.0
    line = (
        f"{use.seconds:5.1f} s  {done}/{wanted} peers done  {mebibytes(sent)} sent on this host "
        f"({mebibytes(sent / use.seconds)}/s)  CPU {percent:.0%}"
    )
    if sys.stdout.isatty():
        filled = 20 * done // wanted
        print(f"\r[{'#' * filled}{'.' * (20 - filled)}] {line}", end="", flush=True)
    else:
        say(line)


def _judge(download: Download, reference: Reference, seconds: float) -> PeerResult:
    """Compare a download's output with the source, by the file's own bytes."""
    name = download.host.name
    code = download.process.wait()
    if code != 0:
        return PeerResult(name=name, problem=f"dfget failed\n{download.process.story()}", seconds=seconds, length=0)
    try:
        length, sha256 = os.path.getsize(download.output), sha256_of(download.output)
    except OSError as error:
        return PeerResult(name=name, problem=f"no output: {error}", seconds=seconds, length=0)
    report = download.report()
    problem = "" if sha256 == reference.sha256 else f"sha256 is {sha256}, the source's {reference.sha256}"
    return PeerResult(
        name=name,
        problem=problem,
        seconds=seconds,
        length=length,
        source_bytes=report.source_bytes,
        seed_bytes=report.seed_bytes,
        peer_bytes=report.peer_bytes,
        disk_bytes=report.disk_bytes,
    )


if __name__ == "__main__":
    sys.exit(main())
