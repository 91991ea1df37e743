"""Command line of scripts/simulate: options to a scenario, its outcome to text or JSON."""

import argparse
import json
import sys
from dataclasses import asdict
from math import prod

from broker.core.zones import LEVELS
from scripts.simulation.scenario import FLASH_S, Scenario
from scripts.simulation.swarm import Outcome, simulate
from wire.pieces import PieceLayout, layout_for

_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
#: Delays above this are a mistake: nothing would be left to see of a content's own time.
_LONGEST_MS = 10_000.0


def size(text: str) -> int:
    """`64M`, `1GiB`, `4096`: bytes, in powers of 1024."""
    lower = text.strip().lower().removesuffix("b").removesuffix("i")
    digits = lower.rstrip("kmgt")
    try:
        found = float(digits) * _UNITS[lower[len(digits) :]]
    except (ValueError, KeyError):
        raise argparse.ArgumentTypeError(f"{text!r} is no size: 64M, 1G, 4096") from None
    if not 0 <= found <= 1 << 44:
        raise argparse.ArgumentTypeError(f"{text!r} is not between 0 and 16T")
    return int(found)


def rate(text: str) -> float:
    """`50mbit`, `1gbit`, or bytes per second as a size: bytes per second."""
    lower = text.strip().lower()
    for unit, bits in (("kbit", 1e3), ("mbit", 1e6), ("gbit", 1e9)):
        if lower.endswith(unit):
            try:
                return float(lower.removesuffix(unit)) * bits / 8
            except ValueError:
                break
    return float(size(text))


def arrivals(text: str) -> float:
    """`flash`, or over how many seconds the peers come."""
    if text == "flash":
        return FLASH_S
    try:
        return max(FLASH_S, float(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither `flash` nor a number of seconds") from None


def share(text: str) -> float:
    """A number from 0 to 1."""
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 <= found <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share from 0 to 1")
    return found


def zones(text: str) -> tuple[int, ...]:
    """`12`: zones; `3x4`: 3 zones of 4 narrower ones each, in up to LEVELS levels; `0`: none."""
    try:
        found = tuple(int(each) for each in text.split("x"))
    except ValueError:
        found = (-1,)
    if found == (0,):
        return ()
    if min(found) < 1 or len(found) > LEVELS:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of zones: 12, or 3x4 with up to {LEVELS} levels")
    return found


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(
        prog="simulate", allow_abbrev=False, description="Distribute a content in virtual time, with the production matcher."
    )
    made.add_argument("--peers", type=int, default=1000, metavar="N", help="how many fetch (1000)")
    made.add_argument("--size", type=size, default=1 << 30, metavar="BYTES", help="the content: 64M, 1G (1G)")
    made.add_argument("--piece", type=size, metavar="BYTES", help="piece length (default: what the supernode chooses)")
    made.add_argument("--block", type=size, metavar="BYTES", help="block length (default: what the supernode chooses)")
    made.add_argument("--peer-rate", type=rate, default=6.25e6, metavar="RATE", help="a peer's link, each way (50mbit)")
    made.add_argument("--spread", type=share, default=0.05, metavar="F", help="uplinks differ by up to this share (0.05)")
    made.add_argument("--seed-rate", type=float, default=4.0, metavar="X", help="the seed's link in peers' links (4)")
    made.add_argument("--source-rate", type=float, default=0.0, metavar="X", help="what the seed reads (0: it has everything)")
    made.add_argument("--slow", type=share, default=0.0, metavar="F", help="share of the peers that upload 10 times slower")
    made.add_argument("--deaths", type=share, default=0.0, metavar="F", help="share of the peers that die on the way")
    made.add_argument("--zones", type=zones, default=(), metavar="K|KxL", help="K zones, or K zones of L narrower ones each")
    made.add_argument("--zone-link", type=float, default=0.0, metavar="X", help="a zone's link in peers' links (0: not narrow)")
    made.add_argument("--zones-unknown", action="store_true", help="nobody tells the supernode of the zones")
    made.add_argument("--learn-zones", action="store_true", help="nor that; each zone is a subnet, and it may learn from rates")
    about = "all at once, or spread over so many seconds (flash)"
    made.add_argument("--arrivals", type=arrivals, default=FLASH_S, metavar="flash|SECONDS", help=about)
    made.add_argument(
        "--control-delay", type=float, default=2.0, metavar="MS", help="of a message to or from the supernode, one way (2)"
    )
    made.add_argument("--data-delay", type=float, default=0.5, metavar="MS", help="of a request to another peer (0.5)")
    made.add_argument("--no-cut-through", action="store_true", help="peers pass on whole pieces only")
    made.add_argument("--random-seed", type=int, default=1, metavar="N", help="the same number, the same run (1)")
    made.add_argument("--json", action="store_true", help="one JSON object on the last line")
    return made


def scenario_of(options: argparse.Namespace) -> Scenario:
    """The scenario that the options mean. Raises ValueError for what cannot be."""
    if options.peers < 1 or options.seed_rate <= 0 or options.peer_rate <= 0 or options.source_rate < 0:
        raise ValueError("peers and rates must be above 0")
    if not 1 <= prod(options.zones) <= options.peers or options.zone_link < 0:
        raise ValueError("zones: no more than peers, with a link of at least 0")
    if not (0 <= options.control_delay <= _LONGEST_MS and 0 <= options.data_delay <= _LONGEST_MS):
        raise ValueError(f"delays: from 0 to {_LONGEST_MS:.0f} ms")
    layout = layout_for(options.size)
    if options.piece is not None or options.block is not None:
        piece = options.piece or layout.piece_length
        layout = PieceLayout(options.size, piece, options.block or min(piece, layout.block_length))
    return Scenario(
        peers=options.peers,
        layout=layout,
        peer_rate=options.peer_rate,
        spread=options.spread,
        seed_x=options.seed_rate,
        source_x=options.source_rate,
        slow=options.slow,
        deaths=options.deaths,
        zones=options.zones,
        zone_link_x=options.zone_link,
        told_zones=not (options.zones_unknown or options.learn_zones),
        learn_zones=options.learn_zones,
        arrivals_s=options.arrivals,
        control_s=options.control_delay / 1e3,
        data_s=options.data_delay / 1e3,
        cut_through=not options.no_cut_through,
        random_seed=options.random_seed,
    )


def report(outcome: Outcome) -> str:
    """The outcome for people."""
    return "\n".join(
        [
            f"{outcome.peers} peers, {outcome.pieces} pieces of {outcome.piece_length} bytes"
            + ("" if outcome.ok else ": NOT EVERYBODY GOT EVERYTHING"),
            f"  ideal time (T_min)    {outcome.t_min:.3f} s",
            f"  last peer             {outcome.makespan_over_tmin:.3f} x T_min",
            f"  mean peer             {outcome.mean_over_tmin:.3f} x T_min",
            f"  read from the source  {outcome.source_egress:.3f} x the content",
            f"  sent by the seed      {outcome.seed_egress:.3f} x the content",
            f"  bytes from peers      {100 * outcome.peer_share:.1f} %",
            f"  bytes across zones    {100 * outcome.cross_zone_share:.1f} %"
            + "".join(f", level {level}: {100 * each:.1f} %" for level, each in enumerate(outcome.cross_level_shares, 1)),
            f"  control messages      {outcome.messages_per_piece:.2f} per piece ({outcome.pieces_per_report} pieces per report)",
            f"  supernode busy        {100 * outcome.broker_load:.0f} %",
            f"  CPU per assignment    {outcome.assign_us:.1f} us",
        ]
    )


def main(arguments: list[str] | None = None) -> int:
    """Run; 0: every peer that lives has everything, 1: not so, 2: the options cannot be."""
    made = parser()
    options = made.parse_args(arguments)
    try:
        scenario = scenario_of(options)
    except ValueError as error:
        made.error(str(error))
    outcome = simulate(scenario)
    print(json.dumps(asdict(outcome)) if options.json else report(outcome))
    return 0 if outcome.ok else 1


if __name__ == "__main__":
    sys.exit(main())
