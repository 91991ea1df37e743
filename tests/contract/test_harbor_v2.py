"""What Harbor 2.12 on sends to Dragonfly 2, and what it reads in the answers (provider/dragonfly.go): a policy's whole life."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.preheat_lab import SEED, PreheatLab, preheat_lab
from tests.support.small_registry import OCI, SmallRegistry, digest_of, small_registry, task_of
from wire.errors import ErrorCode
from wire.messages import SeedFailed, Warmed

LAYER, OTHER = b"layer" * 1000, b"other" * 1000


@pytest.fixture
async def registry() -> AsyncIterator[SmallRegistry]:
    async with small_registry() as made:
        yield made


@pytest.fixture
async def lab(tmp_path: Path, registry: SmallRegistry) -> AsyncIterator[PreheatLab]:
    async with preheat_lab(tmp_path, registry.lengths) as made:
        yield made


def harbor_says(registry: SmallRegistry, name: str, *, scope: str = "single_seed_peer", **args: Any) -> dict[str, Any]:
    """dragonflyCreateJobRequest."""
    return {
        "type": "preheat",
        "args": {
            "type": "image",
            "url": f"{registry.root}/v2/{name}/manifests/1",
            "tag": "",
            "filtered_query_params": "",
            "headers": {"Authorization": "Bearer pull-token"},
            "scope": scope,
            "concurrent_count": 0,
            "timeout": 0,
            **args,
        },
        "scheduler_cluster_ids": None,
    }


async def polled(lab: PreheatLab, number: int) -> dict[str, Any]:
    """As Harbor polls."""
    async with asyncio.timeout(20):
        while True:
            told: dict[str, Any] = await lab.json("GET", f"/oapi/v1/jobs/{number}")
            assert told["id"] == number
            assert told["state"] in ("PENDING", "SUCCESS", "FAILURE"), "anything else Harbor takes for a failure"
            for key in ("created_at", "updated_at"):
                datetime.fromisoformat(told[key])
            if told["state"] != "PENDING":
                return told
            await asyncio.sleep(0.02)


def tables(told: dict[str, Any]) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """The rows that Harbor shows."""
    (state,) = told["result"]["job_states"]
    (result,) = state["results"]
    assert isinstance(result["scheduler_cluster_id"], int)
    return result["success_tasks"], result["failure_tasks"]


@pytest.mark.parametrize("scope", ["", "single_peer", "single_seed_peer", "all_seed_peers"])
async def test_a_policy_s_whole_life(lab: PreheatLab, registry: SmallRegistry, scope: str) -> None:
    health = await lab.ask("GET", "/healthy")
    assert health.code == 200
    digest = registry.image("library/app", "1", [LAYER])
    request = harbor_says(registry, "library/app", scope=scope)
    begun = await lab.json("POST", "/oapi/v1/jobs", request)
    assert isinstance(begun["id"], int)
    assert (begun["type"], begun["args"]["type"]) == ("preheat", "image")
    assert "pull-token" not in json.dumps(begun)
    done = await polled(lab, begun["id"])
    assert done["state"] == "SUCCESS"
    succeeded, failed = tables(done)
    assert failed == []
    root = f"{registry.root}/v2/library/app"
    assert {row["url"] for row in succeeded} >= {f"{root}/manifests/{digest}", f"{root}/blobs/{digest_of(LAYER)}"}
    assert {(row["hostname"], row["ip"]) for row in succeeded} == {(f"host-{SEED}", SEED)}
    # Every request is a job of its own here; nothing is fetched again.
    again = await lab.json("POST", "/oapi/v1/jobs", request)
    assert again["id"] != begun["id"]
    assert (await polled(lab, again["id"]))["state"] == "SUCCESS"
    assert lab.seed is not None
    assert len(lab.seed.fetches) == 3


async def test_all_peers_is_proven_on_each_of_them(lab: PreheatLab, registry: SmallRegistry) -> None:
    registry.image("library/app", "1", [LAYER])
    good, bad = await lab.with_peer("10.0.0.1-1-1"), await lab.with_peer("10.0.0.2-1-1")
    task = task_of(digest_of(LAYER))
    bad.failures[task] = Warmed(task=task, code=ErrorCode.STORE_FULL, message="its disk is full: free some of it")
    begun = await lab.json("POST", "/oapi/v1/jobs", harbor_says(registry, "library/app", scope="all_peers"))
    done = await polled(lab, begun["id"])
    assert done["state"] == "FAILURE"
    error = done["result"]["job_states"][0]["error"]
    assert error.startswith("PARTIAL: 1 of 2 hosts lack something; host-10.0.0.2-1-1, ")
    assert "its disk is full" in error
    succeeded, failed = tables(done)
    assert len(succeeded) == 8
    (row,) = failed
    assert row.keys() == {"url", "hostname", "ip", "description"}
    assert row["hostname"] == "host-10.0.0.2-1-1"
    assert row["url"].endswith(digest_of(LAYER))
    assert row["description"] == "its disk is full: free some of it"
    # A host gets no credentials: it takes the content from the swarm.
    assert {warm.headers for warm in (*good.warms, *bad.warms)} == {()}
    assert {warm.keep_s for warm in good.warms} == {86400.0}


async def test_ips_name_the_hosts(lab: PreheatLab, registry: SmallRegistry) -> None:
    registry.image("library/app", "1", [LAYER])
    named, other = await lab.with_peer("10.0.0.1-1-1"), await lab.with_peer("10.0.0.2-1-1")
    request = harbor_says(registry, "library/app", scope="all_peers", ips=["10.0.0.1-1-1", "10.9.9.9"])
    done = await polled(lab, (await lab.json("POST", "/oapi/v1/jobs", request))["id"])
    assert done["state"] == "FAILURE"
    assert "10.9.9.9" in done["result"]["job_states"][0]["error"]
    assert len(named.warms) == 3
    assert other.warms == []


async def test_a_failing_image(lab: PreheatLab, registry: SmallRegistry) -> None:
    begun = await lab.json("POST", "/oapi/v1/jobs", harbor_says(registry, "library/none"))
    done = await polled(lab, begun["id"])
    assert done["state"] == "FAILURE"
    assert "404" in done["result"]["job_states"][0]["error"]


async def test_a_failing_layer_is_in_the_table(lab: PreheatLab, registry: SmallRegistry) -> None:
    registry.image("library/app", "1", [LAYER, OTHER])
    task = task_of(digest_of(OTHER))
    assert lab.seed is not None
    lab.seed.failures[task] = SeedFailed(task=task, code=ErrorCode.SOURCE_NOT_FOUND, status=404, message="it answers 404")
    done = await polled(lab, (await lab.json("POST", "/oapi/v1/jobs", harbor_says(registry, "library/app")))["id"])
    succeeded, failed = tables(done)
    assert (len(succeeded), [row["description"] for row in failed]) == (3, ["it answers 404"])


async def test_list_stop_and_delete(lab: PreheatLab, registry: SmallRegistry) -> None:
    registry.image("library/app", "1", [LAYER])
    assert lab.seed is not None
    lab.seed.silent.add(task_of(digest_of(LAYER)))
    number = (await lab.json("POST", "/oapi/v1/jobs", harbor_says(registry, "library/app")))["id"]
    (listed,) = await lab.json("GET", "/oapi/v1/jobs?page=1&per_page=10&state=PENDING")
    assert listed["id"] == number
    assert await lab.json("GET", "/oapi/v1/jobs?state=SUCCESS") == []
    assert await lab.json("GET", "/oapi/v1/jobs?page=2") == []
    stopped = await lab.json("POST", f"/oapi/v1/jobs/{number}/stop")
    assert stopped["state"] == "FAILURE"
    assert stopped["result"]["job_states"][0]["error"] == "STOPPED: it was stopped"
    assert await lab.json("DELETE", f"/oapi/v1/jobs/{number}") is None
    await lab.json("GET", f"/oapi/v1/jobs/{number}", status=404)
    await lab.json("DELETE", f"/oapi/v1/jobs/{number}", status=404)
    assert (await lab.ask("GET", f"/oapi/v1/jobs/{number}/stop")).code == 405
    assert (await lab.ask("GET", "/oapi/v1/jobs?page=x")).code == 400


async def test_platform_password_and_timeout(lab: PreheatLab, registry: SmallRegistry) -> None:
    amd, arm = registry.image("library/app", "amd", [LAYER]), registry.image("library/app", "arm", [OTHER])
    entries = [
        {"mediaType": OCI, "digest": digest, "size": 500, "platform": {"os": "linux", "architecture": name}}
        for digest, name in ((amd, "amd64"), (arm, "arm64"))
    ]
    registry.manifest("library/app", {"manifests": entries}, "application/vnd.oci.image.index.v1+json", "1")
    args: dict[str, Any] = {
        "headers": None,
        "username": "alice",
        "password": "secret",
        "platform": "linux/arm64",
        "timeout": 3_600_000_000_000,
    }
    begun = await lab.json("POST", "/oapi/v1/jobs", harbor_says(registry, "library/app", **args))
    assert (await polled(lab, begun["id"]))["state"] == "SUCCESS"
    assert lab.preheat.core.jobs[begun["id"]].spec.timeout_s == 3600.0
    assert {each.authorization for each in registry.asked} == {"Basic YWxpY2U6c2VjcmV0"}
    assert lab.seed is not None
    fetched = {fetch.digest for fetch in lab.seed.fetches}
    assert digest_of(OTHER) in fetched
    assert digest_of(LAYER) not in fetched


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"type": "gc"}, "type must be preheat"),
        ({"args": None}, "args"),
        ({"args": {"type": "image", "url": "http://a/v2/b/manifests/c", "scope": "planet"}}, "scope"),
        ({"args": {"type": "image", "url": "http://a/v2/b/manifests/c", "timeout": "1h"}}, "timeout"),
        ({"args": {"type": "image", "url": "http://a/v2/b/manifests/c", "timeout": 10**400}}, "timeout"),
        ({"args": {"type": "image", "url": "http://a/v2/b/manifests/c", "timeout": float("nan")}}, "JSON"),
        ({"args": {"type": "image", "url": "http://a/v2/b/manifests/c", "timeout": float("inf")}}, "JSON"),
        ({"args": {"type": "image", "url": "http://a/v2/b/manifests/c", "username": "\ud800"}}, "JSON"),
        ({"args": {"type": "image", "url": "http://a/v2/b/manifests/c", "ips": {"a": 1}}}, "hosts"),
        ({"args": {"type": "image", "url": "http://a/v2/b/manifests/c", "platform": "linux"}}, "platform"),
        ({"args": {"type": "image", "url": "http://a/v2/b/manifests/c", "certificates": ["é"]}}, "certificate"),
    ],
)
async def test_what_is_no_request_is_400_in_words(
    lab: PreheatLab, registry: SmallRegistry, change: dict[str, Any], told: str
) -> None:
    answer = await lab.ask("POST", "/oapi/v1/jobs", harbor_says(registry, "library/app") | change)
    assert answer.code == 400
    assert told in json.loads(answer.body)["message"]
