"""How a request says which registry it means."""

import pytest

from gateway.core.mirror_target import host_in_name, mirror_target, scope_target

_BLOB = "/v2/library/hello/blobs/sha256:aa"


@pytest.mark.parametrize(
    ("target", "header", "place", "scheme", "rest"),
    [
        (_BLOB, None, "", "", _BLOB),
        ("/v2/", None, "", "", "/v2/"),
        (_BLOB, "https://r.test", "r.test", "https", _BLOB),
        (_BLOB + "?a=1", "HTTP://r.test:5000/", "r.test:5000", "http", _BLOB + "?a=1"),
        (_BLOB, "https://docker.io", "", "", _BLOB),
        (_BLOB + "?ns=docker.io", None, "", "", _BLOB + "?ns=docker.io"),
        (_BLOB + "?ns=r.test%3A5000", None, "r.test:5000", "", _BLOB),
        (_BLOB + "?a=1&ns=ghcr.io&b=2", None, "ghcr.io", "", _BLOB + "?a=1&b=2"),
        (_BLOB + "?ns=", None, "", "", _BLOB + "?ns="),
        ("/v2/r.test/team/app/manifests/1", None, "r.test", "", "/v2/team/app/manifests/1"),
        ("/v2/r.test__5000/app/tags/list?n=1", None, "r.test:5000", "", "/v2/app/tags/list?n=1"),
        ("/v2/localhost/app/blobs/sha256:a", None, "localhost", "", "/v2/app/blobs/sha256:a"),
        ("/v2/docker.io/library/hello/manifests/1", None, "", "", "/v2/library/hello/manifests/1"),
        ("/v2/team/app/manifests/1", None, "", "", "/v2/team/app/manifests/1"),
        ("/v2/r.test/manifests/1", None, "", "", "/v2/r.test/manifests/1"),
        ("/v2/a__b/app/manifests/1", None, "", "", "/v2/a__b/app/manifests/1"),
    ],
)
def test_which_registry(target: str, header: str | None, place: str, scheme: str, rest: str) -> None:
    headers = (("x-dragonfly-registry", header),) if header else ()
    found = mirror_target(target, headers)
    assert found is not None
    assert (found.place, found.scheme, found.target) == (place, scheme, rest)


@pytest.mark.parametrize(
    ("target", "header"),
    [(_BLOB, "r.test"), (_BLOB, "https://"), (_BLOB, "https://a b"), (_BLOB, "https://r.test:x"), (_BLOB + "?ns=a/b", None)],
)
def test_a_registry_that_cannot_be_asked(target: str, header: str | None) -> None:
    assert mirror_target(target, (("X-Dragonfly-Registry", header),) if header else ()) is None


def test_a_host_is_what_docker_holds_for_one() -> None:
    assert host_in_name("r.test") == "r.test"
    assert host_in_name("r.test:5000") == "r.test:5000"
    assert host_in_name("team") is None


@pytest.mark.parametrize(
    ("scope", "found"),
    [
        ("repository:r.test/team/app:pull", ("r.test", "repository:team/app:pull")),
        ("repository:r.test__5000/app:pull,push", ("r.test:5000", "repository:app:pull,push")),
        ("repository:docker.io/library/x:pull", ("", "repository:library/x:pull")),
        ("repository:library/x:pull", ("", "repository:library/x:pull")),
        ("repository:x:pull", ("", "repository:x:pull")),
        ("registry:catalog:*", None),
    ],
)
def test_which_registry_a_scope_means(scope: str, found: tuple[str, str] | None) -> None:
    assert scope_target(scope) == found
