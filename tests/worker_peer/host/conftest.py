"""A store, sources and a reader of them."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.source_server import SourceServer
from worker_peer.host.clock import SystemClock
from worker_peer.host.source import SourceReader, SourceTimeouts
from worker_peer.host.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store in a folder of its own."""
    return Store(tmp_path / "store")


@pytest.fixture
async def server() -> AsyncIterator[SourceServer]:
    async with SourceServer() as made:
        yield made


@pytest.fixture
async def other() -> AsyncIterator[SourceServer]:
    async with SourceServer() as made:
        yield made


@pytest.fixture
async def reader() -> AsyncIterator[SourceReader]:
    made = SourceReader(clock=SystemClock(), user_agent="damselfly/test", timeouts=SourceTimeouts(connect_s=5, idle_s=5))
    yield made
    await made.close()
    await made.close()
