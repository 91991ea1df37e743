"""The acceptance test of the user's document, on real parts: its topology, its configuration, its commands.

One supernode, two hosts with a dfdaemon and a dockerd each, a registry that redirects blobs to signed URLs of a storage:
five network namespaces on one switch. The supernode has the document's address, 10.0.0.10.
"""

import json
import shlex
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from typing import Final

import pytest

from scripts.demonstration.swarm import program
from tests.support.certs import KeyPair, seed_recipe
from tests.support.dockerd import Dockerd, start_dockerd
from tests.support.image import Image
from tests.support.netlab import LabHost, network
from tests.support.processes import Processes, RunningProcess, running_processes
from tests.support.registry import BUCKET, PLAIN_PORT, REGISTRY_NAME, STORAGE_NAME, TLS_PORT, Registry, blob_path, start_registry
from tests.support.swarm import short_directory

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

SUPERNODE: Final = "10.0.0.10"
ADDRESSES: Final = {
    "supernode": SUPERNODE,
    "host-a": "10.0.0.21",
    "host-b": "10.0.0.22",
    "registry": "10.0.0.77",
    "storage": "10.0.0.88",
}
DOCUMENT_STORAGE: Final = "docker-registry-test-sh2.s3-internaldocker.com"
ALIASES: Final = {REGISTRY_NAME: "registry", STORAGE_NAME: "storage", DOCUMENT_STORAGE: "storage"}
GATEWAY: Final = "http://127.0.0.1:65001"
#: Several pieces each, and not a whole number of them.
LAYERS: Final = [6_000_001, 2_500_000, 300_000]
USER_AGENT: Final = (
    "docker/18.09.2 go/go1.10.6 git-commit/6247962 kernel/4.14.0-49.2.2.el7.docker.x86_64 os/linux arch/amd64 "
    r"UpstreamClient(Docker-Client/18.09.4 \(linux\))"
)


class Shown(Enum):
    """What dockerd is shown for a hijacked host."""

    #: The document's df.crt: no authority, so docker must hold the registry for insecure.
    PLAIN_CERTIFICATE = auto()
    #: Certificates minted by `dfdaemon gen-ca`'s authority, which docker is told to trust.
    MINTED = auto()


@dataclass(slots=True, kw_only=True)
class Topology:
    """All that runs."""

    processes: Processes
    directory: Path
    hosts: dict[str, LabHost]
    registry: Registry
    dockerds: dict[str, Dockerd] = field(default_factory=dict)

    def home(self, name: str) -> Path:
        """What $HOME is for the programs of a host."""
        return self.directory / name

    def log(self, name: str) -> Path:
        """The log that the document greps."""
        return self.home(name) / ".small-dragonfly" / "logs" / "dfclient.log"

    def start_supernode(self) -> None:
        """On the document's ports."""
        command = [program("supernode"), "--home-dir", str(self.directory / "supernode"), "--advertise-ip", SUPERNODE]
        (self.directory / "supernode").mkdir()
        started = self.processes.start("supernode", self.hosts["supernode"].command(command))
        started.wait_for(f"supernode ready: http://{SUPERNODE}:8002")

    def start_dfdaemon(self, name: str, configuration: str) -> None:
        """On a host, with the document's ports and folders."""
        home = self.home(name)
        home.mkdir()
        file = home / "dfdaemon.yml"
        file.write_text(configuration)
        command = self.hosts[name].command([program("dfdaemon"), "--config", str(file)])
        started = self.processes.start(f"dfdaemon-{name}", command, environment={"HOME": str(home)})
        started.wait_for(r"dfdaemon ready: http://127\.0\.0\.1:65001")

    def start_dockerd(
        self, name: str, *, proxy: str = "", mirror: str = "", insecure: str = "", trusted: Path | None = None
    ) -> None:
        """On a host."""
        self.dockerds[name] = start_dockerd(
            self.processes,
            self.hosts[name],
            self.directory / f"d-{name}",
            proxy=proxy,
            mirror=mirror,
            insecure=[insecure] if insecure else [],
            trusted=trusted,
        )

    def pull_everywhere_at_once(self, image: str) -> list[str]:
        """The image's ids on all hosts."""
        with ThreadPoolExecutor(len(self.dockerds)) as pool:
            return list(pool.map(lambda dockerd: dockerd.pull(image), self.dockerds.values()))

    def pieces_from_other_hosts(self, name: str) -> list[str]:
        """Who gave a host its pieces, by the document's own command, the seed left out."""
        assert self.log(name).is_file(), f"no {self.log(name)}"
        grep = f"grep 'downloading piece' {shlex.quote(str(self.log(name)))} | grep -v cdnnode"
        found = subprocess.run(["sh", "-c", grep], capture_output=True, text=True, check=False).stdout
        parents = [json.loads(line.partition("downloading piece:")[2])["dstCid"] for line in found.splitlines()]
        # 1.x's first line of a task named nobody, and so always matched.
        assert all(parents), f"a line without a dstCid:\n{found}"
        return parents


@contextmanager
def topology() -> Iterator[Topology]:
    """The hosts and the registry."""
    with (
        short_directory() as directory,
        network(directory, ADDRESSES, ALIASES) as hosts,
        running_processes(directory) as processes,
    ):
        registry = start_registry(processes, directory, hosts["registry"], hosts["storage"])
        made = Topology(processes=processes, directory=directory, hosts=hosts, registry=registry)
        yield made


def seed_configuration(hijack: str) -> str:
    """The document's dfdaemon.yml."""
    return f"""\
# config the dfget flags according to your own needs
dfget_flags: ["--node","{SUPERNODE}=1","-f","Expires&Signature"]
proxies:
# proxy all http image layer download requests with dfget
- regx: blobs/sha256.*
hijack_https:
{hijack}"""


def hijack_rule(made: Topology, shown: Shown) -> tuple[str, Path]:
    """The document's hijack_https for our registry, and the certificate that dockerd will see or see the issuer of."""
    if shown is Shown.PLAIN_CERTIFICATE:
        pair = seed_recipe(made.directory)
        trust = "insecure: true"
    else:
        pair = KeyPair(certificate=made.directory / "ca.crt", key=made.directory / "ca.key")
        command = [program("dfdaemon"), "gen-ca", "--cert-output", str(pair.certificate), "--key-output", str(pair.key)]
        subprocess.run(command, check=True, timeout=60, capture_output=True)
        trust = f'certs: ["{made.registry.certificate.certificate}"]'
    host = f"  - regx: {REGISTRY_NAME}:{TLS_PORT}\n    {trust}\n"
    return f"  cert: {pair.certificate}\n  key: {pair.key}\n  hosts:\n{host}", pair.certificate


def start_two_hosts(made: Topology, shown: Shown) -> None:
    """A dfdaemon and a dockerd on each host, configured as the document says."""
    rule, certificate = hijack_rule(made, shown)
    for name in ("host-a", "host-b"):
        made.start_dfdaemon(name, seed_configuration(rule))
        if shown is Shown.PLAIN_CERTIFICATE:
            made.start_dockerd(name, proxy=GATEWAY, insecure=f"{REGISTRY_NAME}:{TLS_PORT}")
        else:
            made.start_dockerd(name, proxy=GATEWAY, trusted=certificate)


def assert_each_blob_left_the_storage_once(registry: Registry, image: Image) -> None:
    """By the storage's own access log."""
    for digest, size in image.blobs.items():
        left = [access.body_bytes for access in registry.storage_gets(digest) if access.status != 403]
        assert left == [size], f"{digest}: {left}, wanted once {size}"


@pytest.mark.parametrize("shown", list(Shown), ids=lambda shown: shown.name.lower())
def test_an_image_is_pulled_on_two_hosts_and_its_blobs_leave_the_storage_once(shown: Shown) -> None:
    with topology() as made:
        made.start_supernode()
        start_two_hosts(made, shown)
        together = f"{REGISTRY_NAME}:{TLS_PORT}/team/together:1"
        image = made.registry.push("team/together:1", f"together-{shown.name}", LAYERS)
        assert made.pull_everywhere_at_once(together) == [image.id, image.id]
        assert_each_blob_left_the_storage_once(made.registry, image)
        from_a = [parent for parent in made.pieces_from_other_hosts("host-b") if parent.startswith(ADDRESSES["host-a"] + "-")]
        from_b = [parent for parent in made.pieces_from_other_hosts("host-a") if parent.startswith(ADDRESSES["host-b"] + "-")]
        assert from_a or from_b, "no piece came from the other host"

        image = made.registry.push("team/later:1", f"later-{shown.name}", LAYERS)
        later = f"{REGISTRY_NAME}:{TLS_PORT}/team/later:1"
        assert made.dockerds["host-a"].pull(later) == image.id
        before = len(made.pieces_from_other_hosts("host-b"))
        assert made.dockerds["host-b"].pull(later) == image.id
        assert_each_blob_left_the_storage_once(made.registry, image)
        late = made.pieces_from_other_hosts("host-b")[before:]
        assert any(parent.startswith(ADDRESSES["host-a"] + "-") for parent in late), "the second host took nothing from the first"


def test_without_a_supernode_both_hosts_pull_straight_from_the_registry() -> None:
    with topology() as made:
        start_two_hosts(made, Shown.PLAIN_CERTIFICATE)
        image = made.registry.push("team/alone:1", "alone", LAYERS)
        assert made.pull_everywhere_at_once(f"{REGISTRY_NAME}:{TLS_PORT}/team/alone:1") == [image.id, image.id]


def test_a_plain_http_registry_is_pulled_through_the_proxy() -> None:
    with topology() as made:
        made.start_supernode()
        image = made.registry.push("team/plain:1", "plain", LAYERS)
        for name in ("host-a", "host-b"):
            made.start_dfdaemon(name, f'dfget_flags: ["--node","{SUPERNODE}=1"]\nproxies:\n- regx: blobs/sha256.*\n')
            made.start_dockerd(name, proxy=GATEWAY, insecure=f"{REGISTRY_NAME}:{PLAIN_PORT}")
        assert made.pull_everywhere_at_once(f"{REGISTRY_NAME}:{PLAIN_PORT}/team/plain:1") == [image.id, image.id]
        for digest, size in image.blobs.items():
            # The second host's right to the blob is asked at the registry, and that takes no body.
            left = [access.body_bytes for access in made.registry.plain_gets(digest) if access.body_bytes]
            assert left == [size], f"{digest}: {left}, wanted once {size}"


def test_a_registry_mirror_serves_docker_hub_names() -> None:
    with topology() as made:
        made.start_supernode()
        image = made.registry.push("library/hello:1", "mirror", LAYERS)
        mirrored = f"registry_mirror:\n  remote: https://{REGISTRY_NAME}:{TLS_PORT}\n  insecure: true\n"
        for name in ("host-a", "host-b"):
            made.start_dfdaemon(name, f'dfget_flags: ["--node","{SUPERNODE}=1"]\n{mirrored}')
            made.start_dockerd(name, mirror=GATEWAY)
        assert made.pull_everywhere_at_once("hello:1") == [image.id, image.id]
        assert_each_blob_left_the_storage_once(made.registry, image)


def run_documents_dfget(made: Topology, name: str, digest: str, signature: str) -> tuple[RunningProcess, Path]:
    """The document's dfget command line, word for word but for the blob's digest and the signature."""
    home = made.home(name)
    output = home / ".small-dragonfly/dfdaemon/data/f1328689-3208-4c83-a577-4442d44484f9"
    url = f"http://{DOCUMENT_STORAGE}/{BUCKET}{blob_path(digest)}"
    command = [
        *[program("dfget"), "-u", f"{url}?Expires=1604406484&KSSAccessKeyId=bzMoctdKv0tXPJMHOkdn&Signature={signature}"],
        *["-o", str(output), "--node", f"{SUPERNODE}=1", "-f", "Expires&Signature", "--dfdaemon", "-s", "20MB"],
        *["--totallimit", "20MB", "--header", f"User-Agent:{USER_AGENT}", "--header", "Connection:close"],
    ]
    process = made.processes.start(f"dfget-{name}", made.hosts[name].command(command), environment={"HOME": str(home)})
    return process, output


def test_the_documents_dfget_command_line_works_as_printed() -> None:
    with topology() as made:
        made.start_supernode()
        image = made.registry.push("team/dfget:1", "dfget", [5_000_000])
        digest, size = max(image.blobs.items(), key=lambda blob: blob[1])
        for name, signature in (("host-a", "LNvgD8CLY6gxEn5NyduM1iWHi78%3D"), ("host-b", "another1signature%3D")):
            # dfget uses the peer that runs on its host.
            made.start_dfdaemon(name, f'dfget_flags: ["--node","{SUPERNODE}=1"]\n')
            process, output = run_documents_dfget(made, name, digest, signature)
            assert process.wait() == 0, process.story()
            last = process.output().splitlines()[-1]
            assert last.startswith("download SUCCESS cost:"), last
            assert last.endswith(f"length:{size} reason:0"), last
            content = subprocess.run(["sha256sum", str(output)], capture_output=True, text=True, check=True).stdout
            assert content.split()[0] == digest.removeprefix("sha256:")
        (only,) = made.registry.storage_gets(digest)
        assert (only.status, only.body_bytes) == (200, size)
        assert only.headers["user-agent"] == USER_AGENT
        assert any(parent.startswith(ADDRESSES["host-a"] + "-") for parent in made.pieces_from_other_hosts("host-b"))
