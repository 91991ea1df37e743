"""The supernode's configuration: 1.x's ports and expiry by default, and nothing that changes while it runs."""

import dataclasses
from pathlib import Path

import pytest

from broker.config import SupernodeConfig


def test_the_defaults_are_those_of_1x() -> None:
    config = SupernodeConfig(home=Path("/x"))
    assert (config.http_port, config.broker_port, config.download_port) == (8002, 8003, 8001)
    assert (config.task_expire_s, config.source_rate, config.upload_rate, config.zone_rate) == (180.0, 0, 0, 0)
    assert config.with_seed
    assert not config.debug


def test_it_is_fixed_and_every_value_has_a_name() -> None:
    config = SupernodeConfig(home=Path("/x"))
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.http_port = 1  # type: ignore[misc]
    with pytest.raises(TypeError):
        SupernodeConfig(Path("/x"))  # type: ignore[call-arg]
