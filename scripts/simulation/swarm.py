"""One run: the production matcher, told by simulated peers over a control channel with latency and a busy supernode."""

import gc
import itertools
import random
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil, prod
from time import process_time
from typing import Any

from broker.core.learned_zones import LearnedZones
from broker.core.matcher import SEED, LinkSettings, Matcher, MatcherSettings
from broker.core.zone_budget import ZoneBudget
from scripts.simulation.hosts import DataPlane, Host, Transfer, Zone, common_zones
from scripts.simulation.network import Network
from scripts.simulation.scenario import FLASH_S, Scenario

#: What the matcher is told of rates before it has seen any: on purpose not the simulated one.
_GUESSED_RATE = 125e6
#: So many calls of the matcher are kept, and made again of a fresh one with nothing else between them, to time it.
_TIMED = 600_000
#: Up to so many peers links are shared max-min fairly: 150 us of CPU per change of a flow at 10, six times that at 30.
_MAX_MIN_PEERS = 32
#: A run that takes so many times the ideal time has got stuck.
_TOO_LONG = 50.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a run. Times in multiples of the ideal one, bytes in multiples of the content (delivered ones in shares)."""

    ok: bool
    peers: int
    pieces: int
    piece_length: int
    pieces_per_report: int
    t_min: float
    makespan_over_tmin: float
    mean_over_tmin: float
    source_egress: float
    seed_egress: float
    peer_share: float
    cross_zone_share: float
    """Of any zone, the narrowest ones among them."""
    cross_level_shares: tuple[float, ...]
    """Of zones of each level, the widest first."""
    messages_per_piece: float
    broker_load: float
    assign_us: float


class Run:
    """A simulated swarm, from the first join to the last piece."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.rng = random.Random(scenario.random_seed)
        self.network = Network(max_min=scenario.peers <= _MAX_MIN_PEERS)
        self.data = DataPlane(
            self.network,
            block_length=scenario.layout.block_length,
            request_s=scenario.data_s,
            arrived=self._on_arrived,
            refused=self._on_refused,
        )
        self.pieces = scenario.layout.piece_count
        self.sizes = [scenario.layout.piece_span(piece)[1] for piece in range(self.pieces)]
        self.matcher = self._make_matcher()
        self.learned = LearnedZones()
        self.seed = Host(SEED, scenario.seed_x * scenario.peer_rate, scenario.peer_rate)
        self.hosts = {SEED: self.seed}
        self.peers = self._make_peers()
        self.ideal_s = scenario.ideal_s([peer.up.capacity for peer in self.peers])
        self.left = len(self.peers)
        self.bytes_of: dict[str, int] = defaultdict(int)
        #: Bytes that entered a zone of each level, the widest first.
        self.crossed = [0] * len(scenario.zones)
        self.source_pieces = 0
        self.messages = 0
        self.busy_until = 0.0
        self.busy_s = 0.0
        self.ticking_at: float | None = None
        self.assigned = 0
        self._calls: list[tuple[str, tuple[object, ...], dict[str, object]]] = []

    def _make_matcher(self) -> Matcher:
        scenario = self.scenario
        per_report = scenario.pieces_per_report
        settings = MatcherSettings(
            links=LinkSettings(lease_pieces=2 if per_report == 1 else per_report + 1),
            cut_through=scenario.cut_through,
        )
        return Matcher(
            self.pieces,
            scenario.layout.piece_length,
            rng=random.Random(scenario.random_seed + 1),
            nominal_rate=_GUESSED_RATE,
            lease_numbers=itertools.count(1),
            settings=settings,
            budget=ZoneBudget(rate) if (rate := scenario.zone_link_x * scenario.peer_rate) else None,
        )

    def _make_peers(self) -> list[Host]:
        scenario, rng, peers = self.scenario, self.rng, []
        zones = self._make_zones()
        slow = set(rng.sample(range(scenario.peers), round(scenario.slow * scenario.peers)))
        for number in range(scenario.peers):
            up = scenario.peer_rate * (1 + scenario.spread * (2 * rng.random() - 1)) / (10 if number in slow else 1)
            peer = Host(f"peer-{number}", up, scenario.peer_rate)
            if zones:
                at = number % len(zones)
                peer.zones = zones[at]
                if scenario.learn_zones:
                    self.learned.enter(peer.name, f"tcp://10.{at >> 8}.{at & 255}.{number // len(zones) % 250 + 1}:1")
            self.hosts[peer.name] = peer
            peers.append(peer)
        return peers

    def _make_zones(self) -> list[tuple[Zone, ...]]:
        """The narrowest zones, each with those around it before it."""
        scenario = self.scenario
        found: list[tuple[Zone, ...]] = [()] if scenario.zones else []
        for level in range(len(scenario.zones)):
            size = ceil(scenario.peers / prod(scenario.zones[: level + 1]))
            rate = (scenario.zone_link_x or float(size)) * scenario.peer_rate
            made = []
            for number in range(scenario.zones[level]):
                for around in found:
                    name = f"{around[-1].name}/" if around else ""
                    made.append((*around, Zone(f"{name}zone-{number}", rate)))
            found = made
        return found

    # -- the run --------------------------------------------------------------------------------------------------------

    def run(self) -> Outcome:
        """Simulate until every peer that lives has everything, or the run is stuck."""
        scenario = self.scenario
        self.network.at(0.0, self._seed_joins, None)
        for peer in self.peers:
            self.network.at(scenario.arrivals_s * self.rng.random(), self._joins, peer)
        for peer in self.rng.sample(self.peers, round(scenario.deaths * len(self.peers))):
            self.network.at((0.2 + 0.6 * self.rng.random()) * self.ideal_s, self._dies, peer)
        limit = scenario.arrivals_s + _TOO_LONG * self.ideal_s
        with _no_collector():
            while self.left and self.network.now < limit and self.network.step():
                pass
        return self._outcome()

    def _outcome(self) -> Outcome:
        scenario, network = self.scenario, self.network
        # A flash crowd is measured by the clock; who comes later, by his own one.
        own = scenario.arrivals_s > FLASH_S
        times = [peer.done_at - own * peer.joined_at for peer in self.peers if peer.done_at is not None]
        length = max(1, scenario.layout.length)
        delivered = max(1, sum(self.bytes_of.values()))
        crossed = tuple(round(each / delivered, 4) for each in self.crossed)
        arrivals = max(1, sum(peer.held for peer in self.peers))
        return Outcome(
            ok=self.left == 0,
            peers=scenario.peers,
            pieces=self.pieces,
            piece_length=scenario.layout.piece_length,
            pieces_per_report=scenario.pieces_per_report,
            t_min=round(self.ideal_s, 6),
            makespan_over_tmin=round(max(times, default=0.0) / self.ideal_s, 4),
            mean_over_tmin=round(sum(times) / max(1, len(times)) / self.ideal_s, 4),
            source_egress=round(self.source_pieces / self.pieces, 4),
            seed_egress=round(self.bytes_of["seed"] / length, 4),
            peer_share=round(self.bytes_of["peer"] / delivered, 4),
            cross_zone_share=crossed[-1] if crossed else 0.0,
            cross_level_shares=crossed,
            messages_per_piece=round(self.messages / arrivals, 4),
            broker_load=round(self.busy_s / max(1e-9, network.now), 4),
            assign_us=self._assign_us(),
        )

    def _assign_us(self) -> float:
        """Microseconds of CPU time per assignment, in a fresh matcher that is told the same, the garbage collector aside."""
        matcher, assigned = self._make_matcher(), 0
        drain = matcher.drain
        calls = [(getattr(matcher, call), arguments, named) for call, arguments, named in self._calls]
        with _no_collector():
            before = process_time()
            for method, arguments, named in calls:
                method(*arguments, **named)
                assigned += len(drain())
            spent = process_time() - before
        return round(spent / max(1, assigned) * 1e6, 2)

    # -- the control channel --------------------------------------------------------------------------------------------

    def _tell(self, call: str, *arguments: object, **named: object) -> None:
        """Tell the matcher something now, and carry its decisions to the peers."""
        getattr(self.matcher, call)(*arguments, **named)
        if len(self._calls) < _TIMED:
            self._calls.append((call, arguments, named))
        decided = self.matcher.drain()
        if decided:
            self.assigned += len(decided)
            granted: dict[tuple[str, str, int], list[int]] = {}
            for each in decided:
                granted.setdefault((each.child, each.parent, each.lease), []).append(each.piece)
            self.messages += len(granted)
            self.network.at(self.network.now + self.scenario.control_s, self._leases_come, granted)
        due = self.matcher.next_tick()
        if due is not None and (self.ticking_at is None or due < self.ticking_at):
            self.ticking_at = max(due, self.network.now)
            self.network.at(self.ticking_at, self._tick, self.ticking_at)

    def _tick(self, when: float) -> None:
        if self.ticking_at == when:
            self.ticking_at = None
            self._tell("tick", self.network.now)

    def _send(self, call: str, *arguments: object, **named: object) -> None:
        """A peer's message to the supernode, which takes them one after the other."""
        self.messages += 1
        arrives = self.network.now + self.scenario.control_s
        self.busy_until = max(arrives, self.busy_until) + self.scenario.message_s
        self.busy_s += self.scenario.message_s
        self.network.at(self.busy_until, self._message_comes, (call, arguments, named))

    def _message_comes(self, message: tuple[str, tuple[object, ...], dict[str, object]]) -> None:
        call, arguments, named = message
        if call == "done" and self.scenario.learn_zones:
            self._learn(*arguments)
        self._tell(call, *arguments, self.network.now, **named)

    def _learn(self, child: Any, pieces: Any) -> None:
        now = self.network.now
        moved: dict[str, str] = {}
        for lease, _, rate in pieces:
            moved |= self.learned.observe(self.matcher.lease_parent(lease) or "", child, rate, now)
        if moved:
            self._tell("relocate", moved, now)

    def _leases_come(self, granted: dict[tuple[str, str, int], list[int]]) -> None:
        for (child, parent, lease), pieces in granted.items():
            host = self.hosts[child]
            if host.alive:
                self.data.lease(self.hosts[parent], host, lease, [(piece, self.sizes[piece]) for piece in pieces])

    # -- what happens ---------------------------------------------------------------------------------------------------

    def _seed_joins(self, _: object) -> None:
        self._tell("seed_joined", self.network.now, upload_rate=None)
        if self.scenario.source_x:
            self._source_reads(0)
            return
        self.source_pieces = self.pieces
        self.seed.have = (1 << self.pieces) - 1
        self._tell("seed_has", range(self.pieces), self.network.now)

    def _source_reads(self, piece: int) -> None:
        if piece:
            self.seed.have |= 1 << (piece - 1)
            self.source_pieces += 1
            self._tell("seed_has", [piece - 1], self.network.now)
        if piece < self.pieces:
            takes = self.sizes[piece] / (self.scenario.source_x * self.scenario.peer_rate)
            self.network.at(self.network.now + takes, self._source_reads, piece + 1)

    def _joins(self, peer: Host) -> None:
        peer.joined_at = self.network.now
        if peer.alive:
            told = peer.zones[-1].name if peer.zones and self.scenario.told_zones else ""
            self._send("join", peer.name, zone=told)

    def _dies(self, peer: Host) -> None:
        if peer.done_at is None:
            self.left -= 1
        self.data.kill(peer)
        self.network.at(self.network.now + self.scenario.detect_s, self._death_known, peer)

    def _death_known(self, peer: Host) -> None:
        self._tell("gone", peer.name, self.network.now)
        self.data.parent_gone(peer, self.peers)

    def _on_refused(self, transfer: Transfer) -> None:
        self.data.drop(transfer)
        self._send("failed", transfer.child.name, transfer.lease, transfer.piece, blame=True)

    def _on_arrived(self, transfer: Transfer, rate: float) -> None:
        child, parent, scenario = transfer.child, transfer.parent, self.scenario
        if rate:
            self.bytes_of["seed" if parent is self.seed else "peer"] += transfer.size
            for level in range(common_zones(parent, child), len(child.zones)):
                self.crossed[level] += transfer.size
        child.batch.append((transfer.lease, transfer.piece, rate))
        if child.held == self.pieces and child.done_at is None:
            child.done_at = self.network.now
            self.left -= 1
        last = child.held == self.pieces or transfer.lease not in child.queues
        at_once = scenario.at_once if scenario.pieces_per_report == 1 else 1
        if last or child.held <= at_once or len(child.batch) >= scenario.pieces_per_report:
            self._report(child)
        elif child.flush_at is None:
            child.flush_at = self.network.now + scenario.flush_s
            self.network.at(child.flush_at, self._flush, child)

    def _flush(self, peer: Host) -> None:
        if peer.flush_at is not None and peer.flush_at <= self.network.now + 1e-9:
            self._report(peer)

    def _report(self, peer: Host) -> None:
        batch, peer.batch, peer.flush_at = peer.batch, [], None
        if batch and peer.alive:
            self._send("done", peer.name, batch)


@contextmanager
def _no_collector() -> Iterator[None]:
    """Nothing here makes cycles that grow; the collector would walk over millions of live objects again and again."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def simulate(scenario: Scenario) -> Outcome:
    """Run a scenario. The same scenario has the same outcome every time, `assign_us` aside."""
    return Run(scenario).run()
