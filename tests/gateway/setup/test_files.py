"""Files are replaced whole, in their root, with what they were besides their bytes."""

import os
import stat
from pathlib import Path

import pytest

from gateway.core.setup.journal import Seen
from gateway.core.setup.plan import Refused
from gateway.setup.files import RootFiles, write_whole
from tests.support.tree import tree


@pytest.fixture
def files(tmp_path: Path) -> RootFiles:
    root = tmp_path / "root"
    (root / "etc/docker").mkdir(parents=True)
    return RootFiles(root)


def like(mode: int = 0o644) -> Seen:
    return Seen(sha256="", mode=mode, uid=os.geteuid(), gid=os.getegid())


def test_a_link_leads_nowhere_but_into_the_root(files: RootFiles, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/daemon.json").write_text("outside")
    (files.root / "usr").mkdir()
    (files.root / "usr/etc").symlink_to("/etc")
    (files.root / "up").symlink_to("../../../../outside")
    (files.root / "etc/docker/daemon.json").symlink_to("../../usr/real.json")
    files.replace("/usr/etc/docker/daemon.json", b"new", like())
    # The link itself stays one.
    assert (files.root / "etc/docker/daemon.json").is_symlink()
    assert (files.root / "usr/real.json").read_bytes() == b"new"
    assert files.read("/up/daemon.json") is None
    assert files.real("/up/daemon.json") == files.root / "outside/daemon.json"
    assert files.real("/../../x") == files.root / "x"
    (files.root / "a").symlink_to("b")
    (files.root / "b").symlink_to("a")
    with pytest.raises(Refused, match="circle"):
        files.read("/a/x")


def test_what_is_there_is_seen(files: RootFiles) -> None:
    path = files.root / "etc/docker/daemon.json"
    assert files.seen("/etc/docker/daemon.json") is None
    assert files.read("/etc/docker/daemon.json/x") is None
    path.write_bytes(b"x")
    path.chmod(0o640)
    os.utime(path, ns=(5, 7))
    seen = files.seen("/etc/docker/daemon.json")
    assert seen is not None
    assert (seen.mode, seen.uid, seen.gid, seen.mtime_ns) == (0o640, os.geteuid(), os.getegid(), 7)
    assert files.names("/etc/docker") == ("daemon.json",)
    assert files.names("/nowhere") == files.names("/etc/docker/daemon.json") == ()
    assert files.read("/etc/docker/daemon.json/x") is None
    with pytest.raises(Refused, match="/etc is no plain file"):
        files.read("/etc")
    os.mkfifo(files.root / "pipe")
    with pytest.raises(Refused, match="no plain file"):
        files.read("/pipe")


def test_mode_owner_time_and_attributes_are_set(files: RootFiles) -> None:
    path = files.root / "f"
    path.write_bytes(b"old")
    try:
        os.setxattr(path, "user.kept", b"yes")
        has_attributes = True
    except OSError:
        has_attributes = False
    uid, gid = (1234, 2345) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
    files.replace("/f", b"new", Seen(sha256="", mode=0o4640, uid=uid, gid=gid, mtime_ns=123_456_789_000))
    status = path.stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o4640, uid, gid)
    assert status.st_mtime_ns == 123_456_789_000
    assert path.read_bytes() == b"new"
    assert not has_attributes or os.getxattr(path, "user.kept") == b"yes"


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(files: RootFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    path = files.root / "f"
    path.write_bytes(b"old")
    before = tree(files.root)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            write_whole(path, b"new", like())
    assert tree(files.root) == before
    # What a killed process left half-written is no obstacle, and no link is written through.
    (files.root / ".f.dfdaemon-setup").symlink_to("etc/elsewhere")
    write_whole(path, b"new", like())
    assert path.read_bytes() == b"new"
    assert not (files.root / "etc/elsewhere").exists()


def test_folders_are_made_and_removed(files: RootFiles) -> None:
    previous = os.umask(0o077)
    try:
        path = "/etc/docker/certs.d/r/ca.crt"
        missing = files.missing_folders(path)
        assert missing == ["/etc/docker/certs.d", "/etc/docker/certs.d/r"]
        for folder in (*missing, *missing):
            files.make_folder(folder)
    finally:
        os.umask(previous)
    assert stat.S_IMODE((files.root / "etc/docker/certs.d/r").stat().st_mode) == 0o755
    assert files.missing_folders(path) == []
    assert files.missing_folders("/top") == []
    files.replace(path, b"x", like())
    assert not files.remove_folder("/etc/docker/certs.d/r")
    files.remove(path)
    files.remove(path)
    assert files.remove_folder("/etc/docker/certs.d/r")
    assert files.remove_folder("/etc/docker/certs.d/r")
