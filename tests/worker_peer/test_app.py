"""The composition root: what a peer calls itself, where it says it is, and what it tells when it is built in vain."""

import asyncio
import socket
from pathlib import Path

import pytest

from tests.worker_peer.parts import LOOPBACK, Nodes, until
from tests.worker_peer.whole_peer import open_lab
from wire.messages import Alive, Drop, Fetch, Hello, Origin, Role, SeedFailed
from worker_peer import app
from worker_peer.app import open_peer, own_address, tune_allocator
from worker_peer.config import PeerConfig
from worker_peer.host.clock import SystemClock


async def test_a_peer_says_who_and_where_it_is(nodes: Nodes, tmp_path: Path) -> None:
    async with open_lab(nodes, tmp_path, location="a/b", upload_rate=7, software="1.2") as lab:
        hello = await lab.hears(Hello)
        address, _, stamp = lab.peer.peer_id.rpartition("-")
        assert address.rpartition("-")[0] == LOOPBACK
        assert float(stamp) > 1.6e9
        assert hello == Hello(
            protocol=hello.protocol,
            peer=lab.peer.peer_id,
            role=Role.PEER,
            software="1.2",
            host=socket.gethostname()[:256],
            data_endpoint=f"tcp://{LOOPBACK}:{lab.peer.exchange.data_port}",
            hint_endpoint=f"tcp://{LOOPBACK}:{lab.peer.exchange.hint_port}",
            location="a/b",
            upload_rate=7,
        )
        lab.peer.downloads.received[Origin.DISK] = 5
        await until(lambda: lab.supernode.alive and lab.supernode.alive[-1] == Alive(received=(0, 0, 0, 5)), "it is told")
        assert sorted(path.name for path in (tmp_path / "home").iterdir()) == ["data", "logs", "meta", "spool"]


async def test_a_seed_reads_sources_and_drops_what_it_is_told_to(nodes: Nodes, tmp_path: Path) -> None:
    async with open_lab(nodes, tmp_path, role=Role.SEED) as lab:
        hello = await lab.hears(Hello)
        assert (hello.peer, hello.role) == (f"cdnnode:{LOOPBACK}", Role.SEED)
        lab.supernode.say(Fetch(task="a" * 64, url=f"http://{LOOPBACK}:1/file"))
        failed = await lab.hears(SeedFailed)
        assert failed.task == "a" * 64
        lab.supernode.say(Drop(task="a" * 64))
        assert lab.peer.seeding is not None
        lab.peer.seeding._ended_bytes = 9
        await until(lambda: lab.supernode.alive and lab.supernode.alive[-1] == Alive(received=(9, 0, 0, 0)), "it is told")


async def test_a_port_that_is_taken_and_a_home_that_is_used_are_told(nodes: Nodes, tmp_path: Path) -> None:
    async with open_lab(nodes, tmp_path) as lab:
        taken = PeerConfig(home=tmp_path / "other", ip=LOOPBACK, data_port=lab.peer.exchange.data_port, control_socket=False)
        with pytest.raises(OSError, match="choose another port"):
            await open_peer(taken)
        (tmp_path / "file").touch()
        first = await open_peer(PeerConfig(home=tmp_path / "shared", ip=LOOPBACK))
        with pytest.raises(OSError, match=r"another peer of .* is running"):
            await open_peer(PeerConfig(home=tmp_path / "shared", ip=LOOPBACK))
        await first.close()
        with pytest.raises(OSError, match="Not a directory"):
            await open_peer(PeerConfig(home=tmp_path / "file" / "home", ip=LOOPBACK))


def test_the_own_address_is_the_one_towards_the_supernode() -> None:
    assert own_address((f"{LOOPBACK}:8002",)) == LOOPBACK
    assert own_address(("no.such.host.invalid:8002", f"{LOOPBACK}:8002")) == LOOPBACK
    assert own_address(()) == LOOPBACK
    assert own_address(("no.such.host.invalid:8002", "host:port")) == LOOPBACK


def test_only_an_address_of_this_host_is_bound() -> None:
    assert app._is_local(LOOPBACK)
    assert not app._is_local("192.0.2.1")
    assert not app._is_local("name")


async def test_an_address_of_another_host_binds_all(tmp_path: Path) -> None:
    config = PeerConfig(home=tmp_path, ip="192.0.2.1", control_socket=False)
    peer = await open_peer(config, clock=SystemClock())
    _, writer = await asyncio.open_connection(LOOPBACK, peer.exchange.data_port)
    writer.close()
    assert peer._hello().data_endpoint == f"tcp://192.0.2.1:{peer.exchange.data_port}"
    await peer.close()


def test_tuning_the_allocator_is_harmless(monkeypatch: pytest.MonkeyPatch) -> None:
    tune_allocator()

    def missing(_: object) -> None:
        raise OSError

    monkeypatch.setattr("ctypes.CDLL", missing)
    tune_allocator()
