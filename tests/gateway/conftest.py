"""What the gateway's driver tests share: a peer in memory, and certificates."""

from pathlib import Path

import pytest

from tests.support.memory_peer import MemoryPeer
from tests.support.running_gateway import Pair, self_signed


@pytest.fixture
def peer() -> MemoryPeer:
    """A peer that has nothing yet."""
    return MemoryPeer()


@pytest.fixture
def local_pair(tmp_path: Path) -> Pair:
    """A certificate for 127.0.0.1, where the tests' upstreams are."""
    return self_signed(tmp_path, "127.0.0.1")
