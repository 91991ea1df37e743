"""Nothing that is committed names the place where it was written, or where packages come from."""

import pytest

from tests.contract.checkout import ROOT, committed

# In halves, so that this file is not its own first finding.
FORBIDDEN = [
    "/wo" "rk/",
    "pypi" ".org",
    "python" "hosted.org",
    "npmjs" ".org",
    "npmjs" ".com",
    "crates" ".io",
    "rubygems" ".org",
    "proxy.go" "lang.org",
]  # fmt: skip


@pytest.mark.parametrize("name", FORBIDDEN)
def test_no_committed_file_names(name: str) -> None:
    naming = [path.relative_to(ROOT).as_posix() for path in committed() if name.encode() in path.read_bytes()]
    assert not naming


def test_the_search_looks_at_files() -> None:
    looked_at = {path.relative_to(ROOT).as_posix() for path in committed()}
    assert {"PROTOCOL.md", "pyproject.toml", "wire/ids.py", "tests/contract/test_names.py"} <= looked_at
    assert not [name for name in looked_at if name.startswith((".venv/", ".git/"))]
