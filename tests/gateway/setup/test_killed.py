"""A setup, or an undo, that is killed at any call of the file system can be undone to the byte."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.gateway.setup.conftest import Host
from tests.support.processes import REPOSITORY


@pytest.mark.system
@pytest.mark.timeout(300)
@pytest.mark.parametrize("killed", ["setup", "undo"])
@pytest.mark.parametrize("runtime", ["docker", "containerd", "podman"])
def test_a_kill_in_the_middle_can_be_undone(host: Host, tmp_path: Path, runtime: str, killed: str) -> None:
    host.settle()
    host.root.rename(tmp_path / "pristine")
    ran = subprocess.run(
        [sys.executable, "-m", "tests.support.killed_everywhere", str(tmp_path), runtime, killed],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    kills = [each for each in found if each["ended"] == -1]
    assert len(kills) > 10
    assert sum(each["begun"] for each in kills) >= 2, "no kill came in the middle"
    assert [each for each in found if each["wrong"] or each["torn"] or each["undone"] != 0] == []
    assert found[-1]["ended"] == (4 if killed == "setup" else 0)
