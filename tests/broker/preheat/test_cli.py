"""`supernode preheat`: what it asks, what it prints, and that its exit code is the proof."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from broker.api_client import ApiClient
from broker.cli import main
from tests.support.preheat_lab import PreheatLab, preheat_lab
from tests.support.small_registry import SmallRegistry, digest_of, small_registry, task_of
from wire.errors import ErrorCode
from wire.messages import SeedFailed, Warmed

LAYER = b"layer" * 1000


@pytest.fixture
async def registry() -> AsyncIterator[SmallRegistry]:
    async with small_registry() as made:
        yield made


@pytest.fixture
async def lab(tmp_path: Path, registry: SmallRegistry) -> AsyncIterator[PreheatLab]:
    async with preheat_lab(tmp_path, registry.lengths) as made:
        yield made


async def run(lab: PreheatLab, *words: str) -> int:
    """The command, beside this loop."""
    return await asyncio.to_thread(main, ["preheat", *words, "--supernode", f"127.0.0.1:{lab.port}"])


async def test_an_image_is_waited_for_and_proven(
    lab: PreheatLab, registry: SmallRegistry, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.image("team/app", "1", [LAYER])
    monkeypatch.setenv("SUPERNODE_PREHEAT_PASSWORD", "secret")
    words = [f"127.0.0.1:{registry.port}/team/app:1", "--wait", "--keep", "7d", "--user", "alice", "--header", "X-Own: 1"]
    assert await run(lab, *words) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"job 1 SUCCESS {registry.root}/v2/team/app/manifests/1: 3 blobs on the seed, ")
    assert err == ""
    spec = lab.preheat.core.jobs[1].spec
    assert (spec.keep_s, spec.scope, spec.kind) == (604800.0, "seed", "image")
    assert {each.authorization for each in registry.asked} == {"Basic " + base64.b64encode(b"alice:secret").decode()}
    assert await run(lab, "ls") == 0
    assert await run(lab, "show", "1") == 0
    out, _ = capsys.readouterr()
    assert out.count("job 1 SUCCESS") == 2
    assert f"DONE     seed  {len(LAYER)}/{len(LAYER)}  {registry.root}/v2/team/app/blobs/{digest_of(LAYER)}" in out
    assert await run(lab, "show", "1", "--json") == 0
    assert len(json.loads(capsys.readouterr().out)["rows"]) == 3
    assert await run(lab, "ls", "--json") == 0
    assert [job["id"] for job in json.loads(capsys.readouterr().out)["jobs"]] == [1]
    assert await run(lab, "rm", "1") == 0
    assert "job 1 is forgotten" in capsys.readouterr().out
    assert await run(lab, "show", "1") == 1
    assert capsys.readouterr().err == "Error: no job 1 is known\n"


async def test_failures_have_codes_and_rows(lab: PreheatLab, registry: SmallRegistry, capsys: pytest.CaptureFixture[str]) -> None:
    assert await run(lab, f"{registry.root}/v2/team/none/manifests/1", "--wait") == 1
    assert "404" in capsys.readouterr().out
    registry.image("team/app", "1", [LAYER])
    host = await lab.with_peer("10.0.0.1-1-1")
    task = task_of(digest_of(LAYER))
    host.failures[task] = Warmed(task=task, code=ErrorCode.UNEXPECTED_KIND, message="too old")
    assert await run(lab, f"127.0.0.1:{registry.port}/team/app:1", "--wait", "--scope", "all") == 2
    out, err = capsys.readouterr()
    assert "job 2 PARTIAL" in out
    assert "FAILED   host-10.0.0.1-1-1" in err
    assert "too old" in err
    assert await run(lab, f"127.0.0.1:{registry.port}/team/app:1", "--wait", "--scope", "10.0.0.1-1-1,nobody", "--json") == 2
    assert json.loads(capsys.readouterr().out)["scope"] == "10.0.0.1-1-1,nobody"


async def test_a_file_is_begun_and_stopped(lab: PreheatLab, registry: SmallRegistry, capsys: pytest.CaptureFixture[str]) -> None:
    from wire.ids import task_id

    url = f"{registry.root}/file?sig=secret"
    task = task_id(url, filters=("sig",), identifier="me")
    assert lab.seed is not None
    lab.seed.silent.add(task)
    assert await run(lab, url, "--filter", "sig", "--identifier", "me", "--timeout", "30m") == 0
    out, _ = capsys.readouterr()
    assert "job 1 " in out
    assert "secret" not in out
    assert lab.preheat.core.jobs[1].spec.timeout_s == 1800.0
    assert await run(lab, "stop", "1") == 0
    assert "job 1 STOPPED" in capsys.readouterr().out
    lab.seed.silent.clear()
    lab.seed.failures[task] = SeedFailed(task=task, code=ErrorCode.SOURCE_NOT_FOUND, status=404, message="it answers 404")
    lab.seed.dealer.say(lab.seed.failures[task])
    assert await run(lab, url, "--filter", "sig", "--identifier", "me", "--wait=true") == 1
    assert "it answers 404" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["Not An Image"], "is no image name"),
        (["busybox", "alpine"], "one image or URL at a time"),
        (["busybox", "--platform", "linux"], "is no platform"),
        (["busybox", "--header", "nothing"], "NAME:VALUE"),
        (["busybox", "--user", "alice"], "SUPERNODE_PREHEAT_PASSWORD"),
        (["busybox", "--user", "alice", "--password-file", "/nowhere"], "cannot be read"),
        (["busybox", "--cacerts", "/nowhere"], "--cacerts"),
        (["show"], "name the job's number"),
        (["busybox", "--supernode", "127.0.0.1:1"], "--supernode host:port"),
    ],
)
def test_what_cannot_be_is_said(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SUPERNODE_PREHEAT_PASSWORD", raising=False)
    assert main(["preheat", *words]) == 1
    assert told in capsys.readouterr().err


def test_passwords_come_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "password").write_text("secret\nmore\n")
    sent: list[Any] = []

    def asked(self: Any, method: str, path: str, document: Any = None) -> Any:
        sent.append(document)
        row = {"id": 1, "state": "RUNNING", "url": "x", "blobs": 0, "hosts": 0, "verified_bytes": 0, "bytes": None, "error": ""}
        return row

    monkeypatch.setattr(ApiClient, "ask", asked)
    assert main(["preheat", "busybox", "--user", "alice", "--password-file", str(tmp_path / "password")]) == 0
    assert sent[0]["headers"] == {"Authorization": ["Basic " + base64.b64encode(b"alice:secret").decode()]}
    assert sent[0]["url"] == "https://registry-1.docker.io/v2/library/busybox/manifests/latest"


def test_help_and_manual(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help", "preheat"]) == 0
    assert "--platform" in capsys.readouterr().out
    assert main(["gen-doc"]) == 0
    assert "## supernode preheat" in capsys.readouterr().out
