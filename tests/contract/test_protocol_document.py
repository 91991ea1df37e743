"""PROTOCOL.md says what wire/ does, and the check that says so can fail."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.contract.checkout import ROOT
from wire.version import PROTOCOL


def generate(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / "scripts" / "generate-protocol", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_document_is_up_to_date() -> None:
    ran = generate("--check")
    assert ran.returncode == 0, f"run scripts/generate-protocol:\n{ran.stdout}{ran.stderr}"


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("| 32 | `GET_BLOCKS` |", "| 31 | `GET_BLOCKS` |"),
        ("| `until_s` | number 0..1e+06 |", "| `until_s` | number 0..1e+07 |"),
        ("| 62 | `BUSY` |", "| 62 | `TIRED` |"),
        ("04700579a2441e25b7b056d2d7a8df81", "04700579a2441e25b7b056d2d7a8df82"),
    ],
)
def test_a_document_that_is_behind_is_caught_and_mended(tmp_path: Path, right: str, wrong: str) -> None:
    document = tmp_path / "PROTOCOL.md"
    text = (ROOT / "PROTOCOL.md").read_text(encoding="utf-8")
    assert right in text
    document.write_text(text.replace(right, wrong), encoding="utf-8")
    checked = generate("--check", "--document", document)
    assert checked.returncode == 1
    assert wrong in checked.stdout
    assert generate("--document", document).returncode == 0
    assert document.read_text(encoding="utf-8") == text


def test_a_section_that_is_lost_is_an_error(tmp_path: Path) -> None:
    document = tmp_path / "PROTOCOL.md"
    text = (ROOT / "PROTOCOL.md").read_text(encoding="utf-8")
    document.write_text(text.replace("<!-- generated: limits -->", ""), encoding="utf-8")
    ran = generate("--check", "--document", document)
    assert ran.returncode != 0
    assert "markers in the document" in ran.stderr


def test_golden_frames_are_added_and_never_written_anew(tmp_path: Path) -> None:
    (tmp_path / "hello.bin").write_bytes(b"frozen")
    ran = generate("--golden", "--folder", tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "hello.bin").read_bytes() == b"frozen"
    golden = ROOT / "tests" / "wire" / "golden" / "v1"
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in golden.iterdir()}
    assert generate("--golden", "--folder", tmp_path).stdout == "added: nothing\n"


def test_the_changelog_names_the_protocols_version() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"protocol {PROTOCOL[0]}.{PROTOCOL[1]}" in changelog.lower()
