"""A running gateway takes over new rules, and keeps the old ones when the new are wrong."""

import asyncio
import logging
import signal
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.app import rules_from
from gateway.config import GatewayConfig, ProxyRuleConfig
from gateway.core.rules import RuleTable
from gateway.reload import Reloader, needing_restart
from gateway.settings import load
from scripts.demonstration.swarm import program
from tests.support.processes import running_processes
from tests.support.source_server import Page, SourceServer
from tests.support.swarm import short_directory, wait_until
from worker_peer.host.background import Background


class Lab:
    """A file, what was taken over, and a reloader between them."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "dfdaemon.yml"
        self.file.write_text("proxies: [{regx: one}]\n")
        self.taken: asyncio.Queue[RuleTable] = asyncio.Queue()
        self.hangup = asyncio.Event()
        self.background = Background()
        self.reloader = Reloader(
            read=self.read,
            build=rules_from,
            apply=lambda _, table: self.taken.put_nowait(table),
            config=self.read(),
            file=self.file,
        )

    def read(self) -> GatewayConfig:
        return load(flags={}, environment={}, file=self.file).config


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    made = Lab(tmp_path)
    yield made
    await made.background.close()


async def test_a_changed_file_is_taken_over_by_itself(lab: Lab) -> None:
    lab.background.spawn(lab.reloader.run(lab.hangup, every_s=0.01), "reload")
    lab.file.write_text("proxies: [{regx: first}, {regx: second, direct: true}]\n")
    table = await asyncio.wait_for(lab.taken.get(), 10)
    assert [rule.pattern.pattern for rule in table.proxies] == ["first", "second"]


async def test_a_hangup_reads_again_without_a_change(lab: Lab) -> None:
    lab.background.spawn(lab.reloader.run(lab.hangup, every_s=3600), "reload")
    lab.hangup.set()
    assert len((await asyncio.wait_for(lab.taken.get(), 10)).proxies) == 1
    assert not lab.hangup.is_set()


async def test_a_bad_file_is_refused_once_and_the_next_good_one_taken(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    lab.file.write_text("proxies: [{regx: '('}]\n")
    assert not await lab.reloader.reload()
    assert "old rules stay in force: proxies[0].regx: '(' is no regular expression" in caplog.text
    lab.file.write_text("proxys: []\n")
    assert not await lab.reloader.reload()
    assert "did you mean 'proxies'?" in caplog.text
    lab.file.unlink()
    assert not await lab.reloader.reload()
    assert lab.taken.empty()
    lab.file.write_text("images: [{image: registry.test, direct: true}]\n")
    assert await lab.reloader.reload()
    decision = lab.taken.get_nowait().forward("GET", "https://registry.test/v2/x/blobs/sha256:1")
    assert decision.reason == "images[0]"


async def test_what_a_reload_does_not_change_is_named(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "dfdaemon")
    lab.file.write_text("port: 1\nproxies: []\n")
    assert await lab.reloader.reload()
    assert "port has changed: it takes effect when dfdaemon is started again" in caplog.text
    assert "rules reloaded: 0 proxies" in caplog.text
    assert needing_restart(GatewayConfig(), GatewayConfig(proxies=(ProxyRuleConfig(regx="a"),))) == []


@pytest.mark.system
async def test_the_real_process_takes_rules_over_on_a_hangup_and_on_a_change() -> None:
    async with SourceServer() as first, SourceServer() as second:
        first.pages["/v2/"], second.pages["/v2/"] = Page(body=b"first"), Page(body=b"second")
        await asyncio.to_thread(_change_the_mirror, first.url(""), second.url(""))


def _change_the_mirror(first: str, second: str) -> None:
    with short_directory() as folder, running_processes(folder) as processes:
        file, log = folder / "dfdaemon.yml", folder / "home" / "logs" / "dfdaemon.log"
        text = "{{port: 0, supernodes: ['127.0.0.1:1'], workHome: '{home}', registry_mirror: {{remote: '{mirror}'}}}}"
        file.write_text(text.format(home=folder / "home", mirror=first))
        dfdaemon = processes.start("dfdaemon", [program("dfdaemon"), "--config", str(file)])
        url = dfdaemon.wait_for(r"dfdaemon ready: (http://127\.0\.0\.1:\d+)")[1] + "/v2/"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        assert opener.open(url).read() == b"first"
        dfdaemon.popen.send_signal(signal.SIGHUP)
        _wait_for_log(log, "rules reloaded", 1)
        file.write_text("{proxies: [{regx: '('}]}")
        _wait_for_log(log, "old rules stay in force", 1)
        assert opener.open(url).read() == b"first"
        file.write_text(text.format(home=folder / "home", mirror=second))
        _wait_for_log(log, "rules reloaded", 2)
        assert opener.open(url).read() == b"second"
        assert dfdaemon.stop() == 0


def _wait_for_log(log: Path, words: str, times: int) -> None:
    wait_until(lambda: log.read_text().count(words) >= times, f"{words!r} in the log")
