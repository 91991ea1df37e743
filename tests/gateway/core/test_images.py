"""Image names against the URLs of blobs."""

import pytest

from gateway.core.images import ImageRule, image_of, parse_pattern

_BLOB = "/blobs/sha256:aa"


@pytest.mark.parametrize(
    ("name", "url", "covered"),
    [
        ("registry.test", f"https://registry.test/v2/a/b{_BLOB}", True),
        ("registry.test", f"https://registry.test:443/v2/a{_BLOB}?ns=x", True),
        ("registry.test:443", f"https://registry.test/v2/a{_BLOB}", True),
        ("registry.test", f"https://registry.test:5000/v2/a{_BLOB}", False),
        ("registry.test:5000", f"http://registry.test:5000/v2/a{_BLOB}", True),
        ("[::1]:5000", f"http://[::1]:5000/v2/a{_BLOB}", True),
        ("registry.test/team/*", f"https://registry.test/v2/team/app{_BLOB}", True),
        ("registry.test/team/*", f"https://registry.test/v2/other/app{_BLOB}", False),
        ("registry.test/team", f"https://registry.test/v2/team/app{_BLOB}", False),
        ("ubuntu", f"https://registry-1.docker.io/v2/library/ubuntu{_BLOB}", True),
        ("team/app", f"https://index.docker.io/v2/team/app{_BLOB}", True),
        ("docker.io", f"https://registry-1.docker.io/v2/team/app{_BLOB}", True),
        ("*.test", f"https://a.test/v2/x{_BLOB}", True),
        ("*.test", f"https://a.best/v2/x{_BLOB}", False),
    ],
)
def test_a_name_covers_its_blobs_and_no_others(name: str, url: str, covered: bool) -> None:
    image = image_of(url)
    assert image is not None
    assert ImageRule(pattern=parse_pattern(name), direct=True).covers(image) is covered


@pytest.mark.parametrize(
    "url", ["https://r.test/v2/a/manifests/sha256:aa", "https://r.test/v2/blobs/sha256:aa", "https://r.test"]
)
def test_what_is_no_blob_of_an_image_has_no_name(url: str) -> None:
    assert image_of(url) is None


@pytest.mark.parametrize(("text", "word"), [("", "no image name"), ("a b", "no image name"), ("r.test/a:1", "tag")])
def test_what_cannot_be_a_name_says_why(text: str, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        parse_pattern(text)
