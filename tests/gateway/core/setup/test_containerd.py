"""What containerd's settings become, for each version of config.toml and each way to write it."""

import tomllib
from dataclasses import replace
from typing import Any

import pytest
from tomlkit.exceptions import ParseError

from gateway.core.setup import containerd
from gateway.core.setup.containerd import CONFIG_FILE, HOSTS_FOLDER, plan_containerd, with_config_path
from gateway.core.setup.plan import Facts, Gateway, Plan, Refused, Runtime, Wish
from tests.support.memory_files import MemoryFiles

LOCAL = Gateway(host="127.0.0.1", port=65001)
URL = "http://127.0.0.1:65001"
EVERY = f"{HOSTS_FOLDER}/_default/hosts.toml"
V2 = 'plugins."io.containerd.grpc.v1.cri"'
V3 = "plugins.'io.containerd.cri.v1.images'"
TELLING = f'version = 2\n[{V2}.registry]\nconfig_path = "{HOSTS_FOLDER}"\n'


def planned(files: MemoryFiles, gateway: Gateway = LOCAL, facts: Facts = Facts(), **more: Any) -> tuple[Plan, MemoryFiles]:  # noqa: B008
    """The plan and what is there when it was carried out; a second one has nothing to do."""
    wish = Wish(runtime=Runtime.CONTAINERD, **more)
    plan = plan_containerd(gateway, wish, facts, files)
    after = files.follow(plan)
    again = plan_containerd(gateway, wish, facts, after)
    assert (again.writes, again.restarts) == ((), "")
    return plan, after


def told(files: MemoryFiles, plugin: str, path: str = CONFIG_FILE) -> str:
    return str(tomllib.loads(files.text(path))["plugins"][plugin]["registry"]["config_path"])


@pytest.mark.parametrize(
    ("version", "plugin"),
    [((1, 6), "io.containerd.grpc.v1.cri"), ((2, 1), "io.containerd.cri.v1.images"), (None, "io.containerd.grpc.v1.cri")],
)
def test_without_a_config_there_is_one_for_the_version_that_runs(version: tuple[int, int] | None, plugin: str) -> None:
    plan, after = planned(MemoryFiles(), facts=Facts(version=version))
    assert told(after, plugin) == HOSTS_FOLDER
    assert tomllib.loads(after.text(EVERY)) == {"host": {URL: {"capabilities": ["pull", "resolve"]}}}
    assert plan.restarts == "containerd"


_REGISTRY_AND_MORE = f"""version = 2

[{V2}.registry]  # ours
  config_path = ''

[{V2}.registry.headers]
  x = ['y']
"""
_OUT_OF_ORDER = f"""version = 2
[plugins]
  [{V2}]
    [{V2}.cni]
      bin_dir = "/x"
  [plugins.other]
    path = "/y"
"""
_THREE = f"""version = 3
[{V3}]
  snapshotter = 'overlayfs'
  [{V3}.registry]
    config_path = ''
  [{V3}.image_decryption]
    key_model = 'node'
"""


@pytest.mark.parametrize(
    ("text", "plugin"),
    [
        ("", "cri"),
        ("# nothing but a comment", "cri"),
        ("[plugins.cri.registry]\n", "cri"),
        ("version = 2\n", "io.containerd.grpc.v1.cri"),
        (_REGISTRY_AND_MORE, "io.containerd.grpc.v1.cri"),
        (f"version = 2\r\n[plugins]\r\n  [{V2}]\r\n    x = 1 # one\r\n", "io.containerd.grpc.v1.cri"),
        (_OUT_OF_ORDER, "io.containerd.grpc.v1.cri"),
        (_THREE, "io.containerd.cri.v1.images"),
        (f"version = 2\n[{V2}]\nregistry = {{ config_path = '' }}\n", "io.containerd.grpc.v1.cri"),
    ],
)
def test_config_path_is_added_and_all_else_stays_line_for_line(text: str, plugin: str) -> None:
    plan, after = planned(MemoryFiles({CONFIG_FILE: text.encode()}))
    new = after.text(CONFIG_FILE)
    assert told(after, plugin) == HOSTS_FOLDER
    assert plan.restarts == "containerd"
    kept = [line for line in text.splitlines(keepends=True) if "config_path" not in line]
    rest = iter(new.splitlines(keepends=True))
    missing = [line for line in kept if line.rstrip("\r\n") not in (each.rstrip("\r\n") for each in rest)]
    assert not missing, new
    assert ("\r\n" in text) == ("\r\n" in new)


def test_where_config_path_is_set_nothing_is_restarted() -> None:
    plan, after = planned(MemoryFiles({CONFIG_FILE: TELLING.encode()}))
    assert [write.path for write in plan.writes] == [EVERY]
    assert plan.restarts == ""
    assert after.text(CONFIG_FILE) == TELLING


def test_an_earlier_folders_default_hides_nothing_that_a_later_folder_says() -> None:
    text = f'version = 2\n[{V2}.registry]\nconfig_path = "/a/:/b:/c"\n'
    files = MemoryFiles({CONFIG_FILE: text.encode()})
    assert planned(files)[0].writes[0].path == "/a/_default/hosts.toml"
    files.content["/b/r.example/ca.crt"] = b"x"
    plan, _ = planned(files)
    assert plan.writes[0].path == "/b/_default/hosts.toml"
    plan, _ = planned(files, registries=("r.example", "s.example"))
    assert [write.path for write in plan.writes] == ["/b/r.example/hosts.toml", "/a/s.example/hosts.toml"]


def test_registries_with_a_file_of_their_own_are_named() -> None:
    files = MemoryFiles({CONFIG_FILE: TELLING.encode(), f"{HOSTS_FOLDER}/docker.io/hosts.toml": b""})
    plan, after = planned(files)
    assert [note for note in plan.notes if "--registry docker.io" in note]
    assert after.text(f"{HOSTS_FOLDER}/docker.io/hosts.toml") == ""


def test_a_disabled_cri_plugin_needs_no_config_path() -> None:
    plan, after = planned(MemoryFiles({CONFIG_FILE: b'disabled_plugins = ["cri"]\n'}))
    assert [write.path for write in plan.writes] == [EVERY]
    assert [note for note in plan.notes if "nerdctl" in note]
    assert plan.restarts == ""
    assert after.text(CONFIG_FILE) == 'disabled_plugins = ["cri"]\n'


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("version = 2\nx = [\n", "line 3: Invalid value"),
        ("version = 9\n", "version = 9 is not known"),
        ("version = 2\nplugins = 1\n", "`plugins` is no table"),
        (f"version = 2\n[{V2}.registry]\nconfig_path = 1\n", "no string"),
        (f'version = 2\n[{V2}.registry.mirrors."docker.io"]\nendpoint = ["https://m"]\n', "has registry.mirrors"),
        (f'version = 2\n[{V2}.registry.configs."r".tls]\nca_file = "/x"\n', r"has registry.configs.\*.tls"),
    ],
)
def test_what_cannot_be_done_is_refused(text: str, why: str) -> None:
    with pytest.raises(Refused, match=why):
        plan_containerd(LOCAL, Wish(runtime=Runtime.CONTAINERD), Facts(), MemoryFiles({CONFIG_FILE: text.encode()}))


def test_credentials_in_the_old_form_may_stay() -> None:
    text = f'version = 2\n[{V2}.registry.configs."r".auth]\nusername = "u"\n'
    _, after = planned(MemoryFiles({CONFIG_FILE: text.encode()}))
    assert told(after, "io.containerd.grpc.v1.cri") == HOSTS_FOLDER


def test_a_file_that_cannot_be_added_to_safely_is_left_to_its_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"version = 2\n[{V2}.registry]\n"
    for made in (None, "version = 3\n"):
        monkeypatch.setattr(containerd, "_in_place", lambda _text, _names, made=made: made)
        with pytest.raises(Refused, match=r'set config_path = "/etc/containerd/certs.d" in'):
            with_config_path(text, ("plugins", "io.containerd.grpc.v1.cri", "registry"), CONFIG_FILE)


def test_what_tomlkit_cannot_do_is_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    # An inline table that ends where it begins: the table cannot be added behind it.
    with pytest.raises(Refused, match=r"by hand"):
        with_config_path("version = 2\nplugins = {x = {}}\n", ("plugins", "io.containerd.grpc.v1.cri", "registry"), CONFIG_FILE)

    def fail(_: str) -> None:
        raise ParseError(1, 1)

    monkeypatch.setattr("tomlkit.parse", fail)
    with pytest.raises(Refused, match="by hand"):
        with_config_path("version = 2\n", ("plugins", "io.containerd.grpc.v1.cri", "registry"), CONFIG_FILE)


@pytest.mark.parametrize(
    "text",
    [
        'server = "https://registry-1.docker.io"\n\n# of our house\n[host."https://m.example"]\ncapabilities = ["pull"]\n',
        '[ host . "https://m.example" ]\nskip_verify = true',
        "[host]\n[host.'https://m.example']\nca = 'x'\n[header]\nx = ['y']\n",
        'server = "https://r"\r\n[host."https://m.example"]\r\nca = "x"\r\n',
    ],
)
def test_other_hosts_stay_behind_ours(text: str) -> None:
    path = f"{HOSTS_FOLDER}/docker.io/hosts.toml"
    _, after = planned(MemoryFiles({CONFIG_FILE: TELLING.encode(), path: text.encode()}), registries=("docker.io",))
    old, new = tomllib.loads(text), tomllib.loads(after.text(path))
    assert list(new["host"]) == [URL, "https://m.example"]
    assert {**new, "host": {"https://m.example": new["host"]["https://m.example"]}} == old
    assert "".join(after.text(path).split()).count('#ofourhouse[host."https://m.example"]') == text.count("# of")


def test_a_hosts_toml_without_hosts_gets_ours_at_its_end() -> None:
    path = f"{HOSTS_FOLDER}/r/hosts.toml"
    for text in ('server = "https://r"', 'server = "https://r"\n', 'server = "https://r"\n\n', ""):
        _, after = planned(MemoryFiles({CONFIG_FILE: TELLING.encode(), path: text.encode()}), registries=("r",))
        assert after.text(path).startswith(text)
        assert list(tomllib.loads(after.text(path))["host"]) == [URL]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (f"[host.'https://m']\n[host.'{URL}']\n", "behind another host"),
        ("host = {'https://m' = {}}\n", "by hand"),
        ("x = '''\n[host.a]\n'''\n[host.'https://m']\n", "by hand"),
        ("host = 1\n", "`host` is no table"),
    ],
)
def test_a_hosts_toml_that_cannot_be_added_to_is_refused(text: str, why: str) -> None:
    files = MemoryFiles({CONFIG_FILE: TELLING.encode(), f"{HOSTS_FOLDER}/r/hosts.toml": text.encode()})
    with pytest.raises(Refused, match=why):
        plan_containerd(LOCAL, Wish(runtime=Runtime.CONTAINERD, registries=("r",)), Facts(), files)


def test_a_gateway_that_has_moved_is_named_once() -> None:
    _, before = planned(MemoryFiles({CONFIG_FILE: TELLING.encode()}))
    moved = replace(LOCAL, port=7777, former_urls=(URL,))
    plan, after = planned(before, moved)
    assert len(plan.writes) == 1
    assert list(tomllib.loads(after.text(EVERY))["host"]) == ["http://127.0.0.1:7777"]
    # And back; both are known by then.
    _, after = planned(after, replace(LOCAL, former_urls=(URL, "http://127.0.0.1:7777")))
    assert list(tomllib.loads(after.text(EVERY))["host"]) == [URL]


def test_a_gateway_that_speaks_https_is_trusted() -> None:
    gateway = replace(LOCAL, scheme="https", listener_pem=b"LISTENER\n")
    _, after = planned(MemoryFiles({CONFIG_FILE: TELLING.encode()}), gateway)
    host = tomllib.loads(after.text(EVERY))["host"]["https://127.0.0.1:65001"]
    assert after.text(host["ca"]) == "LISTENER\n"


def test_a_folder_of_hosts_alone_needs_no_config() -> None:
    plan, after = planned(MemoryFiles(), hosts_dir="/x/hosts.d/")
    assert list(after.content) == ["/x/hosts.d/_default/hosts.toml"]
    assert plan.restarts == ""
