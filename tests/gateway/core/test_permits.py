"""What an upstream has said, for how long, and about whom."""

import datetime
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import permits
from gateway.core.permits import Claim, Facts, Permits, claim_of, is_registry_api, names_another_target, signature_ends_at

_BLOB = "https://Registry.test:5000/v2/team/app/blobs/sha256:aa"


def _hash(text: bytes) -> bytes:
    return hashlib.sha256(b"key" + text).digest()


def _claim(url: str = _BLOB, *headers: tuple[str, str]) -> Claim:
    return claim_of(url, headers, _hash)


def test_a_blob_and_a_manifest_of_a_repository_are_of_one_realm() -> None:
    blob, manifest = _claim(), _claim("https://registry.test:5000/v2/team/app/manifests/1")
    assert (blob.realm, blob.content) == ("https://registry.test:5000/v2/team/app", "blobs/sha256:aa")
    assert manifest.realm == blob.realm
    assert _claim("https://registry.test:5000/v2/team/app2/blobs/sha256:aa").realm != blob.realm
    assert _claim("http://registry.test:5000/v2/team/app/blobs/sha256:aa").realm != blob.realm
    assert _claim("https://hub.test/path/v2/a/b/manifests/x").realm == "https://hub.test/path/v2/a/b"


def test_a_url_of_no_registry_is_a_realm_of_its_own() -> None:
    stored = "https://s3.test/b/docker/registry/v2/blobs/sha256/aa/aabb/data"
    claim = _claim(stored + "?X=1#f")
    assert (claim.realm, claim.content, claim.by_query) == (stored, "", True)
    assert not _claim(_BLOB + "?ns=docker.io").by_query
    assert is_registry_api(_BLOB + "?a=b")
    assert not is_registry_api(stored)


@pytest.mark.parametrize(
    "path",
    [
        "/v2/team/app/blobs/sha256:%2f..%2f..%2f..%2f..%2fopen%2fblobs%2fsha256:aa",
        "/v2/team/app/manifests/..%5C..%5Copen",
        "/v2/team/app/manifests/%2e%2e",
        "/v2/team/app/manifests/..",
        "/v2/team/app/../open/manifests/1",
        "/v2/team/app/./manifests/1",
        "/v2/team//app/manifests/1",
        "/v2/team/app/manifests/1;x",
        "/v2/team/app/manifests/1\\2",
    ],
)
def test_a_path_that_can_be_read_in_two_ways_speaks_of_no_repository(path: str) -> None:
    claim = _claim(f"https://registry.test:5000{path}")
    assert (claim.realm, claim.content) == (f"https://registry.test:5000{path}", "")


def test_a_digests_colon_may_be_escaped_and_names_may_have_dots() -> None:
    claim = _claim("https://registry.test:5000/v2/team/a.b..c/blobs/sha256%3Aaa")
    assert (claim.realm, claim.content) == ("https://registry.test:5000/v2/team/a.b..c", "blobs/sha256%3Aaa")


def test_a_mirrors_repositories_are_those_of_the_registry_that_it_stands_for() -> None:
    open_one, private = _claim(_BLOB + "?ns=open.test"), _claim(_BLOB + "?ns=private.test")
    assert len({open_one.realm, private.realm, _claim().realm}) == 3
    assert open_one.credential == private.credential


@pytest.mark.parametrize(
    ("url", "headers"),
    [
        (_BLOB, [("Authorization", "Bearer b")]),
        (_BLOB, [("Cookie", "a=b"), ("Authorization", "Bearer a")]),
        (_BLOB, [("X-Auth-Token", "t"), ("Authorization", "Bearer a")]),
        (_BLOB + "?sig=1", [("Authorization", "Bearer a")]),
        (_BLOB.replace("//", "//user:pass@"), [("Authorization", "Bearer a")]),
        (_BLOB, []),
    ],
)
def test_who_asks_is_everything_that_may_say_so(url: str, headers: list[tuple[str, str]]) -> None:
    mine = _claim(_BLOB, ("Authorization", "Bearer a"))
    assert _claim(url, *headers).credential != mine.credential
    # A field that is not known to say who asks may say what of.
    assert (_claim(url, *headers).realm == mine.realm) is ("X-Auth-Token" not in dict(headers))


@pytest.mark.parametrize("name", ["X-Forwarded-For", "X-Real-IP", "Forwarded", "X-Forwarded-Host", "X-Tenant"])
def test_fields_of_a_proxy_before_this_one_are_part_of_what_is_asked(name: str) -> None:
    assert _claim(_BLOB, (name, "a")).credential != _claim(_BLOB).credential
    assert (_claim(_BLOB, (name, "a")).realm == _claim(_BLOB).realm) is (name in ("X-Forwarded-For", "X-Real-IP"))
    assert _claim(_BLOB, (name, "a")).realm == _claim(_BLOB, (name.lower(), "a")).realm


def test_fields_by_which_another_path_is_served_are_known_however_they_are_written() -> None:
    for name in ("X-Original-URL", "x-rewrite-url", "X_Original_URL", "X-HTTP-Method-Override", "X-Forwarded-Uri"):
        assert names_another_target(((name, "/"),))
    assert not names_another_target((("X-Forwarded-For", "1"), ("Authorization", "a"), ("Referer", "/")))


def test_who_asks_is_nothing_that_changes_from_request_to_request() -> None:
    one = _claim(
        _BLOB, ("Authorization", "a"), ("Range", "bytes=0-"), ("User-Agent", "x"), ("Connection", "X-Hop"), ("X-Hop", "1")
    )
    two = _claim(_BLOB + "?ns=hub", ("authorization", "a"), ("Via", "1.1 x"), ("Accept", "a"))
    assert one.credential == two.credential


@given(st.lists(st.tuples(st.text(min_size=1, max_size=5), st.text(max_size=5)), max_size=3))
def test_no_two_lists_of_fields_read_alike(fields: list[tuple[str, str]]) -> None:
    seen: list[bytes] = []

    def keep(text: bytes) -> bytes:
        seen.append(text)
        return text

    claim_of(_BLOB, (("x-a", "1:x,"), *((f"x-{name}", value) for name, value in fields)), keep)
    claim_of(_BLOB, (("x-a", "1"), ("x-b", "x,"), *((f"x-{name}", value) for name, value in fields)), keep)
    assert seen[0] != seen[1]


def test_two_proofs_are_needed_and_each_ends() -> None:
    table, facts = Permits(hold_s=60), Facts(length=5)
    alice, bob = _claim(_BLOB, ("Authorization", "alice")), _claim(_BLOB, ("Authorization", "bob"))
    assert table.permitted(alice, 0) is None
    table.grant(alice, facts, 0)
    assert table.permitted(alice, 59.9) == facts
    assert table.permitted(alice, 60) is None
    assert table.permitted(bob, 1) is None
    assert not table.may_read(bob, 1)
    table.saw_access(bob, 50)
    assert table.permitted(bob, 51) == facts
    assert table.permitted(bob, 61) is None
    assert table.may_read(bob, 61)
    other = _claim(_BLOB + "b", ("Authorization", "alice"))
    assert table.may_read(other, 1)
    assert table.permitted(other, 1) is None


def test_a_refusal_ends_both_at_once() -> None:
    table = Permits(hold_s=60)
    claim = _claim()
    table.grant(claim, Facts(), 0)
    table.refuse(claim)
    assert table.permitted(claim, 1) is None
    assert not table.may_read(claim, 1)
    table.refuse(claim)


def test_a_credential_that_ends_earlier_takes_its_proof_along() -> None:
    table = Permits(hold_s=60)
    table.grant(_claim(), Facts(), 0, at_most_s=5)
    assert table.permitted(_claim(), 4.9) is not None
    assert table.permitted(_claim(), 5) is None


def test_the_oldest_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(permits, "_MAX_KEPT", 2)
    table = Permits(hold_s=60)
    claims = [_claim(_BLOB + str(number), ("Authorization", str(number))) for number in range(3)]
    for claim in claims:
        table.grant(claim, Facts(), 0)
    assert [table.permitted(claim, 1) is not None for claim in claims] == [False, True, True]


def _parse(text: str) -> float | None:
    try:
        return datetime.datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None


@pytest.mark.parametrize(
    ("query", "ends_at"),
    [
        ("X-Amz-Date=20261124T080000Z&X-Amz-Expires=300&X-Amz-Signature=x", 1795507200.0 + 300),
        ("X-Goog-Date=20261124T080000Z&X-Goog-Expires=60", 1795507200.0 + 60),
        ("X-Goog-Date=20261124T080000Z&X-Goog-Expires=soon", None),
        ("se=2026-11-24T08%3A00%3A00Z&sig=x", 1795507200.0),
        ("se=2026-11-24T08%3A00%3A00Z", None),
        ("se=never&sig=x", None),
        ("Expires=1604406484&Signature=x", 1604406484.0),
        ("Expires=never", None),
        ("", None),
    ],
)
def test_when_a_signature_ends(query: str, ends_at: float | None) -> None:
    assert signature_ends_at(f"https://s.test/x?{query}", _parse) == ends_at
