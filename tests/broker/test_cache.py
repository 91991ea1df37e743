"""Questions to stores: what hosts answer is laid together, who is silent or too old is named, nobody is waited for for ever."""

import asyncio
import json
from typing import Any

import pytest

from broker.cache import http_cache, questions
from tests.support.broker_http import LoopbackApi, loopback_api
from tests.support.broker_words import SEED, TASK, greeted, hello, register, said, seed_greeted, seeded
from tests.support.dealer import Dealer
from wire.messages import CacheList, CachePage, Collect, Drop, Fetch, Hello, Keep, Message, Role, Welcome

A, B, C = "a" * 64, "b" * 64, "c" * 64
OLD = Hello(protocol=(1, 0), peer="old", role=Role.PEER, host="host-old", data_endpoint="tcp://10.0.0.9:1")


def row(task: str, **more: Any) -> tuple[str, int, int, float, float, bool, str]:
    """One content of a page."""
    told = {"length": 10, "size": 4096, "unused_s": 1.0, "kept_s": 0.0, "in_use": False, "url": f"http://h/{task[0]}"} | more
    return (task, *told.values())  # type: ignore[return-value]


async def answer(dealer: Dealer, kind: type[Message], *rows: tuple[str, int, int, float, float, bool, str], **more: Any) -> Any:
    """Answer the next question, which is of this kind. Returns it."""
    question = await dealer.hears(kind)
    dealer.say(CachePage(number=question.number, contents=rows, **more))  # type: ignore[attr-defined]
    return question


async def asked(api: LoopbackApi, path: str, method: str = "GET", body: str | None = None) -> tuple[int, Any]:
    """Status and document."""
    told = await api.ask(path, method, body=body if method == "POST" else None)
    return told.code, json.loads(told.body)


async def test_what_hosts_have_is_laid_together_by_content() -> None:
    async with loopback_api() as api:
        seed, peer = await api.broker.join(SEED, Role.SEED), await api.broker.join("p")
        asking = asyncio.ensure_future(asked(api, "/cache?limit=2"))
        fill = {"used": 8192, "quota": 1 << 20, "free": 7, "kept": 4096}
        question = await answer(seed, CacheList, row(A, kept_s=60.0), row(B), **fill, more=True)
        assert (question.after, question.limit) == ("", 2)
        await answer(peer, CacheList, row(A, in_use=True, url=""), row(C), used=8192)
        status, told = await asking
        assert status == 200
        assert [each["task"] for each in told["contents"]] == [A, B]
        assert told["next"] == B
        first = told["contents"][0]
        assert (first["url"], first["length"]) == ("http://h/a", 10)
        where = {host["peer"]: (host["kept_s"], host["in_use"]) for host in first["hosts"]}
        assert where == {SEED: (60.0, False), "p": (0.0, True)}
        by_peer = {host["peer"]: host for host in told["hosts"]}
        assert by_peer[SEED] == {
            **{"peer": SEED, "host": f"host-{SEED}", "role": "seed", "error": None},
            **fill,
        }


async def test_who_is_silent_or_too_old_is_named_and_the_others_are_told() -> None:
    async with loopback_api(cache_limit_s=0.2) as api:
        seed, _ = await api.broker.join(SEED, Role.SEED), await api.broker.join("silent")
        old = api.broker.connect()
        old.say(OLD)
        await old.hears(Welcome)
        asking = asyncio.ensure_future(asked(api, "/cache"))
        await answer(seed, CacheList, row(A))
        status, told = await asking
        assert status == 200
        assert [each["task"] for each in told["contents"]] == [A]
        errors = {host["peer"]: host["error"] for host in told["hosts"]}
        assert errors[SEED] is None
        assert errors["silent"] == "it has not answered within 0.2 s"
        assert "speaks protocol 1.0, too old to be asked" in errors["old"]
        await old.is_answered()  # it has not been asked


async def test_an_answer_that_nobody_waits_for_changes_nothing() -> None:
    async with loopback_api() as api:
        peer, other = await api.broker.join("p"), await api.broker.join("q")
        peer.say(CachePage(number=1), CachePage(number=77))
        asking = asyncio.ensure_future(asked(api, "/cache?host=p"))
        question = await peer.hears(CacheList)
        other.say(CachePage(number=question.number, contents=(row(B),)))  # another one's answer
        await other.is_answered()
        peer.say(CachePage(number=question.number, contents=(row(A),)), CachePage(number=question.number))
        assert [each["task"] for each in (await asking)[1]["contents"]] == [A]


@pytest.mark.parametrize("host", ["p", "host-p", "p:1", "p,p", "seed,p", SEED])
async def test_hosts_are_named_as_for_preheats_or_as_the_seed(host: str) -> None:
    async with loopback_api() as api:
        dealers = {SEED: await api.broker.join(SEED, Role.SEED), "p": await api.broker.join("p")}
        wanted = {"seed,p": [SEED, "p"], SEED: [SEED]}.get(host, ["p"])
        asking = asyncio.ensure_future(asked(api, f"/cache?host={host}"))
        for name in wanted:
            await answer(dealers[name], CacheList)
        status, told = await asking
        assert status == 200
        assert [each["peer"] for each in told["hosts"]] == sorted(wanted)


async def test_a_pin_goes_to_the_seed_and_its_refusal_comes_back() -> None:
    async with loopback_api() as api:
        seed = await api.broker.join(SEED, Role.SEED)
        await api.broker.join("p")
        asking = asyncio.ensure_future(asked(api, f"/cache/{A}/pin", "POST", '{"keep": "2h"}'))
        question = await answer(seed, Keep, row(A, kept_s=7200.0))
        assert (question.task, question.keep_s) == (A, 7200.0)
        status, told = await asking
        assert (status, told["task"], told["hosts"][0]["kept_s"]) == (200, A, 7200.0)
        asking = asyncio.ensure_future(asked(api, f"/cache/{A}/pin", "POST", ""))
        question = await answer(seed, Keep, refused="there is no room for it")
        assert question.keep_s == 86_400
        assert await asking == (409, {"code": 409, "message": "there is no room for it"})
        asking = asyncio.ensure_future(asked(api, f"/cache/{A}/pin", "DELETE"))
        assert (await answer(seed, Keep)).keep_s == 0
        assert (await asking)[0] == 404


async def test_first_digits_are_looked_up_and_must_mean_one_content() -> None:
    async with loopback_api() as api:
        seed = await api.broker.join(SEED, Role.SEED)
        twins = ["abcd1" + "0" * 59, "abcd2" + "0" * 59]
        asking = asyncio.ensure_future(asked(api, "/cache/abcd/pin", "POST", ""))
        assert (await answer(seed, CacheList, *map(row, twins))).after == "abcd"
        status, told = await asking
        assert status == 409
        assert "abcd means 2 contents" in told["message"]
        asking = asyncio.ensure_future(asked(api, "/cache/abcd2/pin", "POST", ""))
        await answer(seed, CacheList, row(twins[1]), row(C))
        assert (await answer(seed, Keep, row(twins[1], kept_s=1.0))).task == twins[1]
        assert (await asking)[0] == 200
        assert (await asked(api, "/cache/abc/pin", "POST", ""))[0] == 400


async def test_a_deletion_reaches_everybody_and_says_where_it_could_not_be() -> None:
    async with loopback_api() as api:
        seed, member, other = (
            await api.broker.join(SEED, Role.SEED),
            await api.broker.join("member"),
            await api.broker.join("other"),
        )
        member.say(register(TASK))
        await seed.hears(Fetch)
        seed.say(seeded(0, of=1))
        await seed.is_answered()
        asking = asyncio.ensure_future(asked(api, f"/cache/{TASK}", "DELETE"))
        await answer(seed, CacheList, row(TASK))
        await answer(other, CacheList, row(TASK))
        await answer_among(member, row(TASK))
        for dealer in (seed, other):
            assert (await dealer.hears(Drop)).task == TASK
        assert (await seed.hears(Drop)).task == TASK  # as the task's seed, and as one who may have it
        await answer(seed, CacheList)
        await answer(other, CacheList, row(TASK, in_use=True))
        await answer_among(member)
        status, told = await asking
        assert (status, told["in_use"], told["deleted"]) == (200, ["other"], [SEED, "member"])
        assert TASK not in api.broker.scheduler.state.tasks


async def answer_among(dealer: Dealer, *rows: tuple[str, int, int, float, float, bool, str]) -> None:
    """Answer the next question, whatever is said to this one before it."""
    while not isinstance(message := await asyncio.wait_for(dealer._heard.get(), 10), CacheList):
        pass
    dealer.say(CachePage(number=message.number, contents=rows))


async def test_a_deletion_of_what_nobody_has_says_so_and_troubles_nobody() -> None:
    async with loopback_api() as api:
        seed, peer = await api.broker.join(SEED, Role.SEED), await api.broker.join("p")
        asking = asyncio.ensure_future(asked(api, f"/cache/{A}", "DELETE"))
        await answer(seed, CacheList)
        await answer(peer, CacheList, row(B))
        status, told = await asking
        assert status == 404
        assert told["message"] == f"task {A[:16]} is on none of 2 hosts: there is nothing to delete"
        for dealer in (seed, peer):
            await dealer.is_answered()  # neither DROP nor a second question
        # Who has it on one host alone: only that one is told.
        asking = asyncio.ensure_future(asked(api, f"/cache/{A}", "DELETE"))
        await answer(seed, CacheList)
        await answer(peer, CacheList, row(A))
        assert (await peer.hears(Drop)).task == A
        await answer(peer, CacheList)
        status, told = await asking
        assert (status, told["deleted"], [host["peer"] for host in told["hosts"]]) == (200, ["p"], [SEED, "p"])
        await seed.is_answered()


async def test_a_silent_host_is_told_of_a_deletion_all_the_same() -> None:
    async with loopback_api(cache_limit_s=0.2) as api:
        silent = await api.broker.join("silent")
        asking = asyncio.ensure_future(asked(api, f"/cache/{A}", "DELETE"))
        await silent.hears(CacheList)
        assert (await silent.hears(Drop)).task == A
        status, told = await asking
        assert (status, told["deleted"], told["hosts"][0]["error"]) == (200, [], "it has not answered within 0.2 s")


async def test_room_is_made_on_the_seed_or_where_it_is_asked_for() -> None:
    async with loopback_api() as api:
        seed, peer = await api.broker.join(SEED, Role.SEED), await api.broker.join("p")
        asking = asyncio.ensure_future(asked(api, "/cache/gc", "POST", '{"free": "2GB"}'))
        left = (("kept", 2, 50), ("in use", 1, 7))
        assert (await answer(seed, Collect, removed=3, removed_bytes=99, left=left)).free == 2 << 30
        status, told = await asking
        assert (status, told["removed"], told["removed_bytes"], len(told["hosts"])) == (200, 3, 99, 1)
        assert told["left"] == {"kept": {"contents": 2, "bytes": 50}, "in use": {"contents": 1, "bytes": 7}}
        asking = asyncio.ensure_future(asked(api, "/cache/gc?host=p", "POST", ""))
        assert (await answer(peer, Collect, removed=1)).free == 0
        assert (await asking)[1]["removed"] == 1


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "words"),
    [
        ("GET", "/cache?limit=0", "", 400, "limit is a number"),
        ("GET", "/cache?limit=1001", "", 400, "limit is a number"),
        ("GET", f"/cache?after={'a' * 65}", "", 400, "after is a task"),
        ("GET", "/cache?task=%2e", "", 400, "first digits"),
        ("GET", "/cache?host=nobody", "", 404, "no host nobody is here"),
        ("POST", "/cache/gc", "[]", 400, "JSON object"),
        ("POST", "/cache/gc", "{", 400, "must be JSON"),
        ("POST", "/cache/gc", '{"free": "x"}', 400, "free: 'x' is no size"),
        ("POST", "/cache/gc", '{"free": -1}', 400, "free: "),
        ("POST", f"/cache/{A}/pin", '{"keep": "soon"}', 400, "keep: "),
        ("POST", f"/cache/{A}/pin", '{"keep": 1' + "0" * 400 + "}", 400, "keep must be from 0"),
    ],
)
async def test_what_is_wrong_is_said(method: str, path: str, body: str, status: int, words: str) -> None:
    async with loopback_api() as api:
        api.broker.router.handle(greeted("p"))
        code, told = await asked(api, path, method, body)
        assert code == status
        assert words in told["message"]


async def test_questions_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    async with loopback_api() as api:
        for event in (greeted("p"), seed_greeted(), said("p", register(TASK))):
            api.broker.router.handle(event)
        monkeypatch.setattr(questions, "_MOST_WAITING", 1)
        assert (await asked(api, "/cache"))[0] == 503
        monkeypatch.setattr(http_cache, "_MOST_ROWS", 100)
        code, told = await asked(api, "/cache")
        assert (code, "too many" in told["message"]) == (400, True)
        assert hello("p").protocol[1] >= 1
