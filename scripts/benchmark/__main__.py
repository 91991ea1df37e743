"""scripts/bench: what Damselfly costs and how near it comes to what physics allows, side by side with plain tools."""

import argparse
import json
import os
import re
import sys
from dataclasses import asdict

from scripts.benchmark.pair import PairResult, run_pair
from scripts.benchmark.small import SmallResult, run_small
from scripts.benchmark.swarm import SwarmPlan, SwarmResult, run_swarm

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
    return int(found[1]) * _UNITS[found[2]]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    kinds = parser.add_subparsers(dest="kind", required=True)
    swarm = kinds.add_parser("swarm", help="N peers behind capped links, against the ideal time and the plain way")
    swarm.add_argument("--peers", type=int, default=10)
    swarm.add_argument("--peer-rate", type=_rate, default=_rate("50mbit"))
    swarm.add_argument("--source-rate", type=_rate, default=_rate("50mbit"))
    swarm.add_argument("--size", type=_size, default=_size("64M"))
    swarm.add_argument("--runs", type=int, default=1)
    swarm.add_argument("--plain", action="store_true", help="also the plain way: every host fetches from the source")
    swarm.add_argument("--json", action="store_true", help="end in one JSON line")
    pair = kinds.add_parser("pair", help="one uncapped parent to one child, against a bare TCP copy, and nginx and curl")
    pair.add_argument("--size", type=_size, default=_size("1G"))
    pair.add_argument("--runs", type=int, default=5)
    pair.add_argument("--json", action="store_true", help="end in one JSON line")
    small = kinds.add_parser("small", help="how soon a small file is here, cold and cached, against curl")
    small.add_argument("--rate", type=_rate, default=_rate("100mbit"))
    small.add_argument("--runs", type=int, default=10)
    small.add_argument("--json", action="store_true", help="end in one JSON line")
    return parser


def _swarm(flags: argparse.Namespace) -> SwarmResult:
    plan = SwarmPlan(
        peers=flags.peers,
        peer_rate=flags.peer_rate,
        source_rate=flags.source_rate,
        size=flags.size,
        runs=flags.runs,
        plain=flags.plain,
    )
    return run_swarm(plan)


def main() -> int:
    """Returns the exit code."""
    flags = _parser().parse_args()
    if flags.kind in ("swarm", "small") and os.geteuid() != 0:
        print(f"scripts/bench {flags.kind} makes network namespaces: run it as root", file=sys.stderr)
        return 1
    result: SwarmResult | PairResult | SmallResult
    match flags.kind:
        case "swarm":
            result = _swarm(flags)
        case "pair":
            result = run_pair(flags.size, flags.runs)
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
