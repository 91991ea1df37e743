"""A body is exact, or the connection fails: whatever breaks, wherever, in the swarm, at the upstream, or in both."""

import asyncio
import hashlib
import random
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.config import GatewayConfig, ProxyRuleConfig
from tests.support.memory_peer import Held, MemoryPeer
from tests.support.raw_http import Got, Script, Seen, client, upstream
from tests.support.running_gateway import running_gateway

pytestmark = pytest.mark.timeout(300)

_SIZE = 40_000
_DATA = random.Random(5).randbytes(_SIZE)
_PATH = f"/v2/team/app/blobs/sha256:{hashlib.sha256(_DATA).hexdigest()}"
_CONFIG = GatewayConfig(port=0, proxies=(ProxyRuleConfig(regx="blobs/sha256.*"),))
_OFFSET = st.none() | st.integers(0, _SIZE - 1)
_RANGE = st.none() | st.tuples(st.integers(0, _SIZE), st.integers(0, _SIZE)) | st.lists(
    st.tuples(st.integers(0, _SIZE), st.integers(0, _SIZE)), min_size=2, max_size=4
)  # fmt: skip


def _source(dies_at: int | None, flips_at: int | None, *, lies: bool) -> Script:
    """An upstream that breaks off at a byte of the content, has a wrong byte there, or sends another part than it says."""
    data = bytearray(_DATA)
    if flips_at is not None:
        data[flips_at] ^= 1

    async def script(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        # Of several ranges this server knows nothing.
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", (seen.get("Range") or [""])[0])
        start, stop = (int(found[1]), min(int(found[2] or _SIZE - 1) + 1, _SIZE)) if found else (0, _SIZE)
        if start >= stop:
            writer.write(b"HTTP/1.1 416 R\r\nContent-Length: 0\r\n\r\n")
            return True
        told = f"HTTP/1.1 206 P\r\nContent-Range: bytes {start}-{stop - 1}/{_SIZE}" if found else "HTTP/1.1 200 OK"
        writer.write(f"{told}\r\nContent-Length: {stop - start}\r\n\r\n".encode())
        if seen.line.startswith("HEAD "):
            return True
        body = bytes(data[start:stop])
        if lies:
            body = body[1:] + body[:1]
        dies = dies_at is not None and start <= dies_at < stop
        writer.write(body[: dies_at - start] if dies and dies_at is not None else body)
        await writer.drain()
        return not dies

    return script


async def _pull(peer_breaks: int | None, dies_at: int | None, flips_at: int | None, lies: bool, value: str | None) -> Got:
    peer = MemoryPeer()
    peer.hold(f"http://x{_PATH}", Held(data=_DATA, breaks_at=peer_breaks, chunk_bytes=7_001))
    source = _source(dies_at, flips_at, lies=lies)
    async with upstream(source) as origin, running_gateway(_CONFIG, peer) as gateway, client(gateway.port) as user:
        fields = [f"Range: {value}"] if value else []
        url = f"http://127.0.0.1:{origin.port}{_PATH}"
        async with asyncio.timeout(20):
            return await user.ask("\r\n".join([f"GET {url} HTTP/1.1", "Host: x", *fields, "", ""]))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(peer_breaks=st.integers(1, _SIZE - 1), dies_at=_OFFSET, flips_at=_OFFSET, lies=st.booleans())
def test_a_whole_body_that_ends_well_is_the_content(
    peer_breaks: int, dies_at: int | None, flips_at: int | None, lies: bool
) -> None:
    got = asyncio.run(_pull(peer_breaks, dies_at, flips_at, lies, None))
    assert got.status == 200
    if got.broken:
        assert len(got.body) < _SIZE
    else:
        assert got.body == _DATA
    # And nothing of the swarm's fault is seen where the upstream is sound.
    assert got.broken is False or dies_at is not None or flips_at is not None or lies


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(peer_breaks=_OFFSET, dies_at=_OFFSET, wanted=_RANGE)
def test_a_part_that_ends_well_is_that_part(
    peer_breaks: int | None, dies_at: int | None, wanted: tuple[int, int] | list[tuple[int, int]] | None
) -> None:
    pairs = [] if wanted is None else wanted if isinstance(wanted, list) else [wanted]
    value = "bytes=" + ",".join(f"{first}-{last}" for first, last in pairs) if pairs else None
    got = asyncio.run(_pull(peer_breaks, dies_at, None, False, value))
    if got.broken or got.status == 416:
        return
    if got.status == 200:
        assert got.body == _DATA
    elif (named := got.get("Content-Range")) is not None:
        first, _, last = named.removeprefix("bytes ").partition("/")[0].partition("-")
        assert got.body == _DATA[int(first) : int(last) + 1]
    else:
        assert all(_DATA[first : last + 1] in got.body for first, last in pairs if first <= last and first < _SIZE)
