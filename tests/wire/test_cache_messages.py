"""CACHE_LIST, CACHE_PAGE, KEEP, COLLECT: bounds of a page, and that the largest one fits a frame."""

import pytest

from wire.cache_messages import CacheList, CachePage
from wire.errors import LocalError
from wire.framing import from_frames, to_frames

CONTENT = ("0123456789abcdef" * 4, 1 << 44, 1 << 44, 1e6, 1e6, True, "h" * 512)


def test_the_largest_page_fits_a_frame() -> None:
    page = CachePage(number=1, contents=(CONTENT,) * 1000, more=True)
    assert from_frames(to_frames(page)).message == page


@pytest.mark.parametrize("contents", [(CONTENT,) * 1001, (CONTENT[:-1],), ((*CONTENT[:-1], "h" * 513),)])
def test_what_exceeds_a_page_is_not_sent(contents: tuple[object, ...]) -> None:
    with pytest.raises(LocalError):
        to_frames(CachePage(number=1, contents=contents))  # type: ignore[arg-type]


@pytest.mark.parametrize("limit", [0, 1001])
def test_a_question_has_a_bound(limit: int) -> None:
    with pytest.raises(LocalError):
        to_frames(CacheList(number=1, limit=limit))
