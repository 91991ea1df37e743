"""The lab of all clients, started once for the tests that need it."""

from collections.abc import Iterator

import pytest

from tests.support.client_lab import ClientLab, client_lab


@pytest.fixture(scope="session")
def clients() -> Iterator[ClientLab]:
    """Every client, one gateway, three registries."""
    with client_lab() as lab:
        yield lab
