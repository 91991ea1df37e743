"""Some tens at once, then a pause, to the end."""

import asyncio

import pytest

from worker_peer import pacing
from worker_peer.pacing import a_few_at_a_time


async def test_a_pause_comes_after_each_portion(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "_AT_ONCE", 3)
    done: list[int] = []
    seen: list[int] = []

    async def pause(_: float) -> None:
        seen.append(len(done))

    monkeypatch.setattr(asyncio, "sleep", pause)
    await a_few_at_a_time(range(7), done.append)
    assert done == list(range(7))
    assert seen == [3, 6]
