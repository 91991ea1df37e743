"""dfget's flags: what they mean, and what is said about wrong ones."""

from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest

from broker.config import CacheConfig
from wire.ids import ByteRange
from wire.messages import Role
from worker_peer import cli, oneshot, serve
from worker_peer.cache_keeper import DEFAULT_FULL_FREE, DEFAULT_YOUNG_FREE
from worker_peer.config import PeerConfig
from worker_peer.core.eviction import Rules
from worker_peer.host import command_line
from worker_peer.host.values import Node
from worker_peer.oneshot_options import OneshotOptions
from worker_peer.properties import Properties, PropertiesError

URL = "https://registry.example:32443/v2/library/nginx/blobs/sha256:" + "a" * 64 + "?Expires=1&Signature=secret"


@pytest.fixture(autouse=True)
def properties(monkeypatch: pytest.MonkeyPatch) -> Callable[[Properties], None]:
    """This machine's own configuration file is not looked at; a test may say what is in it."""

    def set_to(found: Properties) -> None:
        monkeypatch.setattr(cli, "load_properties", lambda environment: found)

    set_to(Properties())
    return set_to


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[OneshotOptions]:
    """What dfget would do."""
    found: list[OneshotOptions] = []

    def run(options: OneshotOptions) -> int:
        found.append(options)
        return 77

    monkeypatch.setattr(oneshot, "run_oneshot", run)
    return found


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[tuple[PeerConfig, bool, bool]]:
    """What `dfget server` would run."""
    found = []

    def run(config: PeerConfig, *, verbose: bool, as_json: bool, rotate_bytes: int, rotated_files: int) -> int:
        assert (rotate_bytes, rotated_files) == (40 << 20, 1)
        found.append((config, verbose, as_json))
        return 0

    monkeypatch.setattr(serve, "run_server", run)
    return found


def options(asked: list[OneshotOptions], *arguments: str) -> OneshotOptions:
    assert cli.main(arguments) == 77
    return asked[-1]


def test_the_seed_documents_command_line_works_word_for_word(asked: list[OneshotOptions], tmp_path: Path) -> None:
    line = ["-u", URL, "-o", str(tmp_path / "out"), "--node", "10.0.0.10=1", "-f", "Expires&Signature", "--dfdaemon"]
    line += ["-s", "20MB", "--totallimit", "20MB", "--header", "User-Agent:docker/18.09", "--header", "Connection:close"]
    found = options(asked, *line)
    assert (found.url, found.output) == (URL, tmp_path / "out")
    assert found.supernodes == ("10.0.0.10:8002",)
    assert found.filters == ("Expires", "Signature")
    assert (found.rate, found.total_rate) == (20 << 20, 20 << 20)
    assert found.headers == (("User-Agent", "docker/18.09"), ("Connection", "close"))
    assert found.caller == "dfdaemon"
    assert found.back_to_source
    assert not found.from_source
    assert found.byte_range is None


def test_defaults(asked: list[OneshotOptions], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/somebody")
    found = options(asked, "-u", "http://h/a/file.tar?x=/y#z")
    assert found == OneshotOptions(
        url="http://h/a/file.tar?x=/y#z",
        output=tmp_path / "file.tar",
        rate=0,
        total_rate=0,
        min_rate=0,
        timeout_s=0.0,
        md5=None,
        identifier=None,
        digest=None,
        caller="",
        certificates=(),
        from_source=False,
        filters=(),
        headers=(),
        byte_range=None,
        supernodes=("127.0.0.1:8002",),
        back_to_source=True,
        insecure=False,
        bar=False,
        verbose=False,
        home=Path("/home/somebody/.small-dragonfly"),
        ip="",
        port=0,
        expire_s=180.0,
        alive_s=300.0,
        cache_quota=0,
        report=None,
    )


def test_every_flag_is_understood(asked: list[OneshotOptions], tmp_path: Path) -> None:
    for name in ("one.pem", "two.pem", "three.pem"):
        (tmp_path / name).write_text(name)
    line = ["--url=http://h/f", "--output=/x/y", "--locallimit=1M", "-e", "1m30s", "--md5", "AB" * 16, "--identifier=me"]
    line += [f"--cacerts={tmp_path}/one.pem,{tmp_path}/two.pem", "--cacerts", f"{tmp_path}/three.pem", "-p", "source"]
    line += ["--callsystem", "mine", "--notbs", "--insecure=true", "-b", "--console=false", "--verbose", "--home=~/h"]
    line += ["--ip=10.0.0.1", "--port=15000", "--expiretime=1h", "--alivetime=0s", "--report=/r.json", "--filter=&a&&b&"]
    line += ["--node", "[::1]:9002", "--header", "X: a:b ", "--digest", "sha256:" + "0" * 64, "--cache-quota", "20GB"]
    found = options(asked, *line)
    assert (found.rate, found.timeout_s, found.md5, found.identifier) == (1 << 20, 90.0, "ab" * 16, "me")
    assert found.certificates == (b"one.pem", b"two.pem", b"three.pem")
    assert (found.from_source, found.back_to_source, found.insecure) == (True, False, True)
    assert (found.bar, found.verbose) == (True, True)
    assert found.home == Path("~/h").expanduser()
    assert (found.ip, found.port, found.expire_s, found.alive_s) == ("10.0.0.1", 15000, 3600.0, 0.0)
    assert found.cache_quota == 20 << 30
    assert (found.report, found.filters, found.supernodes) == (Path("/r.json"), ("a", "b"), ("[::1]:9002",))
    assert found.headers == (("X", "a:b"),)
    assert (found.caller, found.digest) == ("mine", "sha256:" + "0" * 64)


@pytest.mark.parametrize(
    ("value", "expected"),
    [("bytes=0-9", ByteRange(0, 9)), ("bytes=5-", ByteRange(5, None)), ("bytes=7-7", ByteRange(7, 7))],
)
def test_a_range_header_is_a_part_and_no_header(asked: list[OneshotOptions], value: str, expected: ByteRange) -> None:
    found = options(asked, "-u", "http://h/f", "--header", f"range: {value}", "--header", "X:1")
    assert found.byte_range == expected
    assert found.headers == (("X", "1"),)


def test_what_the_file_sets_holds_unless_a_flag_says_otherwise(
    asked: list[OneshotOptions], properties: Callable[[Properties], None]
) -> None:
    properties(Properties(nodes=(Node(host="a", port=1),), local_limit=5, total_limit=6, min_rate=4, work_home=Path("/var/home")))
    found = options(asked, "-u", "http://h/f")
    assert (found.supernodes, found.rate, found.total_rate, found.home) == (("a:1",), 5, 6, Path("/var/home"))
    assert found.min_rate == 4
    assert options(asked, "-u", "http://h/f", "--minrate", "0").min_rate == 0
    assert options(asked, "-u", "http://h/f", "--minrate", "64K").min_rate == 64 << 10
    found = options(asked, "-u", "http://h/f", "-n", "b:2", "-s", "0", "--totallimit", "7B", "--home", "/other")
    assert (found.supernodes, found.rate, found.total_rate, found.home) == (("b:2",), 0, 7, Path("/other"))


def test_flags_without_a_meaning_say_so_once(asked: list[OneshotOptions], capsys: pytest.CaptureFixture[str]) -> None:
    given = options(asked, "-u", "http://h/f", "--clientqueue", "6", "--console")
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2
    assert told[0].startswith("dfget: --clientqueue has no meaning here: ")
    assert told[1].startswith("dfget: --console has no meaning here: ")
    assert told[1].endswith("<home>/logs/dfclient.log")
    assert options(asked, "-u", "http://h/f", "--console=false") == given
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-o", "x"], "--url must be http://host/... or https://host/..."),
        (["-u", "ftp://h/f"], "not 'ftp://h/f'"),
        (["-u", "http:///f"], "--url must be"),
        (["-u", "http://h/"], "say where to put it with --output"),
        (["-u", "http://h"], "say where to put it with --output"),
        (["-u", "http://h/f", "-s", "fast"], "'fast' is no rate: write"),
        (["-u", "http://h/f", "-e", "5"], "'5' is no duration: write"),
        (["-u", "http://h/f", "-n", "a:b:c"], "is no node: write host[:port][=weight]"),
        (["-u", "http://h/f", "--header", "no colon"], "a header is Key:Value"),
        (["-u", "http://h/f", "--md5", "0123"], "--md5 must be 32 hexadecimal digits"),
        (["-u", "http://h/f", "--digest", "foo"], "--digest must be sha256: and 64"),
        (["-u", "http://h/f", "--header", ": value"], "a header is Key:Value"),
        (["-u", "http://h/f", "-p", "magic"], "invalid choice: 'magic'"),
        (["-u", "http://h/f", "--notbs=maybe"], "'maybe' is neither true nor false"),
        (["-u", "http://h/f", "--cacerts", "/no/such.pem"], "--cacerts /no/such.pem: No such file"),
        (["-u", "http://h/f", "--header", "Range:lines=1-2"], "must be bytes=<first>-<last> or bytes=<first>-"),
        (["-u", "http://h/f", "--header", "Range:bytes=-5"], "must be bytes="),
        (["-u", "http://h/f", "--header", "Range:bytes=9-5"], "ends before it begins"),
        (["-u", "http://h/f", "--colour"], "unrecognized arguments: --colour"),
        (["-u", "http://h/f", "--verb"], "unrecognized arguments: --verb"),
        (["server", "--port", "x"], "from 0 (any free one) to 65535, not 'x'"),
        (["-u", "http://h/f", "--port", "65536"], "from 0 (any free one) to 65535"),
        (["-u", "http://h/f", "--ip", "host"], "'host' is no IP address"),
        (["server", "--uploadlimit", "x"], "'x' is no rate"),
        (["server", "--linkrate", "x"], "'x' is no link's rate"),
    ],
)
def test_a_wrong_argument_is_named_and_the_exit_code_is_1xs(
    capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 1
    told = capsys.readouterr().err
    assert told.startswith("usage: dfget")
    assert "Error: " in told
    assert words in told
    assert "secret" not in told


def test_what_the_file_says_in_vain_and_the_cdn_pattern_are_named(
    asked: list[OneshotOptions], properties: Callable[[Properties], None], capsys: pytest.CaptureFixture[str]
) -> None:
    properties(Properties(warnings=("clientQueueSize has no meaning here: why",)))
    assert not options(asked, "-u", "http://h/f", "-p", "cdn").from_source
    told = capsys.readouterr().err.splitlines()
    assert [line.split(":")[1] for line in told] == [" --pattern cdn has no meaning here", " clientQueueSize has no meaning here"]


def test_a_configuration_file_that_is_wrong_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(environment: Mapping[str, str]) -> Properties:
        raise PropertiesError("/etc/dragonfly/dfget.yml: unknown key 'x'")

    monkeypatch.setattr(cli, "load_properties", broken)
    for arguments in (["-u", "http://h/f"], ["server"]):
        with pytest.raises(SystemExit) as caught:
            cli.main(arguments)
        assert caught.value.code == 1
        assert "Error: /etc/dragonfly/dfget.yml: unknown key 'x'" in capsys.readouterr().err


def test_what_may_be_a_secret_is_not_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in (["-u", "http://h/f", "--header", "Bearer s3cr3t"], ["-u", "ftp://me:s3cr3t@h/f?Signature=s3cr3t"]):
        with pytest.raises(SystemExit):
            cli.main(wrong)
    assert "s3cr3t" not in "".join(capsys.readouterr())


def test_without_arguments_help_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 1
    assert "'help'" in capsys.readouterr().err


def test_version_help_and_document(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert cli.main(["version"]) == 0
    assert capsys.readouterr().out == f"dfget version:{command_line.software_version()}\n"
    assert cli.main(["help"]) == 0
    assert "--locallimit" in capsys.readouterr().out
    assert cli.main(["help", "server"]) == 0
    assert "--uploadlimit" in capsys.readouterr().out
    assert cli.main(["help", "nothing"]) == 1
    assert "known are server" in capsys.readouterr().err
    assert cli.main(["gen-doc"]) == 0
    told = capsys.readouterr().out
    assert "--locallimit" in told
    assert "--uploadlimit" in told
    assert "--sourcelimit" not in told  # the supernode's, not for people

    def missing(_: str) -> str:
        raise PackageNotFoundError

    monkeypatch.setattr(command_line, "version", missing)
    assert command_line.software_version() == "0"


def test_the_arguments_of_the_process_are_taken(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["dfget", "version"])
    assert cli.main() == 0
    assert "dfget version:" in capsys.readouterr().out


def test_a_server_is_configured(served: list[tuple[PeerConfig, bool, bool]], properties: Callable[[Properties], None]) -> None:
    properties(Properties(total_limit=9, link_rate="auto", min_rate=77, cache_quota=5))
    line = ["server", "--home", "/h", "--node", "a:1", "--ip", "10.0.0.1", "--port", "15001", "--uploadlimit", "1K"]
    line += [
        "--location",
        "a/b",
        "--expiretime",
        "1m",
        "--alivetime",
        "2m",
        "--verbose",
        "--json-log",
        "--data",
        "/d",
        "--meta",
        "/m",
        "--preheat-quota=30",
    ]
    assert cli.main(line) == 0
    config, verbose, as_json = served[0]
    assert (verbose, as_json) == (True, True)
    wanted: dict[str, Any] = {
        "home": Path("/h"),
        "supernodes": ("a:1",),
        "ip": "10.0.0.1",
        "data_port": 15001,
        "role": Role.PEER,
        "total_rate": 9,
        "upload_rate": 1024,
        "link_rate": 0,
        "min_rate": 77,
        "location": "a/b",
        "control_socket": True,
        "alive_s": 120.0,
        "expire_s": 60.0,
        "cache_quota": 5,
        "kept_percent": 30,
    }
    assert {name: getattr(config, name) for name in wanted} == wanted


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], (None, 64 << 10)),
        (["--linkrate", "0"], (None, 64 << 10)),
        (["--linkrate=1gbit", "--minrate=1M"], (125_000_000, 1 << 20)),
    ],
)
def test_a_link_is_watched_where_somebody_says_so(
    served: list[tuple[PeerConfig, bool, bool]], flags: list[str], expected: tuple[int | None, int]
) -> None:
    assert cli.main(["server", *flags]) == 0
    assert (served[0][0].link_rate, served[0][0].min_rate) == expected


def test_a_seed_has_no_control_socket_and_reads_no_file(
    served: list[tuple[PeerConfig, bool, bool]], properties: Callable[[Properties], None]
) -> None:
    # What dfget.yml says is about this host's own downloads.
    properties(Properties(total_limit=9))
    assert cli.main(["server", "--seed", "--sourcelimit", "3K"]) == 0
    config, verbose, as_json = served[0]
    assert (config.role, config.control_socket, config.source_rate, config.total_rate) == (Role.SEED, False, 3072, 0)
    assert (verbose, as_json) == (False, False)


def test_a_seed_keeps_what_its_supernode_says(served: list[tuple[PeerConfig, bool, bool]]) -> None:
    told = CacheConfig(
        quota=7 << 30,
        kept_percent=20,
        young_free=11,
        full_free=12,
        unused_s=0.5,
        clean_tenths=4,
        tidy_after_s=3.25,
        tidy_every_s=1.5,
    )
    assert cli.main(["server", "--seed", *told.flags(), "--expiretime", "0s"]) == 0
    config = served[0][0]
    assert (config.tidy_after_s, config.tidy_every_s) == (3.25, 1.5)
    wanted = Rules(quota=7 << 30, kept_percent=20, young_free=11, full_free=12, unused_s=0.5, clean_tenths=4)
    assert config.rules == wanted
    assert cli.main(["server", "--seed", *CacheConfig().flags()]) == 0
    assert served[1][0].rules == Rules(expire_s=180.0, young_free=DEFAULT_YOUNG_FREE, full_free=DEFAULT_FULL_FREE)
