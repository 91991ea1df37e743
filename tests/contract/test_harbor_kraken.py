"""What Harbor's Kraken driver and docker-registry itself send: a health check, and notifications of what was pushed."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from broker.preheat.config import PreheatConfig, Registry
from tests.support.preheat_lab import PreheatLab, preheat_lab
from tests.support.small_registry import INDEX, OCI, SmallRegistry, digest_of, small_registry

LAYER = b"layer" * 1000
DOCKER = "application/vnd.docker.distribution.manifest.v2+json"


@pytest.fixture
async def registry() -> AsyncIterator[SmallRegistry]:
    async with small_registry() as made:
        yield made


@pytest.fixture
async def lab(tmp_path: Path, registry: SmallRegistry) -> AsyncIterator[PreheatLab]:
    of_operator = Registry(pattern="127.0.0.1", credentials="robot:secret")
    async with preheat_lab(tmp_path, registry.lengths, PreheatConfig(registries=(of_operator,))) as made:
        yield made


def pushed(
    registry: SmallRegistry, digest: str, *, media_type: str = DOCKER, action: str = "push", **target: Any
) -> dict[str, Any]:
    """One event (kraken.go, notification.Event)."""
    return {
        "id": "some-id",
        "timestamp": "2026-11-24T12:00:00Z",
        "action": action,
        "target": {
            "mediaType": media_type,
            "digest": digest,
            "repository": "library/app",
            "url": f"{registry.root}/v2/library/app/manifests/1",
            "tag": "1",
            **target,
        },
    }


async def test_a_policy_s_whole_life(lab: PreheatLab, registry: SmallRegistry) -> None:
    assert (await lab.ask("GET", "/health")).code == 200
    digest = registry.image("library/app", "1", [LAYER])
    answer = await lab.json("POST", "/registry/notifications", {"events": [pushed(registry, digest)]})
    (number,) = answer["jobs"]
    job = await lab.ended(number)
    assert job["state"] == "SUCCESS"
    # What was pushed is what is asked for, whatever the tag is by now; as whom the operator said.
    assert job["url"].endswith(f"/manifests/{digest}")
    assert {each.authorization for each in registry.asked} == {"Basic cm9ib3Q6c2VjcmV0"}
    assert "secret" not in json.dumps(job)
    assert lab.seed is not None
    assert digest_of(LAYER) in {fetch.digest for fetch in lab.seed.fetches}


async def test_only_pushed_manifests_begin_jobs(lab: PreheatLab, registry: SmallRegistry) -> None:
    digest = registry.image("library/app", "1", [LAYER])
    events = [
        pushed(registry, digest, action="pull"),
        pushed(registry, digest, action="delete"),
        pushed(registry, digest_of(LAYER), media_type="application/octet-stream"),
        pushed(registry, digest, url=f"{registry.root}/v2/library/app/blobs/{digest}"),
        pushed(registry, digest, url=7),
        {"action": "push", "target": None},
        {},
    ]
    assert await lab.json("POST", "/registry/notifications", {"events": events}) == {"jobs": []}
    twice = [pushed(registry, digest, media_type=OCI), pushed(registry, digest, media_type=INDEX)]
    assert len((await lab.json("POST", "/registry/notifications", {"events": twice}))["jobs"]) == 1
    by_tag = pushed(registry, "")
    (number,) = (await lab.json("POST", "/registry/notifications", {"events": [by_tag]}))["jobs"]
    assert lab.preheat.core.jobs[number].spec.url.endswith("/manifests/1")


@pytest.mark.parametrize("document", [{}, {"events": {}}, {"events": [1]}, {"events": [{}] * 501}])
async def test_what_is_no_notification_is_400(lab: PreheatLab, document: Any) -> None:
    assert (await lab.ask("POST", "/registry/notifications", document)).code == 400
