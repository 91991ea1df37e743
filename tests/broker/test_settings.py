"""Where the supernode's settings come from: flags, else the environment, else 1.x's supernode.yml, else the default."""

from pathlib import Path
from typing import Any

import pytest

from broker import settings
from broker.config import CacheConfig, SupernodeConfig
from broker.settings import Loaded, default_document, load
from worker_peer.host.command_line import software_version
from worker_peer.host.schema import SettingsError


def read(tmp_path: Path, text: str = "", *, flags: dict[str, Any] | None = None, **environment: str) -> Loaded:
    file = tmp_path / "supernode.yml"
    file.write_text(text)
    return load(flags=flags or {}, environment=environment, file=file)


def test_flags_beat_the_environment_which_beats_the_file_which_beats_the_default(tmp_path: Path) -> None:
    text = "base: {listenPort: 1001, downloadPort: 1002, homeDir: /file, debug: true, maxBandwidth: 100M}\n"
    environment = {
        "SUPERNODE_BASE_LISTENPORT": "2001",
        "SUPERNODE_HOMEDIR": "/environment",
        "SUPERNODE_TASK_EXPIRE_TIME": "10s",
        # What Kubernetes puts into every pod beside a service named supernode.
        "SUPERNODE_PORT": "tcp://10.0.0.1:8002",
    }
    config = read(tmp_path, text, flags={"home-dir": "/flag", "max-bandwidth": "50MB"}, **environment).config
    assert config == SupernodeConfig(
        home=Path("/flag"),
        http_port=2001,
        download_port=1002,
        source_rate=50 << 20,
        task_expire_s=10.0,
        debug=True,
        version=software_version(),
    )


def test_what_is_reserved_is_taken_from_the_most_as_in_1x(tmp_path: Path) -> None:
    assert read(tmp_path, "base: {maxBandwidth: 200M, systemReservedBandwidth: 20M}").config.source_rate == 180 << 20
    assert read(tmp_path, "base: {maxBandwidth: 200M}").config.source_rate == 200 << 20
    # Nothing can be taken from no limit.
    assert read(tmp_path, "base: {systemReservedBandwidth: 20M}").config.source_rate == 0


def test_what_may_enter_a_zone_is_said_as_every_rate(tmp_path: Path) -> None:
    assert read(tmp_path, "base: {zoneRate: 20MB}").config.zone_rate == 20 << 20
    assert read(tmp_path, "", SUPERNODE_ZONERATE="1G").config.zone_rate == 1 << 30
    with pytest.raises(SettingsError, match="zoneRate"):
        read(tmp_path, "base: {zoneRate: fast}")


def test_a_file_may_be_named_by_the_environment_and_the_default_one_may_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "DEFAULT_FILE", tmp_path / "default.yml")
    assert load(flags={}, environment={}, file=None).config.http_port == 8002
    (tmp_path / "default.yml").write_text("base: {listenPort: 1}")
    (tmp_path / "other.yml").write_text("base: {listenPort: 2}")
    assert load(flags={}, environment={}, file=None).config.http_port == 1
    assert load(flags={}, environment={"SUPERNODE_CONFIG": str(tmp_path / "other.yml")}, file=None).config.http_port == 2


def test_keys_without_a_meaning_are_named_once_by_the_name_that_was_used(tmp_path: Path) -> None:
    loaded = read(tmp_path, "base: {peerUpLimit: 5, gcMetaInterval: 2m}\nplugins: {}\n", flags={"up-limit": "7"})
    assert sorted(warning.split()[0] for warning in loaded.warnings) == ["--up-limit", "base.gcMetaInterval", "plugins"]


def test_what_the_seed_may_keep_has_1xs_keys(tmp_path: Path) -> None:
    text = "base: {youngGCThreshold: 10GB, fullGCThreshold: 1GB, IntervalThreshold: 1h, cleanRatio: 3, gcInitialDelay: 1s"
    found = read(tmp_path, text + ", gcDiskInterval: 2s, cacheQuota: 20GB, preheatQuota: 70}")
    assert found.warnings == ()
    assert found.config.cache == CacheConfig(
        quota=20 << 30,
        kept_percent=70,
        young_free=10 << 30,
        full_free=1 << 30,
        unused_s=3600.0,
        clean_tenths=3,
        tidy_after_s=1.0,
        tidy_every_s=2.0,
    )


def test_the_log_is_rotated_as_the_file_says(tmp_path: Path) -> None:
    loaded = read(tmp_path, "base: {logConfig: {maxSize: 7, maxBackups: 3, path: /x}}")
    assert (loaded.config.log_rotate_bytes, loaded.config.log_rotated_files) == (7 << 20, 3)
    assert [warning.split()[0] for warning in loaded.warnings] == ["base.logConfig.path"]


def test_the_default_document_is_the_default(tmp_path: Path) -> None:
    assert read(tmp_path, default_document()).config == read(tmp_path).config


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("listenPort: 1", ["unknown key 'listenPort'", "base"]),
        ("base: {listenport: 1, ListenPort: 2}", ["twice"]),
        ("base: {listenPrt: 1}", ["base.listenPrt", "'listenPort'"]),
        ("base: {intervalTreshold: 1}", ["'IntervalThreshold'"]),
        ("base: {logConfig: {maxsiz: 1}}", ["base.logConfig.maxsiz", "'maxSize'"]),
        ("base: {listenPort: 70000}", ["listenPort", "65535"]),
        ("base: {maxBandwidth: 20mb}", ["base.maxBandwidth", "20mb", "20MB"]),
        ("base: {youngGCThreshold: 100g}", ["base.youngGCThreshold", "100g"]),
        ("base: {gcDiskInterval: 15}", ["base.gcDiskInterval", "units"]),
        ("base: {cdnPattern: source}", ["cdnPattern", "local"]),
        ("base: {cdnPattern: other}", ["cdnPattern", "local"]),
        ("base: {advertiseIP: host}", ["advertiseIP", "address"]),
        ("base: {logConfig: {maxSize: 0}}", ["maxSize"]),
        ("base: {maxBandwidth: 10M, systemReservedBandwidth: 20M}", ["maxBandwidth", "leaves nothing"]),
        ("base: [1]", ["base", "map"]),
        ("base: {cleanRatio: 0}", ["cleanRatio", "1 to 10"]),
        ("base: {preheatQuota: 101}", ["preheatQuota", "0 to 100"]),
        ("base: {cacheQuota: 20mb}", ["base.cacheQuota", "20mb"]),
        ("plugins: [1]", ["plugins", "map"]),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_allowed(tmp_path: Path, text: str, words: list[str]) -> None:
    with pytest.raises(SettingsError) as caught:
        read(tmp_path, text)
    assert not [word for word in words if word not in str(caught.value)], str(caught.value)


def test_the_seed_is_left_out_by_flag_variable_or_key(tmp_path: Path) -> None:
    assert read(tmp_path).config.with_seed
    assert not read(tmp_path, "base: {noSeed: true}\n").config.with_seed
    assert not read(tmp_path, flags={"no-seed": "true"}).config.with_seed
    assert not read(tmp_path, SUPERNODE_NO_SEED="1").config.with_seed
