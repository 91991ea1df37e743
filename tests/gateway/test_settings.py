"""Where dfdaemon's settings come from, and what is said about wrong ones."""

from pathlib import Path
from typing import Any

import pytest

from gateway.config import (
    ConfigError,
    ExitCode,
    GatewayConfig,
    HijackConfig,
    HijackHostConfig,
    MirrorConfig,
    ProxyRuleConfig,
    own_host,
)
from gateway.settings import Loaded, default_document, load


def _load(
    tmp_path: Path, text: str = "", *, flags: dict[str, Any] | None = None, environment: dict[str, str] | None = None
) -> Loaded:
    file = tmp_path / "dfdaemon.yml"
    file.write_text(text)
    return load(flags=flags or {}, environment=environment or {}, file=file)


def test_the_documents_configuration_is_read_as_it_stands(tmp_path: Path) -> None:
    config = _load(
        tmp_path,
        """
dfget_flags: ["--node","10.0.0.10=1","-f","Expires&Signature"]
proxies:
- regx: blobs/sha256.*
hijack_https:
  cert: /etc/dragonfly/df.crt
  key: /etc/dragonfly/df.key
  hosts:
  - regx: hub-p2p-test.docker.com:32443
    insecure: true
    certs: ["server.crt"]
""",
    ).config
    assert config == GatewayConfig(
        dfget_flags=("--node", "10.0.0.10=1", "-f", "Expires&Signature"),
        proxies=(ProxyRuleConfig(regx="blobs/sha256.*"),),
        hijack_https=HijackConfig(
            cert="/etc/dragonfly/df.crt",
            key="/etc/dragonfly/df.key",
            hosts=(HijackHostConfig(regx="hub-p2p-test.docker.com:32443", insecure=True, certs=("server.crt",)),),
        ),
    )


def test_every_key_of_1_x_is_known(tmp_path: Path) -> None:
    loaded = _load(
        tmp_path,
        """
registry_mirror: {remote: "https://index.docker.io", certs: [], insecure: false, direct: true}
proxies: [{regx: a, use_https: true, direct: false, redirect: "b:1"}]
hijack_https: {cert: a, key: b, hosts: [{regx: c, insecure: true, certs: [d]}]}
port: 65002
hostIp: 127.0.0.2
certpem: a
keypem: b
verbose: true
maxprocs: 8
dfget_flags: []
supernodes: ["a:8002=1", "b"]
ratelimit: 20MB
workHome: /tmp/x
localrepo: /tmp/y
dfpath: /usr/bin/dfget
logConfig: {maxSize: 40, maxBackups: 1, path: /tmp/z}
localIP: 10.0.0.1
peerPort: 65003
streamMode: true
""",
    )
    config = loaded.config
    assert config.registry_mirror == MirrorConfig(direct=True)
    assert (config.port, config.host_ip, config.peer_port, config.local_ip) == (65002, "127.0.0.2", 65003, "10.0.0.1")
    assert (config.supernodes, config.ratelimit, config.log_config.path) == (("a:8002=1", "b"), "20MB", "/tmp/z")
    assert {warning.split()[0] for warning in loaded.warnings} == {"maxprocs", "localrepo", "dfpath", "streamMode"}


def test_flags_beat_the_environment_which_beats_the_file_which_beats_the_default(tmp_path: Path) -> None:
    text = "port: 1001\nhostIp: 127.0.0.9\nratelimit: 1MB\nregistry_mirror: {remote: http://file, direct: true}\n"
    environment = {
        "DFDAEMON_PORT": "1002",
        "DFDAEMON_RATELIMIT": "2MB",
        "DFDAEMON_REGISTRY_MIRROR_REMOTE": "http://environment",
        "DFDAEMON_SUPERNODES": "a,b:1=2",
        "DFDAEMON_VERBOSE": "1",
    }
    config = _load(tmp_path, text, flags={"port": "1003", "registry": "http://flag"}, environment=environment).config
    assert (config.port, config.ratelimit, config.host_ip, config.local_ip) == (1003, "2MB", "127.0.0.9", "")
    assert config.registry_mirror == MirrorConfig(remote="http://flag", direct=True)
    assert config.supernodes == ("a", "b:1=2")
    assert config.verbose
    config = _load(tmp_path, flags={"node": "c=2,d"}, environment=environment).config
    assert (config.supernodes, config.registry_mirror.remote) == (("c=2", "d"), "http://environment")


def test_what_kubernetes_puts_into_every_pod_is_no_setting(tmp_path: Path) -> None:
    assert _load(tmp_path, environment={"DFDAEMON_PORT": "tcp://10.0.0.1:65001"}).config.port == 65001


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prot: 1", ["'prot'", "'port'"]),
        ("hijack_https: {host: []}", ["hijack_https.host", "'hosts'"]),
        ("proxies: [{regex: a}]", ["proxies[0].regex", "'regx'"]),
        ("zzzzzz: 1", ["zzzzzz", "known keys"]),
        ("port: 70000", ["port", "70000", "1 to 65535"]),
        ("port: many", ["port", "whole number"]),
        ("peerPort: -1", ["peerPort", "1 to 65535"]),
        ("ratelimit: 20mb", ["ratelimit", "20mb", "20MB"]),
        ("linkrate: fast", ["linkrate", "fast", "auto"]),
        ("minrate: slow", ["minrate", "slow", "20MB"]),
        ("localrepo: relative", ["localrepo", "absolute"]),
        ("proxies: [{regx: '('}]", ["proxies[0].regx", "'('"]),
        ("proxies: [{direct: true}]", ["proxies[0].regx", "empty"]),
        ("hijack_https: {cert: a, key: b, hosts: [{regx: '['}]}", ["hijack_https.hosts[0].regx"]),
        ("hijack_https: {cert: a}", ["hijack_https.cert", "hijack_https.key"]),
        ("certpem: a", ["certpem", "keypem"]),
        ("registry_mirror: {remote: docker.io}", ["registry_mirror.remote", "http(s)://"]),
        ("registry_mirror: {remote: https://x/path}", ["registry_mirror.remote"]),
        ("supernodes: ['a:b:c']", ["supernodes", "a:b:c"]),
        ("supernodes: {a: 1}", ["supernodes", "list"]),
        ("verbose: perhaps", ["verbose", "true, false"]),
        ("log_format: xml", ["log_format", "classic, json"]),
        ("registry_mirror: 1", ["registry_mirror", "map"]),
        ("- a", ["map of keys"]),
        ("a: [", ["YAML", "line"]),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_allowed(tmp_path: Path, text: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        _load(tmp_path, text)
    assert not [word for word in words if word not in str(caught.value)]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("port: 70000", ExitCode.PORT),
        ("localrepo: x", ExitCode.LOCALREPO),
        ("ratelimit: x", ExitCode.RATE),
        ("x: 1", ExitCode.CONFIG),
    ],
)
def test_the_exit_codes_are_1_xs(tmp_path: Path, text: str, code: ExitCode) -> None:
    with pytest.raises(ConfigError) as caught:
        _load(tmp_path, text)
    assert caught.value.exit_code == code


def test_a_file_that_was_asked_for_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yml"):
        load(flags={}, environment={}, file=tmp_path / "none.yml")


def test_the_default_file_may_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.settings.DEFAULT_FILE", tmp_path / "none.yml")
    assert load(flags={}, environment={}, file=None).config == GatewayConfig()
    (tmp_path / "none.yml").write_text("port: 1234")
    assert load(flags={}, environment={}, file=None).config.port == 1234


def test_the_default_document_is_the_default(tmp_path: Path) -> None:
    loaded = _load(tmp_path, default_document())
    assert loaded.config == GatewayConfig()
    assert "# address that the gateway listens on\nhostIp: 127.0.0.1\n" in default_document()


@pytest.mark.parametrize(("host_ip", "host"), [("0.0.0.0", "127.0.0.1"), ("::", "::1"), ("192.0.2.1", "192.0.2.1")])
def test_a_client_of_this_host_finds_a_listener_of_all_addresses(host_ip: str, host: str) -> None:
    assert own_host(GatewayConfig(host_ip=host_ip)) == host
