"""The command line of scripts/simulate."""

import json

import pytest

from scripts.simulation.cli import main, parser, scenario_of

KEYS = {
    "ok", "peers", "pieces", "makespan_over_tmin", "mean_over_tmin", "source_egress", "seed_egress", "messages_per_piece",
    "assign_us", "cross_zone_share", "cross_level_shares",
}  # fmt: skip


def test_the_last_line_is_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--peers", "6", "--size", "4M", "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(found) >= KEYS
    assert found["ok"] is True
    assert (found["peers"], found["pieces"]) == (6, 16)


def test_people_read_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--peers", "3", "--size", "1M", "--arrivals", "2", "--zones", "2", "--zone-link", "1"]) == 0
    assert "x T_min" in capsys.readouterr().out


def test_options_mean_what_they_say() -> None:
    given = "--peers 7 --size 1GiB --piece 8M --block 64K --seed-rate 2 --source-rate 1 --slow 0.2 --deaths 0.01 --zones 3"
    more = "--zone-link 4 --arrivals 30 --random-seed 9 --peer-rate 1gbit --control-delay 40 --data-delay 25"
    options = parser().parse_args([*given.split(), *more.split()])
    scenario = scenario_of(options)
    assert (scenario.peers, scenario.layout.piece_count, scenario.layout.block_length) == (7, 128, 65536)
    assert (scenario.seed_x, scenario.source_x, scenario.slow, scenario.deaths) == (2.0, 1.0, 0.2, 0.01)
    assert (scenario.zones, scenario.zone_link_x, scenario.arrivals_s, scenario.random_seed) == ((3,), 4.0, 30.0, 9)
    assert (scenario.told_zones, scenario.learn_zones) == (True, False)
    unknown, learned = (scenario_of(parser().parse_args([flag])) for flag in ("--zones-unknown", "--learn-zones"))
    assert [(each.told_zones, each.learn_zones) for each in (unknown, learned)] == [(False, False), (False, True)]
    assert (scenario.peer_rate, scenario.control_s, scenario.data_s) == (125e6, 0.04, 0.025)


def test_the_layout_is_the_supernodes_unless_one_is_given() -> None:
    scenario = scenario_of(parser().parse_args(["--size", "1G"]))
    assert (scenario.peers, scenario.layout.piece_count, scenario.seed_x) == (1000, 256, 4.0)


@pytest.mark.parametrize(
    "wrong",
    [
        ["--peers", "0"],
        ["--peers", "many"],
        ["--size", "big"],
        ["--size", "-1"],
        ["--slow", "2"],
        ["--deaths", "-0.1"],
        ["--arrivals", "soon"],
        ["--seed-rate", "0"],
        ["--zones", "9", "--peers", "3"],
        ["--zones", "3x4", "--peers", "11"],
        ["--zones", "3x"],
        ["--zones", "2x0"],
        ["--zones", "2x2x2x2x2"],
        ["--piece", "3", "--block", "2"],
        ["--piece", "32M"],
        ["--control-delay", "-1"],
        ["--data-delay", "nan"],
        ["--what"],
    ],
)
def test_what_cannot_be_is_refused_with_words(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(wrong)
    assert ended.value.code == 2
    assert "error" in capsys.readouterr().err


def test_every_option_says_what_it_means() -> None:
    assert [action.option_strings for action in parser()._actions if not action.help] == []
