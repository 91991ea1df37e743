"""Whom the seed asks for a FETCH: its list holds for redirects too, and without one a cloud's metadata stays closed."""

from tests.support.source_server import Page, SourceServer
from tests.worker_peer.test_seeding import PIECE, Seed, content_of, seed
from wire.errors import ErrorCode
from wire.messages import Seeded, SeedFailed

__all__ = ["seed"]


async def test_what_the_seed_reads_is_held_to_the_list_of_its_fetch(seed: Seed) -> None:
    content = content_of(PIECE)
    async with SourceServer() as other:
        other.pages["/file"] = Page(body=content.data)
        seed.server.pages["/there"] = Page(status=302, headers=(("Location", other.url("/file")),))
        seed.asked(content, "/there", allow=(f"127.0.0.1:{seed.server.port}",))
        last = await seed.words.ended()
        assert isinstance(last, SeedFailed)
        assert (last.code, last.status) == (ErrorCode.SOURCE_FORBIDDEN, 0)
        assert other.requests == []
        seed.asked(content, "/there", allow=("not a host",))
        assert isinstance(await seed.words.ended(2), SeedFailed), "a list that cannot be read allows nobody"
        seed.asked(content, "/there", allow=("127.0.0.1",))
        assert isinstance(await seed.words.ended(3), Seeded)


async def test_without_a_list_the_seed_is_not_led_to_a_clouds_metadata(seed: Seed) -> None:
    content = content_of(PIECE)
    seed.server.pages["/there"] = Page(status=302, headers=(("Location", "http://169.254.169.254/latest/meta-data"),))
    seed.asked(content, "/there")
    last = await seed.words.ended()
    assert isinstance(last, SeedFailed)
    assert last.code is ErrorCode.SOURCE_FORBIDDEN
    assert "sourceAllow" in last.message
