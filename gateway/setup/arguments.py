"""The command line of `dfdaemon setup`. Imports only what --help needs."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from worker_peer.host.command_line import parse_switch

if TYPE_CHECKING:
    from gateway.setup.command import Options

#: Those that stand alone.
SWITCHES: Final = ("undo", "yes", "restart", "keep-edited", "replace-proxy")
_ABOUT_SWITCHES: Final = (
    "take back what setup wrote, byte for byte",
    "do it without asking",
    "restart the runtime where that is needed; without it setup only says so",
    "with --undo: leave files that were changed since as they are",
    "docker, mode proxy: take the place of another proxy",
)
_VALUES: Final = (
    ("mode", "mirror|proxy", "docker: mirror (Docker Hub's images, no restart) or proxy (all registries); default: what fits"),
    ("root", "DIR", "act in another root folder (an image's); nothing that runs is told of it"),
    (
        "config-file",
        "FILE",
        "instead of /etc/docker/daemon.json, /etc/containerd/config.toml, registries.conf.d/zz-damselfly.conf",
    ),
    ("hosts-dir", "DIR", "containerd: folder of hosts.toml, instead of the one that config.toml names"),
    ("socket", "FILE", "docker: its API, default /var/run/docker.sock"),
    ("pid-file", "FILE", "docker: default /var/run/docker.pid"),
    ("runtime-version", "X.Y", "of docker or containerd, where it cannot be asked"),
)
#: Of the daemon's own settings: where it is, and what it shows.
SETTINGS: Final = ("hostIp", "port", "certpem", "keypem", "workHome")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """All but the daemon's own settings."""
    parser.epilog = (
        "Exit codes: 0 done, or nothing to do; 1 refused, nothing changed; 3 shown only, nobody said yes; "
        "4 written, but something is missing before it works. Rootless podman: run it as that user."
    )
    parser.add_argument("runtime", choices=["docker", "containerd", "podman"], help="podman: CRI-O, skopeo and buildah as well")
    for name, about in zip(SWITCHES, _ABOUT_SWITCHES, strict=True):
        parser.add_argument(f"--{name}", metavar="BOOL", help=about)
    parser.add_argument(
        "--registry",
        action="append",
        metavar="HOST",
        help="only for this registry, as images name it; repeatable; docker.io: the Hub",
    )
    for name, value, about in _VALUES:
        parser.add_argument(f"--{name}", metavar=value, help=about)


def options_from(given: dict[str, Any]) -> "Options":
    """Takes its own out of `given`, and leaves the daemon's settings. Raises ValueError, Refused."""
    from gateway.core.setup.plan import Mode, Runtime, Wish, registry_name
    from gateway.setup.command import Options

    runtime = Runtime(given.pop("runtime"))
    switched = {name: parse_switch(given.pop(name.replace("-", "_"), "false")) for name in SWITCHES}
    values: dict[str, str] = {name: given.pop(name.replace("-", "_"), "") for name, _, _ in _VALUES}
    if values["mode"] and values["mode"] not in ("mirror", "proxy"):
        raise ValueError(f"--mode {values['mode']!r}: allowed: mirror, proxy")
    for name, owner in (
        ("mode", Runtime.DOCKER),
        ("socket", Runtime.DOCKER),
        ("pid-file", Runtime.DOCKER),
        ("hosts-dir", Runtime.CONTAINERD),
    ):
        if values[name] and runtime is not owner:
            raise ValueError(f"--{name} is for {owner.value} only")
    for name in ("config-file", "hosts-dir"):
        if values[name] and not values[name].startswith("/"):
            # Within --root there is no current folder.
            raise ValueError(f"--{name} {values[name]!r} is no absolute path")
    registries = dict.fromkeys(registry_name(each) for each in given.pop("registry", []))
    wish = Wish(
        runtime=runtime,
        mode=Mode(values["mode"]) if values["mode"] else None,
        registries=tuple(registries),
        config_file=values["config-file"],
        hosts_dir=values["hosts-dir"],
        replace_proxy=switched["replace-proxy"],
    )
    return Options(
        wish=wish,
        undo=switched["undo"],
        yes=switched["yes"],
        restart=switched["restart"],
        keep_edited=switched["keep-edited"],
        root=Path(values["root"] or "/"),
        socket=values["socket"],
        pid_file=values["pid-file"],
        runtime_version=values["runtime-version"],
    )
