"""`dfdaemon setup` with the real clients: set up by the command, pulled through the swarm, undone byte for byte."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from scripts.demonstration.swarm import program
from tests.support.client_lab import GATEWAY, ClientLab
from tests.support.dockerd import Dockerd, start_dockerd
from tests.support.guarded_registry import USER, Auth
from tests.support.image import Image
from tests.support.requirements import PROGRAM_PATH
from tests.support.setup_lab import SetupLab, setup_lab, variables_of
from tests.support.tree import tree

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

_LAYER = 300_000


@pytest.fixture(scope="module")
def lab() -> Iterator[SetupLab]:
    with setup_lab() as made:
        yield made


def pull_twice(lab: SetupLab, dockerd: Dockerd, name: str, image: Image) -> None:
    """Cold, and warm after it was removed; both out of the swarm."""
    before = lab.blobs_served()
    for _ in range(2):
        assert dockerd.pull(name) == image.id
        dockerd.docker("rmi", "-f", name)
    assert lab.blobs_served() - before >= 2 * _LAYER


@pytest.mark.parametrize("others", [[], ["https://unreachable.invalid/"]], ids=["alone", "before another"])
def test_dockerd_takes_a_mirror_over_while_it_runs_and_loses_it_again(lab: SetupLab, others: list[str]) -> None:
    theirs = f',\n  "registry-mirrors": {json.dumps(others)}' if others else ""
    configuration = lab.write("etc/docker/daemon.json", f'{{ "max-concurrent-downloads":2{theirs} }}\n').parent
    (configuration / "daemon.json").chmod(0o640)
    dockerd = start_dockerd(lab.processes, lab.host, lab.directory / f"d1{len(others)}", configuration=configuration)
    before = tree(lab.root)
    name = f"set-up-{len(others)}"
    image = lab.registries.push(f"library/{name}:1", [_LAYER])
    own = dockerd.directory
    words = ["docker", "--mode", "mirror", "--socket", str(own / "docker.sock"), "--pid-file", str(own / "docker.pid")]
    code, said = lab.setup(*words)
    assert (code, tree(lab.root)) == (3, before), said
    code, said = lab.setup(*words, "--yes")
    assert code == 0, said
    assert f"ok    reload: dockerd uses {GATEWAY}" in said
    assert f"ok    request: docker.io through {GATEWAY} answers 200" in said
    pid = dockerd.process.pid
    # There is no Docker Hub here: what comes, comes by the mirror.
    pull_twice(lab, dockerd, f"{name}:1", image)
    lab.assert_read_once(image, f"library/{name}")
    code, said = lab.setup(*words, "--yes")
    assert code == 0, said
    assert "nothing to change" in said
    code, said = lab.setup(*words, "--undo", "--yes")
    assert code == 0, said
    assert f"dockerd uses no longer {GATEWAY}" in said
    assert (json.loads(dockerd.docker("info", "--format", "{{json .RegistryConfig.Mirrors}}")) or []) == others
    assert (dockerd.process.pid, dockerd.process.is_running) == (pid, True)
    assert tree(lab.root) == before
    dockerd.process.stop()


def test_dockerd_with_the_proxy_and_the_trust_that_setup_has_written(lab: SetupLab) -> None:
    lab.write("lib/systemd/system/docker.service", "[Service]\n")
    lab.write("etc/docker/daemon.json", "{}\n")
    key = lab.root / "etc/docker/key.json"
    # dockerd's own.
    key.unlink(missing_ok=True)
    before = tree(lab.root)
    image = lab.registries.push("team/proxied:1", [_LAYER])
    name = f"{Auth.NONE.host}/team/proxied:1"
    words = ["docker", "--registry", Auth.NONE.host, "--runtime-version", "20.10", "--yes"]
    code, said = lab.setup(*words)
    # Written, and trusted by a real request; what is missing is the restart, which in this root nobody does.
    assert code == 4, said
    assert "docker must be restarted before this counts" in said
    assert f"ok    request: {Auth.NONE.host} through {GATEWAY} answers 200" in said
    drop_in = lab.root / "etc/systemd/system/docker.service.d/zz-damselfly.conf"
    dockerd = start_dockerd(
        lab.processes, lab.host, lab.directory / "d2", configuration=lab.root / "etc/docker", variables=variables_of(drop_in)
    )
    pull_twice(lab, dockerd, name, image)
    lab.assert_read_once(image, "team/proxied")
    # A registry's folder is read at each pull: trust goes and comes without a restart.
    trust = lab.root / f"etc/docker/certs.d/{Auth.NONE.host}/damselfly-ca.crt"
    kept = trust.read_bytes()
    trust.unlink()
    with pytest.raises(AssertionError, match="x509"):
        dockerd.pull(name)
    trust.write_bytes(kept)
    assert dockerd.pull(name) == image.id
    dockerd.process.stop()
    key.unlink()
    code, said = lab.setup("docker", "--undo", "--yes")
    assert code == 0, said
    assert tree(lab.root) == before


def test_containerd_reads_what_setup_has_written(lab: SetupLab) -> None:
    folder = lab.directory / "c"
    config = lab.write(
        "etc/containerd/config.toml",
        f'# ours\nversion = 2\nroot = "{folder}/root"   # elsewhere\nstate = "{folder}/state"\n'
        'disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs"]\n\n'
        f'[grpc]\n  address = "{folder}/c.sock"\n\n[plugins."io.containerd.grpc.v1.cri"]\n  disable_tcp_service = true\n',
    )
    lab.write("etc/containerd/certs.d/other.test/hosts.toml", 'server = "https://other.test"\n')
    before = tree(lab.root)
    image = lab.registries.push("team/contained:1", [_LAYER])
    # Its folder is the root's here: a path in config.toml would be this machine's.
    hosts = lab.root / "etc/containerd/certs.d"
    code, said = lab.setup("containerd", "--yes")
    assert code == 4, said
    assert "containerd must be restarted" in said
    assert "--registry other.test" in said
    dumped = lab.must(["containerd", "--config", str(config), "config", "dump"])
    assert 'config_path = "/etc/containerd/certs.d"' in dumped
    folder.mkdir()
    words = lab.host.command(["containerd", "--config", str(config)], binds={config.parent: "/etc/containerd"})
    containerd = lab.processes.start("containerd", words, environment={"PATH": PROGRAM_PATH})
    containerd.wait_for("containerd successfully booted")
    ctr = ["ctr", "-a", f"{folder}/c.sock"]
    plugins = [line.split() for line in lab.must([*ctr, "plugins", "list"]).splitlines()]
    assert [line[-1] for line in plugins if line[:2] == ["io.containerd.grpc.v1", "cri"]] == ["ok"]
    name = f"{Auth.NONE.host}/team/contained:1"
    served = lab.blobs_served()
    for _ in range(2):
        lab.must([*ctr, "images", "pull", "--hosts-dir", str(hosts), name])
        listed = lab.must([*ctr, "images", "list", f"name=={name}"]).splitlines()[1].split()
        assert listed[2] == image.manifest
        lab.must([*ctr, "images", "remove", "--sync", name])
    assert lab.blobs_served() - served >= 2 * _LAYER
    lab.assert_read_once(image, "team/contained")
    containerd.stop()
    code, said = lab.setup("containerd", "--undo", "--yes")
    assert code == 0, said
    assert tree(lab.root) == before


@pytest.mark.parametrize("auth", [Auth.NONE, Auth.BASIC], ids=lambda auth: auth.value)
def test_podman_and_skopeo_go_by_what_setup_has_written(lab: SetupLab, auth: Auth) -> None:
    lab.write("etc/containers/policy.json", '{"default": [{"type": "insecureAcceptAnything"}]}')
    other = f'[[registry]]\nlocation = "{auth.host}"\n[[registry.mirror]]\nlocation = "unreachable.test"\n'
    lab.write("etc/containers/registries.conf", f'# ours\nunqualified-search-registries = ["docker.io"]\n{other}')
    login = {"auths": {"localhost:65001": {"auth": ClientLab.basic(USER)}}}
    (lab.directory / "auth.json").write_text(json.dumps(login))
    before = tree(lab.root)
    repository = f"team/podded-{auth.value}"
    image = lab.registries.push(f"{repository}:1", [_LAYER])
    code, said = lab.setup("podman", "--registry", auth.host, "--yes")
    assert code == 0, said
    assert f"ok    request: {auth.host} through {GATEWAY} answers" in said
    name = f"{auth.host}/{repository}:1"
    served = lab.blobs_served()
    # The registry's own certificate is nothing that podman trusts here: what comes, comes by the mirror.
    podman = ["podman", "--root", str(lab.directory / "p"), "--runroot", str(lab.directory / "p-run"), "--storage-driver", "vfs"]
    podman += ["--tmpdir", str(lab.directory / "p-tmp"), "--cgroup-manager", "cgroupfs", "--events-backend", "none"]
    lab.must([*podman, "pull", "-q", name])
    assert lab.must([*podman, "inspect", "--type", "image", "--format", "{{.Id}}", name]).strip() == image.id.removeprefix(
        "sha256:"
    )
    lab.must([*podman, "rmi", "-f", name])
    lab.must(["skopeo", "copy", "-q", f"docker://{name}", f"dir:{lab.directory}/s-{auth.value}"])
    manifest = json.loads((lab.directory / f"s-{auth.value}" / "manifest.json").read_text())
    assert manifest["config"]["digest"] == image.id
    assert lab.blobs_served() - served >= 2 * _LAYER
    lab.assert_read_once(image, repository, auth)
    code, said = lab.setup("podman", "--undo", "--yes")
    assert code == 0, said
    assert tree(lab.root) == before
    done = lab.run([*podman, "pull", "-q", name])
    assert done.returncode != 0
    assert Path("/etc/containers/registries.conf").is_file()


_SYSTEM: Final = r"""
set -eu
w=$1 dfdaemon=$2
mount -t tmpfs none "$w"
for each in /etc /usr/local/share; do
  mkdir -p "$w/up$each" "$w/work$each"
  mount -t overlay overlay -o "lowerdir=$each,upperdir=$w/up$each,workdir=$w/work$each" "$each"
done
mkdir -p /usr/local/share/ca-certificates
# What a person has put there by hand, the system's own tool tidies the first time. Java's store has times in it.
update-ca-certificates --fresh > /dev/null 2>&1
all() { find /etc /usr/local/share -path /etc/ssl/certs/java -prune -o "$@"; }
snap() { all -printf '%p %m %u %g %y %l\n' | sort; all -type f -exec sha256sum {} + | sort; }
"$dfdaemon" gen-ca --key-output "$w/k" --cert-output "$w/c"
printf 'hijack_https:\n  cert: %s/c\n  key: %s/k\n  hosts:\n  - regx: registry-1.docker.io\n' "$w" "$w" > "$w/df.yml"
own="--workHome $w/home --config $w/df.yml --port 1"
snap > "$w/before"
"$dfdaemon" setup docker --mode proxy --runtime-version 26 $own --yes || [ $? = 4 ]
cmp "$w/c" /usr/local/share/ca-certificates/damselfly.crt
openssl verify -CApath /etc/ssl/certs "$w/c"
"$dfdaemon" doctor $own > "$w/doctor" || true
grep 'ok    trust: .*ca-certificates.crt' "$w/doctor"
grep 'ok    setup docker: as setup wrote it' "$w/doctor"
"$dfdaemon" setup docker $own --undo --yes
snap > "$w/after"
diff "$w/before" "$w/after"
echo the same
"""


def test_the_systems_own_store_of_authorities_comes_and_goes(tmp_path: Path) -> None:
    """On this machine's real /etc, in a mount namespace in which nothing that is written stays."""
    isolated = ["unshare", "--mount", "--propagation", "private", "sh", "-c", _SYSTEM, "sh", str(tmp_path), program("dfdaemon")]
    environment = {"PATH": PROGRAM_PATH, "HOME": str(tmp_path)}
    done = subprocess.run(isolated, capture_output=True, text=True, timeout=200, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("the same\n")
    assert list(tmp_path.iterdir()) == []
