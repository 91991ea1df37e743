"""The words about a URL, and that they are what the gateway does."""

import json
from pathlib import Path

import pytest

from gateway.cli import main
from tests.support.running_gateway import Pair

_RULES = """\
registry_mirror: {{remote: "https://hub.test"}}
proxies:
- {{regx: "no-p2p", direct: true}}
- {{regx: "blobs/sha256.*", use_https: true}}
images:
- {{image: "registry.test/slow/*", direct: true}}
hijack_https: {{cert: "{cert}", key: "{key}", hosts: [{{regx: "registry.test:443"}}]}}
"""


@pytest.fixture
def file(tmp_path: Path, local_pair: Pair) -> Path:
    path = tmp_path / "dfdaemon.yml"
    path.write_text(_RULES.format(cert=local_pair.cert, key=local_pair.key))
    return path


@pytest.mark.parametrize(
    ("url", "connection", "verdict", "rule", "asked"),
    [
        ("http://a.test/v2/x/blobs/sha256:1", "plain", "p2p", "proxies[1]", "https://a.test/v2/x/blobs/sha256:1"),
        ("http://a.test/no-p2p/blobs/sha256:1", "plain", "direct", "proxies[0]", "http://a.test/no-p2p/blobs/sha256:1"),
        ("https://registry.test/v2/x/blobs/sha256:1", "opened", "p2p", "proxies[1]", "https://registry.test/v2/x/blobs/sha256:1"),
        ("https://registry.test/v2/slow/x/blobs/sha256:1", "opened", "direct", "images[0]", None),
        ("https://registry.test/v2/x/manifests/1", "opened", "direct", "no rule", None),
        ("https://other.test/v2/x/blobs/sha256:1", "tunnelled", "unseen", "", ""),
        ("/v2/x/blobs/sha256:1", "mirror", "p2p", "registry_mirror", "https://hub.test/v2/x/blobs/sha256:1"),
        (
            "/v2/slow/x/blobs/sha256:1?ns=registry.test",
            "mirror",
            "direct",
            "images[0]",
            "https://registry.test/v2/slow/x/blobs/sha256:1",
        ),
        (
            "/v2/registry.test/slow/x/blobs/sha256:1",
            "mirror",
            "direct",
            "images[0]",
            "https://registry.test/v2/slow/x/blobs/sha256:1",
        ),
        ("/v2/x/manifests/1", "mirror", "direct", "registry_mirror, no blob", "https://hub.test/v2/x/manifests/1"),
    ],
)
def test_the_rule_is_named(
    file: Path, capsys: pytest.CaptureFixture[str], url: str, connection: str, verdict: str, rule: str, asked: str | None
) -> None:
    assert main(["rules", "--config", str(file), "--json", url]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["connection"], said["verdict"], said["rule"]) == (connection, verdict, rule)
    assert said["asked"] == (url if asked is None else asked)


def test_in_words(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules", "--config", str(file), "https://other.test/v2/"]) == 0
    assert "connection: tunnelled, unread: no regx of hijack_https.hosts is found in 'other.test:443'" in capsys.readouterr().out
    assert main(["rules", "--config", str(file), "--method", "HEAD", "http://a.test/blobs/sha256:1"]) == 0
    assert "direct, only a GET is examined" in capsys.readouterr().out


def test_what_is_no_url_and_a_bad_file_are_refused(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules", "--config", str(file), "ftp://x/y"]) == 1
    assert "neither http(s)://host" in capsys.readouterr().err
    file.write_text("proxies: [{regx: '('}]\n")
    assert main(["rules", "--config", str(file), "http://x/"]) == 10
    assert "proxies[0].regx" in capsys.readouterr().err
