"""The matcher under everything that can happen in any order: no index contradicts another, and everybody completes."""

import itertools
import random

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from broker.core.matcher import SEED, Matcher, MatcherSettings
from broker.core.zone_budget import ZoneBudget

PEERS = [f"p{number}" for number in range(6)]
ZONES = ["", "a", "a/1", "a/2", "b/1/x"]


class MatcherMachine(RuleBasedStateMachine):
    """A few peers that come, report, fail and go as hypothesis likes; the model knows who really has what."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces = 1
        self.now = 0.0
        self.have: dict[str, int] = {}
        self.wants: dict[str, bool] = {}
        #: Leases that the model's peers were told of: (child, lease, piece) -> parent.
        self.told: dict[tuple[str, int, int], str] = {}
        self.seed_has = 0
        self.seed_joined = False
        self.matcher: Matcher | None = None

    # -- plumbing -------------------------------------------------------------------------------------------------------

    @property
    def m(self) -> Matcher:
        assert self.matcher is not None
        return self.matcher

    def take(self) -> None:
        """Every assignment must be one that its child wants and its parent can serve, sooner or later."""
        for each in self.m.drain():
            assert each.child in self.have
            assert self.wants[each.child]
            assert each.parent != each.child
            self.told[each.child, each.lease, each.piece] = each.parent
            if self.have[each.child] >> each.piece & 1:
                continue  # it came in the same moment: the child will say that it has it
            assert self.m.lease_parent(each.lease) == each.parent
            assert (each.lease, each.piece) in self.m.outstanding(each.child)
            if each.parent == SEED:
                assert self.seed_has >> each.piece & 1
            else:
                promised = {piece for _, piece in self.m.outstanding(each.parent)}
                assert self.have[each.parent] >> each.piece & 1 or each.piece in promised

    def forget(self, peer: str) -> None:
        self.told = {key: parent for key, parent in self.told.items() if key[0] != peer}

    # -- rules ----------------------------------------------------------------------------------------------------------

    @initialize(
        pieces=st.sampled_from([1, 2, 5, 40]),
        seed=st.integers(0, 1000),
        cut_through=st.booleans(),
        zone_rate=st.sampled_from([None, 2e3, 1e6]),
    )
    def begin(self, pieces: int, seed: int, cut_through: bool, zone_rate: float | None) -> None:
        self.pieces = pieces
        self.matcher = Matcher(
            pieces,
            1000,
            rng=random.Random(seed),
            nominal_rate=1e6,
            lease_numbers=itertools.count(1),
            settings=MatcherSettings(cut_through=cut_through),
            budget=None if zone_rate is None else ZoneBudget(zone_rate),
        )

    @rule(
        peer=st.sampled_from(PEERS),
        have=st.integers(0, (1 << 40) - 1),
        fresh=st.booleans(),
        zone=st.sampled_from(ZONES),
        rate=st.sampled_from([None, 1e5, 1e6, 1e8]),
        wants=st.sampled_from([True, True, True, False]),
    )
    def join(self, peer: str, have: int, fresh: bool, zone: str, rate: float | None, wants: bool) -> None:
        bits = 0 if fresh else have & ((1 << self.pieces) - 1)
        self.forget(peer)
        self.have[peer], self.wants[peer] = bits, wants
        self.m.join(peer, self.now, have=bits, upload_rate=rate, zone=zone, wants=wants)
        self.take()

    @precondition(lambda self: self.have)
    @rule(data=st.data())
    def gone(self, data: st.DataObject) -> None:
        peer = data.draw(st.sampled_from(sorted(self.have)))
        del self.have[peer], self.wants[peer]
        self.forget(peer)
        self.m.gone(peer, self.now)
        self.take()

    @rule(rate=st.sampled_from([None, 1e6, 1e9]))
    def seed_joins(self, rate: float | None) -> None:
        self.seed_joined = True
        self.m.seed_joined(self.now, upload_rate=rate)
        self.take()

    @precondition(lambda self: self.seed_joined)
    @rule(bits=st.integers(1, (1 << 40) - 1))
    def seed_reads(self, bits: int) -> None:
        bits &= (1 << self.pieces) - 1
        self.seed_has |= bits
        self.m.seed_has([piece for piece in range(self.pieces) if bits >> piece & 1], self.now)
        self.take()

    @precondition(lambda self: self.seed_joined)
    @rule()
    def seed_leaves(self) -> None:
        self.seed_joined, self.seed_has = False, 0
        self.m.seed_gone(self.now)
        self.take()

    @rule(zones=st.dictionaries(st.sampled_from([*PEERS, "stranger"]), st.sampled_from(ZONES)))
    def are_elsewhere(self, zones: dict[str, str]) -> None:
        self.m.relocate(zones, self.now)
        self.take()

    @precondition(lambda self: self.told)
    @rule(data=st.data(), rate=st.sampled_from([0.0, 1.0, 1e5, 1e6, 1e7, 1e14]))
    def report(self, data: st.DataObject, rate: float) -> None:
        """A child reports up to three pieces of what it was told, of any age."""
        child, _, _ = data.draw(st.sampled_from(sorted(self.told)))
        mine = [key for key in sorted(self.told) if key[0] == child][:3]
        self.arrive(mine, rate)

    @precondition(lambda self: self.told)
    @rule(count=st.integers(1, 60), rate=st.sampled_from([1e4, 1e5, 1e6, 1e7]))
    def flow(self, count: int, rate: float) -> None:
        """So many pieces come as they should, each when its parent has it; peers with an even number are slower."""
        for _ in range(count):
            promised = {(peer, *each) for peer in self.have for each in self.m.outstanding(peer)}
            ready = next((key for key in sorted(self.told) if key in promised and self.can_flow(key)), None)
            if ready is None:
                return
            self.now += 0.001
            parent = self.told[ready]
            self.arrive([ready], rate / 20 if parent and int(parent[1:]) % 2 == 0 else rate)

    @precondition(lambda self: self.have)
    @rule(data=st.data(), piece=st.integers(0, 39))
    def arrives_otherwise(self, data: st.DataObject, piece: int) -> None:
        peer, piece = data.draw(st.sampled_from(sorted(self.have))), piece % self.pieces
        self.have[peer] |= 1 << piece
        self.m.done(peer, [(0, piece, 0.0)], self.now)
        self.take()

    @precondition(lambda self: self.told)
    @rule(data=st.data(), blame=st.booleans())
    def fails(self, data: st.DataObject, blame: bool) -> None:
        key = data.draw(st.sampled_from(sorted(self.told)))
        del self.told[key]
        self.m.failed(*key, self.now, blame=blame)
        self.take()

    @rule(number=st.integers(0, 99), piece=st.integers(0, 50))
    def nonsense(self, number: int, piece: int) -> None:
        """Late or wrong reports change nothing."""
        self.m.done("nobody", [(number, piece, 5.0)], self.now)
        self.m.failed("nobody", number, piece, self.now, blame=True)
        self.m.gone("nobody", self.now)
        for peer in self.have:
            self.m.done(peer, [(0, self.pieces, 1.0), (0, -1, 1.0)], self.now)
        self.take()

    @rule(seconds=st.sampled_from([0.001, 0.02, 0.5, 5.0, 60.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.m.tick(self.now)
        self.take()

    # -- what must hold -------------------------------------------------------------------------------------------------

    @invariant()
    def indexes_agree(self) -> None:
        self.m.validate()
        complete = sum(bits == (1 << self.pieces) - 1 for bits in self.have.values())
        assert self.m.complete_peers == complete
        for piece in range(min(self.pieces, 5)):
            assert self.m.holders(piece) == sum(bits >> piece & 1 for bits in self.have.values())

    def arrive(self, keys: list[tuple[str, int, int]], rate: float = 1e6) -> None:
        child = keys[0][0]
        for key in keys:
            del self.told[key]
            self.have[child] |= 1 << key[2]
        self.m.done(child, [(lease, piece, rate) for _, lease, piece in keys], self.now)
        self.take()

    def teardown(self) -> None:
        """From wherever it got to, the swarm can be driven to its end: every wake-up that is needed comes."""
        if self.matcher is None or not self.have:
            return
        if not self.seed_joined or self.seed_has != (1 << self.pieces) - 1:
            self.seed_joined, self.seed_has = True, (1 << self.pieces) - 1
            self.m.seed_joined(self.now, upload_rate=None)
            self.m.seed_has(range(self.pieces), self.now)
            self.take()
        full = (1 << self.pieces) - 1
        for _ in range(20_000):
            if all(self.have[peer] == full for peer in self.have if self.wants[peer]):
                break
            promised = {(peer, *each) for peer in self.have for each in self.m.outstanding(peer)}
            if ready := sorted(key for key in promised if self.told.get(key) is not None and self.can_flow(key)):
                self.now += 0.001
                self.arrive([ready[0]])
                continue
            assert not promised, "a promise that cannot flow"
            due = self.m.next_tick()
            assert due is not None, "somebody waits, and no tick is due"
            assert due >= self.now - 60.0
            self.now = max(due, self.now + 0.001)
            self.m.tick(self.now)
            self.take()
        assert all(self.have[peer] == full for peer in self.have if self.wants[peer]), "somebody never got everything"
        self.m.validate()

    def can_flow(self, key: tuple[str, int, int]) -> bool:
        child, _, piece = key
        parent = self.told[key]
        return parent == SEED or bool((self.have[child] | self.have[parent]) >> piece & 1)


TestMatcherMachine = MatcherMachine.TestCase
TestMatcherMachine.settings = settings(
    max_examples=80,
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
