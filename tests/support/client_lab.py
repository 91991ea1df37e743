"""A host with every container client and one dfdaemon, before three registries: for tests of who can pull what in which way.

One docker daemon (its containerd is ctr's), skopeo, podman and buildah, all with the same credentials and trust. In the
four modes a client's name for an image, and nothing else, says how it is pulled:

    proxy    basic.test:80/...       plain http, through HTTP_PROXY
    hijack   basic.test/...          https that the gateway opens
    tunnel   t-basic.test/...        https that it passes through unread
    mirror   by the client's own settings for mirrors, or localhost:65001/basic.test/...
"""

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

from scripts.demonstration.swarm import program
from tests.support.certs import KeyPair
from tests.support.dockerd import Dockerd, start_dockerd
from tests.support.guarded_registry import NAMES, TOKENS_NAME, USER, Auth, GuardedRegistries, address_of, start_guarded_registries
from tests.support.netlab import LabHost, network
from tests.support.processes import Processes, running_processes
from tests.support.swarm import short_directory

PORT: Final = 65001
GATEWAY: Final = f"http://127.0.0.1:{PORT}"
_OWN: Final = f"localhost:{PORT}"
ADDRESSES: Final = {"supernode": "10.0.0.10", "host": "10.0.0.21", "registry": "10.0.0.70"}


class Mode(Enum):
    """By which way."""

    PROXY = "proxy"
    HIJACK = "hijack"
    TUNNEL = "tunnel"
    MIRROR = "mirror"


class Client(Enum):
    """Of which program."""

    DOCKER = "dockerd"
    CTR = "ctr"
    SKOPEO = "skopeo"
    PODMAN = "podman"
    BUILDAH = "buildah"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientLab:
    """All that runs."""

    directory: Path
    host: LabHost
    registries: GuardedRegistries
    dockerd: Dockerd
    trusted: Path

    def image(self, client: Client, mode: Mode, auth: Auth, repository: str) -> str:
        """How `repository:1` is called there."""
        match mode:
            case Mode.PROXY:
                return f"{auth.host}:80/{repository}:1"
            case Mode.HIJACK:
                return f"{auth.host}/{repository}:1"
            case Mode.TUNNEL:
                return f"{auth.tunnelled}/{repository}:1"
            case Mode.MIRROR if client is not Client.DOCKER:
                # What hosts.toml and registries.conf say about this name.
                return f"m-{auth.host}/{repository}:1" if client is not Client.CTR else f"{auth.host}/{repository}:1"
            case _:
                # registry-mirrors is for Docker Hub's names, and gets no credentials.
                return f"{repository}:1" if auth is Auth.NONE else f"{_OWN}/{auth.host}/{repository}:1"

    def pull(self, client: Client, mode: Mode, auth: Auth, repository: str) -> str:
        """Pull an image that the client has not; its config's digest by the client's word. Then remove it again."""
        name = self.image(client, mode, auth, repository)
        plain = mode is Mode.PROXY
        match client:
            case Client.DOCKER:
                found = self.dockerd.pull(name)
                self.dockerd.docker("rmi", "-f", name)
            case Client.CTR:
                found = self._ctr(name, mode, auth, plain=plain)
            case Client.SKOPEO:
                found = self._skopeo(name, mode, plain=plain)
            case _:
                found = self._podman(client, name, mode, plain=plain)
        return found

    def metric(self, name: str) -> float:
        """One of the gateway's figures, `dragonfly_dfdaemon_` left out."""
        text = self.host.run(["curl", "-sf", f"{GATEWAY}/metrics"])
        found = [line for line in text.splitlines() if line.startswith(f"dragonfly_dfdaemon_{name} ")]
        return float(found[0].split()[-1]) if found else 0.0

    @staticmethod
    def basic(user: str) -> str:
        """`user:password` as Basic has it."""
        return base64.b64encode(user.encode()).decode()

    def run(self, words: list[str], mode: Mode = Mode.HIJACK) -> subprocess.CompletedProcess[str]:
        """Run a client on the host."""
        environment = {
            "HOME": str(self.directory / "home"),
            "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin",
            "SSL_CERT_FILE": str(self.trusted),
            "SSL_CERT_DIR": "/nonexistent",
            "REGISTRY_AUTH_FILE": str(self.directory / "auth.json"),
            "CONTAINERS_REGISTRIES_CONF": str(self.directory / "registries.conf"),
            "XDG_RUNTIME_DIR": str(self.directory / "home"),
            "TMPDIR": str(self.directory),
        }
        if mode is not Mode.MIRROR:
            environment |= {"HTTP_PROXY": GATEWAY, "HTTPS_PROXY": GATEWAY}
        command = self.host.command(words)
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

    def _must(self, words: list[str], mode: Mode) -> str:
        done = self.run(words, mode)
        assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}{done.stderr}"
        return done.stdout

    def _ctr(self, name: str, mode: Mode, auth: Auth, *, plain: bool) -> str:
        ctr = ["ctr", "-a", str(self.dockerd.directory / "exec/containerd/containerd.sock"), "-n", "test"]
        how = ["--plain-http"] if plain else []
        if mode is Mode.MIRROR:
            how += ["--hosts-dir", str(self.directory / "hosts.d")]
        who = ["--user", USER] if auth is not Auth.NONE else []
        self._must([*ctr, "images", "pull", *how, *who, name], mode)
        # The config's digest stands in the manifest, which `content get` gives.
        listed = self._must([*ctr, "images", "list", f"name=={name}"], mode).splitlines()[1].split()
        manifest = json.loads(self._must([*ctr, "content", "get", listed[2]], mode))
        self._must([*ctr, "images", "remove", "--sync", name], mode)
        left = self._must([*ctr, "content", "list", "-q"], mode)
        assert manifest["config"]["digest"] not in left
        return str(manifest["config"]["digest"])

    def _skopeo(self, name: str, mode: Mode, *, plain: bool) -> str:
        target = self.directory / "skopeo"
        # Debian's skopeo does not read CONTAINERS_REGISTRIES_CONF.
        how = ["--registries-conf", str(self.directory / "registries.conf"), "--insecure-policy", "copy"]
        verify = ["--src-tls-verify=false"] if plain else []
        self._must(["skopeo", *how, *verify, "-q", f"docker://{name}", f"dir:{target}"], mode)
        manifest = json.loads((target / "manifest.json").read_text())
        shutil.rmtree(target)
        return str(manifest["config"]["digest"])

    def _podman(self, client: Client, name: str, mode: Mode, *, plain: bool) -> str:
        folders = ["--root", str(self.directory / client.value), "--runroot", str(self.directory / f"{client.value}-run")]
        common = [client.value, *folders, "--storage-driver", "vfs"]
        if client is Client.PODMAN:
            common += ["--tmpdir", str(self.directory / "podman-tmp"), "--cgroup-manager", "cgroupfs", "--events-backend", "none"]
        verify = ["--tls-verify=false"] if plain else []
        self._must([*common, "pull", "-q", "--policy", "always", *verify, name] if client is Client.BUILDAH
                   else [*common, "pull", "-q", *verify, name], mode)  # fmt: skip
        shown = ["inspect", "--type", "image", "--format", "{{.FromImageID}}" if client is Client.BUILDAH else "{{.Id}}", name]
        found = self._must([*common, *shown], mode).strip()
        self._must([*common, "rmi", "-f", name], mode)
        return f"sha256:{found.removeprefix('sha256:')}"


@contextmanager
def client_lab() -> Iterator[ClientLab]:
    """Everything up; all of it ends with the context."""
    with short_directory() as directory, client_network(directory) as hosts, running_processes(directory) as processes:
        registries = start_guarded_registries(processes, directory, hosts["registry"])
        words = ["--home-dir", str(directory / "supernode"), "--advertise-ip", ADDRESSES["supernode"]]
        (directory / "supernode").mkdir()
        supernode = processes.start("supernode", hosts["supernode"].command([program("supernode"), *words]))
        trusted = start_dfdaemon(processes, directory, hosts["host"], registries)
        supernode.wait_for("supernode ready")
        _write_settings(directory)
        dockerd = start_dockerd(
            processes,
            hosts["host"],
            directory / "d",
            proxy=GATEWAY,
            mirror=GATEWAY,
            insecure=[f"{auth.host}:80" for auth in Auth],
            trusted=trusted,
        )
        (directory / "d" / "client").mkdir()
        shutil.copy(directory / "auth.json", directory / "d" / "client" / "config.json")
        yield ClientLab(directory=directory, host=hosts["host"], registries=registries, dockerd=dockerd, trusted=trusted)


@contextmanager
def client_network(directory: Path) -> Iterator[dict[str, LabHost]]:
    """The hosts, and the registries' names and addresses."""
    with network(directory, ADDRESSES, {TOKENS_NAME: "registry"}) as hosts:
        registry = hosts["registry"]
        with (directory / "hosts").open("a") as file:
            for auth in Auth:
                address = address_of(registry, auth)
                subprocess.run(["ip", "-n", registry.namespace, "addr", "add", f"{address}/16", "dev", "eth0"], check=True)
                file.write(f"{address} {auth.host} {auth.tunnelled}\n")
        yield hosts


def start_dfdaemon(processes: Processes, directory: Path, host: LabHost, registries: GuardedRegistries) -> Path:
    """The host's gateway, with a CA of its own; the file of all that its clients trust."""
    authority = KeyPair(certificate=directory / "ca.crt", key=directory / "ca.key")
    command = [program("dfdaemon"), "gen-ca", "--cert-output", str(authority.certificate), "--key-output", str(authority.key)]
    subprocess.run(command, check=True, timeout=60, capture_output=True)
    home = directory / "home"
    home.mkdir()
    known = str(registries.certificate.certificate)
    config = directory / "dfdaemon.yml"
    config.write_text(
        f"supernodes: ['{ADDRESSES['supernode']}']\nproxies:\n- regx: blobs/sha256.*\n"
        f"registry_mirror: {{remote: 'https://{Auth.NONE.host}', certs: ['{known}']}}\n"
        f"hijack_https:\n  cert: {authority.certificate}\n  key: {authority.key}\n  hosts:\n"
        f"  - {{regx: '^({'|'.join(auth.value for auth in Auth)})[.]test', certs: ['{known}']}}\n"
        f"  - {{regx: '^{TOKENS_NAME}', certs: ['{known}']}}\n"
    )
    command = host.command([program("dfdaemon"), "--config", str(config)])
    processes.start("dfdaemon", command, environment={"HOME": str(home)}).wait_for("dfdaemon ready")
    trusted = directory / "trusted.crt"
    trusted.write_text(authority.certificate.read_text() + registries.certificate.certificate.read_text())
    return trusted


def _write_settings(directory: Path) -> None:
    coded = {"auth": base64.b64encode(USER.encode()).decode()}
    guarded = [name for name in NAMES if not name.startswith((Auth.NONE.value, f"t-{Auth.NONE.value}"))]
    places = [_OWN, *guarded, *(f"{name}:80" for name in guarded)]
    (directory / "auth.json").write_text(json.dumps({"auths": dict.fromkeys(places, coded)}))
    lines = ['unqualified-search-registries = ["docker.io"]']
    for auth in Auth:
        # The location itself cannot be reached: what comes, comes by the mirror.
        lines += ["[[registry]]", f'prefix = "m-{auth.host}"', f'location = "m-{auth.host}"', "[[registry.mirror]]"]
        lines += [f'location = "{_OWN}/{auth.host}"', "insecure = true"]
        folder = directory / "hosts.d" / auth.host
        folder.mkdir(parents=True)
        told = f'server = "https://unreachable.invalid"\n[host."{GATEWAY}"]\n  capabilities = ["pull", "resolve"]\n'
        (folder / "hosts.toml").write_text(told)
    (directory / "registries.conf").write_text("\n".join(lines) + "\n")
    (directory / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
