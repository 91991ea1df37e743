"""Where setups are remembered: for their owner's eyes, one at a time, and never lost by a later one."""

import stat
from pathlib import Path

import pytest

from gateway.core.setup.journal import Journal, State
from gateway.core.setup.plan import Refused, Runtime, Wish
from gateway.setup.record import Record, all_of, copy_name

JOURNAL = Journal(
    wish=Wish(runtime=Runtime.DOCKER), root="/", urls=("http://127.0.0.1:65001",), state=State.DONE, entries=(), folders=()
)


@pytest.fixture
def record(tmp_path: Path) -> Record:
    return Record(tmp_path / "home", Runtime.DOCKER, Path("/"))


def test_a_journal_is_kept_and_forgotten(record: Record, tmp_path: Path) -> None:
    assert record.load() is None
    with record.locked():
        record.write(JOURNAL)
    assert record.load() == JOURNAL
    assert all_of(tmp_path / "home") == [record.folder]
    assert stat.S_IMODE(record.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((record.folder / "journal.json").stat().st_mode) == 0o600
    record.forget()
    record.forget()
    assert record.load() is None
    assert all_of(tmp_path / "home") == []
    assert list((tmp_path / "home").iterdir()) == []


def test_each_root_has_its_own(tmp_path: Path) -> None:
    folders = {Record(tmp_path, Runtime.DOCKER, root).folder for root in (Path("/"), Path("/a"), Path("/b"))}
    assert len(folders) == 3


def test_copies_are_kept_by_path(record: Record) -> None:
    with record.locked():
        names = [record.keep(path, path.encode(), when="before") for path in ("/a/f", "/b/f")]
    assert names == [copy_name("/a/f"), copy_name("/b/f")]
    assert [record.kept(name, when="before") for name in names] == [b"/a/f", b"/b/f"]
    assert stat.S_IMODE((record.folder / "before" / names[0]).stat().st_mode) == 0o600
    with pytest.raises(Refused, match="copy of what was there before"):
        record.kept("nothing", when="before")


def test_copies_stay_when_a_setup_is_retired(record: Record) -> None:
    for number in (1, 2):
        with record.locked():
            record.keep("/f", b"x", when="before")
            record.write(JOURNAL)
        place = record.retire()
        assert place == record.folder.with_name(f"docker.kept-{number}") / "before"
        assert (place / copy_name("/f")).read_bytes() == b"x"
        assert record.load() is None


def test_only_one_setup_at_a_time(record: Record) -> None:
    with record.locked(), pytest.raises(Refused, match="another `dfdaemon setup`"), record.locked():
        pass
    with record.locked():
        pass


def test_a_journal_that_cannot_be_read_is_refused(record: Record) -> None:
    record.folder.mkdir(parents=True)
    (record.folder / "journal.json").write_text("{")
    with pytest.raises(Refused, match=r"journal.json is no journal of this release"):
        record.load()
    (record.folder / "journal.json").unlink()
    (record.folder / "journal.json").mkdir()
    with pytest.raises(Refused, match="cannot be read"):
        record.load()
