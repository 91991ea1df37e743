"""The jobs' driver: secrets in memory alone, restarts, the operator's settings, and the supernode's own view over HTTP."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from broker.api_door import DoorHandler
from broker.cache import http_cache
from broker.core.manifests import parse_platform
from broker.preheat import http_jobs, http_kraken, http_v1, http_v2
from broker.preheat.config import PreheatConfig, Registry
from broker.preheat.service import PreheatRequest
from tests.support.preheat_lab import PreheatLab, preheat_lab
from tests.support.small_registry import INDEX, OCI, SmallRegistry, digest_of, small_registry, task_of
from wire.errors import ErrorCode
from wire.messages import SeedFailed
from worker_peer.host.allowed_hosts import parse_allowed

LAYER, OTHER = b"layer" * 1000, b"other" * 1000


@pytest.fixture
async def registry() -> AsyncIterator[SmallRegistry]:
    async with small_registry() as made:
        yield made


@pytest.fixture
async def lab(tmp_path: Path, registry: SmallRegistry) -> AsyncIterator[PreheatLab]:
    async with preheat_lab(tmp_path, registry.lengths) as made:
        yield made


def image_url(registry: SmallRegistry, name: str = "team/app") -> str:
    return f"{registry.root}/v2/{name}/manifests/1"


async def begun(lab: PreheatLab, **document: Any) -> dict[str, Any]:
    told: dict[str, Any] = await lab.json("POST", "/jobs", document, status=201)
    return told


def assert_nowhere(directory: Path, *secrets: bytes) -> None:
    """No file of the history holds it."""
    contents = [file.read_bytes() for file in directory.iterdir()]
    assert contents
    assert not [secret for secret in secrets for content in contents if secret in content]


async def test_the_own_view_has_every_blob_on_every_host(lab: PreheatLab, registry: SmallRegistry) -> None:
    digest = registry.image("team/app", "1", [LAYER])
    host = await lab.with_peer("10.0.0.1-1-1")
    job = await begun(
        lab, type="image", url=image_url(registry), scope="all", keep="7d", headers={"Authorization": "Basic c2VjcmV0"}
    )
    assert (job["state"], job["keep_s"], job["scope"]) == ("RUNNING", 604800.0, "all")
    done = await lab.ended(job["id"])
    assert (done["state"], done["blobs"], done["hosts"], done["next"]) == ("SUCCESS", 3, 1, None)
    assert done["verified_bytes"] == done["bytes"] > 2 * len(LAYER)
    rows = {(row["host"], row["digest"]): row for row in done["rows"]}
    assert {each for each, _ in rows} == {"seed", "10.0.0.1-1-1"}
    row = rows["10.0.0.1-1-1", digest_of(LAYER)]
    assert (row["state"], row["verified_bytes"], row["bytes"]) == ("DONE", len(LAYER), len(LAYER))
    assert (row["name"], row["received_bytes"]) == ("host-10.0.0.1-1-1", {"source": len(LAYER)})
    assert rows["seed", digest]["blob"] == f"{registry.root}/v2/team/app/manifests/{digest}"
    assert [warm.keep_s for warm in host.warms] == [604800.0] * 3
    page = await lab.json("GET", f"/api/v1/jobs/{job['id']}?after=2&limit=2")
    assert [(each["host"], each["digest"]) for each in page["rows"]] == list(rows)[2:4]
    assert page["next"] == 4
    by_key = await lab.json("GET", f"/jobs/{job['key']}")
    assert by_key["id"] == job["id"]
    assert "c2VjcmV0" not in json.dumps(done)


async def test_jobs_are_listed_in_pages_stopped_and_deleted(lab: PreheatLab, registry: SmallRegistry) -> None:
    for name in ("team/a", "team/b", "team/c"):
        registry.image(name, "1", [LAYER])
        await lab.ended((await begun(lab, type="image", url=image_url(registry, name)))["id"])
    first = await lab.json("GET", "/jobs?limit=2")
    assert ([job["id"] for job in first["jobs"]], first["next"]) == ([1, 2], 2)
    rest = await lab.json("GET", "/jobs?limit=2&after=2")
    assert ([job["id"] for job in rest["jobs"]], rest["next"]) == ([3], None)
    assert (await lab.json("DELETE", "/jobs/2")) == {"deleted": 2}
    assert (await lab.ask("DELETE", "/jobs/2")).code == 404
    assert (await lab.ask("GET", "/jobs?limit=x")).code == 400
    assert lab.seed is not None
    lab.seed.silent.add(task_of(digest_of(OTHER)))
    registry.image("team/d", "1", [OTHER])
    running = await begun(lab, type="image", url=image_url(registry, "team/d"))
    assert (await lab.json("POST", f"/jobs/{running['id']}/stop"))["state"] == "STOPPED"
    assert (await lab.ask("POST", "/jobs/99/stop")).code == 404


async def test_an_image_by_docker_s_name(lab: PreheatLab, registry: SmallRegistry) -> None:
    registry.image("team/app", "2", [LAYER])
    job = await begun(lab, image=f"127.0.0.1:{registry.port}/team/app:2")
    assert job["type"] == "image"
    assert (await lab.ended(job["id"]))["state"] == "SUCCESS"


async def test_foreign_layers_get_no_credentials_and_are_tried_after_the_registry(
    lab: PreheatLab, registry: SmallRegistry
) -> None:
    task = task_of(digest_of(OTHER))
    registry.lengths[task] = len(OTHER)
    layer = {
        "mediaType": "application/x-foreign",
        "digest": digest_of(OTHER),
        "size": len(OTHER),
        "urls": ["http://127.0.0.1:1/other"],
    }
    registry.manifest("team/app", {"layers": [layer]}, tag="1")
    assert lab.seed is not None
    lab.seed.failures[task] = SeedFailed(task=task, code=ErrorCode.SOURCE_NOT_FOUND, status=404, message="not here")
    headers = {"Authorization": "Basic c2VjcmV0"}
    job = await begun(lab, type="image", url=image_url(registry), headers=headers)
    await lab.broker.scheduler.happened_with(lambda: len([each for each in lab.seed.fetches if each.task == task]) >= 2)  # type: ignore[union-attr]
    first, second = [fetch for fetch in lab.seed.fetches if fetch.task == task][:2]
    assert first.url.endswith(digest_of(OTHER))
    assert ("Authorization", "Basic c2VjcmV0") in first.headers
    assert (second.url, second.headers) == ("http://127.0.0.1:1/other", ())
    lab.preheat.stop(job["id"])


async def test_a_token_that_ends_while_blobs_come_is_renewed(lab: PreheatLab, registry: SmallRegistry) -> None:
    registry.image("team/app", "1", [LAYER])
    registry.challenge = f'Bearer realm="{registry.root}/token"'
    registry.wanted, registry.token = "Bearer one", {"token": "one", "expires_in": 3600}
    task = task_of(digest_of(LAYER))
    assert lab.seed is not None
    lab.seed.failures[task] = SeedFailed(task=task, code=ErrorCode.SOURCE_NEEDS_AUTH, status=401, message="401")
    job = await begun(lab, type="image", url=image_url(registry))
    await lab.broker.scheduler.happened_with(lambda: len(registry.gets("/token")) >= 2)
    del lab.seed.failures[task]
    done = await lab.ended(job["id"])
    assert done["state"] == "SUCCESS", "the second try has a fresh token"


async def test_jobs_survive_a_restart_and_credentials_do_not(tmp_path: Path, registry: SmallRegistry) -> None:
    registry.image("team/app", "1", [LAYER, OTHER])
    async with preheat_lab(tmp_path, registry.lengths) as lab:
        assert lab.seed is not None
        lab.seed.silent.add(task_of(digest_of(OTHER)))
        headers = {"Authorization": "Basic c2VjcmV0LXBhc3N3b3Jk"}
        job = await begun(lab, type="image", url=image_url(registry), headers=headers)
        rows = lab.preheat.core.jobs[job["id"]].rows
        await lab.broker.scheduler.happened_with(lambda: sum(row.state.is_final for row in rows.values()) == 3)
    assert_nowhere(tmp_path, b"c2VjcmV0", b"secret-password")
    # It goes on without a question to the registry: the seed has what it has.
    before = len(registry.asked)
    async with preheat_lab(tmp_path, registry.lengths) as lab:
        done = await lab.ended(job["id"])
        assert done["state"] == "SUCCESS"
        assert lab.seed is not None
        assert {fetch.digest for fetch in lab.seed.fetches} == {digest_of(OTHER)}, "what was proven is not asked for again"
        assert {fetch.headers for fetch in lab.seed.fetches} == {()}
    assert len(registry.asked) == before
    async with preheat_lab(tmp_path, registry.lengths) as lab:
        assert (await lab.json("GET", f"/jobs/{job['id']}")) == done
        # And where the registry wants them again, it says so.
        registry.challenge, registry.wanted = 'Basic realm="r"', "Basic x"
        other = await begun(lab, type="image", url=image_url(registry), platforms=["linux/amd64"])
        assert other["id"] == job["id"] + 1
        assert "401" in (await lab.ended(other["id"]))["error"]


async def test_a_job_without_its_credentials_after_a_restart_says_so(tmp_path: Path, registry: SmallRegistry) -> None:
    registry.image("team/app", "1", [LAYER])
    task = task_of(digest_of(LAYER))
    async with preheat_lab(tmp_path, registry.lengths) as lab:
        assert lab.seed is not None
        lab.seed.silent.add(task)
        number = (await begun(lab, type="image", url=image_url(registry), headers={"Authorization": "Basic x"}))["id"]
        await lab.broker.scheduler.happened_with(lambda: bool(lab.preheat.core.jobs[number].rows))
    async with preheat_lab(tmp_path, registry.lengths) as lab:
        assert lab.seed is not None
        lab.seed.failures[task] = SeedFailed(task=task, code=ErrorCode.SOURCE_NEEDS_AUTH, status=401, message="it answers 401")
        done = await lab.ended(number)
    assert done["state"] == "FAILED"
    assert "the supernode was restarted, and credentials are not stored: send the job again" in done["error"]


async def test_a_file_s_query_is_not_stored(tmp_path: Path, registry: SmallRegistry) -> None:
    url = f"{registry.root}/f?Signature=secret"
    async with preheat_lab(tmp_path, registry.lengths) as lab:
        number = (await begun(lab, type="file", url=url, filter="Signature"))["id"]
        lab.preheat.core.jobs[number].error = ""
        await lab.preheat.on_disk()
        (task,) = lab.preheat.core.jobs[number].blobs or [""]
        assert lab.seed is not None
        lab.seed.silent.add(task)
    assert_nowhere(tmp_path, b"Signature=secret")


async def test_the_operator_s_settings(tmp_path: Path, registry: SmallRegistry) -> None:
    registry.wanted, registry.challenge = "Basic cm9ib3Q6eA==", 'Basic realm="r"'
    amd, arm = registry.image("team/app", "", [LAYER]), registry.image("team/app", "", [OTHER])
    entries = [
        {"mediaType": OCI, "digest": digest, "size": 1, "platform": {"os": "linux", "architecture": name}}
        for digest, name in ((amd, "amd64"), (arm, "arm64"))
    ]
    registry.manifest("team/app", {"manifests": entries}, INDEX, "1")
    config = PreheatConfig(
        registries=(Registry(pattern="127.0.0.1:*", credentials="robot:x"), Registry(pattern="other", credentials="a:b")),
        platforms=(parse_platform("linux/amd64"),),
        keep_s=60.0,
        rate=1000,
        allowed=parse_allowed((f"127.0.0.1:{registry.port}",)),
    )
    async with preheat_lab(tmp_path, registry.lengths, config) as lab:
        job = await lab.ended((await begun(lab, type="image", url=image_url(registry)))["id"])
        assert job["state"] == "SUCCESS"
        assert (job["platforms"], job["keep_s"]) == (["linux/amd64"], 60.0)
        assert lab.seed is not None
        assert {(warm.keep_s, warm.rate) for warm in lab.seed.warms} == {(60.0, 1000)}
        everything = await lab.ended(
            (await begun(lab, type="image", url=image_url(registry), platforms=["linux/arm64"], keep="0s"))["id"]
        )
        assert everything["keep_s"] == 0.0
        elsewhere = await lab.ended((await begun(lab, type="file", url="http://localhost:1/x"))["id"])
        assert elsewhere["state"] == "FAILED"
        assert "not allowed" in elsewhere["error"]


@pytest.mark.parametrize(
    ("config", "good"),
    [
        (PreheatConfig(basic="alice:secret"), {"Authorization": "Basic YWxpY2U6c2VjcmV0"}),
        (PreheatConfig(basic="alice:secret"), {"Authorization": "basic YWxpY2U6c2VjcmV0"}),
        (PreheatConfig(bearer="secret"), {"Authorization": "Bearer secret"}),
        (PreheatConfig(header="X-Key: secret"), {"X-Key": "secret"}),
        (PreheatConfig(basic="a:b", bearer="secret"), {"Authorization": "Bearer secret"}),
    ],
)
async def test_who_may_use_the_api(
    tmp_path: Path, config: PreheatConfig, good: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    paths = ["/preheats", "/preheats/x", "/api/v1/preheats", "/jobs", "/jobs/1", "/oapi/v1/jobs", "/oapi/v1/jobs/1", "/cache"]
    async with preheat_lab(tmp_path, {}, config, with_seed=False) as lab:
        for path in paths:
            for headers in ({}, {"Authorization": "Basic eDp5"}, {"Authorization": "Bearer"}, {"X-Key": "x"}):
                answer = await lab.ask("GET", path, **headers)
                assert answer.code == 401, (path, headers)
                assert b"secret" not in answer.body
            assert (await lab.ask("GET", path, **good)).code in (200, 404)
            assert (await lab.ask("POST", path, {"type": "file", "url": "http://127.0.0.1:1/x"})).code in (401, 405)
            assert (await lab.ask("DELETE", path)).code in (401, 405)
        assert (await lab.ask("POST", "/registry/notifications", {"events": []})).code == 401
        for path in (f"/tasks/{'a' * 64}", f"/api/v1/tasks/{'a' * 64}"):
            assert (await lab.ask("DELETE", path)).code == 401, "it would delete what the cache's own route keeps"
            assert (await lab.ask("DELETE", path, **good)).code == 404
            assert (await lab.ask("GET", path)).code == 404
        for path in ("/_ping", "/healthy", "/health", "/api/v1/tasks"):
            assert (await lab.ask("GET", path)).code == 200, "whether it lives is no secret"
        assert lab.preheat.core.jobs == {}
    assert "secret" not in caplog.text


async def test_bounds_on_jobs_and_rows_are_told(
    lab: PreheatLab, registry: SmallRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.image("team/app", "1", [LAYER])
    assert lab.seed is not None
    lab.seed.silent.add(task_of(digest_of(LAYER)))
    monkeypatch.setattr("broker.preheat.service._MAX_WAITING", 1)
    running = await begun(lab, type="image", url=image_url(registry))
    refused = await lab.ask("POST", "/preheats", {"type": "image", "url": image_url(registry, "team/other")})
    assert refused.code == 503
    assert b"1 jobs wait already" in refused.body
    assert (await begun(lab, type="image", url=image_url(registry)))["id"] == running["id"], "a duplicate joins, and is none more"
    lab.preheat.stop(running["id"])
    monkeypatch.setattr("broker.preheat.service._MAX_ROWS", 2)
    many = await lab.ended((await begun(lab, type="image", url=image_url(registry)))["id"])
    assert (many["state"], many["rows"]) == ("FAILED", [])
    assert "more than 2 rows" in many["error"]


async def test_an_error_of_its_own_ends_the_job_and_is_logged(
    lab: PreheatLab, registry: SmallRegistry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def breaks(*_: object) -> None:
        raise RuntimeError("broken inside")

    monkeypatch.setattr("broker.preheat.service.find_image", breaks)
    job = await lab.ended((await begun(lab, type="image", url=image_url(registry)))["id"])
    assert (job["state"], "look into its log" in job["error"]) == ("FAILED", True)
    assert "broken inside" in caplog.text


async def test_an_error_of_its_own_at_a_blob_ends_the_job_too_and_frees_its_place(
    lab: PreheatLab, registry: SmallRegistry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    registry.image("team/app", "1", [LAYER])

    async def breaks(*_: object) -> None:
        raise RuntimeError("broken inside")

    with monkeypatch.context() as patch:
        patch.setattr("broker.preheat.registry_client.RegistryClient.check", breaks)
        job = await lab.ended((await begun(lab, type="image", url=image_url(registry)))["id"])
    assert (job["state"], "look into its log" in job["error"]) == ("FAILED", True)
    assert "broken inside" in caplog.text
    job = await lab.ended((await begun(lab, type="image", url=image_url(registry)))["id"])
    assert job["state"] == "SUCCESS"


def test_every_route_but_health_wants_credentials() -> None:
    routes = [*http_v1.ROUTES, *http_v2.ROUTES, *http_kraken.ROUTES, *http_jobs.ROUTES, *http_cache.ROUTES]
    assert len(routes) >= 14
    open_ones = {path for path, handler in routes if not issubclass(handler, DoorHandler)}
    assert open_ones == {"/healthy", "/health"}
    for _, handler in routes:
        if issubclass(handler, DoorHandler):
            assert handler.prepare is DoorHandler.prepare, "a handler's own prepare would let everybody in"


async def test_a_body_that_is_too_long_is_refused(lab: PreheatLab) -> None:
    answer = await asyncio.wait_for(lab.raw_post("/preheats", 2 << 20), 10)
    assert b" 400 " in answer.splitlines()[0] or b" 413 " in answer.splitlines()[0]


async def test_no_secret_reaches_the_log(lab: PreheatLab, registry: SmallRegistry, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    headers = {"Authorization": "Basic c2VjcmV0", "X-Token": "secret-token"}
    for url in (image_url(registry, "team/none"), f"{registry.root}/f?sig=secret-query", "http://user:secret-word@127.0.0.1:1/f"):
        kind = "image" if "manifests" in url else "file"
        await lab.ended((await begun(lab, type=kind, url=url, headers=headers))["id"])
    for secret in ("c2VjcmV0", "secret-token", "secret-query", "secret-word"):
        assert secret not in caplog.text


def test_what_is_the_same_job() -> None:
    url = "http://h/v2/a/manifests/1"
    plain = PreheatRequest(kind="image", url=url)
    assert plain.key() == PreheatRequest(kind="image", url=url, headers=(("A", "b"),), keep_s=5.0).key()
    others = [
        PreheatRequest(kind="file", url=url),
        PreheatRequest(kind="image", url=url, scope="all"),
        PreheatRequest(kind="image", url=url, platforms=(parse_platform("linux/amd64"),)),
        PreheatRequest(kind="image", url=url, identifier="x"),
        PreheatRequest(kind="image", url=url, filter="x"),
    ]
    assert len({each.key() for each in (plain, *others)}) == 6
    assert "secret" not in repr(PreheatRequest(kind="file", url="http://a/?secret", headers=(("A", "secret"),)))
