"""Bytes and numbers as the commands say them."""

import pytest

from broker.amounts import counted, size


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (None, "?"),
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (3 << 20, "3.0 MiB"),
        (5 << 40, "5.0 TiB"),
        (1 << 60, "1048576.0 TiB"),
    ],
)
def test_bytes_have_the_unit_that_suits_them(count: int | None, text: str) -> None:
    assert size(count) == text


def test_one_is_no_plural() -> None:
    assert [counted(number, "blob") for number in (0, 1, 2)] == ["0 blobs", "1 blob", "2 blobs"]
