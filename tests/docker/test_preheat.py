"""Preheats from a real registry by a real supernode: what is asked of it, how often, as whom, and what is proven of it."""

import base64
import json
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from scripts.demonstration.swarm import Supernode, Swarm, get_text, program
from tests.support.access_log import read_accesses
from tests.support.guarded_registry import Auth
from tests.support.jobs_client import JobsClient
from tests.support.loopback_registry import LoopbackRegistry, free_port, start_loopback_registry
from tests.support.multi_image import MultiImage, digest_of
from tests.support.processes import Processes, running_processes
from tests.support.swarm import short_directory, wait_until

pytestmark = [pytest.mark.docker, pytest.mark.system, pytest.mark.timeout(180)]
PLATFORMS = ["linux/amd64", "linux/arm64/v8", "linux/s390x"]
MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Lab:
    """A supernode with its seed, and an open registry."""

    processes: Processes
    directory: Path
    swarm: Swarm
    supernode: Supernode
    registry: LoopbackRegistry

    @property
    def jobs(self) -> JobsClient:
        """Its job API."""
        return JobsClient(node=self.supernode.node)

    def url(self, name: str, tag: str) -> str:
        """An image's manifest."""
        return f"{self.registry.root}/v2/{name}/manifests/{tag}"


def peers_of(supernode: Supernode) -> list[dict[str, Any]]:
    """Its hosts."""
    told = json.loads(get_text(f"http://{supernode.node}/peers"))["peers"]
    return [peer for peer in told if peer["role"] == "peer"]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """For tests that hurt none of it."""
    with short_directory() as directory, running_processes(directory) as processes:
        swarm = Swarm(processes, directory)
        registry = start_loopback_registry(processes, directory)
        supernode = swarm.start_supernode()
        yield Lab(processes=processes, directory=directory, swarm=swarm, supernode=supernode, registry=registry)


def test_one_platform_of_three_is_asked_once_and_proven(lab: Lab) -> None:
    image = lab.registry.pusher.multi("team/app", "1", PLATFORMS, [3 * MIB, 70_000])
    url = lab.url("team/app", "1")
    job = lab.jobs.ended(lab.jobs.begin(type="image", url=url, platforms=["linux/arm64"]))
    assert job["state"] == "SUCCESS", job
    chosen = image.blobs["linux/arm64/v8"]
    rows = {row["digest"]: row for row in job["rows"]}
    assert rows.keys() == {*chosen, image.digest, image.manifests["linux/arm64/v8"]}
    for digest, size in chosen.items():
        assert (rows[digest]["state"], rows[digest]["verified_bytes"], rows[digest]["bytes"]) == ("DONE", size, size)
        assert len(lab.registry.gets(digest)) == 1
    for digest in image.every_blob - chosen.keys():
        assert lab.registry.gets(digest) == []
    # Again, by another dialect: everything is here, and is proven without a byte of any blob.
    status, told = lab.jobs.ask("POST", "/preheats", {"type": "image", "url": url})
    assert status == 201
    wait_until(lambda: lab.jobs.ask("GET", f"/preheats/{told['ID']}")[1]["status"] == "SUCCESS", "all platforms are here")
    for digest in image.every_blob:
        assert len(lab.registry.gets(digest)) == 1
    status, told = lab.jobs.ask("POST", "/preheats", {"type": "image", "url": url})
    assert status == 208, told
    for digest in image.every_blob:
        assert len(lab.registry.gets(digest)) == 1


def test_images_that_share_a_layer_both_succeed_and_it_is_fetched_once(lab: Lab) -> None:
    base = b"base" * 500_000
    first = lab.registry.pusher.multi("team/one", "1", ["linux/amd64"], [MIB], shared=base)
    second = lab.registry.pusher.multi("team/two", "1", ["linux/amd64"], [MIB], shared=base)
    numbers = [lab.jobs.begin(type="image", url=lab.url(name, "1")) for name in ("team/one", "team/two")]
    assert [lab.jobs.ended(number)["state"] for number in numbers] == ["SUCCESS", "SUCCESS"]
    shared = first.every_blob & second.every_blob
    assert shared
    for digest in shared:
        assert len(lab.registry.gets(digest)) == 1


def test_an_image_that_is_not_there_fails_with_words(lab: Lab) -> None:
    job = lab.jobs.ended(lab.jobs.begin(type="image", url=lab.url("team/nothing", "1")))
    assert job["state"] == "FAILED"
    assert "404" in job["error"]
    lab.registry.pusher.multi("team/few", "1", ["linux/amd64"], [1000])
    job = lab.jobs.ended(lab.jobs.begin(type="image", url=lab.url("team/few", "1"), platforms=["windows/amd64"]))
    assert job["state"] == "FAILED"
    assert "no platform windows/amd64; it has linux/amd64" in job["error"]


@pytest.mark.parametrize("auth", [Auth.BASIC, Auth.TOKEN])
def test_credentials_and_private_cas(lab: Lab, auth: Auth) -> None:
    registry = start_loopback_registry(lab.processes, lab.directory, auth=auth, tls=True)
    assert registry.certificate is not None
    pem = registry.certificate.certificate.read_text()
    name = f"team/of-{auth.value}"
    image = registry.pusher.multi(name, "1", ["linux/amd64"], [MIB])
    url = f"{registry.root}/v2/{name}/manifests/1"
    basic = "Basic " + base64.b64encode(b"alice:secret").decode()

    untrusted = lab.jobs.ended(lab.jobs.begin(type="image", url=url, headers={"Authorization": basic}))
    assert untrusted["state"] == "FAILED"
    assert "not trusted" in untrusted["error"]

    strange = lab.jobs.ended(lab.jobs.begin(type="image", url=url, certificates=[pem]))
    assert strange["state"] == "FAILED"
    assert "401" in strange["error"]

    number = lab.jobs.begin(type="image", url=url, certificates=[pem], headers={"Authorization": basic})
    job = lab.jobs.ended(number)
    assert job["state"] == "SUCCESS", job
    for digest in image.every_blob:
        (access,) = registry.gets(digest)
        wanted = "Bearer " if auth is Auth.TOKEN else "Basic "
        assert access.headers["authorization"].startswith(wanted)
    # Nothing of it is on the supernode's disk or in what it tells.
    told = str(lab.jobs.ask("GET", "/preheats")) + str(job) + str(lab.jobs.ask("GET", f"/oapi/v1/jobs/{number}"))
    for secret in (basic, base64.b64encode(b"alice:secret").decode(), "secret"):
        assert secret not in told
    for file in (lab.directory / "supernode").rglob("*"):
        if file.is_file() and "repo" not in file.parts[-3:]:
            assert basic.encode() not in file.read_bytes(), file


def test_a_job_is_stopped_and_one_that_runs_survives_kill_9(lab: Lab) -> None:
    supernode = lab.swarm.start_supernode("--max-bandwidth", "4M", name="slow")
    jobs = JobsClient(node=supernode.node)
    image = lab.registry.pusher.multi("team/slow", "1", ["linux/amd64"], [8 * MIB, 8 * MIB])
    number = jobs.begin(type="image", url=lab.url("team/slow", "1"))
    wait_until(lambda: jobs.job(number)["verified_bytes"] > 100_000, "some of it has come")
    status, told = jobs.ask("POST", f"/jobs/{number}/stop")
    assert (status, told["state"]) == (200, "STOPPED")
    number = jobs.begin(type="image", url=lab.url("team/slow", "1"))
    wait_until(lambda: jobs.job(number)["verified_bytes"] > 1 * MIB, "some of it has come")
    supernode.process.kill()
    again = lab.swarm.start_supernode("--max-bandwidth", "100M", name="slow")
    jobs = JobsClient(node=again.node)
    job = jobs.ended(number)
    assert job["state"] == "SUCCESS", job
    assert {row["digest"] for row in job["rows"]} >= image.every_blob
    # What was verified before the kill was not fetched again: each range that was asked for begins where the last ended.
    fetched = sum(access.body_bytes for digest in image.every_blob for access in lab.registry.gets(digest))
    assert fetched < 2 * sum(image.blobs["linux/amd64"].values()), fetched
    assert job["id"] == number
    assert jobs.ask("DELETE", f"/jobs/{number}")[0] == 200
    assert jobs.ask("GET", f"/jobs/{number}")[0] == 404
    assert again.process.stop() == 0


def blob_urls(lab: Lab, name: str, image: MultiImage) -> dict[str, str]:
    """Where its blobs are, by digest."""
    return {digest: f"{lab.registry.root}/v2/{name}/blobs/{digest}" for digest in image.every_blob}


def moved_bytes(supernode: Supernode) -> list[tuple[int, ...]]:
    """What each host has received from the source, the seed and other peers, as all of them say from now on."""
    begun = time.monotonic()
    wait_until(
        lambda: all(float(peer["heard_s_ago"]) < time.monotonic() - begun for peer in peers_of(supernode)), "all have said it"
    )
    return [tuple(peer["received_bytes"].get(origin, 0) for origin in ("source", "seed", "peer")) for peer in peers_of(supernode)]


def test_two_hosts_preheat_while_four_pull_and_each_blob_is_asked_for_once(lab: Lab) -> None:
    supernode = lab.swarm.start_supernode("--max-bandwidth", "20M", name="both")
    swarm = Swarm(lab.processes, lab.directory / "both-hosts")
    (lab.directory / "both-hosts").mkdir()
    hosts = swarm.start_peers(6, supernode)
    jobs = JobsClient(node=supernode.node)
    wait_until(lambda: len(peers_of(supernode)) == 6, "all hosts are known")
    image = lab.registry.pusher.multi("team/both", "1", ["linux/amd64"], [6 * MIB, 3 * MIB])
    ids = [peer["id"] for peer in peers_of(supernode)][:2]
    number = jobs.begin(type="image", url=lab.url("team/both", "1"), hosts=ids)
    urls = blob_urls(lab, "team/both", image)
    downloads = [swarm.download(host, supernode, url) for host in hosts[2:] for url in urls.values()]
    for download in downloads:
        assert download.process.wait(90) == 0, download.process.story()
    job = jobs.ended(number)
    assert job["state"] == "SUCCESS", job
    assert {row["host"] for row in job["rows"]} == {"seed", *ids}
    for digest in image.every_blob:
        assert len(lab.registry.gets(digest)) == 1, digest
    assert supernode.process.stop() == 0


def test_with_scope_all_a_pull_moves_no_byte(lab: Lab) -> None:
    supernode = lab.swarm.start_supernode(name="all")
    (lab.directory / "all-hosts").mkdir()
    swarm = Swarm(lab.processes, lab.directory / "all-hosts")
    hosts = swarm.start_peers(2, supernode)
    jobs = JobsClient(node=supernode.node)
    wait_until(lambda: len(peers_of(supernode)) == 2, "all hosts are known")
    image = lab.registry.pusher.multi("team/all", "1", ["linux/amd64"], [2 * MIB, 1000])
    job = jobs.ended(jobs.begin(type="image", url=lab.url("team/all", "1"), scope="all"))
    assert job["state"] == "SUCCESS", job
    assert len(job["rows"]) == 3 * job["blobs"]
    before = moved_bytes(supernode)
    for host in hosts:
        for digest, url in blob_urls(lab, "team/all", image).items():
            download = swarm.download(host, supernode, url)
            assert download.process.wait(60) == 0, download.process.story()
            assert download.report().digest == digest
    assert moved_bytes(supernode) == before
    # A host that was not there takes all of it from the swarm, and no blob from the registry.
    (lab.directory / "fresh-hosts").mkdir()
    (fresh,) = Swarm(lab.processes, lab.directory / "fresh-hosts").start_peers(1, supernode)
    for digest, url in blob_urls(lab, "team/all", image).items():
        download = swarm.download(fresh, supernode, url)
        assert download.process.wait(60) == 0, download.process.story()
        assert download.report().source_bytes == 0
        assert len(lab.registry.gets(digest)) == 1
    assert supernode.process.stop() == 0


def test_a_host_that_is_killed_makes_it_partial(lab: Lab) -> None:
    supernode = lab.swarm.start_supernode("--seed-bandwidth", "3M", name="partial")
    (lab.directory / "partial-hosts").mkdir()
    swarm = Swarm(lab.processes, lab.directory / "partial-hosts")
    hosts = swarm.start_peers(2, supernode)
    jobs = JobsClient(node=supernode.node)
    wait_until(lambda: len(peers_of(supernode)) == 2, "all hosts are known")
    lab.registry.pusher.multi("team/partial", "1", ["linux/amd64"], [12 * MIB])
    number = jobs.begin(type="image", url=lab.url("team/partial", "1"), scope="all")

    def some_has_come() -> bool:
        return any(row["host"] != "seed" and row["bytes"] and row["verified_bytes"] > MIB for row in jobs.job(number)["rows"])

    wait_until(some_has_come, "a host has begun")
    assert hosts[0].server is not None
    hosts[0].server.kill()
    job = jobs.ended(number)
    assert job["state"] == "PARTIAL", job
    assert "1 of 2 hosts lack something" in job["error"]
    assert {row["state"] for row in job["rows"] if row["host"] == "seed"} == {"DONE"}
    assert "LOST" in {row["state"] for row in job["rows"]}
    assert supernode.process.stop() == 0


def test_a_pull_on_a_fresh_host_asks_the_registry_for_nothing_but_the_tag_and_for_access(lab: Lab) -> None:
    supernode = lab.swarm.start_supernode(name="quiet")
    (lab.directory / "quiet-hosts").mkdir()
    Swarm(lab.processes, lab.directory / "quiet-hosts").start_peers(1, supernode)
    jobs = JobsClient(node=supernode.node)
    wait_until(lambda: len(peers_of(supernode)) == 1, "the host is known")
    image = lab.registry.pusher.multi("team/quiet", "1", PLATFORMS, [2 * MIB, 5000])
    assert jobs.ended(jobs.begin(type="image", url=lab.url("team/quiet", "1"), scope="all"))["state"] == "SUCCESS"
    config = lab.directory / "quiet.yml"
    config.write_text(
        f"port: 0\nlocalIP: 127.0.0.1\nworkHome: {lab.directory / 'quiet-home'}\nsupernodes: ['{supernode.node}']\n"
        f"registry_mirror: {{remote: '{lab.registry.root}'}}\nproxies: [{{regx: 'blobs/sha256.*'}}]\n"
    )
    daemon = lab.processes.start("quiet-dfdaemon", [program("dfdaemon"), "--config", str(config)])
    port = daemon.wait_for(r"dfdaemon ready: https?://[\d.]+:(\d+)")[1]
    manifest = image.manifests["linux/arm64/v8"]
    by_digest = {image.digest, manifest}
    words = ["copy", "--preserve-digests", "--override-os", "linux", "--override-arch", "arm64", "--override-variant", "v8"]
    words += ["--src-tls-verify=false"]
    for number, source in enumerate(["team/quiet:1", f"team/quiet@{image.digest}"]):
        before = len(read_accesses(lab.registry.log))
        target = lab.directory / f"quiet-pulled-{number}"
        line = ["skopeo", *words, f"docker://127.0.0.1:{port}/{source}", f"dir:{target}"]
        pull = lab.processes.start(f"quiet-skopeo-{number}", line)
        assert pull.wait(60) == 0, pull.story()
        assert digest_of((target / "manifest.json").read_bytes()) == manifest
        for digest, size in image.blobs["linux/arm64/v8"].items():
            file = target / digest.removeprefix("sha256:")
            assert (file.stat().st_size, digest_of(file.read_bytes())) == (size, digest)
        asked = read_accesses(lab.registry.log)[before:]
        gets = {each.path for each in asked if each.method == "GET"}
        # Its tag (or nothing, where it is named by digest) and the registry's own page that asks for credentials.
        assert gets <= {"/v2/", "/v2/team/quiet/manifests/1"}, gets
        heads = [each.path for each in asked if each.method == "HEAD" and each.path.rpartition("/")[2] in by_digest]
        assert len(heads) == len(set(heads)), heads
        assert {each.method for each in asked} <= {"GET", "HEAD"}
    assert daemon.stop() == 0
    assert supernode.process.stop() == 0


def test_a_client_s_pull_through_dfdaemon_takes_no_blob_from_the_registry(lab: Lab) -> None:
    image = lab.registry.pusher.multi("team/pulled", "1", PLATFORMS, [2 * MIB, 5000])
    job = lab.jobs.ended(lab.jobs.begin(type="image", url=lab.url("team/pulled", "1"), platforms=["linux/amd64"]))
    assert job["state"] == "SUCCESS", job
    wanted = image.blobs["linux/amd64"]
    assert {len(lab.registry.gets(digest)) for digest in wanted} == {1}
    config = lab.directory / "dfdaemon.yml"
    config.write_text(
        f"port: 0\nlocalIP: 127.0.0.1\nworkHome: {lab.directory / 'dfdaemon'}\nsupernodes: ['{lab.supernode.node}']\n"
        f"registry_mirror: {{remote: '{lab.registry.root}'}}\n"
        "proxies: [{regx: 'blobs/sha256.*'}]\n"
    )
    daemon = lab.processes.start("dfdaemon", [program("dfdaemon"), "--config", str(config)])
    port = daemon.wait_for(r"dfdaemon ready: https?://[\d.]+:(\d+)")[1]
    target = lab.directory / "pulled"
    words = ["skopeo", "copy", "--override-os", "linux", "--override-arch", "amd64", "--src-tls-verify=false"]
    pull = lab.processes.start("skopeo", [*words, f"docker://127.0.0.1:{port}/team/pulled:1", f"dir:{target}"])
    assert pull.wait(60) == 0, pull.story()
    for digest, size in wanted.items():
        file = target / digest.removeprefix("sha256:")
        assert (file.stat().st_size, digest_of(file.read_bytes())) == (size, digest)
    assert {len(lab.registry.gets(digest)) for digest in wanted} == {1}
    assert daemon.stop() == 0


def test_a_supernode_that_is_killed_while_hosts_preheat(lab: Lab) -> None:
    ports = [word for flag in ("--port", "--broker-port", "--download-port") for word in (flag, str(free_port()))]
    slowly = [*ports, "--seed-bandwidth", "4M"]
    supernode = lab.swarm.start_supernode(*slowly, name="killed")
    (lab.directory / "killed-hosts").mkdir()
    Swarm(lab.processes, lab.directory / "killed-hosts").start_peers(2, supernode)
    jobs = JobsClient(node=supernode.node)
    wait_until(lambda: len(peers_of(supernode)) == 2, "all hosts are known")
    image = lab.registry.pusher.multi("team/killed", "1", ["linux/amd64"], [10 * MIB])
    number = jobs.begin(type="image", url=lab.url("team/killed", "1"), scope="all")

    def some_has_come() -> bool:
        return any(row["host"] != "seed" and row["bytes"] and row["verified_bytes"] > MIB for row in jobs.job(number)["rows"])

    wait_until(some_has_come, "a host has begun")
    supernode.process.kill()
    again = lab.swarm.start_supernode(*slowly, name="killed")
    job = jobs.ended(number, 90)
    assert job["state"] == "SUCCESS", job
    assert {row["state"] for row in job["rows"]} == {"DONE"}
    assert len(job["rows"]) == 3 * job["blobs"]
    for digest in image.every_blob:
        assert sum(access.body_bytes for access in lab.registry.gets(digest)) == image.blobs["linux/amd64"][digest]
    assert again.process.stop() == 0


def test_the_command_s_exit_code_is_the_proof(lab: Lab) -> None:
    lab.registry.pusher.multi("team/command", "1", ["linux/amd64"], [MIB])
    name = lab.registry.root.partition("://")[2] + "/team/command"
    words = [program("supernode"), "preheat", "--supernode", lab.supernode.node, "--wait"]
    proven = lab.processes.start("command", [*words, f"{name}:1"])
    assert proven.wait(60) == 0, proven.story()
    assert "SUCCESS" in proven.output()
    missing = lab.processes.start("command-missing", [*words, f"{name}:2"])
    assert missing.wait(60) == 1, missing.story()
    assert "404" in missing.output()


def test_the_seed_is_killed_in_the_middle(lab: Lab) -> None:
    supernode = lab.swarm.start_supernode("--max-bandwidth", "6M", name="dying")
    jobs = JobsClient(node=supernode.node)
    lab.registry.pusher.multi("team/dying", "1", ["linux/amd64"], [8 * MIB])
    number = jobs.begin(type="image", url=lab.url("team/dying", "1"))
    wait_until(lambda: jobs.job(number)["verified_bytes"] > 1 * MIB, "some of it has come")
    (seed,) = psutil.Process(supernode.process.pid).children()
    seed.send_signal(signal.SIGKILL)
    job = jobs.ended(number)
    assert job["state"] == "SUCCESS", job
    assert all(row["state"] == "DONE" for row in job["rows"])
    assert supernode.process.stop() == 0


def test_a_notification_of_docker_registry_s_own_begins_a_job(lab: Lab) -> None:
    image = lab.registry.pusher.multi("team/pushed", "1", ["linux/amd64"], [1000])
    event = {"id": "1", "action": "push", "target": {"mediaType": "application/octet-stream", "digest": image.digest}}
    manifest = {
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "digest": image.digest,
        "url": lab.url("team/pushed", "1"),
    }
    status, told = lab.jobs.ask("POST", "/registry/notifications", {"events": [event, {**event, "target": manifest}]})
    assert status == 200
    (number,) = told["jobs"]
    assert lab.jobs.ended(number)["state"] == "SUCCESS"
    assert all(
        image.digest in access.path for access in read_accesses(lab.registry.log) if "team/pushed/manifests/1" in access.path
    )
