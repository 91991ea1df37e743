"""Outputs: whole or not at all, by whatever the file system can do, and never in the way of what is there."""

import fcntl
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from worker_peer.host import placement
from worker_peer.host.placement import OutputError, Placement, check_output, place_output

CONTENT = os.urandom(300_000)


@pytest.fixture
def content(tmp_path: Path) -> Path:
    path = tmp_path / "store" / "content"
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def refuse(*_: object, **__: object) -> None:
    raise OSError(18, "Invalid cross-device link")


def test_what_this_file_system_can_do(content: Path, tmp_path: Path) -> None:
    output = tmp_path / "a" / "b" / "output"
    made = place_output(content, output)
    assert made in (Placement.REFLINK, Placement.HARDLINK)
    assert output.read_bytes() == CONTENT
    assert (output.stat().st_ino == content.stat().st_ino) == (made is Placement.HARDLINK)
    assert names(output.parent) == ["output"]


def test_a_copy_where_links_do_not_reach(content: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(fcntl, "ioctl", refuse)
    output = tmp_path / "out" / "output"
    assert place_output(content, output) is Placement.COPY
    assert output.read_bytes() == CONTENT
    assert output.stat().st_ino != content.stat().st_ino
    assert stat.S_IMODE(output.stat().st_mode) == stat.S_IMODE(content.stat().st_mode)
    assert names(output.parent) == ["output"]


def test_a_copy_where_the_kernel_cannot_copy_between_the_two(
    content: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for each, name in ((os, "link"), (fcntl, "ioctl"), (os, "copy_file_range")):
        monkeypatch.setattr(each, name, refuse)
    monkeypatch.setattr(placement, "_COPY_BYTES", 70_000)
    assert place_output(content, tmp_path / "output") is Placement.COPY
    assert (tmp_path / "output").read_bytes() == CONTENT


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="no second file system here")
def test_another_file_system(content: Path, tmp_path: Path) -> None:
    output = Path("/dev/shm") / f"damselfly-test-{os.getpid()}"
    if os.stat("/dev/shm").st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system here")
    try:
        assert place_output(content, output) is Placement.COPY
        assert output.read_bytes() == CONTENT
    finally:
        output.unlink(missing_ok=True)


def test_an_empty_content(content: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content.write_bytes(b"")
    monkeypatch.setattr(os, "link", refuse)
    place_output(content, tmp_path / "output")
    assert (tmp_path / "output").read_bytes() == b""


def test_an_output_that_exists_is_replaced_and_its_other_names_keep_it(content: Path, tmp_path: Path) -> None:
    output = tmp_path / "output"
    output.write_bytes(b"old")
    os.link(output, tmp_path / "other-name")
    place_output(content, output)
    assert output.read_bytes() == CONTENT
    assert (tmp_path / "other-name").read_bytes() == b"old"


def test_again_to_the_same_output_leaves_no_spare_name(content: Path, tmp_path: Path) -> None:
    # rename(2) of one hard link over another of the same file does nothing, and says that all is well.
    output = tmp_path / "out" / "output"
    place_output(content, output)
    place_output(content, output)
    assert output.read_bytes() == CONTENT
    assert names(output.parent) == ["output"]


def test_a_full_disk_leaves_the_old_output_and_no_spare(content: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "out" / "output"
    output.parent.mkdir()
    output.write_bytes(b"old")

    def full(source: int, target: int, count: int, *_: object) -> int:
        os.write(target, b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(fcntl, "ioctl", refuse)
    monkeypatch.setattr(os, "copy_file_range", full)
    with pytest.raises(OutputError, match="has no room for 300000 bytes; free some"):
        place_output(content, output)
    assert output.read_bytes() == b"old"
    assert names(output.parent) == ["output"]


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (27, "ulimit -f"),
        (13, "permission denied"),
        (30, "read-only"),
        (21, "is a folder"),
        (20, "is not a folder"),
        (36, "too long"),
        (5, "error"),
    ],
)
def test_other_errors_say_what_to_do(
    content: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OutputError, match=words) as caught:
        place_output(content, tmp_path / "out" / "output")
    assert str(tmp_path / "out") in str(caught.value)
    assert names(tmp_path / "out") == []


def test_a_content_that_ends_early_is_no_output(content: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(fcntl, "ioctl", refuse)
    monkeypatch.setattr(os, "copy_file_range", lambda *_: 0)
    monkeypatch.setattr(os, "sendfile", lambda *_: 0)
    with pytest.raises(OutputError):
        place_output(content, tmp_path / "output")
    assert not (tmp_path / "output").exists()


def test_a_symbolic_link_is_replaced_not_followed(content: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").write_bytes(b"precious")
    (tmp_path / "output").symlink_to(tmp_path / "precious")
    place_output(content, tmp_path / "output")
    assert (tmp_path / "precious").read_bytes() == b"precious"
    assert (tmp_path / "output").read_bytes() == CONTENT


# check_output


def test_what_may_be_an_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").touch()
    for name in (tmp_path / "new", tmp_path / "there", tmp_path / "a" / "b" / "c", Path("relative"), Path("sub/relative")):
        check_output(name)
    assert names(tmp_path) == ["there"]


def test_a_folder_is_no_output(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is a folder: give the output a file's name in it"):
        check_output(tmp_path)


def test_a_name_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="name is too long; choose a shorter one"):
        check_output(tmp_path / ("x" * 300))


def test_a_device_or_pipe_is_no_output(content: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (Path("/dev/null"), tmp_path / "pipe"):
        with pytest.raises(OutputError, match="not a regular file"):
            check_output(path)
        with pytest.raises(OutputError, match="not a regular file"):
            place_output(content, path)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_a_file_on_the_way_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"/file is not a folder"):
        check_output(tmp_path / "file" / "a" / "b")


_AS_NOBODY = """
import os, sys
from pathlib import Path
from worker_peer.host.placement import OutputError, check_output
os.setuid(65534)
try:
    check_output(Path(sys.argv[1]))
except OutputError as error:
    print(error)
"""


def test_a_folder_that_may_not_be_written_to(tmp_path: Path, repository: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    if os.geteuid():
        with pytest.raises(OutputError, match="is not writable for this user"):
            check_output(closed / "a" / "b")
        return
    # Root may write anywhere: ask as somebody else.
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_mode & 0o005 != 0o005:
            folder.chmod(0o755)
    told = subprocess.run(
        [sys.executable, "-c", _AS_NOBODY, str(closed / "a" / "b")], cwd=repository, capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == f"{closed} is not writable for this user: choose another output, or change its permissions"
