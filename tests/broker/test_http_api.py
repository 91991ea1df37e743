"""The supernode over real HTTP: every route, its versions, its errors; and no secret in any answer or log."""

import json
import logging
from urllib.parse import quote

import pytest

from broker.core.events import PeerGone, PeerSaid
from broker.http_handlers import VERSIONED
from tests.support.broker_http import VERSION, LoopbackApi, loopback_api
from tests.support.broker_router import RUN_ID
from tests.support.broker_words import (
    CONTENT_DIGEST,
    OTHER_TASK,
    PIECE,
    SEED,
    TASK,
    done,
    greeted,
    register,
    said,
    seed_greeted,
    seeded,
)
from wire.errors import ErrorCode
from wire.messages import Alive, Register, SeedFailed
from wire.version import PROTOCOL

ROUTES = ["/_ping", "/version", "/metrics", "/cluster", "/peers", "/peers/a", "/tasks", f"/tasks/{TASK}"]
SECRET = Register(
    task=TASK,
    url="https://user:s3cret@source.example/a/file?Expires=1&Signature=s3cret#s3cret",
    headers=(("Authorization", "Bearer s3cret"), ("X-Token", "s3cret")),
    identifier="s3cret",
    certificates=(b"s3cret",),
)


def swarm(api: LoopbackApi) -> None:
    """A seed, a peer that has the only piece of a task, and one that wants it."""
    for event in (
        seed_greeted(),
        greeted("a", location="row/rack"),
        said("a", SECRET),
        said(SEED, seeded(0, of=1, digest=CONTENT_DIGEST)),
        said("a", done(1, 0)),
        said("a", Alive(received=(0, PIECE, 0, 0), sent=5)),
        greeted("b"),
        said("b", register()),
    ):
        api.broker.router.handle(event)


async def test_ping_and_version() -> None:
    async with loopback_api() as api:
        pinged = await api.ask("/_ping")
        assert (pinged.code, pinged.body, pinged.headers["Content-Type"]) == (200, b"OK", "text/plain; charset=utf-8")
        assert await api.json("/version") == {
            "Version": VERSION,
            "Protocol": f"{PROTOCOL[0]}.{PROTOCOL[1]}",
            "Server": "damselfly",
        }
        assert pinged.headers["Server"] == "damselfly"


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("version", ["/api/v1", "/v1.24", "/v2", "/api/v1.0.2"])
async def test_every_route_is_there_below_a_version_too(route: str, version: str) -> None:
    async with loopback_api() as api:
        swarm(api)
        plain, versioned = await api.ask(route), await api.ask(version + route)
        assert plain.code == versioned.code == 200
        assert plain.headers["Content-Type"] == versioned.headers["Content-Type"]
        if plain.headers["Content-Type"].startswith("application/json"):
            assert json.loads(plain.body).keys() == json.loads(versioned.body).keys()


async def test_the_cluster_document_says_where_the_broker_is_by_the_name_that_was_used() -> None:
    async with loopback_api() as api:
        document = await api.json("/cluster")
        port = api.broker.router.port
        settings = api.broker.scheduler.settings
        assert document == {
            "broker": f"tcp://127.0.0.1:{port}",
            "protocol": list(PROTOCOL),
            "supernode": RUN_ID,
            "version": VERSION,
            "secured": False,
            "settings": {"alive_every_s": settings.alive_every_s, "lost_after_s": settings.lost_after_s},
        }
        named = await api.ask("/cluster", Host="supernode.example:80")
        assert json.loads(named.body)["broker"] == f"tcp://supernode.example:{port}"


async def test_lists_come_in_pages_in_the_order_of_ids_whatever_comes_and_goes_between_them() -> None:
    async with loopback_api() as api:
        for name in ("d", "b", "e", "a", "c"):
            api.broker.router.handle(greeted(name))
            api.broker.router.handle(said(name, register(f"{name}" * 64)))
        for path, key in (("/peers", "peers"), ("/tasks", "tasks")):
            first = await api.json(f"{path}?limit=2")
            assert [each["id"][0] for each in first[key]] == ["a", "b"]
            assert first["next"] == first[key][-1]["id"]
            rest = await api.json(f"{path}?limit=3&after={first['next']}")
            assert ([each["id"][0] for each in rest[key]], rest["next"]) == (["c", "d", "e"], None)
        api.broker.router.handle(PeerGone(peer="b"))
        assert [each["id"] for each in (await api.json("/api/v1/peers?after=b&limit=1"))["peers"]] == ["c"]
        assert await api.json("/peers?after=e") == {"peers": [], "next": None}


async def test_a_list_is_bounded_although_nobody_asks_for_that() -> None:
    async with loopback_api() as api:
        for number in range(1001):
            api.broker.router.handle(greeted(f"{number:04}"))
        told = await api.json("/peers")
        assert (len(told["peers"]), told["next"]) == (1000, "0999")
        assert [each["id"] for each in (await api.json("/peers?after=0999"))["peers"]] == ["1000"]


@pytest.mark.parametrize("limit", ["0", "-1", "x", "", "5001", "1e3", "\u0663", "9" * 5000])
async def test_a_limit_that_is_none_is_refused_in_words(limit: str) -> None:
    async with loopback_api() as api:
        answer = await api.ask(f"/tasks?limit={quote(limit)}")
        assert (answer.code, json.loads(answer.body)["message"]) == (400, "limit is a number from 1 to 5000")


async def test_peers_are_shown_as_they_are() -> None:
    async with loopback_api() as api:
        swarm(api)
        peers = {peer["id"]: peer for peer in (await api.json("/peers"))["peers"]}
        assert set(peers) == {SEED, "a", "b"}
        one = await api.json("/peers/a")
        assert one.keys() == peers["a"].keys()
        for key in ("heard_s_ago", "here_for_s"):
            assert 0 <= one.pop(key) < 10
        assert one == {
            "id": "a",
            "role": "peer",
            "host": "host-a",
            "version": "1.2.3",
            "endpoint": "tcp://a:1",
            "location": "row/rack",
            "tasks": [TASK],
            "strikes": 0,
            "received_bytes": {"source": 0, "seed": PIECE, "peer": 0, "disk": 0},
            "sent_bytes": 5,
        }
        assert (await api.json(f"/peers/{SEED}"))["role"] == "seed"


async def test_tasks_are_shown_as_they_are() -> None:
    async with loopback_api() as api:
        swarm(api)
        (listed,) = (await api.json("/tasks"))["tasks"]
        task = await api.json(f"/tasks/{TASK}")
        assert listed.keys() == task.keys()
        assert 0 <= task.pop("age_s") < 10
        assert task == {
            "id": TASK,
            "state": "cached",
            "url": "https://source.example/a/file?...",
            "length": PIECE,
            "piece_length": PIECE,
            "block_length": PIECE,
            "pieces": 1,
            "pieces_cached": 1,
            "digest": CONTENT_DIGEST,
            "peers": 2,
            "complete_peers": 1,
            "code": None,
            "status": 0,
            "message": "",
        }


async def test_a_task_of_which_little_is_known_and_one_that_is_dead() -> None:
    async with loopback_api() as api:
        for event in (seed_greeted(), greeted("a"), said("a", register()), said("a", register(OTHER_TASK))):
            api.broker.router.handle(event)
        probing = await api.json(f"/tasks/{TASK}")
        assert (probing["state"], probing["length"], probing["pieces"], probing["complete_peers"]) == ("probing", None, None, 0)
        failure = SeedFailed(task=OTHER_TASK, code=ErrorCode.SOURCE_NOT_FOUND, status=404, message="check the URL")
        api.broker.router.handle(PeerSaid(peer=SEED, message=failure))
        dead = await api.json(f"/tasks/{OTHER_TASK}")
        assert (dead["state"], dead["code"], dead["status"], dead["message"]) == (
            "dead",
            "source_not_found",
            404,
            "check the URL",
        )


async def test_a_task_is_dropped_by_delete() -> None:
    async with loopback_api() as api:
        swarm(api)
        answer = await api.ask(f"/api/v1/tasks/{TASK}", "DELETE")
        assert (answer.code, json.loads(answer.body)) == (200, {"dropped": TASK})
        assert api.broker.scheduler.state.tasks == {}
        again = await api.ask(f"/tasks/{TASK}", "DELETE")
        assert (again.code, json.loads(again.body)) == (404, {"code": 404, "message": f"no task {TASK} is known"})


@pytest.mark.parametrize(
    ("method", "path", "code", "message"),
    [
        ("GET", "/tasks/" + "c" * 64, 404, f"no task {'c' * 64} is known"),
        ("DELETE", "/tasks/abc", 404, "no task abc is known"),
        ("GET", "/peers/nobody", 404, "no peer nobody is here"),
        ("GET", "/peers/" + "x" * 300, 404, f"no peer {'x' * 64} is here"),
        ("GET", "/tasks/not-hexadecimal", 404, "there is nothing at this path"),
        ("GET", "/", 404, "there is nothing at this path"),
        ("GET", "/api/vX/_ping", 404, "there is nothing at this path"),
        ("DELETE", "/nothing", 404, "there is nothing at this path"),
        ("DELETE", "/_ping", 405, "Method Not Allowed"),
        ("DELETE", "/peers/a", 405, "Method Not Allowed"),
    ],
)
async def test_errors_have_the_shape_of_1x(
    method: str, path: str, code: int, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with loopback_api() as api:
        answer = await api.ask(path, method)
        assert answer.code == code
        assert answer.headers["Content-Type"].startswith("application/json")
        assert json.loads(answer.body) == {"code": code, "message": message}
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR], "theirs, not ours"


@pytest.mark.parametrize("name", ["a%0d%0aX-Evil:%201", "%E2%82%AC%00", "a%0ab"])
async def test_what_is_asked_for_never_becomes_a_header(name: str) -> None:
    async with loopback_api() as api:
        answer = await api.raw(f"GET /peers/{name} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 404 Not Found\r\n")
        assert b"evil" not in head.lower()
        assert json.loads(body)["code"] == 404


async def test_what_is_no_http_is_hung_up_on_and_the_next_request_is_answered() -> None:
    async with loopback_api() as api:
        answer = await api.raw(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
        assert b"200" not in answer
        assert (await api.ask("/_ping")).code == 200


@pytest.mark.parametrize("route", [*ROUTES, "/peers/nobody", "/nothing", f"/tasks/{OTHER_TASK}"])
async def test_no_secret_is_answered_or_logged(route: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with loopback_api() as api:
        swarm(api)
        answer = await api.ask(route + "?token=s3cret", Authorization="Bearer s3cret", Cookie="s3cret")
        assert b"s3cret" not in answer.body
        assert "s3cret" not in str(answer.headers)
        await api.ask(route + "?token=s3cret", "DELETE", Authorization="Bearer s3cret")
    assert "s3cret" not in caplog.text
    assert VERSIONED.endswith("?"), "routes without a version are what this asks for"


async def test_an_error_of_ours_is_a_500_without_details_and_a_log_line_without_secrets(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with loopback_api() as api:
        swarm(api)
        monkeypatch.setattr("broker.http_api._task", lambda record, now: 1 / 0)
        answer = await api.ask("/tasks?token=s3cret", Authorization="s3cret")
        assert (answer.code, json.loads(answer.body)) == (500, {"code": 500, "message": "Internal Server Error"})
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.getMessage() == "GET /tasks cannot be answered"
    assert "ZeroDivisionError" in caplog.text
    assert "s3cret" not in caplog.text
