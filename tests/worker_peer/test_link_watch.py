"""What the interface carries and the peer does not is others'; the host's limits follow what is left, and are told."""

from collections import namedtuple
from dataclasses import dataclass, field

import psutil
import pytest

from tests.worker_peer.parts import FakeClock
from worker_peer.api import Moved
from worker_peer.host_limits import HostLimits
from worker_peer.link_watch import LinkWatch, interface_of

LINK = 10_000_000
FLOOR = 65_536
Counters = namedtuple("Counters", "bytes_sent bytes_recv")
Card = namedtuple("Card", "speed")


@dataclass
class Host:
    """A host whose counters are set by hand."""

    patch: pytest.MonkeyPatch
    link_rate: int = LINK
    speed: int = 0
    clock: FakeClock = field(default_factory=FakeClock)
    limits: HostLimits = field(default_factory=HostLimits)
    down: float = 0.0
    up: float = 0.0
    own: Moved = Moved(down=0, up=0)
    changes: int = 0
    gone: bool = False

    def __post_init__(self) -> None:
        self.patch.setattr(psutil, "net_io_counters", self._counters)
        self.patch.setattr(psutil, "net_if_stats", lambda: {"eth7": Card(self.speed)} if self.speed else {})
        self.watch = LinkWatch(
            interface="eth7",
            link_rate=self.link_rate,
            floor=FLOOR,
            limits=self.limits,
            own=lambda: self.own,
            changed=self._changed,
            clock=self.clock,
        )

    def _changed(self) -> None:
        self.changes += 1

    def _counters(self, *, pernic: bool, nowrap: bool) -> dict[str, Counters]:
        assert pernic
        assert not nowrap
        ours = {"eth7": Counters(int(self.up), int(self.down))}
        return {"eth0": Counters(10**12, 10**12), **({} if self.gone else ours)}

    def passes(self, seconds: float, *, down: float = 0.0, up: float = 0.0, own_down: float = 0.0, own_up: float = 0.0) -> None:
        """Rates of the interface and, of content, the peer's own."""
        for _ in range(round(seconds * 4)):
            self.clock.at += 0.25
            self.down, self.up = self.down + down / 4, self.up + up / 4
            self.own = Moved(down=self.own.down + int(own_down / 4), up=self.own.up + int(own_up / 4))
            self.watch.look()


def test_each_direction_has_what_others_leave_of_it(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    host = Host(monkeypatch)
    assert "eth7" in caplog.text
    host.passes(12.0, down=7_000_000, up=3_000_000, own_down=1_000_000, own_up=0)
    use = host.watch.use
    assert use["down"].other_rate == pytest.approx(6_000_000, rel=0.02)
    assert use["down"].own_rate == pytest.approx(1_045_000, rel=0.01)
    assert use["up"].other_rate == pytest.approx(3_000_000, rel=0.02)
    assert (host.limits.down.rate, host.limits.up.rate) == (use["down"].limit, use["up"].limit)
    assert host.limits.down.rate == pytest.approx(3_000_000 / 1.045, rel=0.02)
    assert host.limits.up.rate == pytest.approx(6_000_000 / 1.045, rel=0.02)
    assert {each.link_rate for each in use.values()} == {LINK}
    assert host.changes > 0
    seen = host.changes
    assert "others take" in caplog.text
    host.passes(5.0, down=7_000_000, up=3_000_000, own_down=1_000_000, own_up=0)
    assert host.changes - seen <= 20
    host.passes(12.0)
    assert host.limits.down.rate == pytest.approx(9_000_000 / 1.045, rel=0.01)


def test_an_interface_that_is_gone_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(monkeypatch)
    host.passes(3.0, down=5_000_000)
    before = host.limits.down.rate
    host.gone = True
    host.passes(5.0)
    assert host.limits.down.rate == before


@pytest.mark.parametrize(("link_rate", "speed", "expected"), [(0, 100, 12_500_000), (0, 0, 0), (LINK, 100, LINK)])
def test_the_card_is_asked_only_where_the_rate_is_not_stated(
    monkeypatch: pytest.MonkeyPatch, link_rate: int, speed: int, expected: int
) -> None:
    assert Host(monkeypatch, link_rate=link_rate, speed=speed).watch.use["down"].link_rate == expected


def test_interfaces_are_found_by_their_addresses() -> None:
    (loopback,) = [name for name, each in psutil.net_if_addrs().items() if any(a.address == "127.0.0.1" for a in each)]
    assert interface_of("127.0.0.1") == loopback
    assert loopback in psutil.net_io_counters(pernic=True)
    assert interface_of("192.0.2.77") == interface_of("2001:db8::1") == interface_of("") == ""
