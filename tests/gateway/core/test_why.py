"""`/debug/why`: what is asked, and the shape of what is answered."""

import json
from typing import Any

from gateway.core.subject import Kind, Subject
from gateway.core.trace import Given, Place, Trace, Wait
from gateway.core.why import answer, question_of

_DIGEST = "sha256:" + "a" * 64


def _trace(number: int, kind: Kind = Kind.BLOB, **more: Any) -> Trace:
    subject = Subject(
        kind=kind, url=f"http://r.test/{number}", registry="r.test", repository="app", reference="1", digest=_DIGEST
    )
    return Trace(
        id=f"{number:032x}", began=100.0 + number, whole_us=3000, waits={Wait.SEED: 2000, Wait.DISK: 1000}, bin_us=2000,
        bins=({Wait.SEED: 2000}, {Wait.DISK: 1000}), given=(Given(place=Place.SEED, name="cdnnode:s", size=5),), subject=subject,
        method="GET", status=200, end="complete", way="p2p", rule="proxies[0]", client="docker/1",
    )  # fmt: skip


def test_a_question_is_read_out_of_the_target() -> None:
    assert question_of("/debug/why") == ""
    assert question_of("/debug/why?of=team%2Fapp%3A1") == "team/app:1"
    assert question_of("/debug/why?x=1&of=a&of=b") == "a"
    assert len(question_of(f"/debug/why?of={'a' * 5000}")) == 1024


def test_a_trace_is_told_with_all_its_parts() -> None:
    found = answer([_trace(1)], f"{1:032x}")
    told = json.loads(found.text)
    assert (found.status, found.reason) == (200, "OK")
    assert told["title"] == f"trace {1:032x}"
    assert told["seconds"] == 0.003
    assert told["bytes"] == 5
    assert told["phases"] == {
        "access": 0, "waiting": 0, "supernode": 0, "registry": 0, "seed": 0.002, "peers": 0, "disk": 0.001, "client": 0,
    }  # fmt: skip
    assert told["waits"] == {"seed": 0.002, "disk": 0.001}
    assert told["dominant"] == "seed"
    assert told["from"] == [{"place": "seed", "name": "cdnnode:s", "bytes": 5}]
    (request,) = told["requests"]
    assert request["timeline"] == {"step_s": 0.002, "steps": [{"seed": 0.002}, {"disk": 0.001}]}
    assert (request["rule"], request["client"], request["status"], request["end"]) == ("proxies[0]", "docker/1", 200, "complete")
    assert request["digest"] == _DIGEST


def test_what_is_not_known_is_a_404_with_what_is_near() -> None:
    found = answer([_trace(1, Kind.MANIFEST)], "r.test/ap:1")
    assert (found.status, found.reason) == (404, "Not Found")
    assert json.loads(found.text)["nearest"] == ["r.test/app:1"]
    assert "nothing is known of r.test/ap:1" in json.loads(found.text)["error"]


def test_without_a_question_the_last_ones_are_listed_newest_first() -> None:
    traces = [_trace(number) for number in range(20)] + [_trace(20, Kind.OTHER)]
    told = json.loads(answer(traces, " ").text)["last"]
    assert [each["trace"] for each in told] == [f"{number:032x}" for number in range(19, 4, -1)]
    assert told[0]["ask"] == _DIGEST
    # Where there is nothing but others, they are better than nothing.
    assert len(json.loads(answer([_trace(20, Kind.OTHER)], "").text)["last"]) == 1
    assert json.loads(answer([], "").text) == {"last": []}
