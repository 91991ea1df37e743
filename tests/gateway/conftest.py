"""What the gateway's driver tests share: a peer in memory, and certificates."""

from pathlib import Path

import pytest

from tests.support.memory_peer import MemoryPeer
from tests.support.running_gateway import Pair, self_signed


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a gateway that is told of no workHome keeps what it keeps: not in the home of whoever runs the tests."""
    made = tmp_path / "home-of-the-test"
    made.mkdir()
    monkeypatch.setenv("HOME", str(made))
    return made


@pytest.fixture
def peer() -> MemoryPeer:
    """A peer that has nothing yet."""
    return MemoryPeer()


@pytest.fixture
def local_pair(tmp_path: Path) -> Pair:
    """A certificate for 127.0.0.1, where the tests' upstreams are."""
    return self_signed(tmp_path, "127.0.0.1")
