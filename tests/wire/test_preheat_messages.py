"""WARM and WARMED: what an end that names only the required fields means by the others."""

import pytest

from wire.errors import RemoteError
from wire.framing import from_frames, to_frames
from wire.preheat_messages import Warm, Warmed

TASK = "0123456789abcdef" * 4


def test_a_bare_warm_is_neither_kept_nor_limited_nor_cancelled() -> None:
    warm = from_frames(to_frames(Warm(task=TASK, url="http://x/"))).message
    assert isinstance(warm, Warm)
    assert (warm.keep_s, warm.rate, warm.cancel, warm.headers, warm.digest) == (0.0, 0, False, (), None)


def test_a_bare_warmed_says_that_it_has_begun() -> None:
    warmed = from_frames(to_frames(Warmed(task=TASK))).message
    assert isinstance(warmed, Warmed)
    assert (warmed.done, warmed.verified, warmed.length, warmed.code) == (False, 0, None, None)


@pytest.mark.parametrize("field", [b"\xa4rate\xff", b"\xa4rate\xc2"])
def test_a_rate_is_a_number_of_bytes(field: bytes) -> None:
    whole = bytes(to_frames(Warm(task=TASK, url="http://x/", rate=1))[0])
    assert b"\xa4rate\x01" in whole
    with pytest.raises(RemoteError):
        from_frames([whole.replace(b"\xa4rate\x01", field)])
