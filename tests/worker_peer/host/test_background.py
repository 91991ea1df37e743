"""Background keeps its tasks, tells their failures once, and ends them all."""

import asyncio
import gc
import logging

import pytest

from worker_peer.host.background import Background


async def test_a_task_that_nobody_else_holds_survives_a_garbage_collection() -> None:
    background = Background()
    done = asyncio.Event()
    turns = 0

    async def work() -> None:
        nonlocal turns
        for _ in range(3):
            await asyncio.sleep(0)
            gc.collect()
            turns += 1
        done.set()

    background.spawn(work(), "worker")
    await done.wait()
    assert turns == 3
    await asyncio.sleep(0)
    assert len(background) == 0


async def test_spawn_gives_the_result() -> None:
    async def answer() -> int:
        return 42

    assert await Background().spawn(answer(), "answer") == 42


async def test_a_failure_is_logged_once_with_type_and_text(caplog: pytest.LogCaptureFixture) -> None:
    background = Background()

    async def break_down() -> None:
        raise ValueError("no such thing")

    task = background.spawn(break_down(), "the breaker")
    with caplog.at_level(logging.ERROR), pytest.raises(ValueError):
        await task
    await background.close()
    assert [record.getMessage() for record in caplog.records] == ["the breaker failed: ValueError: no such thing"]


async def test_close_cancels_waits_and_is_silent(caplog: pytest.LogCaptureFixture) -> None:
    background = Background()
    cleaned = []
    started = asyncio.Event()

    async def wait_for_ever() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.append(True)

    task = background.spawn(wait_for_ever(), "waiter")
    await started.wait()
    await background.close()
    assert cleaned == [True]
    assert task.cancelled()
    assert caplog.records == []


async def test_close_by_one_of_its_own_tasks_does_not_wait_for_itself() -> None:
    background = Background()
    other = background.spawn(asyncio.Event().wait(), "other")

    async def end_all() -> str:
        await background.close()
        return "closed"

    assert await background.spawn(end_all(), "closer") == "closed"
    assert other.cancelled()


async def test_nothing_starts_after_close() -> None:
    background = Background()
    await background.close()
    with pytest.raises(RuntimeError, match="late cannot be started"):
        background.spawn(asyncio.sleep(0), "late")


async def test_a_task_that_loses_its_cancellation_is_cancelled_again() -> None:
    """As asyncio.wait_for does when what it waits for comes in the same moment (gh-86296, mended in Python 3.12)."""
    background, cancelled, begun = Background(), [], asyncio.Event()

    async def loses_the_first() -> None:
        begun.set()
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(True)
                if len(cancelled) > 1:
                    raise

    background.spawn(loses_the_first(), "stubborn")
    await begun.wait()
    async with asyncio.timeout(20):
        await background.close()
    assert len(cancelled) == 2
    assert len(background) == 0
