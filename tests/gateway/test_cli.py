"""`dfdaemon` as a user starts it."""

import contextlib
import logging
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.cli import _open_logs, main
from gateway.config import GatewayConfig
from gateway.settings import default_document
from worker_peer.host.logs import PieceLog

_COMMAND = [sys.executable, "-m", "gateway.cli"]


def test_help_names_every_flag_of_1_x(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for flag in (
        "config", "verbose", "maxprocs", "hostIp", "port", "peerPort", "streamMode", "certpem", "keypem", "registry",
        "localrepo", "workHome", "dfpath", "ratelimit", "node",
    ):  # fmt: skip
        assert re.search(rf"--{flag}\b", text), flag


@pytest.mark.parametrize("arguments", [["--prt", "1"], ["--confi", "x"], ["frobnicate"], ["config"]])
def test_a_wrong_command_line_is_exit_code_1(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 1
    assert "Error:" in capsys.readouterr().err


def test_what_it_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version"]) == 0
    assert capsys.readouterr().out.startswith("dfdaemon (damselfly) ")
    assert main(["config", "default"]) == 0
    assert capsys.readouterr().out == default_document()


def test_gen_ca_makes_a_secret_key_and_replaces_nothing_unasked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key, cert = tmp_path / "ca.key", tmp_path / "ca.crt"
    arguments = ["gen-ca", f"--key-output={key}", "--cert-output", str(cert), "--common-name", "x", "--expire-duration=1h"]
    assert main(arguments) == 0
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    before = key.read_bytes()
    assert main(arguments) == 1
    assert "ca.key is there already" in capsys.readouterr().err
    assert key.read_bytes() == before
    assert main([*arguments, "--overwrite"]) == 0
    assert key.read_bytes() != before
    assert main([*arguments, "--overwrite", "--expire-duration", "1"]) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--port", "70000"], 14, "65535"),
        (["--port=x"], 10, "whole number"),
        (["--localrepo", "x"], 12, "absolute"),
        (["--ratelimit", "fast"], 13, "fast"),
        (["--config", "/nonexistent.yml"], 10, "/nonexistent.yml"),
        (["--verbose=perhaps"], 10, "true, false"),
    ],
)
def test_settings_that_cannot_be_used_have_1_xs_exit_codes(
    arguments: list[str], code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == code
    assert words in capsys.readouterr().err


@pytest.mark.system
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_says_when_it_is_ready_and_ends_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    arguments = ["--port=0", "--workHome", str(tmp_path), "--node", "127.0.0.1:1", "--verbose", "--maxprocs", "2"]
    with subprocess.Popen([*_COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.fullmatch(r"dfdaemon ready: http://127\.0\.0\.1:(\d+), peer (\S+), supernodes 127\.0\.0\.1:1\n", line)
        assert found is not None, line
        # A second one on the same port says which.
        second = subprocess.run(
            [*_COMMAND, f"--port={found[1]}", "--workHome", str(tmp_path / "two"), "--node", "127.0.0.1:1"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert second.returncode == 1
        assert f"port {found[1]} on 127.0.0.1 is in use" in second.stderr
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert errors == "dfdaemon: maxprocs has no meaning here: one process serves all\n"
    assert "maxprocs" in (tmp_path / "logs" / "dfdaemon.log").read_text()
    assert (tmp_path / "logs" / "dfclient.log").exists()


def test_lines_about_pieces_go_to_a_file_of_their_own(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        _open_logs(GatewayConfig(work_home=str(tmp_path)), stack)
        PieceLog().downloading_piece("ab" * 32, "s:8002", "10.0.0.1-1-1.000", 0, 0, 9, 10)
        logging.getLogger("dfdaemon").info("another line")
    transfers, gateway = ((tmp_path / "logs" / name).read_text() for name in ("dfclient.log", "dfdaemon.log"))
    assert (transfers.count("downloading piece:"), transfers.count("another")) == (1, 0)
    assert (gateway.count("downloading piece:"), gateway.count("another line")) == (0, 1)


def test_a_log_that_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["--workHome", str(tmp_path / "file"), "--port=0"]) == 16
    assert "--workHome" in capsys.readouterr().err
