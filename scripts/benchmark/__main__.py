"""scripts/bench: what Damselfly costs and how near it comes to what physics allows, side by side with plain tools."""

import argparse
import json
import os
import re
import subprocess
import sys
from dataclasses import asdict

from scripts.benchmark import broker as broker_benchmark
from scripts.benchmark.broker import BrokerPlan, BrokerResult, NotEnoughFiles, run_broker
from scripts.benchmark.first_byte import FirstByteResult, run_first_byte
from scripts.benchmark.limits import LimitsResult, run_limits
from scripts.benchmark.pair import PairResult, run_pair
from scripts.benchmark.quota import QuotaResult, run_quota
from scripts.benchmark.small import SmallResult, run_small
from scripts.benchmark.store import StoreResult, run_store
from scripts.benchmark.swarm import SwarmPlan, SwarmResult, run_swarm
from scripts.benchmark.yielding import YieldResult, run_yield

_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def _rate(text: str) -> int:
    found = re.fullmatch(r"([\d.]+)(k|m|g)?bit", text.lower())
    if text == "0":
        return 0
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no link rate: 50mbit, 1gbit, or 0 for not capped")
    return int(float(found[1]) * {None: 1, "k": 1e3, "m": 1e6, "g": 1e9}[found[2]])


def _size(text: str) -> int:
    found = re.fullmatch(r"(\d+)([kmg]?)i?b?", text.lower())
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size: 64M, 512K, 1G, or bytes")
    size = int(found[1]) * _UNITS[found[2]]
    if not size:
        raise argparse.ArgumentTypeError("a benchmark moves at least one byte")
    return size


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number from 1 on")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    kinds = parser.add_subparsers(dest="kind", required=True)
    swarm = kinds.add_parser("swarm", help="N peers behind capped links, against the ideal time and the plain way")
    swarm.add_argument("--peers", type=_count, default=10, help="hosts that fetch (default 10)")
    swarm.add_argument("--peer-rate", type=_rate, default=_rate("50mbit"), help="a host's link, each way (default 50mbit)")
    swarm.add_argument(
        "--source-rate", type=_rate, default=_rate("50mbit"), help="the source's and the seed's link (default 50mbit)"
    )
    swarm.add_argument("--size", type=_size, default=_size("64M"), help="the content (default 64M)")
    swarm.add_argument("--runs", type=_count, default=1, help="how often (default 1)")
    swarm.add_argument("--plain", action="store_true", help="also the plain way: every host fetches from the source")
    swarm.add_argument("--shrinks", action="store_true", help="a content that lz4 makes half as long")
    swarm.add_argument("--json", action="store_true", help="end in one JSON line")
    pair = kinds.add_parser("pair", help="one uncapped parent to one child, against a bare TCP copy, and nginx and curl")
    pair.add_argument("--size", type=_size, default=_size("1G"), help="the content (default 1G)")
    pair.add_argument("--runs", type=_count, default=5, help="rounds of every way; the median is told (default 5)")
    pair.add_argument("--json", action="store_true", help="end in one JSON line")
    _add_broker(
        kinds.add_parser(
            "broker",
            help="one broker under the control traffic of thousands of peers",
            description=broker_benchmark.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
    )
    first_byte = kinds.add_parser("first-byte", help="how much later a blob's first byte comes through dfdaemon than straight")
    first_byte.add_argument("--size", type=_size, default=_size("16M"), help="a blob (default 16M)")
    first_byte.add_argument("--runs", type=_count, default=20, help="blobs that are asked for; medians are told (default 20)")
    first_byte.add_argument("--json", action="store_true", help="end in one JSON line")
    small = kinds.add_parser("small", help="how soon a small file is here, cold and cached, against curl")
    small.add_argument("--rate", type=_rate, default=_rate("100mbit"), help="each host's link (default 100mbit)")
    small.add_argument("--runs", type=_count, default=10, help="files of each size; medians are told (default 10)")
    small.add_argument("--json", action="store_true", help="end in one JSON line")
    limits = kinds.add_parser("limits", help="each limit against what came in the time that it took")
    limits.add_argument("--rate", type=_size, default=_size("10M"), help="bytes per second (default 10M)")
    limits.add_argument("--seconds", type=float, default=10.0, help="how long each limit is measured (default 10)")
    limits.add_argument("--json", action="store_true", help="end in one JSON line")
    yields = kinds.add_parser("yield", help="what a host's other traffic gets of its link, with linkrate and without")
    yields.add_argument("--rate", type=_rate, default=_rate("40mbit"), help="the host's link (default 40mbit)")
    yields.add_argument("--json", action="store_true", help="end in one JSON line")
    store = kinds.add_parser("store", help="a store of many contents: its start, a tidying, room for one more")
    store.add_argument("--contents", type=_count, default=10_000, help="how many are stored (default 10000)")
    store.add_argument("--json", action="store_true", help="end in one JSON line")
    quota = kinds.add_parser("quota", help="three times as much as a quota pulled through it: what the disks held meanwhile")
    quota.add_argument("--quota", type=_size, default=_size("1G"), help="of the seed and of each of two peers (default 1G)")
    quota.add_argument("--json", action="store_true", help="end in one JSON line")
    return parser


def _add_broker(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--peers", type=_count, default=15_000, help="1 to about 15,000: each takes a file of the broker and two of a driver")
    add("--rate", type=_rate, default=_rate("100mbit"), help="a usual link; each peer has half to double of it (default 100mbit)")
    add("--seed-rate", type=_rate, default=_rate("1gbit"), help="the seed's link, and the source's (default 1gbit)")
    add("--size", type=_size, default=_size("4G"), help="the content: more reports a second the smaller it is (default 4G)")
    add("--wave", type=float, default=0.25, help="the share of the peers that want it at the same time (default 0.25)")
    add("--crowd", type=float, default=3.0, metavar="S", help="they register within so many seconds (default 3)")
    add("--seconds", type=float, default=60.0, metavar="S", help="how long it is measured, from the crowd's coming (default 60)")
    add("--active", type=_count, default=1, help="how many tasks the crowd wants, each peer one of them (default 1)")
    add("--known", type=int, default=0, help="tasks that are known besides, and that nobody fetches now (default 0)")
    add("--json", action="store_true", help="end in one JSON line")


def _broker(flags: argparse.Namespace) -> BrokerResult:
    plan = BrokerPlan(
        peers=flags.peers,
        size=flags.size,
        rate=flags.rate,
        seed_rate=flags.seed_rate,
        crowd_s=flags.crowd,
        wave=flags.wave,
        seconds=flags.seconds,
        active=flags.active,
        known=flags.known,
    )
    return run_broker(plan)


def _swarm(flags: argparse.Namespace) -> SwarmResult:
    plan = SwarmPlan(
        peers=flags.peers,
        peer_rate=flags.peer_rate,
        source_rate=flags.source_rate,
        size=flags.size,
        runs=flags.runs,
        plain=flags.plain,
        shrinks=flags.shrinks,
    )
    return run_swarm(plan)


def main() -> int:
    """Returns the exit code."""
    flags = _parser().parse_args()
    try:
        return _measure(flags)
    except (RuntimeError, subprocess.CalledProcessError) as error:
        print(f"scripts/bench {flags.kind}: {error}", file=sys.stderr)
        return 1


def _measure(flags: argparse.Namespace) -> int:
    if flags.kind in ("swarm", "small", "yield") and os.geteuid() != 0:
        print(f"scripts/bench {flags.kind} makes network namespaces: run it as root", file=sys.stderr)
        return 1
    result: (
        SwarmResult
        | PairResult
        | SmallResult
        | BrokerResult
        | FirstByteResult
        | LimitsResult
        | YieldResult
        | StoreResult
        | QuotaResult
    )
    match flags.kind:
        case "swarm":
            result = _swarm(flags)
        case "pair":
            result = run_pair(flags.size, flags.runs)
        case "first-byte":
            result = run_first_byte(flags.size, flags.runs)
        case "limits":
            result = run_limits(flags.rate, flags.seconds)
        case "yield":
            result = run_yield(flags.rate)
        case "store":
            result = run_store(flags.contents)
        case "quota":
            result = run_quota(flags.quota)
        case "broker":
            try:
                result = _broker(flags)
            except NotEnoughFiles as error:
                print(f"scripts/bench broker: {error}", file=sys.stderr)
                return 1
        case _:
            result = run_small(flags.rate, flags.runs)
    told = {key: value for key, value in asdict(result).items() if value is not None}
    if flags.json:
        print(json.dumps(told))
    else:
        for key, value in told.items():
            print(f"{key:>16}  {value}")
    return 0 if result.ok else 1


if __name__ == "__main__":
    sys.exit(main())
