"""`bench broker`: its peers say what real ones say, and a small run of it ends well, with every figure that it promises."""

import json
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.benchmark.broker_peers import is_in_wave
from scripts.benchmark.broker_table import SwarmTable
from scripts.benchmark.broker_words import read, written
from wire.framing import from_frames, to_frames
from wire.messages import Alive, Kind, Lease, Report

ROOT = Path(__file__).resolve().parents[2]
TASK = "a" * 64


@given(st.lists(st.tuples(st.integers(1, 9999), st.integers(0, 255), st.floats(0, 1e9)), max_size=8))
def test_reports_are_those_of_real_peers_byte_for_byte(done: list[tuple[int, int, float]]) -> None:
    ours = written(Kind.REPORT, {"task": TASK, "done": done} if done else {"task": TASK})
    assert [ours] == to_frames(Report(task=TASK, done=tuple(done)))


def test_so_is_the_word_of_life_and_one_that_would_be_compressed_is_refused() -> None:
    assert [written(Kind.ALIVE, {"leases": (3, 4)})] == to_frames(Alive(leases=(3, 4)))
    with pytest.raises(ValueError, match="ALIVE of"):
        written(Kind.ALIVE, {"leases": tuple(range(2000))})


@pytest.mark.parametrize("blocks", [1, 64])
def test_a_lease_is_read_compressed_or_not(blocks: int) -> None:
    lease = Lease(
        task=TASK,
        lease=7,
        parent="10.0.0.1-1-1.0",
        endpoint="tcp://10.0.0.1:1",
        pieces=(2,),
        digests=bytes(32 * blocks),
        until_s=9.0,
    )
    (frame,) = to_frames(lease)
    kind, values = read(bytes(frame))
    assert (kind, values["lease"], values["pieces"]) == (Kind.LEASE, 7, (2,))
    assert from_frames([frame]).message == lease


def test_a_wave_is_the_share_that_was_asked_for() -> None:
    assert sum(is_in_wave(row, 0.25) for row in range(15_000)) == pytest.approx(3750, abs=5)
    assert all(is_in_wave(row, 1.0) for row in range(1000))


def test_processes_know_of_each_other_what_has_come_and_who_is_served(tmp_path: Path) -> None:
    SwarmTable.make(tmp_path / "table", rows=3, pieces=5, drivers=2)
    one, two = (SwarmTable(tmp_path / "table", rows=3, pieces=5, drivers=2, driver=number) for number in range(2))
    assert not two.has(1, 4)
    assert one.came(1, 4)
    assert not one.came(1, 4)
    assert two.has(1, 4)
    one.stream(2, +1)
    two.stream(2, +1)
    assert one.streams(2) == two.streams(2) == 2
    two.stream(2, -1)
    assert one.streams(2) == 1


@pytest.mark.system
def test_a_small_run_ends_well() -> None:
    command = [str(ROOT / "scripts" / "bench"), "broker", "--peers", "60", "--wave", "1", "--size", "64M", "--rate", "50mbit"]
    ended = subprocess.run(
        [*command, "--seconds", "4", "--crowd", "0.5", "--active", "2", "--json"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout.splitlines()[-1])
    assert told["ok"], told["problems"]
    assert {"p50_ms", "p99_ms", "messages_per_s", "rss_mib"} <= told.keys()
    assert told["counts"]["registered"] == 60
    assert told["counts"]["reported"] > 60
    assert told["counts"]["not_known"] == 0
