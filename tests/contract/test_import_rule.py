"""The import rule of pyproject.toml holds, and each way to break it is caught."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.contract.checkout import ROOT, copy_of_packages


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """import-linter on the packages in a folder."""
    return subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()", "--no-cache"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder), "PYTHONSAFEPATH": "", "PYTHONIOENCODING": "utf-8", "COLUMNS": "300"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_the_rule_holds() -> None:
    ran = lint_imports(ROOT)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize("package", ["broker", "gateway"])
def test_the_peer_is_used_by_its_front_door_only(package: str) -> None:
    """pyproject.toml names what is behind it; this names the door, so that a new module is behind it too."""
    door = {"api", "app", "config", "host"}
    used = {
        (str(path.relative_to(ROOT)), name)
        for path in (ROOT / package).rglob("*.py")
        for name in re.findall(r"^\s*(?:from|import) worker_peer\.(\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert {(path, name) for path, name in used if name not in door} == set()


@pytest.mark.parametrize(
    ("folder", "known"),
    [
        ("wire", ["wire"]),
        ("worker_peer/core", ["wire", "worker_peer.core"]),
        ("broker/core", ["wire", "broker.core"]),
        ("gateway/core", ["wire", "gateway.core", "worker_peer.api"]),
    ],
)
def test_a_core_knows_the_wire_and_itself(folder: str, known: list[str]) -> None:
    """A decision that imports a driver, or its own package's front door, has its shapes in the wrong place."""
    imports = {
        (str(path.relative_to(ROOT)), name)
        for path in (ROOT / folder).rglob("*.py")
        for name in re.findall(
            r"^\s*(?:from|import) ((?:wire|worker_peer|broker|gateway)\b[\w.]*)", path.read_text(encoding="utf-8"), re.MULTILINE
        )
    }
    assert imports
    assert {(path, name) for path, name in imports if not (name + ".").startswith(tuple(each + "." for each in known))} == set()


@pytest.mark.parametrize(
    ("module", "line", "broken"),
    [
        ("wire/ids.py", "import worker_peer", "layers"),
        ("worker_peer/config.py", "import broker", "layers"),
        ("gateway/__init__.py", "import broker", "layers"),
        ("broker/core/__init__.py", "from worker_peer.core import session", "front door only"),
        ("wire/bitmap.py", "import os", "cores are pure"),
        ("worker_peer/core/session.py", "from time import monotonic", "cores are pure"),
        ("broker/core/__init__.py", "import random", "cores are pure"),
        ("gateway/core/__init__.py", "import asyncio", "cores are pure"),
        ("worker_peer/host/__init__.py", "import worker_peer.config", "is a leaf"),
    ],
)
def test_a_planted_violation_is_caught(tmp_path: Path, module: str, line: str, broken: str) -> None:
    copy_of_packages(tmp_path)
    path = tmp_path / module
    path.write_text(path.read_text(encoding="utf-8") + f"\n{line}\n", encoding="utf-8")
    ran = lint_imports(tmp_path)
    assert ran.returncode == 1, ran.stdout + ran.stderr
    verdicts = [each for each in ran.stdout.splitlines() if each.endswith("BROKEN")]
    assert any(broken in each for each in verdicts), ran.stdout
