"""What the contract tests look at: the checkout's files, and copies of it in which a rule is broken on purpose."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("wire", "worker_peer", "broker", "gateway")
_MADE = {"__pycache__", ".venv", ".git", "build", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis"}


def committed() -> list[Path]:
    """Every file that is, or would be, committed. Without git (an unpacked archive) all that no tool has made."""
    if (ROOT / ".git").exists():
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            check=True,
        ).stdout.decode()
        paths = [ROOT / name for name in listed.split("\0") if name]
    else:
        paths = [path for path in ROOT.rglob("*") if not _MADE & set(path.relative_to(ROOT).parts)]
    return sorted(path for path in paths if path.is_file())


def python_modules(folders: tuple[str, ...]) -> Iterator[Path]:
    """Python files of these folders, scripts without a suffix too."""
    for path in committed():
        if path.relative_to(ROOT).parts[0] not in folders:
            continue
        if path.suffix == ".py" or (not path.suffix and "python" in first_line(path)):
            yield path


def first_line(path: Path) -> str:
    """The first line of a text file, "" of anything else."""
    try:
        with path.open(encoding="utf-8") as file:
            return file.readline()
    except UnicodeDecodeError:
        return ""


def copy_of_packages(to: Path) -> None:
    """The four packages and pyproject.toml, to be broken."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, to / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", to)
