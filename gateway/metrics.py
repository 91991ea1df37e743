"""What the gateway counts, in one Prometheus registry of its own. Labels come from closed sets: nobody can grow them."""

from collections import OrderedDict
from enum import Enum
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from gateway.core.rules import Verdict
from gateway.core.trace import Trace, parts_of
from wire.messages import Origin
from worker_peer.api import Content, Received

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
#: Contents whose bytes are known to be counted; a host has fewer in use.
_MAX_COUNTED: Final = 4096
_PREFIX: Final = "dragonfly_dfdaemon"


class Fallback(Enum):
    """Why a blob that the rules give to the swarm went straight to its upstream."""

    REFUSED = "refused"
    """The peer said that it cannot be had."""
    NOT_PERMITTED = "not_permitted"
    """The upstream has not said that this client may have it: it answers for itself."""
    NOT_SHOWN = "not_shown"
    """The swarm has it from another registry, and the upstream has not shown that it has it too."""
    NO_SWARM = "no_swarm"
    """No supernode answers."""
    CHANGED = "changed"
    """The upstream has another content by now."""
    SLOW_OPEN = "slow_open"
    """The peer did not know the content's length in time."""
    SLOW_START = "slow_start"
    """No byte came in time."""
    BROKEN = "broken"
    """The peer failed in a way that it should not."""
    CONDITIONAL = "conditional"
    """The client asked a question that only the upstream can answer."""


class Tunnel(Enum):
    """What became of a CONNECT."""

    PASSED = "passed"
    OPENED = "opened"
    NOT_TLS = "not_tls"
    UNREACHABLE = "unreachable"
    BAD = "bad"


class Metrics:
    """Counters, and the text of /metrics."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self._requests = Counter(
            f"{_PREFIX}_requests",
            "Requests answered, by verdict and class of status.",
            ["verdict", "status"],
            registry=self.registry,
        )
        self._fallbacks = Counter(
            f"{_PREFIX}_fallbacks", "Blobs that went straight to their upstream, by reason.", ["reason"], registry=self.registry
        )
        self._cut = Counter(f"{_PREFIX}_cut", "Answers that were broken off.", ["verdict"], registry=self.registry)
        self._bytes = Counter(
            f"{_PREFIX}_blob_bytes", "Bytes of blobs that came to this host, by origin.", ["origin"], registry=self.registry
        )
        self._sent = Counter(f"{_PREFIX}_sent_bytes", "Body bytes given to clients.", ["verdict"], registry=self.registry)
        self._tunnels = Counter(f"{_PREFIX}_tunnels", "CONNECTs, by outcome.", ["outcome"], registry=self.registry)
        self._running = Gauge(f"{_PREFIX}_requests_running", "Requests under way.", registry=self.registry)
        self._first_byte = Histogram(
            f"{_PREFIX}_blob_first_byte_seconds",
            "From a blob's request to its first byte from the peer.",
            registry=self.registry,
            buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
        )
        self._waited = Histogram(
            f"{_PREFIX}_phase_seconds",
            "What requests waited for, by verdict (p2p, direct, none) and phase; a phase that took no time is not counted.",
            ["verdict", "phase"],
            registry=self.registry,
            buckets=(0.001, 0.005, 0.02, 0.1, 0.5, 1, 5, 30, 120),
        )
        # Several readers share one content, now and later: what has been counted of its bytes is kept beside its tally.
        self._counted: OrderedDict[int, tuple[Received, dict[Origin, int]]] = OrderedDict()

    def begun(self) -> None:
        """A request has begun."""
        self._running.inc()

    def answered(self, verdict: Verdict, status: int, sent: int, *, cut: bool) -> None:
        """A request has ended. `status` 0: without an answer."""
        self._running.dec()
        self._requests.labels(verdict.value, f"{status // 100}xx" if status else "none").inc()
        self._sent.labels(verdict.value).inc(sent)
        if cut:
            self._cut.labels(verdict.value).inc()

    def fell_back(self, reason: Fallback) -> None:
        """A blob goes straight to its upstream."""
        self._fallbacks.labels(reason.value).inc()

    def tunnel(self, outcome: Tunnel) -> None:
        """A CONNECT has been decided."""
        self._tunnels.labels(outcome.value).inc()

    def first_byte(self, seconds: float) -> None:
        """The peer gave a blob's first byte."""
        self._first_byte.observe(seconds)

    def waited(self, trace: Trace) -> None:
        """A request is over."""
        for part, spent in parts_of(trace.waits).items():
            if spent:
                self._waited.labels(trace.way or "none", part.value).observe(spent / 1e6)

    def read(self, content: Content) -> None:
        """A reader of a content ends: what has come of it and was not counted before is counted."""
        tally = content.received
        # The tally is kept, so its identity is nobody else's.
        _, counted = self._counted.setdefault(id(tally), (tally, {}))
        self._counted.move_to_end(id(tally))
        for origin, received in tally.by_origin.items():
            if (more := received - counted.get(origin, 0)) > 0:
                self._bytes.labels(origin.name.lower()).inc(more)
                counted[origin] = received
        while len(self._counted) > _MAX_COUNTED:
            self._counted.popitem(last=False)

    def text(self) -> bytes:
        """The exposition."""
        return generate_latest(self.registry)
