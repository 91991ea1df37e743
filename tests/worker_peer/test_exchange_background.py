"""An exchange with a download that nobody waits for: it makes way for one that somebody waits for, and holds its own rate."""

import asyncio

from tests.worker_peer.parts import Nodes, Sample, sample
from worker_peer.core.fetching import Done


def two_contents() -> tuple[Sample, Sample]:
    warm, live = sample(8 * 4096), sample(8 * 4096)
    warm.task = "8" * 64
    return warm, live


async def test_while_somebody_waits_it_gets_a_block_at_most_and_the_rest_afterwards(nodes: Nodes) -> None:
    warm, live = two_contents()
    child, parent = nodes.node("child"), nodes.scripted("parent")
    child.share(warm)
    child.share(live)
    child.exchange.set_background(warm.task, background=True)
    child.fetch(live, parent, *range(7))
    child.fetch(warm, parent, *range(8), lease=2)
    asked: list[str] = []
    while len(asked) < 60:  # all blocks of 15 pieces: what was stored is told a moment after it was asked for
        identity, request = await parent.request()
        asked += [request.task] * request.count
        parent.give(identity, request, live if request.task == live.task else warm)
        await child.settled()
        await asyncio.sleep(0)
    await child.told.until(Done, 15)
    until_live_is_here = asked[: len(asked) - asked[::-1].index(live.task)]
    assert until_live_is_here.count(live.task) == 28
    assert until_live_is_here.count(warm.task) <= 1, "one byte in 32"


async def test_it_goes_on_at_once_when_somebody_waits_for_it_too(nodes: Nodes) -> None:
    warm, live = two_contents()
    child, parent, other = nodes.node("child"), nodes.scripted("parent"), nodes.scripted("other")
    child.share(warm)
    child.share(live)
    child.exchange.set_background(warm.task, background=True)
    child.fetch(live, parent, 0)
    assert (await parent.request())[1].task == live.task  # and is not answered
    child.fetch(warm, other, 0, lease=2)
    assert (await other.request())[1].count == 1
    await child.settled()
    await child.settled()
    assert other.asked.empty()
    child.exchange.set_background(warm.task, background=False)
    assert (await other.request())[1].task == warm.task


async def test_all_of_it_together_holds_its_rate(nodes: Nodes) -> None:
    warm, other = two_contents()
    child, parent = nodes.node("child"), nodes.node("parent")
    parent.share(warm, *range(8))
    parent.share(other, *range(8))
    child.share(warm)
    child.share(other)
    child.exchange.set_background(warm.task, background=True)
    child.exchange.set_background(other.task, background=True)
    child.exchange.set_background_rate(4096)
    child.fetch(warm, parent, *range(8))
    child.fetch(other, parent, *range(8), lease=2)
    for step in range(1, 41):
        await child.pass_time(0.05)
        for _ in range(5):
            await parent.settled()
            await child.settled()
        assert sum(child.exchange.received_bytes.values()) <= 4096 * 0.05 * step + 2048, f"too much after {step} steps"
    assert sum(child.exchange.received_bytes.values()) >= 4096
    child.exchange.set_background_rate(0)
    await child.told.until(Done, 16)
