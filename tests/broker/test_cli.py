"""`supernode`: flags of 1.x and ours become a configuration; what cannot be is an error in words and exit code 1."""

from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from broker import cli
from broker.config import CacheConfig, SupernodeConfig
from worker_peer.host import command_line


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[SupernodeConfig]:
    """The configurations with which it was to be started, and was not."""
    made: list[SupernodeConfig] = []

    def run(config: SupernodeConfig) -> int:
        made.append(config)
        return 0

    monkeypatch.setattr(cli, "_run", run)
    monkeypatch.setattr(cli, "first_address", lambda: "10.9.8.7")
    return made


def fails(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What it says on stderr; it exits with 1."""
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 1
    return capsys.readouterr().err


def test_without_flags_it_is_1x_s_supernode(started: list[SupernodeConfig]) -> None:
    assert cli.main([]) == 0
    (config,) = started
    version = command_line.software_version()
    assert config == SupernodeConfig(home=Path("/home/admin/supernode"), advertise_ip="10.9.8.7", version=version)


def test_every_flag_reaches_its_value(started: list[SupernodeConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["--port=1", "--broker-port", "2", "--download-port=3", "--home-dir", "home", "--advertise-ip=1.2.3.4"]
    arguments += ["--max-bandwidth", "20MB", "--seed-bandwidth=1M", "--task-expire-time", "3m30s", "-D", "--json-log"]
    arguments += ["--zone-rate=3MB", "--link-rate=1gbit"]
    arguments += ["--cache-quota=3GB", "--preheat-quota", "20", "--gc-initial-delay", "1s"]
    assert cli.main([*arguments, "--cdn-pattern", "local"]) == 0
    assert started == [
        SupernodeConfig(
            home=tmp_path / "home",
            http_port=1,
            broker_port=2,
            download_port=3,
            advertise_ip="1.2.3.4",
            source_rate=20 << 20,
            upload_rate=1 << 20,
            link_rate="1gbit",
            zone_rate=3 << 20,
            task_expire_s=210.0,
            cache=CacheConfig(quota=3 << 30, kept_percent=20, tidy_after_s=1.0),
            debug=True,
            json_log=True,
            version=command_line.software_version(),
        )
    ]


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["version"]) == 0
    assert capsys.readouterr().out.startswith("supernode version:")


def test_a_release_that_is_not_installed_has_version_0(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(command_line, "version", missing)
    assert command_line.software_version() == "0"


def test_it_reads_the_process_s_own_arguments(started: list[SupernodeConfig], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["supernode", "--port", "7"])
    assert cli.main() == 0
    assert started[0].http_port == 7


@pytest.mark.parametrize(("flag", "kind"), sorted(cli._WITHOUT_MEANING.items()))
def test_flags_of_1x_without_a_meaning_are_taken_and_named(
    flag: str, kind: str, started: list[SupernodeConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    value = {"number": "10", "duration": "1m", "switch": "true"}[kind]
    lines = [[f"--{flag}={value}"], [f"--{flag}"] if kind == "switch" else [f"--{flag}", value]]
    for arguments in lines:
        assert cli.main([*arguments, "--port", "5"]) == 0
        said = capsys.readouterr().err
        assert said.startswith(f"supernode: --{flag} has no meaning here: ")
        assert said.count("\n") == 1
    assert [config.http_port for config in started] == [5, 5]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--no-such-flag"], "--no-such-flag"),
        (["--por", "1"], "--por"),
        (["surplus"], "surplus"),
        (["config"], "supernode config default"),
        (["--pool-size"], "--pool-size"),
        (["--pool-size", "many"], "--pool-size"),
        (["--debug=perhaps"], "--debug"),
        (["--port"], "--port"),
        (["--port", "65536"], "from 0 (any free one) to 65535"),
        (["--port=-1"], "from 0 (any free one) to 65535"),
        (["--broker-port", "x"], "from 0 (any free one) to 65535"),
        (["--download-port", "²"], "--download-port"),
        (["--port", "8" * 500], "65535"),
        (["--max-bandwidth", "fast"], "--max-bandwidth"),
        (["--link-rate", "fast"], "auto"),
        (["--task-expire-time", "soon"], "--task-expire-time"),
        (["--cdn-pattern", "elsewhere"], "--cdn-pattern"),
    ],
)
def test_what_cannot_be_is_an_error_in_words(
    arguments: list[str], words: str, started: list[SupernodeConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    said = fails(arguments, capsys)
    assert words in said
    assert "Error: " in said
    assert "Traceback" not in said
    assert len(said) < 4000
    assert started == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--cdn-pattern", "source"], "use local"),
        (["--advertise-ip", "notanip"], "advertiseIP must be an address"),
        (["--max-bandwidth=20MB", "--system-bandwidth=20MB"], "leaves nothing for sources"),
        (["--config", "/nonexistent/supernode.yml"], "cannot read the configuration /nonexistent/supernode.yml"),
    ],
)
def test_a_setting_that_cannot_be_ends_with_1(
    arguments: list[str], words: str, started: list[SupernodeConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 1
    said = capsys.readouterr().err
    assert said.startswith("Error: ")
    assert words in said
    assert started == []


def test_the_default_configuration_is_printed_and_reads_back(
    started: list[SupernodeConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["config", "default"]) == 0
    file = tmp_path / "supernode.yml"
    file.write_text(capsys.readouterr().out)
    assert cli.main([]) == 0
    assert cli.main(["--config", str(file)]) == 0
    assert started[0] == started[1]


def test_the_manual_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["gen-doc", "--path", str(tmp_path)]) == 0
    assert "--download-port" in (tmp_path / "supernode.md").read_text()
    assert cli.main(["help"]) == 0
    assert "--download-port" in capsys.readouterr().out
    assert cli.main(["help", "nothing"]) == 1


def test_a_home_that_cannot_be_is_an_error_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("in the way")
    assert cli.main(["--home-dir", str(tmp_path / "file" / "home"), "--port", "0"]) == 1
    assert "choose another --home-dir" in capsys.readouterr().err


def test_a_supernode_can_be_without_a_seed_of_its_own(started: list[SupernodeConfig]) -> None:
    assert cli.main([]) == 0
    assert cli.main(["--no-seed"]) == 0
    assert [config.with_seed for config in started] == [True, False]
