"""What a URL is about."""

from typing import Final

import pytest

from gateway.core.subject import Kind, Subject, subject_of

_HEX: Final = "0123456789abcdef" * 4
_DIGEST: Final = f"sha256:{_HEX}"


@pytest.mark.parametrize(
    ("url", "kind", "registry", "repository", "reference", "digest"),
    [
        ("http://r.test:5000/v2/team/app/manifests/1", Kind.MANIFEST, "r.test:5000", "team/app", "1", ""),
        (f"https://R.test/v2/app/manifests/{_DIGEST}?ns=x", Kind.MANIFEST, "r.test", "app", _DIGEST, _DIGEST),
        (f"https://index.docker.io/v2/library/a/blobs/{_DIGEST}", Kind.BLOB, "docker.io", "library/a", _DIGEST, _DIGEST),
        (f"https://user:word@r.test:443/v2/a/b/c/blobs/{_DIGEST}", Kind.BLOB, "r.test", "a/b/c", _DIGEST, _DIGEST),
        ("http://r.test/v2/team/app/blobs/uploads/17", Kind.OTHER, "r.test", "team/app", "", ""),
        ("http://r.test/v2/team/app/tags/list", Kind.OTHER, "r.test", "team/app", "", ""),
        (f"http://s3.test/b/docker/registry/v2/blobs/sha256/01/{_HEX}/data?Signature=x", Kind.BLOB, "s3.test", "", "", _DIGEST),
        ("https://auth.test/token?service=s&scope=repository:team/app:pull,push", Kind.TOKEN, "auth.test", "team/app", "", ""),
        ("https://auth.test/t?scope=repository%28plugin%29%3Aa%2Fb%3Apull", Kind.TOKEN, "auth.test", "a/b", "", ""),
        ("https://auth.test/token?scope=registry:catalog:*", Kind.OTHER, "auth.test", "", "", ""),
        ("https://r.test/v2/", Kind.OTHER, "r.test", "", "", ""),
        ("/v2/", Kind.OTHER, "", "", "", ""),
        ("https://r.test/", Kind.OTHER, "r.test", "", "", ""),
        ("auth.test:443", Kind.OTHER, "", "", "", ""),
    ],
)
def test_a_url_tells_what_it_is_about(url: str, kind: Kind, registry: str, repository: str, reference: str, digest: str) -> None:
    found = subject_of(url)
    assert (found.kind, found.registry, found.repository, found.reference, found.digest) == (
        kind, registry, repository, reference, digest,
    )  # fmt: skip
    assert found.name == f"{registry}/{repository}"


def test_nothing_secret_and_nothing_endless_is_kept() -> None:
    told = f"http://user:word@r.test/v2/{'n' * 5000}/blobs/{_DIGEST}?Signature=secret#part"
    found = subject_of(told)
    assert not any(word in str(found) for word in ("word", "secret", "Signature", "user"))
    assert max(len(each) for each in (found.url, found.registry, found.repository, found.reference)) <= 512
    assert isinstance(found, Subject)
