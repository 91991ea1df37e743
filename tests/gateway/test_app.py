"""How the configuration becomes parts, and what is said when it cannot."""

import random
import socket
from pathlib import Path

import pytest

from gateway.app import GatewayError, defaults_from, home_of, peer_config_from, rules_from, supernodes_from
from gateway.config import ConfigError, GatewayConfig, HijackConfig, HijackHostConfig, MirrorConfig, ProxyRuleConfig
from gateway.core.rules import Trust
from gateway.dfget_flags import DfgetFlags, parse_flags
from tests.support.memory_peer import MemoryPeer, as_peer
from tests.support.raw_http import answers, client, ok, upstream
from tests.support.running_gateway import Pair, running_gateway


def test_dfget_flags_are_in_force_unless_the_gateways_own_settings_say_otherwise() -> None:
    flags = parse_flags(
        (
            "--node",
            "a",
            "-s",
            "1MB",
            "--totallimit",
            "2MB",
            "--minrate",
            "8K",
            "--ip",
            "10.0.0.1",
            "--port",
            "16000",
            "--expiretime",
            "1h",
        )
    )
    config = GatewayConfig(work_home="/tmp/home", location="r1/a")
    peer = peer_config_from(config, flags, supernodes_from(config, flags, random.Random(1)))
    assert peer.supernodes == ("a:8002",)
    assert (peer.total_rate, peer.ip, peer.data_port, peer.expire_s, peer.alive_s) == (2 << 20, "10.0.0.1", 16000, 3600.0, 0)
    assert (peer.link_rate, peer.min_rate) == (None, 8 << 10)
    assert (peer.home, peer.location) == (Path("/tmp/home"), "r1/a")
    assert defaults_from(config, flags).rate == 1 << 20
    own = GatewayConfig(supernodes=("b:1",), ratelimit="4MB", local_ip="10.0.0.2", peer_port=65002)
    peer = peer_config_from(own, flags, supernodes_from(own, flags, random.Random(1)))
    assert (peer.supernodes, peer.total_rate, peer.ip, peer.data_port) == (("b:1",), 4 << 20, "10.0.0.2", 65002)
    assert defaults_from(own, flags).rate == 4 << 20


def test_without_a_word_there_is_1_xs_supernode_and_no_limit() -> None:
    config, flags = GatewayConfig(), DfgetFlags()
    peer = peer_config_from(config, flags, supernodes_from(config, flags, random.Random(1)))
    assert (peer.supernodes, peer.total_rate) == (("127.0.0.1:8002",), 0)
    assert (peer.upload_rate, peer.link_rate, peer.min_rate) == (0, None, 64 << 10)
    watched = GatewayConfig(link_rate="100mbit", min_rate="1MB")
    peer = peer_config_from(watched, flags, ())
    assert (peer.link_rate, peer.min_rate) == (12_500_000, 1 << 20)
    assert home_of(config) == Path.home() / ".small-dragonfly"


def test_weights_order_the_supernodes() -> None:
    config = GatewayConfig(supernodes=("a=1000000", "b=1"))
    assert {supernodes_from(config, DfgetFlags(), random.Random(seed))[0] for seed in range(20)} == {"a:8002"}


def test_certificates_are_read_and_must_be_some(tmp_path: Path, local_pair: Pair) -> None:
    config = GatewayConfig(
        registry_mirror=MirrorConfig(remote="https://hub.test/", certs=(str(local_pair.cert),)),
        hijack_https=HijackConfig(hosts=(HijackHostConfig(regx="a", insecure=True),)),
        proxies=(ProxyRuleConfig(regx="x", redirect="y"),),
    )
    rules = rules_from(config)
    assert rules.mirror.remote == "https://hub.test"
    assert rules.mirror.trust == Trust(certificates=(local_pair.cert.read_bytes(),))
    assert rules.hijack_hosts[0].trust == Trust(insecure=True)
    broken = tmp_path / "broken.pem"
    broken.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    with pytest.raises(ConfigError, match=r"hijack_https\.hosts\[0\]\.certs: .*broken\.pem"):
        rules_from(GatewayConfig(hijack_https=HijackConfig(hosts=(HijackHostConfig(regx="a", certs=(str(broken),)),))))


async def test_a_port_in_use_is_named(peer: MemoryPeer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(GatewayError, match=f"port {port} on 127.0.0.1 is in use"):
            async with running_gateway(GatewayConfig(port=port), peer):
                pass


async def test_an_address_that_is_not_ours_is_named(peer: MemoryPeer) -> None:
    for address, words in (("192.0.2.1", "no address of this host"), ("localhost", "no IP address")):
        with pytest.raises(ConfigError, match=words):
            async with running_gateway(GatewayConfig(port=0, host_ip=address), peer):
                pass


async def test_the_listener_keeps_to_its_address(peer: MemoryPeer) -> None:
    async with running_gateway(GatewayConfig(port=0, host_ip="127.0.0.2"), as_peer_memory(peer)) as gateway:
        assert gateway.url == f"http://127.0.0.2:{gateway.port}"
        with pytest.raises(ConnectionRefusedError):
            async with client(gateway.port):
                pass


async def test_a_mirror_of_itself_is_refused(peer: MemoryPeer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    config = GatewayConfig(port=port, registry_mirror=MirrorConfig(remote=f"http://localhost:{port}"))
    with pytest.raises(GatewayError, match="itself"):
        async with running_gateway(config, peer):
            pass
    assert peer.closed


async def test_closing_ends_what_is_under_way(peer: MemoryPeer) -> None:
    async with upstream(answers(ok(b"hi"))) as origin:
        async with running_gateway(GatewayConfig(port=0), peer) as gateway:
            connection = client(gateway.port)
            user = await connection.__aenter__()
            assert (await user.ask(f"GET http://127.0.0.1:{origin.port}/ HTTP/1.1\r\nHost: x\r\n\r\n")).body == b"hi"
        assert await user.reader.read() == b""
        await connection.__aexit__(None, None, None)


def as_peer_memory(peer: MemoryPeer) -> MemoryPeer:
    """The twin, once the type checker has agreed that it is a Peer."""
    as_peer(peer)
    return peer
