"""The least time that physics allows, by Kumar and Ross."""

import pytest

from scripts.simulation.scenario import Scenario
from wire.pieces import PieceLayout


def scenario(**changes: float) -> Scenario:
    return Scenario(peers=10, layout=PieceLayout(1_000_000, 100_000, 100_000), peer_rate=1000.0, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seed_x", "source_x", "uplink", "ideal_s"),
    [
        (4.0, 0.0, 1000.0, 1000.0),  # a peer's own link
        (0.5, 0.0, 1000.0, 2000.0),  # the seed's link
        (1.0, 0.0, 100.0, 10 * 1e6 / (1000 + 1000)),  # all uplinks together
        (4.0, 0.25, 1000.0, 4000.0),  # the source
    ],
)
def test_the_narrowest_place_counts(seed_x: float, source_x: float, uplink: float, ideal_s: float) -> None:
    made = scenario(seed_x=seed_x, source_x=source_x)
    assert made.ideal_s([uplink] * 10) == pytest.approx(ideal_s)


def test_reports_are_batched_to_stay_within_the_budget() -> None:
    assert scenario().pieces_per_report == 1
    assert scenario(message_budget=0.05).pieces_per_report == 2
    assert scenario().flush_s > 0.25
