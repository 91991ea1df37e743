"""`dfget server` in this process: it says its port, ends when it is idle, and says why it cannot start."""

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.support.swarm import short_directory
from tests.worker_peer.parts import LOOPBACK
from wire.messages import Role
from worker_peer import serve
from worker_peer.app import PeerProcess
from worker_peer.config import PeerConfig
from worker_peer.serve import run_server


@pytest.fixture
def home() -> Iterator[Path]:
    """A home with a short path."""
    with short_directory() as folder:
        yield folder


@pytest.mark.parametrize(("role", "log"), [(Role.PEER, "dfclient.log"), (Role.SEED, "dfseed.log")])
def test_an_idle_server_ends_and_takes_its_contents_along(
    home: Path, capsys: pytest.CaptureFixture[str], role: Role, log: str
) -> None:
    config = PeerConfig(home=home, ip=LOOPBACK, role=role, alive_s=0.1, control_socket=role is Role.PEER)
    handlers = list(logging.getLogger().handlers)
    assert run_server(config, verbose=True, as_json=False) == 0
    line, _, rest = capsys.readouterr().out.partition("\n")
    assert line.startswith("dfget uploader server port is ")
    assert int(line.rpartition(" ")[2]) > 0  # 1.x's dfget takes the last word
    assert rest == ""
    assert "no work for 0 s: the peer ends" in (home / "logs" / log).read_text()
    assert list((home / "meta").glob("*.sock")) == []
    assert logging.getLogger().handlers == handlers


def test_a_home_that_cannot_be_written_is_named(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "file").touch()
    assert run_server(PeerConfig(home=home / "file", ip=LOOPBACK), verbose=False, as_json=False) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("dfget server: ")
    assert told.err.endswith("choose another --home\n")


def idle_after(looks: list[tuple[int, int]], alive_s: float, monkeypatch: pytest.MonkeyPatch) -> int:
    """How often a server looks before it is idle, when it sees these (active downloads, bytes sent) and the last for ever."""
    seen = 0

    class Time:
        """A loop whose time passes by a second at each look."""

        def time(self) -> float:
            return float(seen)

    async def sleep(_: float) -> None:
        nonlocal seen
        active, sent = looks[min(seen, len(looks) - 1)]
        peer.downloads.active, peer.exchange.sent_bytes = active, sent
        seen += 1
        if seen > 100:
            raise asyncio.CancelledError

    peer: Any = SimpleNamespace(downloads=SimpleNamespace(active=0), exchange=SimpleNamespace(sent_bytes=0))
    monkeypatch.setattr(serve, "asyncio", SimpleNamespace(get_running_loop=Time, sleep=sleep))
    waiting = serve._until_idle(cast("PeerProcess", peer), alive_s)
    try:
        waiting.send(None)
    except (StopIteration, asyncio.CancelledError):
        return seen
    raise AssertionError("it waits for something else")


def test_work_keeps_a_server_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    assert idle_after([(0, 0)], 5.0, monkeypatch) == 6
    assert idle_after([(1, 0)] * 10 + [(0, 0)], 5.0, monkeypatch) == 15
    assert idle_after([(0, number) for number in range(20)] + [(0, 19)], 5.0, monkeypatch) == 25


@pytest.mark.parametrize("alive_s", [0.0, -1.0])
def test_a_server_without_a_lifetime_never_ends(monkeypatch: pytest.MonkeyPatch, alive_s: float) -> None:
    assert idle_after([(0, 0)], alive_s, monkeypatch) == 101
