"""A registry for tests: Debian's docker-registry on a lab host, its redirecting TLS front, and the storage behind it.

dockerd -> https://registry.test:32443 (front) -> docker-registry -> 307 -> http://storage.test/...?Expires=&Signature=
dockerd -> http://registry.test:5000 (front)   -> docker-registry without redirects
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support.access_log import Access, read_accesses
from tests.support.certs import KeyPair, self_signed
from tests.support.image import Image
from tests.support.netlab import LabHost
from tests.support.processes import REPOSITORY, Processes, RunningProcess

REGISTRY_NAME: Final = "registry.test"
STORAGE_NAME: Final = "storage.test"
TLS_PORT: Final = 32443
PLAIN_PORT: Final = 5000
#: The bucket that the user's document shows in its storage URLs.
BUCKET: Final = "test-210"
_REDIRECTING: Final = "127.0.0.1:5010"
_PLAIN: Final = "127.0.0.1:5011"


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """A running registry, both ways."""

    host: LabHost
    certificate: KeyPair
    storage_log: Path
    plain_log: Path

    def push(self, name: str, seed: str, layer_bytes: list[int]) -> Image:
        """Make an image of random layers and push it as `name` (`team/app:1`)."""
        made = [sys.executable, "-m", "tests.support.image", "--seed", seed, "--layer-bytes", *map(str, layer_bytes)]
        # The command's working directory is the caller's: python -m finds the tests from there.
        told = self.host.run(["env", f"PYTHONPATH={REPOSITORY}", *made, "--push", f"http://{_PLAIN}/{name}"])
        return Image(**json.loads(told))

    def storage_gets(self, digest: str) -> list[Access]:
        """GETs of a blob at the storage, those that were refused included."""
        return [each for each in read_accesses(self.storage_log) if each.method == "GET" and blob_path(digest) in each.path]

    def plain_gets(self, digest: str) -> list[Access]:
        """GETs of a blob at the plain registry."""
        accesses = read_accesses(self.plain_log)
        return [each for each in accesses if each.method == "GET" and each.path.endswith(f"/blobs/{digest}")]


def blob_path(digest: str) -> str:
    """Where a registry's storage keeps a blob, below its root."""
    text = digest.removeprefix("sha256:")
    return f"/docker/registry/v2/blobs/sha256/{text[:2]}/{text}/data"


def start_registry(processes: Processes, directory: Path, registry_host: LabHost, storage_host: LabHost) -> Registry:
    """Start all parts; ready when this returns."""
    bucket = directory / "storage" / BUCKET
    bucket.mkdir(parents=True)
    pair = self_signed(directory, REGISTRY_NAME)
    registry = Registry(
        host=registry_host,
        certificate=pair,
        storage_log=directory / "storage.jsonl",
        plain_log=directory / "plain.jsonl",
    )
    storage = ["tests.support.blob_storage", "--listen", f"{storage_host.address}:80", "--root", str(bucket.parent)]
    _start_module(processes, "storage", storage_host, [*storage, "--log", str(registry.storage_log)]).wait_for("storage ready")
    redirect = f"middleware: {{storage: [{{name: redirect, options: {{baseurl: 'http://{STORAGE_NAME}'}}}}]}}"
    _start_docker_registry(processes, directory, registry_host, bucket, _REDIRECTING, redirect)
    _start_docker_registry(processes, directory, registry_host, bucket, _PLAIN, "")
    tls = ["--certificate", str(pair.certificate), "--key", str(pair.key), "--log", str(directory / "front.jsonl")]
    fronts = {"front-tls": (TLS_PORT, _REDIRECTING, tls), "front-plain": (PLAIN_PORT, _PLAIN, ["--log", str(registry.plain_log)])}
    for name, (port, upstream, options) in fronts.items():
        words = ["tests.support.registry_front", "--listen", f"{registry_host.address}:{port}", "--upstream", upstream]
        _start_module(processes, name, registry_host, [*words, "--bucket", BUCKET, *options]).wait_for("front ready")
    return registry


def _start_module(processes: Processes, name: str, host: LabHost, words: list[str]) -> RunningProcess:
    return processes.start(name, host.command([sys.executable, "-m", *words]), directory=REPOSITORY)


def _start_docker_registry(
    processes: Processes, directory: Path, host: LabHost, bucket: Path, listen: str, middleware: str
) -> None:
    name = f"docker-registry-{listen.rpartition(':')[2]}"
    config = directory / f"{name}.yml"
    config.write_text(
        "version: 0.1\n"
        "log: {level: info}\n"
        f"storage: {{filesystem: {{rootdirectory: '{bucket}'}}, maintenance: {{uploadpurging: {{enabled: false}}}}}}\n"
        f"http: {{addr: '{listen}', secret: test}}\n"
        f"{middleware}\n"
    )
    processes.start(name, host.command(["docker-registry", "serve", str(config)])).wait_for("listening on")
