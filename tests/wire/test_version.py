"""The version's form."""

from wire.version import PROTOCOL


def test_the_version_fits_where_it_is_sent() -> None:
    major, minor = PROTOCOL
    assert 1 <= major <= 255
    assert 0 <= minor <= 65535
