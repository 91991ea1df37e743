"""A request's body on its way up."""

import asyncio

from gateway.client import RequestBody
from worker_peer.host.background import Background


async def test_the_client_waits_until_its_chunk_has_been_taken() -> None:
    body, background = RequestBody(), Background()
    put = background.spawn(body.put(b"a"), "put")
    await asyncio.sleep(0)
    assert not put.done()
    chunks = body.chunks()
    assert await anext(chunks) == b"a"
    await put
    second = background.spawn(body.put(b"b"), "put")
    await asyncio.sleep(0)
    body.end()
    assert [chunk async for chunk in chunks] == [b"b"]
    await second
    await background.close()


async def test_nobody_waits_for_a_body_that_nobody_wants() -> None:
    body, background = RequestBody(), Background()
    put = background.spawn(body.put(b"a"), "put")
    await asyncio.sleep(0)
    body.abandon()
    await put
    await body.put(b"b")
    await background.close()


async def test_an_empty_body_ends() -> None:
    body = RequestBody()
    body.end()
    assert [chunk async for chunk in body.chunks()] == []
