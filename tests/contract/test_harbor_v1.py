"""What Harbor 2.1 to 2.11 sends to Dragonfly 1.x, and what it reads in the answers: a policy's whole life, field by field."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.preheat_lab import PreheatLab, preheat_lab
from tests.support.small_registry import SmallRegistry, digest_of, small_registry, task_of
from wire.errors import ErrorCode
from wire.messages import SeedFailed

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
LAYER, OTHER = b"layer" * 1000, b"other" * 1000


@pytest.fixture
async def registry() -> AsyncIterator[SmallRegistry]:
    async with small_registry() as made:
        yield made


@pytest.fixture
async def lab(tmp_path: Path, registry: SmallRegistry) -> AsyncIterator[PreheatLab]:
    async with preheat_lab(tmp_path, registry.lengths) as made:
        yield made


def harbor_says(registry: SmallRegistry, name: str, tag: str, digest: str) -> dict[str, Any]:
    """The body of Harbor's request (provider/dragonfly.go, PreheatImage)."""
    return {
        "type": "image",
        "url": f"{registry.root}/v2/{name}/manifests/{tag}",
        "headers": {"Authorization": "Bearer pull-token"},
        "image": name,
        "tag": tag,
        "digest": digest,
    }


async def polled(lab: PreheatLab, job: str) -> dict[str, Any]:
    """As Harbor polls, until the status is one that ends it."""
    async with asyncio.timeout(20):
        while True:
            told: dict[str, Any] = await lab.json("GET", f"/preheats/{job}")
            assert told.keys() == {"ID", "status", "startTime", "finishTime", "errorMsg"}
            assert told["ID"] == job
            if told["status"] in ("SUCCESS", "FAILED"):
                return told
            assert told["status"] in ("WAITING", "RUNNING")
            assert told["finishTime"] == "1970-01-01T00:00:00.000Z"
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("prefix", ["", "/api/v1", "/v1.0"])
async def test_a_policy_s_whole_life(lab: PreheatLab, registry: SmallRegistry, prefix: str) -> None:
    health = await lab.ask("GET", f"{prefix}/_ping")
    assert (health.code, health.body) == (200, b"OK")
    digest = registry.image("library/app", "1", [LAYER])
    request = harbor_says(registry, "library/app", "1", digest)
    told = await lab.json("POST", f"{prefix}/preheats", request, status=201)
    assert told.keys() == {"ID"}
    assert re.fullmatch(r"[0-9a-f]{64}", told["ID"])
    done = await polled(lab, told["ID"])
    assert (done["status"], done["errorMsg"]) == ("SUCCESS", "")
    assert TIME.fullmatch(done["startTime"])
    assert TIME.fullmatch(done["finishTime"])
    assert done["startTime"] <= done["finishTime"]
    # The registry was asked for the manifest alone, as whom Harbor said; the seed for each blob, once.
    assert {each.authorization for each in registry.asked} == {"Bearer pull-token"}
    assert lab.seed is not None
    assert {fetch.digest for fetch in lab.seed.fetches} == {
        digest,
        digest_of(LAYER),
        digest_of(b'{"os":"linux","architecture":"amd64"}'),
    }
    assert len(lab.seed.fetches) == 3
    # The policy runs again: 208, which Harbor takes for SUCCESS, without another byte.
    again = await lab.json("POST", f"{prefix}/preheats", request, status=208)
    assert again == {"code": 208, "message": f"preheat task already exists, id:{told['ID']}"}
    assert len(lab.seed.fetches) == 3
    assert (await polled(lab, told["ID"]))["status"] == "SUCCESS"


async def test_a_repeat_after_the_tag_moved_fetches_what_is_new(lab: PreheatLab, registry: SmallRegistry) -> None:
    request = harbor_says(registry, "library/app", "1", registry.image("library/app", "1", [LAYER]))
    told = await lab.json("POST", "/preheats", request, status=201)
    await polled(lab, told["ID"])
    registry.image("library/app", "1", [LAYER, OTHER])
    answer = await lab.ask("POST", "/preheats", request)
    assert answer.code in (201, 208)
    assert (await polled(lab, told["ID"]))["status"] == "SUCCESS"
    assert lab.seed is not None
    fetched = [fetch.digest for fetch in lab.seed.fetches]
    assert fetched.count(digest_of(LAYER)) == 1
    assert fetched.count(digest_of(OTHER)) == 1


async def test_a_failing_image_is_failed_with_the_reason_and_is_tried_again(lab: PreheatLab, registry: SmallRegistry) -> None:
    request = harbor_says(registry, "library/none", "1", "sha256:" + "0" * 64)
    told = await lab.json("POST", "/preheats", request, status=201)
    failed = await polled(lab, told["ID"])
    assert failed["status"] == "FAILED"
    assert "404" in failed["errorMsg"]
    assert "already exists" not in failed["errorMsg"]
    # 1.x answered 208 for a job that had failed, which Harbor took for SUCCESS.
    registry.image("library/none", "1", [LAYER])
    assert await lab.json("POST", "/preheats", request, status=201) == told
    assert (await polled(lab, told["ID"]))["status"] == "SUCCESS"


async def test_a_shared_layer_fails_nobody(lab: PreheatLab, registry: SmallRegistry) -> None:
    registry.image("library/one", "1", [LAYER])
    registry.image("library/two", "1", [LAYER, OTHER])
    ids = [
        (await lab.json("POST", "/preheats", harbor_says(registry, name, "1", ""), status=201))["ID"]
        for name in ("library/one", "library/two")
    ]
    assert [(await polled(lab, each))["status"] for each in ids] == ["SUCCESS", "SUCCESS"]
    assert lab.seed is not None
    assert [fetch.digest for fetch in lab.seed.fetches].count(digest_of(LAYER)) == 1


async def test_a_layer_that_cannot_be_had_is_named(lab: PreheatLab, registry: SmallRegistry) -> None:
    registry.image("library/app", "1", [LAYER, OTHER])
    task = task_of(digest_of(OTHER))
    assert lab.seed is not None
    lab.seed.failures[task] = SeedFailed(task=task, code=ErrorCode.SOURCE_FORBIDDEN, status=403, message="it forbids it")
    told = await lab.json("POST", "/preheats", harbor_says(registry, "library/app", "1", ""), status=201)
    failed = await polled(lab, told["ID"])
    assert failed["status"] == "FAILED"
    assert f"/v2/library/app/blobs/{digest_of(OTHER)}: it forbids it" in failed["errorMsg"]
    assert failed["errorMsg"].startswith("1 of 4 blobs cannot be had")


async def test_a_duplicate_of_a_running_job_joins_it(lab: PreheatLab, registry: SmallRegistry) -> None:
    registry.image("library/app", "1", [LAYER])
    assert lab.seed is not None
    lab.seed.silent.add(task_of(digest_of(LAYER)))
    request = harbor_says(registry, "library/app", "1", "")
    first = await lab.json("POST", "/preheats", request, status=201)
    assert await lab.json("POST", "/preheats", request, status=201) == first
    (record,) = await lab.json("GET", "/preheats")
    assert record["ID"] == first["ID"]
    assert record["Status"] in ("WAITING", "RUNNING")
    # It is stopped: deleted while it runs, as 1.x deletes.
    assert await lab.json("DELETE", f"/preheats/{first['ID']}") is True
    gone = await lab.json("GET", f"/preheats/{first['ID']}", status=404)
    assert gone == {"code": 404, "message": f"{first['ID']} doesn't exists"}
    assert await lab.json("DELETE", f"/preheats/{first['ID']}") is True, "always, as 1.x"


async def test_the_list_has_1x_s_records_without_headers(lab: PreheatLab, registry: SmallRegistry) -> None:
    registry.image("library/app", "1", [LAYER])
    told = await lab.json("POST", "/preheats", harbor_says(registry, "library/app", "1", ""), status=201)
    await polled(lab, told["ID"])
    (record,) = await lab.json("GET", "/preheats")
    names = "ID URL Type Filter Identifier Headers ParentID Children Status StartTime FinishTime ErrorMsg"
    assert record.keys() == set(names.split())
    assert record["Headers"] is None
    assert record["URL"] == f"{registry.root}/v2/library/app/manifests/1"
    assert 1_000_000_000_000 < record["StartTime"] <= record["FinishTime"]


async def test_a_file_by_its_url(lab: PreheatLab, registry: SmallRegistry) -> None:
    from wire.ids import task_id

    url = f"{registry.root}/file.bin?name=x&Signature=secret"
    task = task_id(url, filters=("Signature",), identifier="me")
    registry.lengths[task] = 4096
    request = {"type": "file", "url": url, "filter": "Signature", "identifier": "me", "headers": {"X-Own": "1"}}
    told = await lab.json("POST", "/preheats", request, status=201)
    assert (await polled(lab, told["ID"]))["status"] == "SUCCESS"
    assert lab.seed is not None
    (fetch,) = lab.seed.fetches
    assert (fetch.task, fetch.url, fetch.filters, fetch.headers) == (task, url, ("Signature",), (("X-Own", "1"),))
    assert "secret" not in json.dumps(await lab.json("GET", "/preheats"))


async def test_a_whole_pair_is_a_character_as_any_other(lab: PreheatLab) -> None:
    body = b'{"type": "file", "url": "http://127.0.0.1:1/\\ud83d\\ude00", "identifier": "\\ud83d\\ude00"}'
    told = await lab.json("POST", "/preheats", body, status=201)
    assert (await lab.json("GET", "/preheats"))[0]["Identifier"] == "\U0001f600"
    await polled(lab, told["ID"])


@pytest.mark.parametrize(
    ("document", "told"),
    [
        (b"{", "JSON"),
        (b"[]", "object"),
        ({"url": "http://a/v2/b/manifests/c"}, "type must be"),
        ({"type": "layer", "url": "http://a/v2/b/manifests/c"}, "type must be"),
        ({"type": "image", "url": "x"}, "url"),
        ({"type": "image", "url": "http://a/b"}, "/manifests/"),
        ({"type": "file", "url": "ftp://a/b"}, "http"),
        ({"type": "file", "url": 7}, "url"),
        ({"type": "file", "url": "http://a/b", "headers": ["x"]}, "headers"),
        ({"type": "file", "url": "http://a/b", "headers": {"X": "half of a pair: \ude00"}}, "JSON"),
        ({"type": "file", "url": "http://a/b", "filter": "\ud800"}, "JSON"),
        ({"type": "file", "url": f"http://{'a' * 64}.example/b"}, "host"),
        ({"type": "file", "url": "http://a..b/c"}, "host"),
        ({"type": "file", "url": "http://a/b", "headers": {"X": {"a": 1}}}, "headers"),
        ({"type": "file", "url": "http://a/b", "headers": {"X": "a\r\nY: b"}}, "well formed"),
        ({"type": "file", "url": "http://a/b", "headers": {f"X{n}": "1" for n in range(101)}}, "headers"),
        ({"type": "file", "url": "http://a/b", "filter": "&".join("abc" for _ in range(65))}, "filter"),
    ],
)
async def test_what_is_no_request_is_400_in_words(lab: PreheatLab, document: Any, told: str) -> None:
    answer = await lab.ask("POST", "/preheats", document)
    assert answer.code == 400
    error = json.loads(answer.body)
    assert error["code"] == 400
    assert told in error["message"]
    assert lab.preheat.core.jobs == {}
