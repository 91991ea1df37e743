"""What docker's settings become, for each version, way and thing that stands in the way."""

import json
from dataclasses import replace
from typing import Any

import pytest

from gateway.core.images import HUB
from gateway.core.setup.docker import CONFIG_FILE, DROP_IN, UNIT_FOLDER, plan_docker, without_mirrors
from gateway.core.setup.plan import Facts, Gateway, Mode, Plan, Refused, Runtime, Wish
from tests.support.memory_files import MemoryFiles

LOCAL = Gateway(host="127.0.0.1", port=65001)
URL = "http://127.0.0.1:65001"
OPENING = replace(LOCAL, authority_pem=b"PEM\n", opened=("registry.example", "other.example:5000"))
NEW, OLD = Facts(version=(26, 1)), Facts(version=(20, 10), has_systemd=True)
DEBIAN = {"/usr/sbin/update-ca-certificates": b"", "/usr/local/share/ca-certificates/theirs.crt": b""}


def wish(**more: Any) -> Wish:
    return Wish(runtime=Runtime.DOCKER, **more)


def planned(gateway: Gateway, files: MemoryFiles, facts: Facts = NEW, **more: Any) -> tuple[Plan, MemoryFiles]:
    """The plan and what is there when it was carried out; a second one has nothing to do."""
    plan = plan_docker(gateway, wish(**more), facts, files)
    after = files.follow(plan)
    again = plan_docker(gateway, wish(**more), facts, after)
    assert (again.writes, again.commands, again.reloads, again.restarts) == ((), (), False, "")
    assert again.mode is plan.mode
    return plan, after


def test_a_mirror_is_taken_over_without_a_restart() -> None:
    plan, after = planned(LOCAL, MemoryFiles())
    assert (plan.mode, plan.reloads, plan.restarts, plan.commands, plan.registries) == (Mode.MIRROR, True, "", (), (HUB,))
    assert json.loads(after.text(CONFIG_FILE)) == {"registry-mirrors": [URL]}


def test_other_mirrors_stay_behind_ours_and_our_own_former_address_goes() -> None:
    there = {"registry-mirrors": ["https://m.example", "http://127.0.0.1:7777/", f"{URL}/"], "debug": True}
    gateway = replace(LOCAL, former_urls=("http://127.0.0.1:7777",))
    plan, after = planned(gateway, MemoryFiles({CONFIG_FILE: json.dumps(there).encode()}))
    assert json.loads(after.text(CONFIG_FILE)) == {"registry-mirrors": [URL, "https://m.example"], "debug": True}
    assert any("behind this one: 1" in note for note in plan.notes)


def test_a_gateway_that_speaks_https_is_trusted_as_a_mirror() -> None:
    gateway = replace(LOCAL, scheme="https", listener_pem=b"LISTENER\n")
    plan, after = planned(gateway, MemoryFiles())
    assert after.text("/etc/docker/certs.d/127.0.0.1:65001/damselfly-ca.crt") == "LISTENER\n"
    assert plan.reloads
    # A new certificate alone is read at each pull.
    plan, _ = planned(replace(gateway, listener_pem=b"NEW\n"), after)
    assert (len(plan.writes), plan.reloads) == (1, False)


@pytest.mark.parametrize(
    ("gateway", "more", "mode", "why"),
    [
        (LOCAL, {}, Mode.MIRROR, "needs no CA and no restart"),
        (LOCAL, {"registries": (HUB,)}, Mode.MIRROR, "Docker Hub"),
        (LOCAL, {"registries": (HUB, "r.example")}, Mode.PROXY, "r.example is another registry"),
        (OPENING, {}, Mode.PROXY, "hijack_https opens"),
        (replace(LOCAL, authority_pem=b"PEM\n", opened=(HUB,)), {}, Mode.MIRROR, "Docker Hub"),
        (OPENING, {"mode": Mode.MIRROR}, Mode.MIRROR, "as --mode says"),
        (LOCAL, {"mode": Mode.PROXY}, Mode.PROXY, "as --mode says"),
    ],
)
def test_the_way_is_chosen_and_the_reason_said(gateway: Gateway, more: dict[str, Any], mode: Mode, why: str) -> None:
    plan, _ = planned(gateway, MemoryFiles(), **more)
    assert plan.mode is mode
    assert why in plan.reasons[0]


def test_a_mirror_says_which_registries_it_is_not_for() -> None:
    plan, _ = planned(LOCAL, MemoryFiles(), mode=Mode.MIRROR, registries=(HUB, "r.example"))
    assert [note for note in plan.notes if "r.example" in note and "--mode proxy" in note]


def test_a_new_docker_has_its_proxy_in_daemon_json_and_trust_in_each_registrys_folder() -> None:
    plan, after = planned(OPENING, MemoryFiles({CONFIG_FILE: b'{"debug": true}'}))
    assert json.loads(after.text(CONFIG_FILE)) == {"debug": True, "proxies": {"http-proxy": URL, "https-proxy": URL}}
    for name in ("registry.example", "other.example:5000"):
        assert after.text(f"/etc/docker/certs.d/{name}/damselfly-ca.crt") == "PEM\n"
    assert (plan.restarts, plan.reloads, plan.commands) == ("docker", False, ())
    assert plan.registries == OPENING.opened
    # A new CA is read without a restart.
    plan, _ = planned(replace(OPENING, authority_pem=b"NEW\n"), after)
    assert (len(plan.writes), plan.restarts) == (2, "")


def test_only_the_registries_that_are_named_get_trust_and_what_is_not_opened_is_said() -> None:
    plan, after = planned(OPENING, MemoryFiles(), registries=("registry.example", "closed.example"))
    assert [path for path in after.content if "certs.d" in path] == ["/etc/docker/certs.d/registry.example/damselfly-ca.crt"]
    assert [note for note in plan.notes if note.startswith("closed.example: ") and "hijack_https.hosts" in note]


@pytest.mark.parametrize("gateway", [replace(LOCAL, authority_pem=b"PEM\n", opened=(HUB,)), replace(OPENING, opens_unnamed=True)])
def test_docker_hub_and_unnamed_hosts_need_the_systems_store(gateway: Gateway) -> None:
    plan, after = planned(gateway, MemoryFiles(dict(DEBIAN)), mode=Mode.PROXY)
    assert after.text("/usr/local/share/ca-certificates/damselfly.crt") == "PEM\n"
    assert plan.commands == (("/usr/sbin/update-ca-certificates",),)
    assert plan.undo_commands == (("/usr/sbin/update-ca-certificates", "--fresh"),)
    with pytest.raises(Refused, match=r"none that is known was found"):
        plan_docker(gateway, wish(mode=Mode.PROXY), NEW, MemoryFiles())


def test_an_old_docker_has_its_proxy_from_systemd() -> None:
    plan, after = planned(OPENING, MemoryFiles({f"{UNIT_FOLDER}/limits.conf": b"[Service]\n#Environment=HTTP_PROXY=x\n"}), OLD)
    assert f'Environment="HTTP_PROXY={URL}" "HTTPS_PROXY={URL}"\n' in after.text(DROP_IN)
    assert CONFIG_FILE not in after.content
    assert plan.restarts == "docker"
    planned(OPENING, MemoryFiles(), Facts(has_systemd=True))
    with pytest.raises(Refused, match=f"start dockerd with HTTP_PROXY={URL}"):
        plan_docker(OPENING, wish(), Facts(version=(20, 10)), MemoryFiles())


def test_another_proxy_is_not_replaced_unasked() -> None:
    there = {"proxies": {"https-proxy": "http://corporate:3128", "no-proxy": "a,b"}}
    files = MemoryFiles({CONFIG_FILE: json.dumps(there).encode()})
    with pytest.raises(Refused, match=r"proxies.https-proxy names another proxy.*--replace-proxy"):
        plan_docker(OPENING, wish(), NEW, files)
    _, after = planned(OPENING, files, replace_proxy=True)
    assert json.loads(after.text(CONFIG_FILE))["proxies"] == {"https-proxy": URL, "no-proxy": "a,b", "http-proxy": URL}
    # Our own former one is no other.
    moved = replace(OPENING, port=7777, former_urls=(URL,))
    _, after = planned(moved, after)
    assert json.loads(after.text(CONFIG_FILE))["proxies"]["http-proxy"] == "http://127.0.0.1:7777"


def test_nobody_asks_a_proxy_on_another_address_for_itself() -> None:
    gateway = replace(OPENING, host="10.0.0.5")
    _, after = planned(gateway, MemoryFiles({CONFIG_FILE: b'{"proxies": {"no-proxy": "a"}}'}))
    assert json.loads(after.text(CONFIG_FILE))["proxies"]["no-proxy"] == "a,10.0.0.5"
    _, after = planned(gateway, MemoryFiles())
    assert json.loads(after.text(CONFIG_FILE))["proxies"]["no-proxy"] == "10.0.0.5"


def test_another_proxy_of_systemds_is_not_replaced_unasked() -> None:
    early, late = f"{UNIT_FOLDER}/http-proxy.conf", f"{UNIT_FOLDER}/zzz.conf"
    files = MemoryFiles({early: b'[Service]\nEnvironment="NO_PROXY=x" "https_proxy=http://corporate:3128"\n', DROP_IN: b"old"})
    with pytest.raises(Refused, match=f"{early}: Environment= names another proxy"):
        plan_docker(OPENING, wish(), OLD, files)
    planned(OPENING, files, OLD, replace_proxy=True)
    with pytest.raises(Refused, match=r"is read after"):
        plan_docker(OPENING, wish(replace_proxy=True), OLD, MemoryFiles({late: files.content[early]}))
    planned(OPENING, MemoryFiles({f"{UNIT_FOLDER}/notes.txt": files.content[early]}), OLD)


@pytest.mark.parametrize("path", ["/etc/systemd/system/docker.service", "/usr/lib/systemd/system/docker.service"])
def test_a_proxy_in_the_unit_itself_is_not_replaced_unasked(path: str) -> None:
    files = MemoryFiles({path: b"[Service]\nEnvironment=A=b HTTPS_PROXY=http://corporate:3128\n"})
    with pytest.raises(Refused, match=f"{path}: Environment= names another proxy"):
        plan_docker(OPENING, wish(), OLD, files)
    planned(OPENING, files, OLD, replace_proxy=True)


def test_a_proxy_in_a_file_of_variables_would_win() -> None:
    files = MemoryFiles({"/etc/sysconfig/docker": b"OPTIONS=x\nHTTP_PROXY=http://corporate:3128\n"})
    with pytest.raises(Refused, match="/etc/sysconfig/docker sets a proxy, and wins"):
        plan_docker(OPENING, wish(replace_proxy=True), OLD, files)
    # Debian's example, and what its init script alone would read.
    planned(OPENING, MemoryFiles({"/etc/default/docker": b'#HTTP_PROXY=x\n#export http_proxy="http://x/"\n'}), OLD)


def test_a_proxy_of_the_running_dockerd_is_not_replaced_unasked() -> None:
    facts = replace(NEW, proxies=frozenset({"http://corporate:3128"}))
    with pytest.raises(Refused, match="the environment of the running dockerd: HTTP_PROXY"):
        plan_docker(OPENING, wish(), facts, MemoryFiles())
    planned(OPENING, MemoryFiles(), facts, replace_proxy=True)
    planned(OPENING, MemoryFiles(), replace(NEW, proxies=frozenset({f"{URL}/"})))
    planned(LOCAL, MemoryFiles(), facts)


@pytest.mark.parametrize(
    ("gateway", "content", "facts", "more", "why"),
    [
        (LOCAL, b"{", NEW, {}, "line 1"),
        (LOCAL, b'{"registry-mirrors": "x"}', NEW, {}, "`registry-mirrors` is no list of strings"),
        (LOCAL, b'{"registry-mirrors": [1]}', NEW, {}, "`registry-mirrors` is no list of strings"),
        (OPENING, b'{"proxies": []}', NEW, {}, "`proxies` is no object"),
        (LOCAL, b"{}", replace(NEW, started_with=frozenset({"registry-mirror"})), {}, "runs with --registry-mirror"),
        (OPENING, b"{}", replace(NEW, started_with=frozenset({"https-proxy"})), {}, "runs with --https-proxy"),
        (replace(OPENING, mints=False), b"{}", NEW, {}, "is no CA"),
        (replace(OPENING, scheme="https", listener_pem=b"L"), b"{}", NEW, {}, "speaks HTTPS"),
    ],
)
def test_what_cannot_be_done_is_refused(gateway: Gateway, content: bytes, facts: Facts, more: dict[str, Any], why: str) -> None:
    with pytest.raises(Refused, match=why):
        plan_docker(gateway, wish(**more), facts, MemoryFiles({CONFIG_FILE: content}))


def test_another_file_may_be_meant() -> None:
    _, after = planned(LOCAL, MemoryFiles(), config_file="/home/u/.config/docker/daemon.json")
    assert list(after.content) == ["/home/u/.config/docker/daemon.json"]


def test_a_running_dockerd_forgets_a_mirror_only_by_a_list_without_it() -> None:
    assert without_mirrors(b'{"registry-mirrors": ["https://m.example"]}', CONFIG_FILE) is None
    assert without_mirrors(b'{"debug": true}', CONFIG_FILE) == b'{"debug": true, "registry-mirrors": []}'
    between = without_mirrors(None, CONFIG_FILE)
    assert between is not None
    assert json.loads(between) == {"registry-mirrors": []}
