"""Which requests are for manifests by digest, and who knows their types."""

import pytest

from gateway.core.manifest_request import as_blob, is_by_digest, names, names_a_type

_DIGEST = "sha256:" + "a" * 64
_OCI = "application/vnd.oci.image.manifest.v1+json"


@pytest.mark.parametrize(
    ("url", "found"),
    [
        (f"https://r.test/v2/team/app/manifests/{_DIGEST}", True),
        (f"/v2/app/manifests/{_DIGEST}?ns=docker.io", True),
        (f"https://r.test/prefix/v2/app/manifests/{_DIGEST}", True),
        ("https://r.test/v2/app/manifests/latest", False),
        (f"https://r.test/v2/app/manifests/{_DIGEST}0", False),
        (f"https://r.test/v2/app/manifests/{_DIGEST[:-1]}", False),
        (f"https://r.test/v2/app/blobs/{_DIGEST}", False),
        (f"https://r.test/?x=/v2/app/manifests/{_DIGEST}", False),
    ],
)
def test_what_is_a_manifest_by_digest(url: str, found: bool) -> None:
    assert is_by_digest(url) is found
    assert (as_blob(url) == url) is not found


def test_its_blob_is_in_the_same_repository() -> None:
    url = f"https://r.test/v2/manifests/manifests/{_DIGEST}?ns=a"
    assert as_blob(url) == f"https://r.test/v2/manifests/blobs/{_DIGEST}?ns=a"


@pytest.mark.parametrize(
    ("accept", "kind", "found"),
    [
        ((_OCI,), _OCI, True),
        (("a/b, " + _OCI.upper() + " ; q=0.5",), _OCI + "; charset=utf-8", True),
        (("a/b", _OCI), _OCI, True),
        ((_OCI + ";q=0",), _OCI, False),
        ((_OCI + ";q=0.000",), _OCI, False),
        (("*/*",), _OCI, False),
        (("application/*",), _OCI, False),
        ((), _OCI, False),
        ((_OCI,), "", False),
    ],
)
def test_a_type_counts_where_it_is_named(accept: tuple[str, ...], kind: str, found: bool) -> None:
    assert names(tuple(("Accept", each) for each in accept), kind) is found


def test_a_range_of_types_names_none() -> None:
    assert not names_a_type((("Accept", "*/*;q=0.1, application/*"),))
    assert not names_a_type(())
    assert names_a_type((("Accept", "*/*, a/b"),))
