"""A page in somebody's browser changes nothing here, though no credentials are set (CWE-352); Harbor's requests are taken."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.broker_http import loopback_api
from tests.support.preheat_lab import PreheatLab, preheat_lab

FILE = {"type": "file", "url": "http://127.0.0.1:9/file"}
EVENT = {
    "action": "push",
    "target": {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "url": f"http://127.0.0.1:9/v2/a/manifests/sha256:{'a' * 64}",
        "digest": f"sha256:{'a' * 64}",
    },
}
IMAGE = {"type": "image", "url": "http://127.0.0.1:9/v2/a/manifests/1"}
#: What each dialect sends, and what it is answered with.
DIALECTS: list[tuple[str, dict[str, Any], int]] = [
    ("/preheats", IMAGE, 201),
    ("/api/v1/preheats", IMAGE, 201),
    ("/oapi/v1/jobs", {"type": "preheat", "args": {**IMAGE, "scope": "single_seed_peer"}}, 200),
    ("/registry/notifications", {"events": [EVENT]}, 200),
    ("/jobs", FILE, 201),
]
PAGES = [
    {"Origin": "https://evil.example", "Content-Type": "text/plain"},
    {"Origin": "null", "Content-Type": "application/x-www-form-urlencoded"},
    {"Sec-Fetch-Site": "cross-site", "Content-Type": "text/plain"},
]


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[PreheatLab]:
    async with preheat_lab(tmp_path, {}) as made:
        yield made


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize(("path", "document", "status"), DIALECTS)
async def test_a_page_begins_no_job(
    lab: PreheatLab, path: str, document: dict[str, Any], status: int, page: dict[str, str]
) -> None:
    answer = await lab.ask("POST", path, document, **page)
    assert answer.code == 403, answer.body
    assert "browser" in json.loads(answer.body)["message"]
    assert not lab.preheat.core.jobs
    # The same without a browser, whatever type it says the body has.
    answer = await lab.ask("POST", path, document, **{"Content-Type": page["Content-Type"]})
    assert answer.code == status, answer.body
    assert len(lab.preheat.core.jobs) == 1


async def test_a_page_of_the_same_name_changes_nothing_either(lab: PreheatLab) -> None:
    """DNS rebinding: the page's own name leads here."""
    rebound = {"Origin": f"http://127.0.0.1:{lab.port}", "Sec-Fetch-Site": "same-origin"}
    assert (await lab.ask("POST", "/jobs", FILE, **rebound)).code == 403
    job = await lab.json("POST", "/jobs", FILE, status=201)
    for method, path in (("POST", f"/jobs/{job['id']}/stop"), ("DELETE", f"/jobs/{job['id']}"), ("DELETE", "/preheats/1")):
        assert (await lab.ask(method, path, **rebound)).code == 403
    assert list(lab.preheat.core.jobs) == [job["id"]]
    assert not lab.preheat.core.jobs[job["id"]].error.startswith("stopped")
    # What changes nothing may be read.
    assert (await lab.ask("GET", "/jobs", **rebound)).code == 200


async def test_stores_and_tasks_are_behind_the_same_door() -> None:
    async with loopback_api() as api:
        for method, path in (("POST", "/cache/gc"), ("DELETE", f"/cache/{'a' * 64}"), ("DELETE", f"/tasks/{'a' * 64}")):
            body = "{}" if method == "POST" else None
            assert (await api.ask(path, method, body=body, Origin="https://evil.example")).code == 403
            assert (await api.ask(path, method, body=body)).code != 403
