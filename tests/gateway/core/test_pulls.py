"""Which requests a question is about, and what requests that overlap say together."""

import dataclasses
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.pulls import Explanation, NotKnown, explain, shown_name, wall_clock
from gateway.core.subject import Kind, Subject
from gateway.core.trace import Account, Given, Place, Trace, Wait, parts_of

_REGISTRY: Final = "r.test:5000"


def _digest(mark: str) -> str:
    return "sha256:" + mark * 64


def _account(*turns: tuple[Wait, float], began: float = 0.0) -> Account:
    """One that waited for each so many seconds."""
    now, account = began, Account(began)
    for wait, spent_s in turns:
        account.turn(wait, now)
        now += spent_s
    account.end(now)
    return account


def _trace(began: float, *turns: tuple[Wait, float], **more: Any) -> Trace:
    account = _account(*(turns or ((Wait.HEAD, 0.5),)))
    made = Trace(
        id=f"{int(began * 1000):032x}", began=began, whole_us=account.whole_us, waits=account.waits, bin_us=account.bin_us,
        bins=account.bins, given=(), subject=Subject(), method="GET", status=200, end="complete", way="p2p", client="docker/1",
    )  # fmt: skip
    return dataclasses.replace(made, **more)


def _manifest(began: float, reference: str, digest: str = "", *members: str, repository: str = "team/app", **more: Any) -> Trace:
    registry = more.pop("registry", _REGISTRY)
    subject = Subject(kind=Kind.MANIFEST, registry=registry, repository=repository, reference=reference, digest=digest)
    return _trace(began, subject=subject, members=members, **more)


def _blob(began: float, digest: str, *turns: tuple[Wait, float], repository: str = "team/app", **more: Any) -> Trace:
    subject = Subject(kind=Kind.BLOB, registry=_REGISTRY, repository=repository, reference=digest, digest=digest)
    return _trace(began, *turns, subject=subject, **more)


_PULL: Final = [
    _manifest(10.0, "1", _digest("1"), method="HEAD"),
    _manifest(10.5, _digest("1"), _digest("1"), _digest("2")),
    _manifest(11.0, _digest("2"), _digest("2"), _digest("a"), _digest("b")),
    _blob(11.5, _digest("a"), (Wait.SEED, 2.0), given=(Given(place=Place.SEED, size=7, name="s"),)),
    _blob(11.5, _digest("b"), (Wait.PEERS, 4.0), given=(Given(place=Place.PEER, size=5, name="p"),)),
]
_STRAIGHT: Final = (Given(place=Place.REGISTRY, size=11), Given(place=Place.OWN, size=13), Given(place=Place.STORE, size=17))


def _asked(found: Explanation) -> list[str]:
    return [each.subject.digest[7:8] or each.subject.reference for each in found.traces]


@pytest.mark.parametrize(
    "question",
    [
        "team/app:1",
        " team/app:1 ",
        "app:1",
        f"{_REGISTRY}/team/app:1",
        "r.test__5000/team/app:1",
        f"localhost:65001/{_REGISTRY.replace(':', '__')}/team/app:1",
        "localhost:65001/team/app:1",
        "other.test/team/app:1",
        "localhost:65001/other.test/team/app:1",
        f"team/app@{_digest('1')}",
        f"team/app@{_digest('1')[:20]}",
        _digest("1"),
        "11111",
    ],
)
def test_an_image_is_its_manifests_and_the_blobs_that_they_name(question: str) -> None:
    others = [
        _manifest(10.1, "2", _digest("3"), _digest("c")),
        _blob(10.2, _digest("c")),
        _blob(10.3, _digest("d"), repository="team/other"),
        _trace(10.4),
    ]
    found = explain(sorted([*_PULL, *others], key=lambda each: each.began), question)
    assert _asked(found) == ["1", "1", "2", "a", "b"]
    assert found.whole_us == 5_500_000
    assert found.began == 10.0
    assert sum(found.waits.values()) == found.whole_us
    assert {(each.place, each.size) for each in found.given} == {(Place.SEED, 7), (Place.PEER, 5)}
    assert found.title.startswith(f"image {_REGISTRY}/team/app")


def test_without_a_tag_latest_is_meant_and_without_a_registry_docker_hub_too() -> None:
    hub = _manifest(5.0, "latest", _digest("1"), repository="library/alpine", registry="docker.io")
    for question in ("alpine", "alpine:latest", "docker.io/library/alpine", "index.docker.io/library/alpine:latest"):
        assert explain([hub], question).traces == (hub,)


def test_each_pull_is_one_of_its_own() -> None:
    again = [dataclasses.replace(each, began=each.began + 100, id=f"b{number}") for number, each in enumerate(_PULL)]
    other = [
        dataclasses.replace(each, began=each.began + 101, client="skopeo/1", id=f"c{number}") for number, each in enumerate(_PULL)
    ]
    assert explain([*_PULL, *again], "team/app:1").traces == tuple(again)
    assert explain([*_PULL, *again, *other], "team/app:1").traces == tuple(other)


def test_tokens_and_signed_places_belong_to_the_pull() -> None:
    token = _trace(9.0, (Wait.ACCESS, 0.5), subject=Subject(kind=Kind.TOKEN, registry="auth.test", repository="team/app"))
    named = _trace(9.5, (Wait.ACCESS, 0.5), subject=Subject(kind=Kind.TOKEN, repository="r.test/team/app"))
    stored = _trace(20.0, subject=Subject(kind=Kind.BLOB, registry="s3.test", digest=_digest("b")))
    found = explain([token, named, *_PULL, stored], "team/app:1")
    assert found.traces == (token, named, *_PULL, stored)


def test_where_no_manifest_could_be_read_the_repositorys_blobs_are_meant() -> None:
    traces = [_manifest(1.0, "1", _digest("1")), _blob(2.0, _digest("a")), _blob(2.0, _digest("d"), repository="team/other")]
    assert explain(traces, "team/app:1").traces == tuple(traces[:2])


def test_a_digest_is_its_last_request_and_a_trace_all_of_its_own() -> None:
    again = _blob(50.0, _digest("a"), (Wait.DISK, 0.1))
    assert explain([*_PULL, again], _digest("a")).traces == (again,)
    assert explain([*_PULL, again], "aaaaaaaa").traces == (again,)
    shared = [dataclasses.replace(each, id="f" * 32) for each in _PULL]
    assert len(explain([*shared, again], "f" * 32).traces) == 5
    assert explain([*shared, again], "ffff").title == f"trace {'f' * 32}"


def test_what_is_not_known_is_an_error_that_names_what_is_near() -> None:
    with pytest.raises(NotKnown, match="hijack_https") as caught:
        explain(_PULL, "team/ap:1")
    assert caught.value.nearest[0] == f"{_REGISTRY}/team/app:1"
    with pytest.raises(NotKnown, match="not pulled") as caught:
        explain(_PULL, "entirely-different/thing")
    assert caught.value.nearest
    with pytest.raises(NotKnown, match="nothing is known of deadbeef"):
        explain(_PULL, "deadbeef")
    with pytest.raises(NotKnown, match="ask for"):
        explain(_PULL, " ")
    with pytest.raises(NotKnown, match="begins several: give more of it") as caught:
        explain([_blob(1.0, _digest("a")), _blob(2.0, "sha256:" + "a" * 63 + "b")], "aaaa")
    assert len(caught.value.nearest) == 2
    with pytest.raises(NotKnown, match="nothing is known"):
        explain([], "a:1")


def test_every_name_that_is_listed_finds_its_request() -> None:
    for trace in [*_PULL, _trace(99.0)]:
        assert trace in explain([*_PULL, _trace(99.0)], shown_name(trace)).traces


# -- together -------------------------------------------------------------------------------------------------------------


def test_layers_that_are_pulled_side_by_side_share_the_wall_clock() -> None:
    slow = _blob(0.0, _digest("a"), (Wait.SEED_OPENS, 10.0), (Wait.CLIENT, 10.0))
    late = _blob(10.0, _digest("b"), (Wait.CLIENT, 10.0))
    after = _blob(25.0, _digest("c"), (Wait.DISK, 5.0))
    began, whole_us, waits = wall_clock([slow, late, after])
    assert (began, whole_us) == (0.0, 30_000_000)
    assert sum(waits.values()) == whole_us
    # To a step of the coarsest picture.
    step = slow.bin_us
    assert waits[Wait.SEED_OPENS] == pytest.approx(10_000_000, abs=step)
    assert waits[Wait.CLIENT] == pytest.approx(10_000_000, abs=step)
    assert waits[Wait.BETWEEN] == pytest.approx(5_000_000, abs=step)
    assert waits[Wait.DISK] == pytest.approx(5_000_000, abs=step)


_TURNS: Final = st.lists(
    st.tuples(st.sampled_from([each for each in Wait if each is not Wait.BETWEEN]), st.floats(0, 5)), min_size=1, max_size=6
)


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 20), _TURNS), min_size=1, max_size=5))
def test_together_they_never_take_more_than_the_whole(played: list[tuple[float, list[tuple[Wait, float]]]]) -> None:
    traces = [_trace(began, *turns) for began, turns in played]
    _, whole_us, waits = wall_clock(traces)
    assert sum(waits.values()) == whole_us
    assert all(spent >= 0 for spent in waits.values())
    assert sum(parts_of(waits).values()) == whole_us
    ends = [each.began + each.whole_us / 1e6 for each in traces]
    assert whole_us <= (max(ends) - min(each.began for each in traces)) * 1e6 + 2
    for wait, spent in waits.items():
        # No more of anything than its requests had of it.
        assert wait is Wait.BETWEEN or spent <= sum(each.waits.get(wait, 0) for each in traces) + len(traces) * 64 * 33


def test_bytes_of_several_are_summed_by_place() -> None:
    traces = [dataclasses.replace(each, given=each.given + _STRAIGHT) for each in _PULL]
    found = {(each.place, each.name): each.size for each in explain(traces, "team/app:1").given}
    assert found == {
        (Place.REGISTRY, ""): 55, (Place.OWN, ""): 65, (Place.STORE, ""): 85, (Place.SEED, "s"): 7, (Place.PEER, "p"): 5,
    }  # fmt: skip


def test_a_client_that_comes_again_with_a_token_has_not_been_refused() -> None:
    asked = _manifest(9.0, "1", status=401)
    assert "refused" not in explain([asked, *_PULL], "team/app:1").verdict
    said = explain([asked, dataclasses.replace(asked, began=9.1)], "team/app:1").verdict
    assert said.startswith("manifest 1: refused: the registry answered 401 to this client; nothing was slow: ")
    assert "the longest" not in said


def test_a_verdict_of_several_names_refusals_and_the_longest() -> None:
    refused = dataclasses.replace(_PULL[3], status=401, way="p2p", fallback="not_permitted")
    said = explain([*_PULL[:3], refused, _PULL[4]], "team/app:1").verdict
    assert f"blob {_digest('a')[:19]}: refused: the registry answered 401 to this client" in said
    assert f"the longest of 5 requests was blob {_digest('b')[:19]} with 4.0 s" in said
    assert "the network between the peers was slow" in said


def test_a_trace_whose_picture_is_empty_takes_no_time() -> None:
    nothing = _blob(10.0, _digest("a"), (Wait.SEED, 0.0))
    broken = dataclasses.replace(_blob(10.5, _digest("b"), (Wait.SEED, 0.01)), bins=({}, {Wait.SEED: 5}))
    _, whole_us, waits = wall_clock([nothing, broken])
    assert sum(waits.values()) == whole_us
    assert wall_clock([nothing, nothing]) == (10.0, 0, {})
