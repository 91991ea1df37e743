"""Task ids against vectors that are frozen here, digests in URLs, query filters, and what may be shown of a URL."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.strategies import patient
from wire.ids import (
    ByteRange,
    digest_in_url,
    filtered_url,
    is_seed_id,
    is_sha256_digest,
    is_task_id,
    task_id,
    url_without_secrets,
)

HEX = "0123456789abcdef" * 4
DIGEST = f"sha256:{HEX}"
URL = "http://a.example/f"


@pytest.mark.parametrize(
    ("made", "wanted"),
    [
        (task_id(URL), "04700579a2441e25b7b056d2d7a8df819f5bfe1b80bf9fecefd62699f849e8f5"),
        (
            task_id(f"{URL}?a=1&Expires=9&b=2", filters=("Expires",)),
            "1a110c757ac12009590a2fa1860e9e58a03ad5bfccc606c7389eb8a1675a4159",
        ),
        (task_id(URL, md5="m", identifier="i"), "aada349a4b05ee9dc59395a96e3ba63653ac25c64830cea4bc46b5db636f4aec"),
        (task_id(URL, identifier="i"), "110d0133a95e290b460b4b6e97ed5c1db80557add0418c5a2eca4d21bb6c2b37"),
        (task_id(URL, byte_range=ByteRange(5, 9)), "f93ad65457e157e478d64eea01760a2bb225cdd045335bab8a78512bd52e1615"),
        (task_id(URL, byte_range=ByteRange(5, None)), "92a27009604675bd4e9bfa033e86efd376dea7e2be54fefaf199a4f75b839d8f"),
        (task_id("http://a.example/é"), "f5f156b92d6bf7d6be3b2c644314750eea0c6bfb05cd8985771b9fa0ffae0278"),
        (task_id("http://any/", digest=DIGEST), "3a48393006803c7619d2a07aae138b6263a01eb6c6bc9b614a9796bde51d336b"),
        (
            task_id("http://any/", digest=DIGEST, byte_range=ByteRange(0, 0)),
            "c318ef9e50a3707801ae4d81e01ba125afa98d4b8984b0999e2e4441f8375af7",
        ),
    ],
)
def test_vectors_are_frozen(made: str, wanted: str) -> None:
    assert made == wanted


def test_the_derivation_of_the_document() -> None:
    sealed = "16:damselfly-task-1,3:url,18:http://a.example/é,0:,9:bytes=5-9,"
    assert task_id("http://a.example/é", byte_range=ByteRange(5, 9)) == hashlib.sha256(sealed.encode()).hexdigest()


def test_with_a_digest_only_it_and_the_range_count() -> None:
    one = task_id("http://a/x?Signature=1", digest=DIGEST, md5="m", identifier="i", filters=("a",))
    assert one == task_id("https://b/y", digest=DIGEST)
    assert one != task_id("https://b/y", digest=f"sha256:{HEX[::-1]}")
    assert one != task_id("https://b/y", digest=DIGEST, byte_range=ByteRange(0, None))


def test_md5_wins_over_identifier() -> None:
    assert task_id(URL, md5="m", identifier="i") == task_id(URL, md5="m")
    assert len({task_id(URL), task_id(URL, md5="m"), task_id(URL, identifier="i")}) == 3


def test_signatures_meet_when_they_are_filtered() -> None:
    filters = ("Expires", "Signature")
    ids = {task_id(f"{URL}?Expires={n}&part=2&Signature=s{n}", filters=filters) for n in range(3)}
    assert ids == {task_id(f"{URL}?part=2")}


@given(st.tuples(st.text(), st.text()), st.tuples(st.text(), st.text()))
@patient
def test_no_two_contents_share_an_id(one: tuple[str, str], other: tuple[str, str]) -> None:
    same = (one[0], one[1] or "") == (other[0], other[1] or "")
    assert (task_id(one[0], identifier=one[1]) == task_id(other[0], identifier=other[1])) == same


@given(st.text(), st.text(), st.integers(0, 1 << 60), st.none() | st.integers(0, 1 << 60))
@patient
def test_every_id_has_an_ids_form(url: str, identifier: str, first: int, last: int | None) -> None:
    assert is_task_id(task_id(url, identifier=identifier, byte_range=ByteRange(first, last)))


def test_a_range_as_a_header_has_it() -> None:
    assert ByteRange(0, 0).header() == "bytes=0-0"
    assert ByteRange(7, None).header() == "bytes=7-"


@pytest.mark.parametrize("wrong", ["", HEX[:-1], HEX + "0", HEX.upper(), HEX[:-1] + "g", HEX + "\n", f" {HEX[1:]}"])
def test_what_is_no_task_id_or_digest(wrong: str) -> None:
    assert not is_task_id(wrong)
    assert not is_sha256_digest(f"sha256:{wrong}")


def test_what_is_a_task_id_or_a_digest() -> None:
    assert is_task_id(HEX)
    assert is_sha256_digest(DIGEST)
    assert not is_sha256_digest(HEX)
    assert not is_sha256_digest(f"sha512:{HEX}")


@pytest.mark.parametrize(
    "url",
    [
        f"https://registry.example/v2/library/busybox/blobs/{DIGEST}",
        f"http://registry.example:5000/v2/a/b/c/manifests/{DIGEST}",
        f"https://registry.example/v2/x/blobs/{DIGEST}?Expires=1&Signature=/blobs/sha256:{HEX[::-1]}",
        f"https://registry.example/v2/x/blobs/{DIGEST}#fragment",
        f"https://bucket.example/docker/registry/v2/blobs/sha256/{HEX[:2]}/{HEX}/data?X-Amz-Signature=1",
        f"/v2/x/blobs/{DIGEST}",
    ],
)
def test_urls_that_promise_a_digest(url: str) -> None:
    assert digest_in_url(url) == DIGEST


@pytest.mark.parametrize(
    "url",
    [
        "",
        "https://registry.example/v2/x/manifests/latest",
        f"https://registry.example/v2/x/blobs/uploads/{HEX}",
        f"https://registry.example/v2/x/blobs/{DIGEST}/",
        f"https://registry.example/v2/x/blobs/{DIGEST}0",
        f"https://registry.example/v2/x/blobs/{DIGEST}\n",
        f"https://registry.example/v2/x/blobs/sha256:{HEX.upper()}",
        f"https://registry.example/v2/x/blobs/sha512:{HEX}{HEX}",
        f"https://registry.example/v2/x/referrers/{DIGEST}",
        f"https://registry.example/?path=/blobs/{DIGEST}",
        f"https://registry.example/x#/blobs/{DIGEST}",
        f"https://bucket.example/docker/registry/v2/blobs/sha256/ff/{HEX}/data",
        f"https://bucket.example/docker/registry/v2/blobs/sha256/{HEX[:2]}/{HEX}/data\n",
        f"https://bucket.example/docker/registry/v2/blobs/sha256/{HEX[:2]}/{HEX}",
    ],
)
def test_urls_that_promise_none(url: str) -> None:
    assert digest_in_url(url) is None


@pytest.mark.parametrize(
    ("url", "filters", "wanted"),
    [
        # Dragonfly 1.x: split at the first `?`, then at `&`, key before the first `=`; names exact; order kept.
        ("http://a/f?Expires=1&Signature=2", ("Expires", "Signature"), "http://a/f"),
        ("http://a/f?b=1&Expires=1&a=2", ("Expires",), "http://a/f?b=1&a=2"),
        ("http://a/f?b=1&a=2", (), "http://a/f?b=1&a=2"),
        ("http://a/f?", ("a",), "http://a/f?"),
        ("http://a/f", ("a",), "http://a/f"),
        ("http://a/f?expires=1", ("Expires",), "http://a/f?expires=1"),
        ("http://a/f?a", ("a",), "http://a/f"),
        ("http://a/f?a=1=2&b", ("a",), "http://a/f?b"),
        ("http://a/f?a=1&a=2", ("a",), "http://a/f"),
        ("http://a/f?x=1?a=2&b=3", ("a",), "http://a/f?x=1?a=2&b=3"),
        ("http://a/f?x=1?a=2&b=3", ("x",), "http://a/f?b=3"),
        ("http://a/f?%61=1", ("a",), "http://a/f?%61=1"),
        ("http://a/f?=1&b=2", ("",), "http://a/f?b=2"),
        ("http://a/f?a=1&&b=2", ("b",), "http://a/f?a=1&"),
    ],
)
def test_filters(url: str, filters: tuple[str, ...], wanted: str) -> None:
    assert filtered_url(url, filters) == wanted


@given(st.text("ab?&=/", max_size=20), st.lists(st.sampled_from(["a", "b", "", "ab"]), max_size=3).map(tuple))
@patient
def test_filtering_twice_changes_nothing_more(url: str, filters: tuple[str, ...]) -> None:
    once = filtered_url(url, filters)
    assert filtered_url(once, filters) == once


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://a.example:80/f", "http://a.example:80/f"),
        ("https://user:secret@a.example/f", "https://a.example/f"),
        ("https://user:se@cret@a.example/f", "https://a.example/f"),
        ("https://a.example/f?Signature=secret", "https://a.example/f?..."),
        ("https://a.example/f#secret", "https://a.example/f"),
        ("https://a.example/f?x#secret?y", "https://a.example/f?..."),
        ("https://a.example/mail@secretary", "https://a.example/mail@secretary"),
        ("https://user:secret@[fd00::1]:8/f", "https://[fd00::1]:8/f"),
        ("//user:secret@a.example/f", "//a.example/f"),
        ("user:secret@a.example/f", "a.example/f"),
        ("user:secret@a.example/f//g", "a.example/f//g"),
        ("/v2/x?secret", "/v2/x?..."),
        ("", ""),
    ],
)
def test_what_may_be_shown_of_a_url(url: str, shown: str) -> None:
    assert url_without_secrets(url) == shown


@given(st.sampled_from(["http://", "https://", "//", ""]), st.text("ab/.@:", max_size=8), st.text("ab?&=#", max_size=8))
@patient
def test_no_secret_is_ever_shown(scheme: str, path: str, query: str) -> None:
    assert "SECRET" not in url_without_secrets(f"{scheme}user:SECRET@host/{path}?SECRET{query}#SECRET")


def test_a_seed_is_known_by_its_id() -> None:
    assert is_seed_id("cdnnode:10.0.0.1")
    assert not is_seed_id("10.0.0.1-17-1700000000.000")
