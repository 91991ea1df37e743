"""`dfdaemon why` on real pulls: real dfdaemons, a supernode and a docker-registry; and a real dockerd's image."""

import base64
import json
import re
import socket
import threading
from collections.abc import Iterator

import pytest

from scripts.demonstration.swarm import LOOPBACK, program
from tests.support.client_lab import Client, ClientLab, Mode
from tests.support.guarded_registry import USER, Auth
from tests.support.swarm import wait_until
from tests.support.why_world import MANIFEST, Gateway, Pulled, WhyWorld, why_world

pytestmark = [pytest.mark.docker, pytest.mark.timeout(120)]

_LAYERS = [1_500_000, 2_500_000]


@pytest.fixture
def world() -> Iterator[WhyWorld]:
    """Everything but the gateways."""
    with why_world() as made:
        yield made


def _places(told: dict[str, object]) -> dict[str, int]:
    found: dict[str, int] = {}
    for each in told["from"]:  # type: ignore[attr-defined]
        found[each["place"]] = found.get(each["place"], 0) + each["bytes"]
    return found


def test_cold_warm_and_from_another_host(world: WhyWorld) -> None:
    supernode = world.supernode()
    first, second = world.gateway(supernode.node), world.gateway(supernode.node)
    image = world.push("team/app:1", _LAYERS)
    blobs = sum(image.blobs.values())
    answers = first.pull(image, "team/app:1")
    assert {each.status for each in answers} == {200}
    assert len({each.trace for each in answers}) == len(answers)
    manifest = len(answers[0].body)

    cold = first.explained("team/app:1")
    assert cold["title"] == f"image {world.name('team/app:1')}"
    assert _places(cold) == {"seed": blobs, "registry": manifest}
    assert [each["trace"] for each in cold["requests"]] == [each.trace for each in answers]
    assert cold["requests"][0]["way"] == "direct"
    assert {each["way"] for each in cold["requests"][1:]} == {"p2p"}
    assert cold["phases"]["access"] > 0
    assert cold["phases"]["supernode"] > 0
    assert cold["phases"]["registry"] > 0

    first.pull(image, "team/app:1")
    warm = first.explained("team/app:1")
    assert _places(warm) == {"store": blobs, "registry": manifest}
    assert warm["phases"]["seed"] == warm["phases"]["supernode"] == 0
    # The supernode has said for each blob whose it is: nobody is asked any more.
    first.pull(image, "team/app:1")
    assert first.explained("team/app:1")["phases"]["access"] == 0

    second.pull(image, "team/app:1")
    far = second.explained("app:1")
    given = _places(far)
    assert given.pop("registry") == manifest
    assert sum(given.values()) == blobs
    assert given["peer"] > 0
    names = {each["name"] for each in far["from"] if each["place"] == "peer"}
    assert all(re.fullmatch(r"127\.0\.0\.1-\d+-[\d.]+", name) for name in names)

    # By whatever name: one layer's digest or its beginning, the manifest's, a trace's.
    layer = max(image.blobs, key=lambda each: image.blobs[each])
    for question in (layer, layer[7:19], layer[:19]):
        assert [each["digest"] for each in second.explained(question)["requests"]] == [layer]
    assert len(second.explained(f"team/app@{image.manifest}")["requests"]) == len(answers)
    assert second.explained(image.manifest)["requests"] == far["requests"]
    assert first.explained(answers[1].trace[:12])["requests"] == cold["requests"][1:2]
    drawn = second.why("team/app:1").stdout
    assert "where the time went" in drawn
    assert "where the bytes came from" in drawn
    assert f"verdict: {far['verdict']}" in drawn
    listed = second.why().stdout
    assert all(trace["trace"][:12] in listed for trace in far["requests"])

    missing = second.why("team/no:1")
    assert missing.returncode == 1
    assert "nothing is known of team/no:1" in missing.stderr
    assert world.name("team/app:1") in missing.stderr


def test_layers_that_are_pulled_at_once_are_each_told_apart(world: WhyWorld) -> None:
    gateway = world.gateway(world.supernode().node)
    image = world.push("team/app:1", [1_000_000, 1_200_000, 1_400_000])
    other = world.push("team/app:2", [1_300_000])
    answers: dict[str, Pulled] = {}

    def get(digest: str) -> None:
        answers[digest] = gateway.get(f"/v2/team/app/blobs/{digest}")

    gateway.get("/v2/team/app/manifests/1", {"Accept": MANIFEST})
    gateway.get("/v2/team/app/manifests/2", {"Accept": MANIFEST})
    threads = [threading.Thread(target=get, args=(digest,)) for digest in (*image.blobs, *other.blobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    told = gateway.explained("team/app:1")
    blobs = [each for each in told["requests"] if each["kind"] == "blob"]
    assert {each["digest"]: each["bytes"] for each in blobs} == image.blobs
    assert {each["digest"]: each["trace"] for each in blobs} == {digest: answers[digest].trace for digest in image.blobs}
    first, last = min(each["began"] for each in told["requests"]), max(each["began"] + each["seconds"] for each in blobs)
    assert told["seconds"] == pytest.approx(last - first, abs=1e-3)


def test_two_clients_of_one_layer_are_each_told_what_they_waited_for(world: WhyWorld) -> None:
    """The second comes when half is here: that half is this host's store's to him."""
    world.front.rate = 1_500_000
    gateway = world.gateway(world.supernode().node)
    image = world.push("team/app:1", [4_000_000])
    digest = max(image.blobs, key=lambda each: image.blobs[each])
    path = f"/v2/team/app/blobs/{digest}"
    answers: list[Pulled] = []
    thread = threading.Thread(target=lambda: answers.append(gateway.get(path)))
    thread.start()

    def half_is_here() -> bool:
        found = re.findall(r"downloading piece", (gateway.home / "logs" / "dfclient.log").read_text())
        return len(found) >= 4

    wait_until(half_is_here, "half of the layer")
    late = gateway.get(path)
    thread.join(60)
    early = answers[0]
    assert early.body == late.body
    whole, rest = gateway.explained(early.trace), gateway.explained(late.trace)
    assert _places(whole) == {"seed": len(early.body)}
    given = _places(rest)
    assert given["store"] >= 4 * (1 << 18)
    assert given["seed"] == len(late.body) - given["store"]
    assert whole["dominant"] == rest["dominant"] == "registry"
    assert rest["seconds"] < whole["seconds"]


def test_a_slow_source_is_named(world: WhyWorld) -> None:
    gateway = world.gateway(world.supernode().node)
    image = world.push("team/app:1", [1_000_000])
    world.front.delay_s = 1.2
    gateway.pull(image, "team/app:1")
    told = gateway.explained("team/app:1")
    assert told["dominant"] == "registry"
    assert re.match(r"the registry was slow: \d\d % of \d\.\d s waiting for the seed's first byte", told["verdict"])
    assert told["waits"]["seed_opens"] >= 1.2 * 2
    # And one that begins at once, and then dribbles.
    world.front.delay_s, world.front.rate = 0.0, 700_000
    image = world.push("team/slow:1", [1_500_000])
    gateway.pull(image, "team/slow:1")
    told = gateway.explained("team/slow:1")
    assert told["dominant"] == "registry"
    assert "waiting while the seed read from it" in told["verdict"]
    assert told["waits"]["seed_reads"] > 1.0


def test_a_slow_client_is_named(world: WhyWorld) -> None:
    gateway = world.gateway(world.supernode().node)
    # More than the kernel takes for a client that does not read.
    image = world.push("team/app:1", [24_000_000])
    digest = max(image.blobs, key=lambda each: image.blobs[each])
    answer = gateway.get(f"/v2/team/app/blobs/{digest}", bytes_per_s=12_000_000)
    told = gateway.explained(answer.trace)
    assert told["dominant"] == "client"
    assert re.match(r"the client was slow: \d\d % of \d\.\d s waiting until it had taken what was there", told["verdict"])


@pytest.mark.parametrize("accepts", [False, True], ids=["down", "silent"])
def test_a_supernode_that_does_not_answer_is_named_and_the_fallback_is_a_success(world: WhyWorld, accepts: bool) -> None:
    with socket.create_server((LOOPBACK, 0), backlog=100) as listener:
        node = f"{LOOPBACK}:{listener.getsockname()[1]}"
        if not accepts:
            listener.close()
        _without_supernode(world, world.gateway(node), accepts=accepts)


def _without_supernode(world: WhyWorld, gateway: Gateway, *, accepts: bool) -> None:
    image = world.push("team/app:1", [50_000])
    digest = max(image.blobs, key=lambda each: image.blobs[each])
    answer = gateway.get(f"/v2/team/app/blobs/{digest}")
    assert answer.status == 200
    told = gateway.explained(answer.trace)
    # One that refuses is known to be down at once; of one that is silent a sign of life is waited for.
    assert told["waits"]["supernode"] >= (0.3 if accepts else 0)
    assert not accepts or told["dominant"] == "supernode"
    assert _places(told) == {"registry": len(answer.body)}
    assert told["requests"][0]["fallback"] == "no_swarm"
    assert told["verdict"].startswith("it came straight from the registry, because no supernode answered; ")

    def is_logged() -> bool:
        return f"trace {answer.trace}" in gateway.log()

    wait_until(is_logged, "the fallback's line")
    (line,) = [each for each in gateway.log().splitlines() if f"trace {answer.trace}" in each]
    assert re.search(rf"dfget url:http\S+{digest} \[SUCCESS\] cost:[\d.]+s length:{len(answer.body)} .*because of no_swarm", line)
    assert "[FAIL]" not in gateway.log()


def test_a_restart_forgets_nothing_and_a_stopped_one_can_be_asked(world: WhyWorld) -> None:
    gateway = world.gateway(world.supernode().node)
    image = world.push("team/app:1", [500_000])
    answers = gateway.pull(image, "team/app:1")
    before = gateway.explained("team/app:1")
    assert gateway.process is not None
    gateway.process.kill()
    stopped = gateway.why("--json", "team/app:1")
    assert json.loads(stopped.stdout) == before
    assert "no dfdaemon answers on 127.0.0.1:" in stopped.stderr
    gateway.start()
    assert gateway.explained("team/app:1") == before
    assert gateway.explained(answers[1].trace)["requests"] == before["requests"][1:2]
    assert gateway.process.stop() == 0
    assert json.loads(gateway.why("--json", "team/app:1").stdout) == before


def test_a_refusal_is_the_registrys_and_secrets_are_nowhere() -> None:
    with why_world(guarded=True) as world:
        gateway = world.gateway(world.supernode().node, settings="basicAuth: {username: who, password: word-of-the-proxy}\n")
        _refused(world, gateway)


def _refused(world: WhyWorld, gateway: Gateway) -> None:
    mine = {"Authorization": f"Basic {base64.b64encode(USER.encode()).decode()}"}
    proxy = {"Proxy-Authorization": f"Basic {base64.b64encode(b'who:word-of-the-proxy').decode()}"}
    image = world.push("team/app:1", [500_000])
    digest = max(image.blobs, key=lambda each: image.blobs[each])
    path = f"/v2/team/app/blobs/{digest}?X-Signature=signed-secret"
    assert gateway.get(path, {**mine, **proxy}).status == 200
    other = gateway.get(path, proxy)
    assert other.status == 401
    # The command takes the proxy's own password from the configuration.
    told = gateway.explained(other.trace)
    assert told["verdict"].startswith("refused: the registry answered 401 to this client; ")
    assert _places(told) == {"registry": len(other.body)}
    assert told["requests"][0]["fallback"] == "not_permitted"
    refused = gateway.get(path)
    assert refused.status == 407
    assert gateway.explained(refused.trace)["verdict"].startswith("refused: dfdaemon answered 407 to this client")
    kept = (gateway.home / "meta" / "traces.jsonl").read_text()
    for secret in ("signed-secret", "word-of-the-proxy", "alice", mine["Authorization"], proxy["Proxy-Authorization"][6:]):
        assert secret not in kept + json.dumps(told)
    assert other.trace in kept


def test_an_image_that_dockerd_pulled_is_explained_by_its_name(clients: ClientLab) -> None:
    for mode in (Mode.HIJACK, Mode.MIRROR, Mode.PROXY):
        repository = f"team/why-{mode.value}"
        image = clients.registries.push(f"{repository}:1", [300_000, 200_000])
        name = clients.image(Client.DOCKER, mode, Auth.TOKEN, repository)
        assert clients.pull(Client.DOCKER, mode, Auth.TOKEN, repository) == image.id
        words = [program("dfdaemon"), "why", "--config", str(clients.directory / "dfdaemon.yml"), "--json", name]
        told = json.loads(clients.host.run(words))
        blobs = {each["digest"]: each["bytes"] for each in told["requests"] if each["kind"] == "blob"}
        assert blobs == image.blobs, name
        assert {each["client"].partition("/")[0] for each in told["requests"]} == {"docker"}
        assert sum(told["phases"].values()) == pytest.approx(told["seconds"], abs=1e-5)
        assert told["requests"][0]["status"] in (200, 401)
