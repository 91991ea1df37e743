"""The documents lead somewhere: every link has its target, and every command that is shown exists with its flags."""

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.contract.checkout import ROOT, committed

DOCUMENTS = [path for path in committed() if path.suffix == ".md" and path.relative_to(ROOT).parts[0] != "tests"]
_LINK = re.compile(r"(?<!!)\[[^\]]+\]\(([^)\s]+)\)")
_CODE = re.compile(r"`([^`\n]+)`|^(?:\$ |    )?((?:\./)?(?:scripts/\w[\w-]*|supernode|dfget|dfdaemon)\b.*)$", re.MULTILINE)
_COMMAND = re.compile(r"(?:\./)?(scripts/[\w-]+|supernode|dfget|dfdaemon)(?= |$)")
_MODULES = {"supernode": "broker.cli", "dfget": "worker_peer.cli", "dfdaemon": "gateway.cli"}
_SUB_COMMANDS = {
    "supernode": {"preheat", "cache", "config", "version"},
    "dfget": {"server", "version"},
    "scripts/bench": {"swarm", "pair", "broker", "first-byte", "small", "limits", "yield", "store"},
    "dfdaemon": {"version", "config", "rules", "gen-ca", "doctor", "setup", "why"},
}


def anchors(document: Path) -> set[str]:
    """What may stand behind a link's # ."""
    titles = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def broken_links(document: Path) -> list[str]:
    broken = []
    for link in _LINK.findall(document.read_text(encoding="utf-8")):
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        target = document.parent / name if name else document
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    return broken


@cache
def said_by(command: str, *sub_commands: str) -> str:
    """The help of a command."""
    start = [ROOT / command] if command.startswith("scripts/") else [sys.executable, "-m", _MODULES[command]]
    ran = subprocess.run([*start, *sub_commands, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, f"{command} {' '.join(sub_commands)}: {ran.stderr}"
    return ran.stdout


def unknown_flags(text: str) -> list[str]:
    """Commands in the text that name a flag, or a script, that is not there."""
    unknown = []
    for inline, line in _CODE.findall(text):
        code = (inline or line).split("  #")[0]
        named = _COMMAND.match(code)
        if named is None:
            continue
        command = named.group(1)
        if command.startswith("scripts/") and not (ROOT / command).exists():
            unknown.append(code)
            continue
        words = code[named.end() :].split(" -- ")[0].split()
        flags = {flag for word in words for flag in re.findall(r"(?<![\w-])--[A-Za-z][\w-]*", word)}
        if not flags:
            continue
        sub = [words[0].strip("`")] if words[0] in _SUB_COMMANDS.get(command, ()) else []
        known = set(re.findall(r"--[A-Za-z][\w-]*", said_by(command, *sub)))
        unknown += [f"{code}: {flag}" for flag in sorted(flags - known)]
    return unknown


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_and_commands(document: Path) -> None:
    assert broken_links(document) == []
    assert unknown_flags(document.read_text(encoding="utf-8")) == []


def test_a_wrong_link_and_a_wrong_flag_are_found(tmp_path: Path) -> None:
    document = tmp_path / "a.md"
    document.write_text("# One thing\n[a](b.md) [c](#one-thing) [d](#another) [e](https://example/x)\n", encoding="utf-8")
    assert broken_links(document) == ["b.md", "#another"]
    assert unknown_flags("`dfget -u URL --notbs --nothing`, `scripts/nothing`") == [
        "dfget -u URL --notbs --nothing: --nothing",
        "scripts/nothing",
    ]
    assert unknown_flags("    dfdaemon setup docker --undo --nothing  # --no-flag\n") == [
        "dfdaemon setup docker --undo --nothing: --nothing"
    ]


def test_every_document_can_be_found_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    missing = [path.name for path in (ROOT / "docs").glob("*.md") if f"(docs/{path.name})" not in readme]
    assert missing == []
    assert len(readme.splitlines()) <= 150, "what is to be looked up goes into docs/"
