"""`dfdaemon setup` and `--undo` on real files: shown first, done once, taken back byte for byte."""

import datetime
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.certs import generate_ca
from gateway.cli import main
from gateway.config import BasicAuthConfig
from gateway.core.setup.plan import Mode, Runtime
from gateway.setup.command import SetupExit
from gateway.setup.record import Record
from tests.gateway.setup.conftest import SETTINGS, Host
from tests.support.tree import tree

RUNTIMES = ["docker", "containerd", "podman"]


@pytest.mark.parametrize("is_settled", [True, False], ids=["settled", "empty"])
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_undo_brings_every_byte_mode_and_folder_back(opening: Host, runtime: str, is_settled: bool) -> None:
    if is_settled:
        opening.settle()
    before = tree(opening.root)
    # Nothing listens on port 1: it is written, and said to be not verified.
    assert opening.setup(runtime) is SetupExit.NOT_VERIFIED
    assert "nothing listens on 127.0.0.1:1" in opening.text
    after = tree(opening.root)
    assert after != before
    assert "127.0.0.1:1" in json.dumps(after) or any(
        f":{opening.config.port}" in opening.read(path) for path in after if (opening.root / path).is_file()
    )
    # A file of the user keeps its mode and owner.
    assert [after[path][:4] for path in before] == [each[:4] for each in before.values()]
    assert opening.setup(runtime, undo=True) is SetupExit.DONE
    assert tree(opening.root) == before
    assert not (Path(opening.config.work_home) / "setup").exists()
    assert opening.setup(runtime, undo=True) is SetupExit.DONE
    assert "nothing to undo" in opening.text


def test_a_second_setup_changes_nothing_and_says_so(opening: Host) -> None:
    opening.settle()
    for runtime in RUNTIMES:
        opening.setup(runtime)
        home, root = tree(Path(opening.config.work_home)), tree(opening.root)
        opening.setup(runtime)
        assert f"nothing to change: {runtime} is set up for http://127.0.0.1:1 already" in opening.text
        assert (tree(Path(opening.config.work_home)), tree(opening.root)) == (home, root)


@pytest.mark.parametrize("answer", ["", "n", "yess", EOFError(), KeyboardInterrupt()], ids=repr)
def test_nothing_is_touched_before_somebody_says_yes(host: Host, tmp_path: Path, answer: str | BaseException) -> None:
    host.settle()
    before = tree(tmp_path)
    asked = []

    def ask(question: str) -> str:
        asked.append(question)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    assert host.setup("docker", ask=ask) is SetupExit.NOT_CONFIRMED
    assert len(asked) == 1
    assert "--yes" in asked[0]
    assert '+{ "debug":true,' not in host.text
    assert '+  "registry-mirrors": ["http://127.0.0.1:1", "https://m.example"] }' in host.text
    assert "SIGHUP" in host.text
    assert tree(tmp_path) == before
    host.setup("docker", ask=lambda _: " Y ")
    done = tree(tmp_path)
    assert done != before
    assert host.setup("docker", undo=True, ask=ask) is SetupExit.NOT_CONFIRMED
    assert tree(tmp_path) == done


def test_without_a_terminal_it_shows_and_ends_with_3(host: Host, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    host.settle()
    before = tree(tmp_path)
    words = ["setup", "docker", "--root", str(host.root), "--workHome", str(tmp_path / "home"), "--port=1"]
    assert main(words) == 3
    out = capsys.readouterr().out
    assert "+++ /etc/docker/daemon.json" in out
    assert "--yes does it without asking" in out
    assert tree(tmp_path) == before
    assert main([*words, "--yes"]) == 4
    assert main([*words, "--undo", "--yes"]) == 0
    assert tree(host.root) == {name.removeprefix("root/"): each for name, each in before.items() if name.startswith("root/")}


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["docker", "--mode", "magic"], "allowed: mirror, proxy"),
        (["podman", "--mode", "proxy"], "--mode is for docker only"),
        (["docker", "--hosts-dir", "/x"], "--hosts-dir is for containerd only"),
        (["containerd", "--hosts-dir", "x"], "no absolute path"),
        (["docker", "--registry", "https://r"], "is no registry"),
        (["docker", "--yes=perhaps"], "neither true nor false"),
        (["docker", "--root", "/nowhere/at/all"], "is no folder"),
        (["docker", "--runtime-version", "new"], "is no version"),
        (["docker", "--port", "0"], "give it a fixed port"),
    ],
)
def test_a_wrong_command_line_is_exit_code_1(
    words: list[str], why: str, host: Host, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = [] if "--root" in words else ["--root", str(host.root)]
    assert main(["setup", *words, *where, "--workHome", str(tmp_path / "home")]) == 1
    told = capsys.readouterr()
    assert why in told.out + told.err


def test_a_gateway_with_a_password_is_not_written_into_settings(host: Host) -> None:
    host.config = replace(host.config, basic_auth=BasicAuthConfig(username="u", password="p"))
    assert host.setup("docker") is SetupExit.REFUSED
    assert "basicAuth" in host.text
    assert tree(host.root) == {}


def test_settings_that_are_broken_are_refused_with_the_line(host: Host, tmp_path: Path) -> None:
    host.settle()
    for runtime, path, text, line in (
        ("docker", "etc/docker/daemon.json", '{\n  // comment\n}\n', "/etc/docker/daemon.json, line 2: a comment"),
        ("containerd", "etc/containerd/config.toml", "version = 2\nx = \n", "/etc/containerd/config.toml, line 2: "),
        ("podman", "etc/containers/registries.conf", "[[registry]\n", "/etc/containers/registries.conf, line 1: "),
    ):  # fmt: skip
        (host.root / path).write_text(text)
        before = tree(tmp_path)
        assert host.setup(runtime) is SetupExit.REFUSED
        assert line in host.text
        assert tree(tmp_path) == before


def test_what_somebody_has_changed_since_is_never_overwritten(opening: Host) -> None:
    opening.settle()
    opening.setup("docker")
    trust = "etc/docker/certs.d/registry.example/damselfly-ca.crt"
    assert "BEGIN CERTIFICATE" in opening.read(trust)
    path = opening.root / "etc/docker/daemon.json"
    path.write_text(path.read_text().replace('"debug":true', '"debug":false'))
    (opening.root / "etc/docker/certs.d/registry.example/theirs.crt").write_text("theirs")
    edited = tree(opening.root)
    assert opening.setup("docker", undo=True) is SetupExit.REFUSED
    assert "/etc/docker/daemon.json, since setup:" in opening.text
    assert '-{ "debug":true,\n+{ "debug":false,' in opening.text
    assert "to be taken out by hand:" in opening.text
    assert "--undo --keep-edited" in opening.text
    assert tree(opening.root) == edited
    # A setup that would have to change it as well does not, either.
    moved = replace(opening.config, port=2)
    opening.config, config = moved, opening.config
    assert opening.setup("docker") is SetupExit.REFUSED
    assert "has been changed since setup wrote it" in opening.text
    opening.config = config
    assert tree(opening.root) == edited
    assert opening.setup("docker", undo=True, keep_edited=True) is SetupExit.DONE
    left = tree(opening.root)
    assert left["etc/docker/daemon.json"] == edited["etc/docker/daemon.json"]
    assert trust not in left
    # Somebody else's file keeps its folder.
    assert "etc/docker/certs.d/registry.example/theirs.crt" in left
    assert "/etc/docker/certs.d/registry.example was made by setup and stays" in opening.text
    (kept,) = (Path(opening.config.work_home) / "setup").glob("docker-*.kept-1/before/*-daemon.json")
    assert kept.read_text() == SETTINGS["etc/docker/daemon.json"]


def test_a_mode_or_a_deletion_is_a_change_too(host: Host) -> None:
    host.settle()
    host.setup("docker")
    path = host.root / "etc/docker/daemon.json"
    path.chmod(0o600)
    assert host.setup("docker", undo=True) is SetupExit.REFUSED
    assert "(its mode or owner)" in host.text
    path.unlink()
    assert host.setup("docker", undo=True) is SetupExit.REFUSED
    assert "+++ /dev/null" in host.text


def test_what_is_as_before_already_is_no_obstacle(host: Host) -> None:
    host.settle()
    before = tree(host.root)
    host.setup("podman")
    (host.root / "etc/containers/registries.conf.d/zz-damselfly.conf").unlink()
    assert host.setup("podman", undo=True) is SetupExit.DONE
    assert "nothing was left of it" in host.text
    assert tree(host.root) == before


def test_later_setups_add_and_one_undo_takes_all_of_them_back(opening: Host, tmp_path: Path) -> None:
    opening.settle()
    before = tree(opening.root)
    opening.setup("docker", mode=Mode.MIRROR)
    opening.config = replace(opening.config, port=2)
    opening.setup("docker", mode=Mode.MIRROR)
    assert json.loads(opening.read("etc/docker/daemon.json"))["registry-mirrors"] == ["http://127.0.0.1:2", "https://m.example"]
    opening.setup("docker")
    cert, key = generate_ca("another", datetime.timedelta(days=400))
    (tmp_path / "df.crt").write_bytes(cert)
    (tmp_path / "df.key").write_bytes(key)
    opening.setup("docker")
    assert opening.read("etc/docker/certs.d/registry.example/damselfly-ca.crt").split() == cert.decode().split()
    assert opening.setup("docker", undo=True) is SetupExit.DONE
    assert tree(opening.root) == before


def test_a_key_beside_the_certificate_goes_nowhere(opening: Host, tmp_path: Path) -> None:
    both = (tmp_path / "df.key").read_bytes() + (tmp_path / "df.crt").read_bytes()
    (tmp_path / "df.crt").write_bytes(both)
    opening.setup("docker")
    trust = opening.read("etc/docker/certs.d/registry.example/damselfly-ca.crt")
    assert trust.count("-----BEGIN") == 1
    assert "PRIVATE" not in trust


def test_secrets_in_settings_are_not_shown(host: Host) -> None:
    (host.root / "etc/docker").mkdir(parents=True)
    (host.root / "etc/docker/daemon.json").write_text('{"registry-mirrors": ["https://user:geheim@m.example"]}')
    host.setup("docker")
    assert "geheim" not in host.text
    assert "https://***@m.example" in host.text
    assert "geheim" in host.read("etc/docker/daemon.json")


def test_files_that_change_while_somebody_thinks_are_not_overwritten(host: Host) -> None:
    host.settle()

    def ask(_: str) -> str:
        (host.root / "etc/docker/daemon.json").write_text("{}")
        return "y"

    assert host.setup("docker", ask=ask) is SetupExit.REFUSED
    assert "have changed since they were shown" in host.text
    assert host.read("etc/docker/daemon.json") == "{}"
    host.setup("docker")

    def ask_again(_: str) -> str:
        (host.root / "etc/docker/daemon.json").write_text("[]")
        return "y"

    assert host.setup("docker", undo=True, ask=ask_again) is SetupExit.REFUSED
    assert host.read("etc/docker/daemon.json") == "[]"


def test_two_at_once_do_not_mix(host: Host) -> None:
    other = Record(Path(host.config.work_home), Runtime.DOCKER, host.root)
    with other.locked():
        assert host.setup("docker") is SetupExit.REFUSED
    assert "another `dfdaemon setup`" in host.text


def test_a_damaged_copy_is_not_put_back(host: Host) -> None:
    host.settle()
    host.setup("docker")
    (copy,) = Path(host.config.work_home).glob("setup/*/before/*-daemon.json")
    copy.write_text("damaged")
    before = tree(host.root)
    assert host.setup("docker", undo=True) is SetupExit.REFUSED
    assert "is damaged" in host.text
    assert tree(host.root) == before


def test_commands_of_another_root_are_left_to_their_owner(opening: Host) -> None:
    for path in ("usr/sbin/update-ca-certificates", "usr/local/share/ca-certificates/x.crt"):
        (opening.root / path).parent.mkdir(parents=True)
        (opening.root / path).write_text("")
    opening.setup("docker", mode=Mode.PROXY, registries=("docker.io",))
    assert "docker.io: its HTTPS is passed through unread" in opening.text
    hosts = (*opening.config.hijack_https.hosts, replace(opening.config.hijack_https.hosts[0], regx="registry-1.docker.io"))
    opening.config = replace(opening.config, hijack_https=replace(opening.config.hijack_https, hosts=hosts))
    opening.setup("docker", mode=Mode.PROXY)
    assert "then run: /usr/sbin/update-ca-certificates" in opening.text
    assert "run it there: /usr/sbin/update-ca-certificates" in opening.text
    assert "BEGIN CERTIFICATE" in opening.read("usr/local/share/ca-certificates/damselfly.crt")
    opening.setup("docker", undo=True)
    assert not (opening.root / "usr/local/share/ca-certificates/damselfly.crt").exists()
    assert "run it there: /usr/sbin/update-ca-certificates --fresh" in opening.text


def test_a_user_who_may_not_write_is_told_and_nothing_stays_half_done(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.settle()
    before = tree(host.root)
    real = os.open

    def denied(path: Path, *more: Any, **named: Any) -> int:
        # As root the tests may write everywhere.
        if str(path).startswith(str(host.root)) and str(path).endswith(".dfdaemon-setup"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *more, **named)

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", denied)
        patched.setattr(os, "geteuid", lambda: 1000)
        assert host.setup("docker") is SetupExit.REFUSED
    assert "cannot be written: Permission denied; run it as root; nothing was changed" in host.text
    assert tree(host.root) == before
    assert not (Path(host.config.work_home) / "setup").exists()


def test_a_full_disk_is_told_and_undone(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.settle()
    before = tree(host.root)
    real = os.replace
    moved = []

    def replace_file(source: Path, target: Path) -> None:
        moved.append(str(target))
        if str(target).endswith("_default/hosts.toml"):
            raise OSError(28, "No space left on device", str(target))
        real(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", replace_file)
        assert host.setup("containerd") is SetupExit.REFUSED
    assert "hosts.toml cannot be written: No space left on device; nothing was changed" in host.text
    assert any(each.endswith("config.toml") for each in moved)
    assert tree(host.root) == before
    # On top of an earlier setup there is more than one way back: it is left to --undo.
    host.setup("containerd", registries=("a.example",))
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", replace_file)
        assert host.setup("containerd") is SetupExit.REFUSED
    assert "is taken back by dfdaemon setup containerd" in host.text
    assert host.setup("containerd") is SetupExit.REFUSED
    assert "was ended in the middle" in host.text
    assert host.setup("containerd", undo=True) is SetupExit.DONE
    assert tree(host.root) == before


def test_a_disk_that_is_full_for_the_way_back_too(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.settle()
    before = tree(host.root)
    real = os.replace
    left = [5]

    def replace_file(source: Path, target: Path) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device", str(target))
        real(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", replace_file)
        assert host.setup("containerd") is SetupExit.REFUSED
    assert "is taken back by dfdaemon setup containerd" in host.text
    assert host.setup("containerd", undo=True) is SetupExit.DONE
    assert tree(host.root) == before
