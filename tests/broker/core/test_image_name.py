"""Names as docker reads them, and manifests' URLs."""

import pytest

from broker.core.image_name import manifest_url_of, parse_manifest_url

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("busybox", "https://registry-1.docker.io/v2/library/busybox/manifests/latest"),
        ("busybox:1.36", "https://registry-1.docker.io/v2/library/busybox/manifests/1.36"),
        ("team/app", "https://registry-1.docker.io/v2/team/app/manifests/latest"),
        ("docker.io/busybox", "https://registry-1.docker.io/v2/library/busybox/manifests/latest"),
        ("index.docker.io/team/app:2", "https://registry-1.docker.io/v2/team/app/manifests/2"),
        ("registry.example/app", "https://registry.example/v2/app/manifests/latest"),
        ("registry.example:5000/a/b/c:x", "https://registry.example:5000/v2/a/b/c/manifests/x"),
        ("localhost/app", "http://localhost/v2/app/manifests/latest"),
        ("localhost:5000/app:1", "http://localhost:5000/v2/app/manifests/1"),
        ("127.0.0.1:5000/app", "http://127.0.0.1:5000/v2/app/manifests/latest"),
        ("[::1]:5000/app", "http://[::1]:5000/v2/app/manifests/latest"),
        (f"app@{DIGEST}", f"https://registry-1.docker.io/v2/library/app/manifests/{DIGEST}"),
        (f"registry.example/app:1@{DIGEST}", f"https://registry.example/v2/app/manifests/{DIGEST}"),
    ],
)
def test_a_name_s_manifest(name: str, url: str) -> None:
    assert manifest_url_of(name) == url


def test_a_registry_that_speaks_http() -> None:
    assert manifest_url_of("registry.example:5000/app", plain_http=True).startswith("http://registry.example:5000/v2/app/")


@pytest.mark.parametrize(
    "name", ["", "Busybox", "a b", "app:", "app@sha256:1", "-x", "a/../b", "registry.example/", "app:la/test"]
)
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(ValueError, match="no image name"):
        manifest_url_of(name)


def test_a_manifest_s_url_and_its_neighbours() -> None:
    found = parse_manifest_url("https://h.example:1/prefix/v2/a/b/manifests/1.0")
    assert (found.root, found.name, found.reference) == ("https://h.example:1/prefix", "a/b", "1.0")
    assert found.blob(DIGEST) == f"https://h.example:1/prefix/v2/a/b/blobs/{DIGEST}"
    assert found.manifest(DIGEST) == f"https://h.example:1/prefix/v2/a/b/manifests/{DIGEST}"


@pytest.mark.parametrize(
    "url",
    [
        "http://h/v2/a/manifests/",
        "http://h/v2/manifests/1",
        "http://h/v2/a/blobs/1",
        "ftp://h/v2/a/manifests/1",
        "http://h/v2/a/manifests/1?x=1",
        "http://h/v2/a/manifests/..",
        "http:///v2/a/manifests/1",
    ],
)
def test_what_is_no_manifest_s_url(url: str) -> None:
    with pytest.raises(ValueError, match="an image's url is"):
        parse_manifest_url(url)
