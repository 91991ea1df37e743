"""What `dfdaemon doctor` says of a host that is well, and of one fault after the other, each with its next step."""

import asyncio
import datetime
import email.utils
import json
import shutil
import socket
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from gateway import doctor
from gateway.app import version
from gateway.certs import generate_ca
from gateway.cli import main
from gateway.config import GatewayConfig, HijackConfig, HijackHostConfig, MirrorConfig, ProxyRuleConfig
from gateway.core.setup.plan import Runtime, Wish
from gateway.doctor import examine, exit_code
from gateway.finding import Finding, Grade
from gateway.setup.command import Options, Terminal, run
from tests.support.memory_peer import MemoryPeer
from tests.support.running_gateway import running_gateway
from tests.support.source_server import Page, SourceServer

#: Whole seconds, as a Date field has them.
NOW = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
NOTHING: Mapping[str, str] = {}


class Host(NamedTuple):
    """A healthy host: its configuration, the folder that stands for its root, and what plays supernode and registry."""

    config: GatewayConfig
    root: Path
    server: SourceServer

    async def findings(
        self, config: GatewayConfig | None = None, now: datetime.datetime = NOW, environment: Mapping[str, str] = NOTHING
    ) -> dict[str, list[Finding]]:
        """By check."""
        made: dict[str, list[Finding]] = {}
        found = await asyncio.to_thread(examine, config or self.config, now=now, root=self.root, environment=environment)
        for finding in found:
            made.setdefault(finding.check, []).append(finding)
        return made

    async def wrong(self, check: str, config: GatewayConfig | None = None, now: datetime.datetime = NOW) -> str:
        """The text of the one thing that is wrong of that kind; it has a next step, and the exit code is 1."""
        findings = await self.findings(config, now)
        (found,) = [finding for finding in findings[check] if finding.grade is Grade.WRONG]
        assert found.next_step
        assert exit_code([found]) == 1
        return found.text


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    cert, key = generate_ca("ca", datetime.timedelta(days=400))
    (tmp_path / "df.crt").write_bytes(cert)
    (tmp_path / "df.key").write_bytes(key)
    store = tmp_path / "etc/docker/certs.d/registry.example:443"
    store.mkdir(parents=True)
    (store / "ca.crt").write_bytes(cert)
    config = GatewayConfig(
        port=0,
        work_home=str(tmp_path / "home"),
        proxies=(ProxyRuleConfig(regx="blobs/sha256.*"),),
        hijack_https=HijackConfig(
            cert=str(tmp_path / "df.crt"), key=str(tmp_path / "df.key"), hosts=(HijackHostConfig(regx="registry.example:443"),)
        ),
    )
    async with SourceServer() as server:
        date = (("Date", email.utils.format_datetime(NOW, usegmt=True)),)
        server.pages["/version"] = Page(body=json.dumps({"Version": version()}).encode(), headers=date)
        server.pages["/v2/"] = Page(body=b"{}", headers=date)
        config = replace(
            config,
            supernodes=(f"127.0.0.1:{server.port}",),
            registry_mirror=MirrorConfig(remote=f"http://127.0.0.1:{server.port}"),
        )
        async with running_gateway(config, MemoryPeer()) as running:
            yield Host(replace(config, port=running.port), tmp_path, server)


async def test_a_host_that_is_well(host: Host) -> None:
    findings = [finding for found in (await host.findings()).values() for finding in found]
    assert [finding.text for finding in findings if finding.grade is not Grade.OK] == []
    assert {"port", "version", "certificate", "trust", "supernode", "clock", "registry", "disk", "files"} <= {
        finding.check for finding in findings
    }
    assert exit_code(findings) == 0
    assert json.loads(doctor.as_json(findings))["ok"] is True


async def test_a_port_where_nothing_listens_or_something_else(host: Host) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        assert "nothing listens on 127.0.0.1:" in await host.wrong("port", replace(host.config, port=free.getsockname()[1]))
    assert "is no dfdaemon" in await host.wrong("port", replace(host.config, port=host.server.port))


async def test_certificates(host: Host) -> None:
    assert "has ended on" in await host.wrong("certificate", now=NOW + datetime.timedelta(days=500))
    assert "valid from" in await host.wrong("certificate", now=NOW - datetime.timedelta(days=2))
    soon = (await host.findings(now=NOW + datetime.timedelta(days=380)))["certificate"]
    assert [(finding.grade, "ends on" in finding.text) for finding in soon] == [(Grade.NOTE, True)]
    shutil.rmtree(host.root / "etc")
    assert "unknown authority" in await host.wrong("trust")
    (host.root / "df.key").write_text("no key")
    assert "hijack_https.key" in await host.wrong("certificate")
    without = replace(host.config, hijack_https=HijackConfig(hosts=host.config.hijack_https.hosts))
    assert "passed through unread" in await host.wrong("certificate", without)


async def test_trust_is_looked_for_where_the_variables_say(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(host.root / "etc")
    bundle = host.root / "bundle.crt"
    bundle.write_bytes(b"# theirs\n" + (host.root / "df.crt").read_bytes())
    (host.root / "folder").mkdir()
    shutil.copy(bundle, host.root / "folder/a.pem")
    for variables, place in (
        ({"SSL_CERT_FILE": str(bundle)}, "bundle.crt"),
        ({"SSL_CERT_DIR": f"/nonexistent:{host.root}/folder"}, "folder/a.pem"),
    ):
        (trust,) = (await host.findings(environment=variables))["trust"]
        assert (trust.grade, place in trust.text) == (Grade.OK, True)
    # Without an environment of its own, this process's counts.
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    found = await asyncio.to_thread(examine, host.config, now=NOW, root=host.root)
    assert [each.grade for each in found if each.check == "trust"] == [Grade.OK]
    # A variable that leads past the store in which it is.
    system = host.root / "etc/ssl/certs/ca-certificates.crt"
    system.parent.mkdir(parents=True)
    shutil.copy(bundle, system)
    bundle.write_text("another")
    (trust,) = (await host.findings(environment={"SSL_CERT_FILE": str(bundle)}))["trust"]
    assert trust.grade is Grade.NOTE
    assert "names other stores without it" in trust.text


@pytest.fixture
def unverified(monkeypatch: pytest.MonkeyPatch) -> None:
    """Setup's own request is test_verify.py's; here it would wait for names that nobody knows."""
    monkeypatch.setattr("gateway.setup.command.verify", lambda *_: [])


def set_up(host: Host, config: GatewayConfig, *words: Runtime, undo: bool = False) -> None:
    """By the command."""
    for runtime in words:
        options = Options(wish=Wish(runtime=runtime), yes=True, undo=undo, root=host.root, runtime_version="26.1")
        run(options, config, Terminal(say=lambda _: None))


@pytest.mark.usefixtures("unverified")
async def test_what_setup_wrote_is_looked_at(host: Host) -> None:
    set_up(host, host.config, *Runtime)
    names = [f"setup {runtime.value} --root {host.root}" for runtime in Runtime]
    findings = await host.findings()
    assert [each.grade for name in names for each in findings[name]] == [Grade.OK] * 3
    # dfdaemon has moved.
    config = replace(host.config, port=1)
    for name in names:
        wrong = await host.wrong(name, config)
        assert "http://127.0.0.1:1 first any more" in wrong
    # Its CA is another one.
    cert, key = generate_ca("another", datetime.timedelta(days=400))
    (host.root / "df.crt").write_bytes(cert)
    (host.root / "df.key").write_bytes(key)
    assert "another CA than dfdaemon's: it has changed since setup" in await host.wrong(names[0])
    set_up(host, host.config, Runtime.DOCKER)
    # Somebody has worked on it, and it still works.
    daemon = host.root / "etc/docker/daemon.json"
    daemon.write_text(daemon.read_text() + "\n")
    (edited,) = (await host.findings())[names[0]]
    assert (edited.grade, edited.text) == (Grade.NOTE, "changed since setup: /etc/docker/daemon.json")
    daemon.unlink()
    assert "/etc/docker/daemon.json is gone" in await host.wrong(names[0])
    daemon.write_text("{")
    assert "/etc/docker/daemon.json, line 1" in await host.wrong(names[0])


@pytest.mark.usefixtures("unverified")
async def test_a_setup_that_was_killed_or_whose_root_is_gone(host: Host) -> None:
    set_up(host, host.config, Runtime.PODMAN)
    name = f"setup podman --root {host.root}"
    (journal,) = host.root.glob("home/setup/podman-*/journal.json")
    whole = journal.read_text()
    journal.write_text(whole.replace('"done"', '"writing"'))
    assert await host.wrong(name) == "was ended in the middle"
    journal.write_text(whole.replace(str(host.root), "/nowhere/at/all"))
    (gone,) = (await host.findings())["setup podman --root /nowhere/at/all"]
    assert (gone.grade, gone.text) == (Grade.NOTE, "/nowhere/at/all is gone")
    journal.write_text("{")
    assert "is no journal of this release" in await host.wrong("setup")


@pytest.mark.usefixtures("unverified")
async def test_mirrors_alone_need_no_trust(host: Host) -> None:
    shutil.rmtree(host.root / "etc")
    set_up(host, host.config, Runtime.PODMAN)
    (trust,) = (await host.findings())["trust"]
    assert trust.grade is Grade.NOTE
    set_up(host, host.config, Runtime.DOCKER)
    (host.root / "etc/docker/certs.d/registry.example/damselfly-ca.crt").unlink()
    assert "unknown authority" in await host.wrong("trust")


async def test_rules_that_do_not_match(host: Host) -> None:
    config = replace(host.config, proxies=(ProxyRuleConfig(regx="elsewhere"),))
    assert "blobs go straight to it (no rule)" in await host.wrong("hijack_https.hosts[0]", config)
    config = replace(host.config, proxies=(), registry_mirror=replace(host.config.registry_mirror, direct=True))
    assert "no rule gives anything to the swarm" in await host.wrong("rules", config)


async def test_a_supernode_that_is_away_or_none_or_another_release(host: Host) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        config = replace(host.config, supernodes=(f"127.0.0.1:{free.getsockname()[1]}",))
        assert "cannot be reached" in await host.wrong("supernode", config)
    host.server.pages["/version"].body = b'{"Version": "0.0.1"}'
    told = [finding for finding in (await host.findings())["version"] if finding.grade is Grade.NOTE]
    assert ["0.0.1" in finding.text for finding in told] == [True]
    host.server.pages["/version"].body = b"hello"
    assert "is no supernode" in await host.wrong("supernode")


async def test_a_clock_that_is_off_against_supernode_and_registry(host: Host) -> None:
    ahead = (await host.findings(now=NOW + datetime.timedelta(minutes=10)))["clock"]
    assert [(each.grade, "600 s ahead of" in each.text) for each in ahead] == [(Grade.WRONG, True), (Grade.WRONG, True)]
    behind = (await host.findings(now=NOW - datetime.timedelta(minutes=5)))["clock"]
    assert ["300 s behind" in each.text for each in behind] == [True, True]


async def test_disk_and_files(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_LEAST_FREE_BYTES", 1 << 60)
    monkeypatch.setattr(doctor, "_LEAST_FILES", 1 << 40)
    assert "are free for" in await host.wrong("disk")
    assert "may open" in await host.wrong("files")


def test_the_command_tells_a_broken_configuration_and_ends_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "dfdaemon.yml").write_text("prot: 1\n")
    assert main(["doctor", "--config", str(tmp_path / "dfdaemon.yml")]) == 1
    assert "wrong configuration: unknown key 'prot': did you mean 'port'?\n      -> " in capsys.readouterr().out
    assert main(["doctor", "--json", "--config", str(tmp_path / "dfdaemon.yml")]) == 1
    assert json.loads(capsys.readouterr().out)["findings"][0]["check"] == "configuration"
