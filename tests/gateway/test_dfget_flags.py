"""dfget_flags as settings."""

import pytest

from gateway.config import ConfigError, ExitCode
from gateway.dfget_flags import DfgetFlags, parse_flags


def test_the_documents_flags() -> None:
    flags = parse_flags(("--node", "10.0.0.10=1", "-f", "Expires&Signature"))
    assert flags == DfgetFlags(nodes="10.0.0.10=1", filters=("Expires", "Signature"))


def test_every_form_of_a_flag_and_all_that_have_a_meaning() -> None:
    flags = parse_flags(
        (
            "-n", "a:8002", "--node=b", "-s10MB", "--minrate", "9K", "--totallimit=20MB", "--ip", "10.0.0.1",
            "--port=16000", "--expiretime", "3m0s",
            "--header", "X-A: b:c", "--header=Cookie:secret", "--cacerts", "a.pem,b.pem", "--cacerts=c.pem", "--insecure",
            "--dfdaemon", "--verbose=false", "--callsystem", "builder",
        )
    )  # fmt: skip
    assert flags == DfgetFlags(
        nodes="b",
        local_limit=10 << 20,
        min_rate=9 << 10,
        total_limit=20 << 20,
        ip="10.0.0.1",
        port=16000,
        expire_s=180.0,
        headers=(("X-A", "b:c"), ("Cookie", "secret")),
        certificate_files=("a.pem", "b.pem", "c.pem"),
        insecure=True,
        caller="builder",
    )
    assert "secret" not in repr(flags)


def test_what_has_no_meaning_is_said_once_and_harms_nothing() -> None:
    flags = parse_flags(
        ("--pattern", "cdn", "--pattern", "p2p", "--notbs", "--alivetime=5m", "-o", "x", "--frobnicate", "word", "-n", "a")
    )
    assert flags.nodes == "a"
    assert len([each for each in flags.warnings if "--pattern" in each]) == 1
    assert {"notbs", "alivetime", "output", "frobnicate", "word"} <= {
        name for name in ("notbs", "alivetime", "output", "frobnicate", "word") if any(name in each for each in flags.warnings)
    }


@pytest.mark.parametrize(
    ("flags", "words", "code"),
    [
        (("--totallimit", "20mb"), ["--totallimit", "20mb"], ExitCode.RATE),
        (("-s", "fast"), ["--locallimit", "fast"], ExitCode.RATE),
        (("--expiretime", "3"), ["--expiretime", "3"], ExitCode.CONFIG),
        (("--port", "70000"), ["--port", "65535"], ExitCode.PORT),
        (("--header", "secret"), ["--header", "Key:Value"], ExitCode.CONFIG),
        (("--node",), ["--node", "value"], ExitCode.CONFIG),
    ],
)
def test_a_value_that_cannot_be_read_is_refused_by_name(flags: tuple[str, ...], words: list[str], code: ExitCode) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_flags(flags)
    assert caught.value.exit_code == code
    assert not [word for word in words if word not in str(caught.value)]
    assert "secret" not in str(caught.value)
