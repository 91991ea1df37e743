"""What is found out about a runtime where none runs; with a real dockerd it is tests/docker/test_setup.py that looks."""

import os
from pathlib import Path

import pytest

from gateway.core.setup.plan import Mode, Refused, Runtime
from gateway.setup.runtimes import Dockerd, dockerd_of, facts_of, parse_version, restart_commands, run_commands


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("Docker version 20.10.24+dfsg1, build 5d6db84", (20, 10)),
        ("containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u3", (1, 6)),
        ("containerd github.com/containerd/containerd/v2 v2.0.1 88aa2f5", (2, 0)),
        ("26.1", (26, 1)),
        ("v26", (26, 0)),
        ("dev", None),
        ("", None),
    ],
)
def test_versions(text: str, version: tuple[int, int] | None) -> None:
    assert parse_version(text) == version


def test_a_number_in_a_file_may_be_another_process_by_now(tmp_path: Path) -> None:
    file = tmp_path / "docker.pid"
    dockerd = Dockerd(socket=tmp_path / "docker.sock", pid_file=file)
    for content in (str(os.getpid()), "1 2", "", str(1 << 40)):
        file.write_text(content)
        assert dockerd.pid is None
        assert not dockerd.reload()
    assert (dockerd.flags(), dockerd.environment()) == (frozenset(), {})
    assert dockerd.ask("/info") is None
    assert dockerd.uses("http://127.0.0.1:65001", Mode.MIRROR) is None
    assert dockerd.has_taken_over("http://127.0.0.1:65001", Mode.MIRROR, wanted=True) is None


def test_in_another_root_nothing_runs_unless_it_is_named(tmp_path: Path) -> None:
    nobody = dockerd_of(tmp_path, "", "")
    assert (nobody.socket, nobody.pid_file, nobody.pid, nobody.ask("/info")) == (None, None, None, None)
    assert dockerd_of(tmp_path, "/s", "/p") == Dockerd(socket=Path("/s"), pid_file=Path("/p"))
    assert dockerd_of(Path("/"), "", "").socket == Path("/var/run/docker.sock")
    facts = facts_of(Runtime.CONTAINERD, tmp_path, nobody, "")
    assert (facts.version, facts.has_systemd, facts.user_home) == (None, False, "")
    (tmp_path / "lib/systemd/system").mkdir(parents=True)
    facts = facts_of(Runtime.DOCKER, tmp_path, nobody, "20.10")
    assert (facts.version, facts.has_systemd) == ((20, 10), True)
    with pytest.raises(Refused, match="is no version"):
        facts_of(Runtime.DOCKER, tmp_path, nobody, "newest")


def test_a_user_without_roots_rights_has_podman_settings_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("HOME", "/home/u")
    nobody = dockerd_of(tmp_path, "", "")
    assert facts_of(Runtime.PODMAN, Path("/"), nobody, "").user_home == "/home/u"
    assert facts_of(Runtime.CONTAINERD, Path("/"), nobody, "1.6").user_home == ""


def test_a_command_that_fails_is_told() -> None:
    assert run_commands((("true",),)) == []
    missing, failed = run_commands((("/nowhere/at/all", "x"), ("sh", "-c", "echo why >&2; exit 3")))
    assert missing.startswith("/nowhere/at/all x: ")
    assert failed == "sh -c echo why >&2; exit 3: exit code 3: why"
    assert restart_commands("docker")[-1] == ("systemctl", "restart", "docker")
