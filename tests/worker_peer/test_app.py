"""The composition root: what a peer calls itself, where it says it is, and what it tells when it is built in vain."""

import asyncio
import os
import socket
from pathlib import Path

import pytest

from tests.support.source_server import Page, SourceServer
from tests.worker_peer.parts import LOOPBACK, Nodes, sample, until
from tests.worker_peer.whole_peer import REQUEST, open_lab, url_content
from wire.errors import ErrorCode
from wire.messages import Alive, Drop, Fetch, Hello, Origin, Role, Seeded, SeedFailed
from wire.pieces import layout_for
from worker_peer import app
from worker_peer.api import Moved
from worker_peer.app import open_peer, own_address, tune_allocator
from worker_peer.config import PeerConfig
from worker_peer.core.fetching import Done, Lost
from worker_peer.host.clock import SystemClock
from worker_peer.host.store import Store


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
        lab.peer.seeding._source._ended_bytes = 9
        await until(lambda: lab.supernode.alive and lab.supernode.alive[-1] == Alive(received=(9, 0, 0, 0)), "it is told")


async def test_a_seed_whose_file_is_cut_off_says_so_as_soon_as_it_is_asked_for_it(nodes: Nodes, tmp_path: Path) -> None:
    content = sample(300_000, layout_for(300_000).piece_length, layout_for(300_000).block_length)
    async with SourceServer() as source, open_lab(nodes, tmp_path, role=Role.SEED) as lab:
        await lab.hears(Hello)
        source.pages["/file"] = Page(body=content.data)
        lab.supernode.say(Fetch(task=content.task, url=source.url("/file")))
        seeded = await lab.hears(Seeded)
        while seeded.digest is None:
            seeded = await lab.hears(Seeded)
        child = nodes.node("child")
        child.share(content)
        endpoint = f"tcp://{LOOPBACK}:{lab.peer.exchange.data_port}"
        child.exchange.fetch(content.task, 1, lab.peer.peer_id, endpoint, "", content.wanted(0))
        await child.told.until(Done)
        with next((tmp_path / "home" / "data").glob("*/*/content")).open("r+b") as file:
            file.truncate(100)
        child.exchange.fetch(content.task, 2, lab.peer.peer_id, endpoint, "", content.wanted(1))
        failed = await lab.hears(SeedFailed)
        assert (failed.task, failed.code) == (content.task, ErrorCode.INTERNAL)
        await until(lambda: lab.peer.store.tasks() == [], "it is deleted")
        await child.told.until(Lost)


async def test_the_janitor_deletes_what_an_earlier_run_left_too_long_ago(
    nodes: Nodes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store, old, young = Store(tmp_path / "home" / "data"), sample(4096), sample(4096)
    young.task = "8" * 64
    for each in (old, young):
        each.file(store).close()
    for path in (tmp_path / "home" / "data" / old.task[:3] / old.task).iterdir():
        os.utime(path, (1e9, 1e9))
    caplog.set_level("INFO")
    async with open_lab(nodes, tmp_path, expire_s=3600.0) as lab:
        await until(lambda: lab.peer.store.tasks() == [young.task], "the old one is deleted")
        await until(lambda: f"task {old.task[:16]} deleted, " in caplog.text, "it is told")
        assert "nobody has used it for long" in caplog.text
        assert await lab.peer.keeper.tidy() == []
    assert store.tasks() == [young.task]


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


async def test_a_peer_that_watches_its_link_keeps_to_what_is_left_and_tells_of_it(nodes: Nodes, tmp_path: Path) -> None:
    async with open_lab(nodes, tmp_path, link_rate=125_000_000, upload_rate=1000) as lab:
        peer = lab.peer
        await lab.hears(Hello)
        await until(lambda: peer.limits.down.rate, "the first two samples")
        assert set(peer.link) == {"down", "up"}
        assert peer.link["down"].link_rate == 125_000_000
        assert 64 << 10 <= peer.limits.down.rate == peer.link["down"].limit <= 125_000_000
        assert peer.limits.up.rate == 1000, "never more than was configured"
        content = url_content()
        reader = await lab.complete(content, REQUEST, lab.parent(content, *range(6)))
        assert peer.moved == Moved(down=len(content.data), up=0)
        await reader.close()


async def test_a_peer_that_watches_nothing_has_nothing_to_tell(nodes: Nodes, tmp_path: Path) -> None:
    async with open_lab(nodes, tmp_path) as lab:
        assert (lab.peer.link, lab.peer.link_watch) == ({}, None)


async def test_an_address_that_no_interface_has_is_told(nodes: Nodes, tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"no network interface has 192\.0\.2\.9.* leave linkrate out"):
        async with open_lab(nodes, tmp_path, link_rate=0, ip="192.0.2.9", supernodes=("192.0.2.300:1",)):
            pass
