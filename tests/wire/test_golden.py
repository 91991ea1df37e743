"""Frames that were once on the wire are still read, and still written, byte for byte."""

from pathlib import Path

import pytest

from tests.wire.golden_messages import GOLDEN, packed, unpacked
from wire.framing import from_frames, to_frames

FOLDER = Path(__file__).parent / "golden" / "v1"


def test_every_golden_message_has_its_file_and_every_file_its_message() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(GOLDEN), "run scripts/generate-protocol --golden"


@pytest.mark.parametrize("name", GOLDEN)
def test_a_golden_frame_is_read(name: str) -> None:
    message, payload = GOLDEN[name]
    received = from_frames(unpacked((FOLDER / f"{name}.bin").read_bytes()))
    assert received.message == message
    assert received.payload == payload


@pytest.mark.parametrize("name", GOLDEN)
def test_a_golden_message_is_written_alike(name: str) -> None:
    golden = (FOLDER / f"{name}.bin").read_bytes()
    compressed = unpacked(golden)[0][6] & 1
    assert compressed == name.endswith("-lz4")
    if not compressed:  # another release of lz4 may find another way to write the same body
        assert packed(to_frames(*GOLDEN[name])) == golden
