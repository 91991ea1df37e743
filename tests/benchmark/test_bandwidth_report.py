"""scripts/bandwidth: rates from two counts, the swarm's share from /metrics, and nothing made up where nobody answers."""

import json

import pytest

from scripts.bandwidth_report import Counted, Rates, count, lines, main, rates, swarm_counters

METRICS = """# HELP dragonfly_dfdaemon_swarm_bytes_total x
# TYPE dragonfly_dfdaemon_swarm_bytes_total counter
dragonfly_dfdaemon_swarm_bytes_total{direction="down"} 1000.0
dragonfly_dfdaemon_swarm_bytes_total{direction="up"} 3.0
# TYPE dragonfly_supernode_source_bytes counter
dragonfly_supernode_source_bytes_total 7.0
# TYPE other counter
other_total 9.0
"""
DOWN, UP = (("dragonfly_dfdaemon_swarm_bytes_total", each) for each in ("down", "up"))
SOURCE = ("dragonfly_supernode_source_bytes_total", "")


def test_counters_are_read_by_name_and_label() -> None:
    assert swarm_counters(METRICS) == {DOWN: 1000.0, UP: 3.0, SOURCE: 7.0}


def test_rates_are_differences_over_time() -> None:
    before = Counted(10.0, {"eth0": (100, 1000), "lo": (0, 0)}, {DOWN: 0.0, SOURCE: 50.0})
    after = Counted(12.0, {"eth0": (2_000_100, 1000), "lo": (4, 4), "new": (5, 5)}, {DOWN: 1_000_000.0, UP: 5.0, SOURCE: 150.0})
    found = rates(before, after)
    assert found == Rates(
        interfaces={"eth0": (1_000_000.0, 0.0), "lo": (2.0, 2.0)}, host={"down": 500_000.0}, swarm={"source, read": 50.0}
    )
    told = lines(found)
    assert [line.split() for line in told[1:5]] == [
        ["eth0", "8.0", "0.0"],
        ["lo", "0.0", "0.0"],
        ["this", "peer", "4.0", "0.0"],
        ["its", "share", "50%", "of", "the", "busiest", "interface"],
    ]
    assert len(told) == 6


def test_without_a_swarm_there_are_the_interfaces(capsys: pytest.CaptureFixture[str]) -> None:
    nobody = "http://127.0.0.1:9/metrics"
    assert count([nobody]).swarm == {}
    assert main(["--seconds", "0.01", "--times", "2", "--dfdaemon", nobody, "--supernode", nobody, "--json"]) == 0
    for line in capsys.readouterr().out.splitlines():
        told = json.loads(line)
        assert "lo" in told["interfaces"]
        assert (told["host"], told["swarm"]) == ({}, {})


@pytest.mark.parametrize("flags", [["--seconds", "0"], ["--times", "-1"]])
def test_what_makes_no_sense_is_refused(flags: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(flags)
    assert ended.value.code == 2
