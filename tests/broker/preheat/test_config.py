"""`preheat` of supernode.yml: read through the supernode's own settings, checked, and never shown."""

from pathlib import Path

import pytest

from broker.preheat.config import PreheatConfig
from broker.settings import default_document, load
from tests.support.certs import self_signed
from worker_peer.host.schema import SettingsError


def read(tmp_path: Path, text: str = "", **environment: str) -> PreheatConfig:
    file = tmp_path / "supernode.yml"
    file.write_text(text)
    return load(flags={}, environment=environment, file=file).config.preheat


def test_the_default_is_open_and_keeps_for_a_day(tmp_path: Path) -> None:
    config = read(tmp_path)
    assert config == PreheatConfig()
    assert config.is_open
    assert config.keep_s == 86400.0
    assert read(tmp_path, default_document()) == config


def test_everything(tmp_path: Path) -> None:
    pem = self_signed(tmp_path, "registry.test").certificate
    config = read(
        tmp_path,
        f"""
preheat:
  basic: "alice:secret"
  header: "X-Key: secret"
  allow: [registry.test, 10.0.0.0/8]
  credentials: ["registry.test=bob:pass=word"]
  cacerts: ["*.test={pem}"]
  insecure: ["bad.example:5000"]
  platforms: [linux/amd64, linux/arm64/v8]
  keep: 12h
  rate: 10MB
  tasksAtOnce: 4
  keptJobs: 10
  keptTime: 1h
""",
        SUPERNODE_PREHEAT_BEARER="secret-token",
    )
    assert (config.basic, config.bearer, config.header) == ("alice:secret", "secret-token", "X-Key: secret")
    assert not config.is_open
    assert (config.keep_s, config.rate, config.tasks_at_once, config.kept_jobs, config.kept_s) == (
        43200.0,
        10 << 20,
        4,
        10,
        3600.0,
    )
    assert [str(each) for each in config.platforms] == ["linux/amd64", "linux/arm64/v8"]
    by_pattern = {each.pattern: each for each in config.registries}
    assert by_pattern["bad.example:5000"].insecure
    assert by_pattern["bad.example:5000"].covers("bad.example", 5000)
    assert not by_pattern["bad.example:5000"].covers("bad.example", 443)
    assert by_pattern["registry.test"].credentials == "bob:pass=word"
    assert by_pattern["*.test"].certificates == (pem.read_bytes(),)
    assert config.allowed.refusal("other.example", 1, ["8.8.8.8"])
    assert "secret" not in repr(config)
    assert "pass=word" not in repr(config)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("basic: alice", "user:password"),
        ("header: 'no value'", "X-Key: value"),
        ("allow: ['http://a/']", "no host"),
        ("credentials: ['registry.test']", "host=value"),
        ("credentials: ['registry.test=secret']", "host=user:password"),
        ("cacerts: ['a=/nowhere/ca.pem']", "cannot read"),
        ("cacerts: ['a=/dev/null']", "no PEM"),
        ("platforms: [linux]", "no platform"),
        ("keep: 300h", "277h"),
        ("tasksAtOnce: 0", "tasksAtOnce"),
        ("keptJobs: 0", "keptJobs"),
        ("keptTime: 59s", "keptTime must be 60s or more"),
    ],
)
def test_what_is_wrong_is_named_without_the_secret(tmp_path: Path, line: str, told: str) -> None:
    with pytest.raises(SettingsError, match=told) as caught:
        read(tmp_path, f"preheat: {{{line}}}")
    assert "secret" not in str(caught.value)
