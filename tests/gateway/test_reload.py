"""A running gateway takes over new rules, and keeps the old ones when the new are wrong."""

import asyncio
import base64
import hashlib
import logging
import signal
import ssl
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.app import Reread, rules_from
from gateway.config import GatewayConfig, ProxyRuleConfig
from gateway.core.rules import RuleTable
from gateway.reload import Reloader, needing_restart
from gateway.settings import load
from scripts.demonstration.swarm import program
from tests.support.memory_peer import Held, MemoryPeer
from tests.support.processes import running_processes
from tests.support.raw_http import answers, client, ok, permits, upstream
from tests.support.running_gateway import Pair, running_gateway, self_signed
from tests.support.source_server import Page, SourceServer
from tests.support.swarm import short_directory, wait_until
from tests.worker_peer.parts import until
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


# -- in a gateway that serves -----------------------------------------------------------------------------------------------

_DATA = bytes(range(256)) * 4096
_PATH = f"/v2/team/app/blobs/sha256:{hashlib.sha256(_DATA).hexdigest()}"
_AUTHORIZED = "Proxy-Authorization: Basic " + base64.b64encode(b"me:secret").decode() + "\r\n"


class Live:
    """The file of a gateway that runs, and its words."""

    def __init__(self, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
        self.file = folder / "dfdaemon.yml"
        self.hangup = asyncio.Event()
        self.reread = Reread(read=self.read, file=self.file, hangup=self.hangup)
        self._caplog = caplog
        caplog.set_level(logging.INFO, "dfdaemon")

    def read(self) -> GatewayConfig:
        return load(flags={}, environment={}, file=self.file).config

    async def write(self, text: str, told: str = "rules reloaded") -> None:
        """Change the file; returns when the gateway has told what it makes of it."""
        self.file.write_text("port: 0\n" + text)
        await self.notices(told)

    async def notices(self, told: str) -> None:
        """Hang up; returns when the gateway has said so once more."""
        before = self._caplog.text.count(told)
        self.hangup.set()
        await until(lambda: self._caplog.text.count(told) > before, told)


async def test_who_may_use_it_changes_while_a_pull_runs(
    peer: MemoryPeer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    live = Live(tmp_path, caplog)
    live.file.write_text("port: 0\nproxies: [{regx: blobs/sha256}]\n")
    held = peer.hold(f"http://x{_PATH}", Held(data=_DATA, waits_at=300_000))
    async with (
        upstream(permits(len(_DATA), ok(b"{}"))) as registry,
        running_gateway(live.read(), peer, reread=live.reread) as gateway,
        client(gateway.port) as pulling,
    ):
        url = f"http://127.0.0.1:{registry.port}"
        await pulling.send(f"GET {url}{_PATH} HTTP/1.1\r\nHost: x\r\n\r\n")
        await pulling.reader.readuntil(b"\r\n\r\n")
        came = await pulling.reader.readexactly(300_000)

        async def status(fields: str = "", path: str = "/v2/") -> int:
            async with client(gateway.port) as user:
                return (await user.ask(f"GET {url}{path} HTTP/1.1\r\nHost: x\r\n{fields}\r\n")).status

        assert await status() == 200
        await live.write("proxies: [{regx: blobs/sha256}]\nbasicAuth: {username: me, password: secret}\n")
        assert (await status(), await status(_AUTHORIZED)) == (407, 200)
        await live.write("basicAuth: {username: me, password: secret}\nwhiteList: [{host: elsewhere.test}]\n")
        assert (await status(_AUTHORIZED), await status()) == (401, 407)
        await live.write("basicAuth: {password: secret}\n", "old rules stay in force")
        assert (await status(_AUTHORIZED), await status()) == (401, 407)
        await live.write("whiteList: [{host: 127.0.0.1}]\n")
        assert await status() == 200
        await live.write("whiteList: [{host: elsewhere.test}]\n")
        # The pull was let in by the rules of its time, and goes on to its end.
        held.go.set()
        assert came + await pulling.reader.readexactly(len(_DATA) - 300_000) == _DATA
        # Its next request, on the same connection, is judged by those of now.
        assert (await pulling.ask(f"GET {url}/v2/ HTTP/1.1\r\nHost: x\r\n\r\n")).status == 401


async def test_certificates_that_change_under_their_names_are_shown(
    peer: MemoryPeer, tmp_path: Path, local_pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    live = Live(tmp_path, caplog)
    folders = [tmp_path / name for name in ("used", "first", "second")]
    for folder in folders:
        folder.mkdir()
    used, first, second = (self_signed(folder, "df.test") for folder in folders)
    rules = f"hijack_https: {{cert: {used.cert}, key: {used.key}, hosts: [{{regx: 127.0.0.1, insecure: true}}]}}\n"
    live.file.write_text(f"port: 0\n{rules}")
    for name in ("cert", "key"):
        getattr(used, name).write_bytes(getattr(first, name).read_bytes())
    async with (
        upstream(answers(ok(b"{}")), tls=local_pair.server()) as origin,
        running_gateway(live.read(), peer, reread=live.reread) as gateway,
    ):

        async def shown() -> bytes | None:
            """The certificate that an opened tunnel is met with; None: it is not opened."""
            async with client(gateway.port) as user:
                place = f"127.0.0.1:{origin.port}"
                await user.send(f"CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n\r\n")
                await user.reader.readuntil(b"\r\n\r\n")
                await user.start_tls(trusting_anybody(), "127.0.0.1")
                assert (await user.ask(f"GET /v2/ HTTP/1.1\r\nHost: {place}\r\n\r\n")).body == b"{}"
                found: bytes = user.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            return found

        assert await shown() == der(first.cert)
        # As an operator's tool does it: first the one file, then the other; no hangup, the gateway looks by itself.
        used.cert.write_bytes(second.cert.read_bytes())
        await until(lambda: "is not the key of hijack_https.cert" in caplog.text, "half a pair is refused")
        assert await shown() == der(first.cert)
        used.key.write_bytes(second.key.read_bytes())
        await until(lambda: "rules reloaded" in caplog.text, "the pair is taken over")
        assert await shown() == der(second.cert)
        await live.write("proxies: []\n")
        assert await shown() == der(local_pair.cert), "nothing is opened any more"
        await live.write(rules)
        assert await shown() == der(second.cert)
        assert "effect when dfdaemon is started again" not in caplog.text


def der(file: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(file.read_text())


def trusting_anybody() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


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
