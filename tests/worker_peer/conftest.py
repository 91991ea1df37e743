"""Exchanges for the tests of a peer's parts; every test ends with all of its sockets closed."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.worker_peer.parts import Nodes, open_nodes
from tests.worker_peer.whole_peer import Lab, open_lab
from wire.messages import Hello


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[Nodes]:
    """Makes exchanges, and ends them."""
    async with open_nodes(tmp_path) as made:
        yield made


@pytest.fixture
async def lab(nodes: Nodes, tmp_path: Path) -> AsyncIterator[Lab]:
    """A peer that its supernode has greeted."""
    async with open_lab(nodes, tmp_path) as made:
        await made.hears(Hello)
        yield made
