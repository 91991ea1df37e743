"""A storage's URL is known by what a registry said of it: as the client spells it, for a while, and not for ever many."""

import pytest

from gateway.core.redirects import Redirects

URL = "https://Storage.test/docker/registry/v2/blobs/sha256/ab/abc/data?X-Signature=a%2Fb&Expires=1"


@pytest.mark.parametrize(
    "asked",
    [
        URL,
        URL.replace("Storage", "storage"),
        URL.replace("test/", "test:443/"),
        URL.replace("%2F", "/"),
        URL.replace("%2F", "%2f"),
        URL + "#part",
        URL.replace("https", "HTTPS"),
    ],
)
def test_it_is_known_however_it_is_spelled(asked: str) -> None:
    redirects = Redirects()
    redirects.sent_on(URL, "images[1]", 10.0)
    assert redirects.rule_for(asked, 11.0) == "images[1]"


@pytest.mark.parametrize(
    "asked",
    [URL.replace("https", "http"), URL.replace("Expires=1", "Expires=2"), URL.replace("abc", "abd"), "https://storage.test"],
)
def test_another_url_is_not(asked: str) -> None:
    redirects = Redirects()
    redirects.sent_on(URL, "images[1]", 10.0)
    assert redirects.rule_for(asked, 11.0) == ""


def test_it_is_forgotten_after_a_while_unless_it_is_named_again() -> None:
    redirects = Redirects()
    redirects.sent_on(URL, "images[0]", 0.0)
    assert redirects.rule_for(URL, 899.0) == "images[0]"
    assert redirects.rule_for(URL, 901.0) == ""
    redirects.sent_on(URL, "images[2]", 901.0)
    assert redirects.rule_for(URL, 1000.0) == "images[2]"


def test_the_oldest_makes_room() -> None:
    redirects = Redirects()
    for number in range(5000):
        redirects.sent_on(f"http://storage.test/{number}", "images[0]", 0.0)
    assert redirects.rule_for("http://storage.test/0", 1.0) == ""
    assert redirects.rule_for("http://storage.test/4999", 1.0) == "images[0]"
    assert len(redirects._held) == 4096
    assert b"storage" not in b"".join(redirects._held), "hashes only"
