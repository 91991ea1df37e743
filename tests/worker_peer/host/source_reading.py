"""What the tests of the source reader share: a content, secrets, and reading to a good or a bad end."""

import os

import pytest

from worker_peer.host.source import SourceBody, SourceError, SourceReader, SourceRequest

CONTENT = os.urandom(2_500_000)
SECRETS = (
    ("Authorization", "Bearer s3cret"),
    ("Cookie", "id=s3cret"),
    ("X-Auth-Token", "s3cret"),
    ("PRIVATE-TOKEN", "s3cret"),
)


async def read(body: SourceBody) -> bytes:
    parts = [chunk async for chunk in body.chunks()]
    assert all(0 < len(part) <= 1 << 20 for part in parts)
    await body.close()
    await body.close()
    return b"".join(parts)


async def fail(reader: SourceReader, url: str, **changes: object) -> SourceError:
    """The error of opening and reading a URL whose secrets must not be in it."""
    with pytest.raises(SourceError) as caught:
        body = await reader.open(SourceRequest(url=url, **changes))  # type: ignore[arg-type]
        try:
            [_ async for _ in body.chunks()]
        finally:
            await body.close()
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None
    return caught.value
