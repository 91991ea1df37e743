"""After setup a real request goes through the running dfdaemon, and what is missing is said."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.config import GatewayConfig, HijackConfig, HijackHostConfig, MirrorConfig, WhiteListConfig
from gateway.core.setup.plan import Mode
from gateway.setup.command import SetupExit
from tests.gateway.setup.conftest import Host
from tests.support.memory_peer import MemoryPeer
from tests.support.running_gateway import running_gateway, self_signed
from tests.support.source_server import Page, SourceServer


@pytest.fixture
async def source() -> AsyncIterator[SourceServer]:
    async with SourceServer() as server:
        server.pages["/v2/"] = Page(body=b"{}")
        yield server


async def set_up(host: Host, config: GatewayConfig, runtime: str, **more: Any) -> SetupExit:
    """With a dfdaemon of that configuration running on a port of its own."""
    async with running_gateway(replace(config, port=0), MemoryPeer()) as running:
        host.config = replace(config, port=running.port)
        return await asyncio.to_thread(host.setup, runtime, **more)


async def test_each_runtime_asks_as_it_would(host: Host, tmp_path: Path) -> None:
    upstream = self_signed(tmp_path, "127.0.0.1")
    path = "/v2/damselfly/setup-check/manifests/none"
    async with SourceServer(tls=upstream.server()) as source:
        source.pages |= {"/v2/": Page(body=b"{}"), path: Page(status=404)}
        registry = f"127.0.0.1:{source.port}"
        certs = (str(upstream.cert),)
        config = replace(
            host.config,
            registry_mirror=MirrorConfig(remote=f"https://{registry}", certs=certs),
            hijack_https=HijackConfig(hosts=(HijackHostConfig(regx=registry, certs=certs),)),
        )
        cases: list[tuple[str, dict[str, Any], str]] = [
            ("docker", {}, "/v2/"),
            ("containerd", {"registries": (registry,), "hosts_dir": "/hosts.d"}, "/v2/"),
            # An image's name cannot hold a port: this is how dfdaemon has it.
            ("podman", {"registries": (registry.replace(":", "__"),)}, path),
        ]
        for runtime, more, asked in cases:
            source.requests.clear()
            assert await set_up(host, config, runtime, **more) is SetupExit.DONE, host.text
            assert "ok    request: " in host.text
            assert [each.target for each in source.requests if each.header("User-Agent") == "dfdaemon-setup"] == [asked]


async def test_what_dfdaemon_says_itself_is_no_registrys_answer(host: Host) -> None:
    registry = "registry.example"
    config = replace(host.config, white_list=(WhiteListConfig(host="elsewhere.example"),))
    code = await set_up(host, config, "containerd", registries=(registry,), hosts_dir="/hosts.d")
    assert code is SetupExit.NOT_VERIFIED
    assert f"401 dfdaemon: whiteList does not name {registry}" in host.text
    config = replace(host.config, white_list=(), registry_mirror=MirrorConfig(remote="http://127.0.0.1:1"))
    assert await set_up(host, config, "docker") is SetupExit.NOT_VERIFIED
    assert "502 dfdaemon:" in host.text


async def test_a_proxy_is_verified_by_the_trust_that_was_written(opening: Host, tmp_path: Path) -> None:
    upstream = self_signed(tmp_path, "127.0.0.1")
    async with SourceServer(tls=upstream.server()) as server:
        server.pages["/v2/"] = Page(body=b"{}", status=401)
        registry = f"127.0.0.1:{server.port}"
        hijack = opening.config.hijack_https
        host = HijackHostConfig(regx=registry, certs=(str(upstream.cert),))
        config = replace(opening.config, hijack_https=replace(hijack, hosts=(host,)))
        opening.config = config
        code = await set_up(opening, config, "docker")
        # dockerd has not been restarted; the request is right all the same.
        assert code is SetupExit.NOT_VERIFIED
        assert f"ok    request: {registry} through" in opening.text
        assert "answers 401" in opening.text
        # A CA that dfdaemon does not use.
        trust = opening.root / f"etc/docker/certs.d/{registry}/damselfly-ca.crt"
        trust.write_bytes(upstream.cert.read_bytes())
        async with running_gateway(replace(config, port=0), MemoryPeer()) as running:
            other = replace(config, port=running.port, hijack_https=HijackConfig(hosts=(), cert="", key=""))
            opening.config = other
            await asyncio.to_thread(opening.setup, "docker", mode=Mode.PROXY, registries=(registry,))
        assert "the certificate that dfdaemon shows is not trusted" in opening.text


async def test_a_gateway_that_speaks_https(host: Host, source: SourceServer, tmp_path: Path) -> None:
    own = self_signed(tmp_path, "127.0.0.1")
    remote = MirrorConfig(remote=f"http://127.0.0.1:{source.port}")
    config = replace(host.config, certpem=str(own.cert), keypem=str(own.key), registry_mirror=remote)
    assert await set_up(host, config, "docker") is SetupExit.DONE
    assert "docker.io through https://127.0.0.1:" in host.text
