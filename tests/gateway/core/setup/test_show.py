"""A change is shown as a diff, and nobody's secrets with it."""

import pytest

from gateway.core.setup.show import difference, without_secrets


def test_a_change_a_new_file_and_one_that_goes() -> None:
    assert difference("/f", b"a\nb\n", b"a\nc\n").splitlines() == ["--- /f", "+++ /f", "@@ -1,2 +1,2 @@", " a", "-b", "+c"]
    assert difference("/f", None, b"a").splitlines() == ["--- /dev/null", "+++ /f", "@@ -0,0 +1 @@", "+a"]
    assert difference("/f", b"a\n", None).splitlines() == ["--- /f", "+++ /dev/null", "@@ -1 +0,0 @@", "-a"]
    assert difference("/f", b"a", b"a") == ""
    # What a person would not see otherwise.
    assert difference("/f", b"a\r\n", b"a\n").splitlines()[3:] == ["-a\\r", "+a"]
    assert difference("/f", b"\xff\n", b"a\n").splitlines()[3:] == ["-\ufffd", "+a"]


def test_a_long_change_is_cut() -> None:
    lines = difference("/f", None, b"x\n" * 1000).splitlines()
    assert len(lines) == 401
    assert lines[-1] == "... and 603 lines more"


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ('"http-proxy": "http://user:pass@corporate:3128",', '"http-proxy": "http://***@corporate:3128",'),
        ('"m": ["https://token@m.example", "https://n.example/a@b"]', '"m": ["https://***@m.example", "https://n.example/a@b"]'),
        ('  authorization = "Basic abc"', "  authorization = ***"),
        ("  auth = 'abc'", "  auth = ***"),
        ('"splunk-token": "abc",', '"splunk-token": ***'),
        ('identitytoken: "x y"', "identitytoken: ***"),
        ('"authorization-plugins": ["x"]', '"authorization-plugins": ["x"]'),
        ('"debug": true', '"debug": true'),
    ],
)
def test_secrets(line: str, shown: str) -> None:
    assert without_secrets(line) == shown
