"""What registries.conf says afterwards, with what was said before kept behind it."""

import tomllib
from dataclasses import replace
from typing import Any

import pytest

from gateway.core.setup.plan import Facts, Gateway, Plan, Refused, Runtime, Wish
from gateway.core.setup.podman import plan_podman
from tests.support.memory_files import MemoryFiles

LOCAL = Gateway(host="127.0.0.1", port=65001, opened=("registry.example",))
OURS = "/etc/containers/registries.conf.d/zz-damselfly.conf"
MAIN = "/etc/containers/registries.conf"


def planned(files: MemoryFiles, gateway: Gateway = LOCAL, facts: Facts = Facts(), **more: Any) -> tuple[Plan, MemoryFiles]:  # noqa: B008
    """The plan and what is there when it was carried out; a second one has nothing to do."""
    wish = Wish(runtime=Runtime.PODMAN, **more)
    plan = plan_podman(gateway, wish, facts, files)
    after = files.follow(plan)
    assert plan_podman(gateway, wish, facts, after).writes == ()
    assert (plan.restarts, plan.reloads) == ("", False)
    return plan, after


def tables(files: MemoryFiles, path: str = OURS) -> dict[str, dict[str, Any]]:
    return {each["prefix"]: each for each in tomllib.loads(files.text(path))["registry"]}


def test_docker_hub_and_what_dfdaemon_opens_are_asked_of_it_first() -> None:
    plan, after = planned(MemoryFiles())
    assert list(after.content) == [OURS]
    assert tables(after) == {
        name: {"prefix": name, "location": name, "mirror": [{"location": f"localhost:65001/{name}", "insecure": True}]}
        for name in ("docker.io", "registry.example")
    }
    assert plan.registries == ("docker.io", "registry.example")
    plan, after = planned(MemoryFiles(), registries=("other.example:5000",))
    assert list(tables(after)) == ["other.example:5000"]
    assert [note for note in plan.notes if "podman login localhost:65001/other.example:5000" in note]


def test_what_was_said_of_a_registry_is_kept_and_its_mirrors_stay_behind_ours() -> None:
    early = b'[[registry]]\nlocation = "docker.io"\nblocked = true\n'
    late = (
        b'[[registry]]\nprefix = "docker.io"\nlocation = "internal.example/hub"\nmirror-by-digest-only = true\n'
        b'[[registry.mirror]]\nlocation = "m.example"\npull-from-mirror = "digest-only"\n'
    )
    files = MemoryFiles({MAIN: early, "/etc/containers/registries.conf.d/10-own.conf": late})
    _, after = planned(files, replace(LOCAL, former_urls=("http://127.0.0.1:7777",)), registries=("docker.io",))
    assert tables(after)["docker.io"] == {
        "prefix": "docker.io",
        "location": "internal.example/hub",
        "mirror-by-digest-only": True,
        "mirror": [
            {"location": "localhost:65001/docker.io", "insecure": True},
            {"location": "m.example", "pull-from-mirror": "digest-only"},
        ],
    }


def test_a_gateway_that_has_moved_is_named_once() -> None:
    there = b'[[registry]]\nlocation = "docker.io"\n[[registry.mirror]]\nlocation = "localhost:7777/docker.io"\n'
    _, after = planned(MemoryFiles({MAIN: there}), replace(LOCAL, former_urls=("http://127.0.0.1:7777",)))
    assert [each["location"] for each in tables(after)["docker.io"]["mirror"]] == ["localhost:65001/docker.io"]


def test_what_is_said_of_a_part_of_a_registry_is_noted_and_stays() -> None:
    there = b'[[registry]]\nprefix = "registry.example/team"\nlocation = "x.example/team"\n'
    plan, after = planned(MemoryFiles({MAIN: there}))
    assert [note for note in plan.notes if note.startswith("registry.example/team: /etc/containers/registries.conf")]
    assert "registry.example/team" not in tables(after)


def test_files_without_tables_of_registries_say_nothing() -> None:
    old = b"[registries.search]\nregistries = ['docker.io']\n"
    odd = b"registry = 1\n"
    mixed = b"registry = ['x']\n"
    folder = "/etc/containers/registries.conf.d"
    files = MemoryFiles({MAIN: old, f"{folder}/1.conf": odd, f"{folder}/2.conf": mixed, f"{folder}/readme": b"\xff"})
    assert list(tables(planned(files)[1])) == ["docker.io", "registry.example"]


def test_a_later_file_about_the_same_registry_would_win_and_is_refused() -> None:
    there = b'[[registry]]\nlocation = "docker.io"\n'
    files = MemoryFiles({"/etc/containers/registries.conf.d/zzz.conf": there})
    with pytest.raises(Refused, match=r"zzz.conf is read after"):
        plan_podman(LOCAL, Wish(runtime=Runtime.PODMAN), Facts(), files)


def test_a_broken_file_is_refused_with_its_line() -> None:
    with pytest.raises(Refused, match=r"registries.conf, line 2"):
        plan_podman(LOCAL, Wish(runtime=Runtime.PODMAN), Facts(), MemoryFiles({MAIN: b"a = 1\nb = \n"}))


def test_a_user_without_roots_rights_has_a_file_of_its_own() -> None:
    own = "/home/u/.config/containers/registries.conf.d/zz-damselfly.conf"
    system = {MAIN: b'[[registry]]\nlocation = "docker.io"\nblocked = true\n'}
    _, after = planned(MemoryFiles(dict(system)), facts=Facts(user_home="/home/u/"))
    assert tables(after, own)["docker.io"]["blocked"] is True
    # The user's main file stands in place of the system's.
    files = MemoryFiles({**system, "/home/u/.config/containers/registries.conf": b""})
    _, after = planned(files, facts=Facts(user_home="/home/u"))
    assert "blocked" not in tables(after, own)["docker.io"]


def test_another_file_may_be_meant() -> None:
    _, after = planned(
        MemoryFiles({"/x/10.conf": b'[[registry]]\nlocation = "docker.io"\nblocked = true\n'}), config_file="/x/50.conf"
    )
    assert tables(after, "/x/50.conf")["docker.io"]["blocked"] is True


def test_a_gateway_that_speaks_https_is_trusted() -> None:
    gateway = replace(LOCAL, scheme="https", listener_pem=b"LISTENER\n")
    _, after = planned(MemoryFiles(), gateway)
    assert tables(after)["docker.io"]["mirror"] == [{"location": "localhost:65001/docker.io"}]
    assert after.text("/etc/containers/certs.d/localhost:65001/damselfly-ca.crt") == "LISTENER\n"


def test_a_gateway_on_another_address_cannot_be_told_the_registry() -> None:
    with pytest.raises(Refused, match=r"listens on 10.0.0.5"):
        plan_podman(replace(LOCAL, host="10.0.0.5"), Wish(runtime=Runtime.PODMAN), Facts(), MemoryFiles())
