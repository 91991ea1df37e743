"""What containerd's settings become: a hosts.toml that asks dfdaemon first, in the folder that config.toml names. Pure.

dfdaemon is a mirror here (`?ns=` says which registry is meant), so no CA is needed; containerd reads hosts.toml at each
pull, and goes on to the registry itself where dfdaemon does not answer. Only `config_path` needs a restart, once.
"""

import re
from typing import Any, Final

import tomlkit
from tomlkit.exceptions import TOMLKitError

from gateway.core.images import HUB
from gateway.core.setup.plan import OWN_NAME, Facts, Files, Gateway, Plan, Refused, Wish, Write, changing, text_of
from gateway.core.setup.toml_text import parse_toml, values_of

CONFIG_FILE: Final = "/etc/containerd/config.toml"
HOSTS_FOLDER: Final = "/etc/containerd/certs.d"
#: By config.toml's version: the plugin that has `registry.config_path`.
_PLUGINS: Final = {1: "cri", 2: "io.containerd.grpc.v1.cri", 3: "io.containerd.cri.v1.images"}
_HEAD: Final = "# Written by `dfdaemon setup containerd`; `dfdaemon setup containerd --undo` takes it away.\n"
#: containerd's own name for every registry without a folder.
_EVERY: Final = "_default"


def plan_containerd(gateway: Gateway, wish: Wish, facts: Facts, files: Files) -> Plan:
    """Raises Refused."""
    writes: list[Write] = []
    reasons: list[str] = ["hosts.toml is read at each pull, and needs no CA: dfdaemon is asked as a mirror"]
    notes: list[str] = []
    path = wish.config_file or CONFIG_FILE
    if wish.hosts_dir:
        folders: tuple[str, ...] = (wish.hosts_dir.rstrip("/"),)
    else:
        folders, config = _config(path, facts, files, notes)
        if config is not None:
            writes.append(config)
            reasons.append(f"containerd must be told once, in {path}, to read {folders[0]}")
    for name in wish.registries or (_EVERY,):
        folder = _folder_of(name, folders, files)
        writes.append(_hosts(f"{folder}/{name}/hosts.toml", gateway, files))
        if gateway.listener_pem is not None:
            writes.append(Write(path=_certificate(f"{folder}/{name}"), content=gateway.listener_pem))
    if not wish.registries:
        own = [each for each in _named(folders, files) if files.read(f"{each}/hosts.toml") is not None]
        if own:
            flags = " ".join(f"--registry {each.rpartition('/')[2]}" for each in own)
            notes.append(f"{', '.join(own)}: have a hosts.toml of their own, which wins over {_EVERY}; to change those: {flags}")
    notes.append(f"ctr reads it only by ctr images pull --hosts-dir {folders[0]} (kubelet, crictl and nerdctl just do)")
    made = changing(writes, files)
    return Plan(
        reasons=tuple(reasons),
        notes=tuple(notes),
        writes=made,
        restarts="containerd" if not wish.hosts_dir and any(write.path == path for write in made) else "",
        registries=wish.registries or (HUB,),
    )


def _folder_of(name: str, folders: tuple[str, ...], files: Files) -> str:
    """Which of config_path's folders a registry's own folder belongs in.

    containerd takes the first that has one for the registry, or a `_default`: that of an earlier folder would hide all
    that later ones say.
    """
    there = [folder for folder in folders if name in files.names(folder)]
    if there:
        return there[0]
    filled = [folder for folder in folders if files.names(folder)]
    return filled[-1] if name == _EVERY and filled else folders[0]


def _named(folders: tuple[str, ...], files: Files) -> list[str]:
    return [f"{folder}/{name}" for folder in folders for name in files.names(folder) if name != _EVERY]


def _certificate(folder: str) -> str:
    return f"{folder}/{OWN_NAME}-ca.crt"


def _config(path: str, facts: Facts, files: Files, notes: list[str]) -> tuple[tuple[str, ...], Write | None]:
    """The folders of hosts.toml, in containerd's order, and config.toml where it must name it."""
    content = files.read(path)
    if content is None:
        version = 3 if facts.version is not None and facts.version >= (2, 0) else 2
        made = f'{_HEAD}version = {version}\n\n[plugins."{_PLUGINS[version]}".registry]\n  config_path = "{HOSTS_FOLDER}"\n'
        return (HOSTS_FOLDER,), Write(path=path, content=made.encode())
    settings = parse_toml(path, content)
    version = settings.get("version", 1)
    if version not in _PLUGINS:
        raise Refused(f"{path}: version = {version!r} is not known here; 1, 2 and 3 are. Nothing was changed")
    disabled = settings.get("disabled_plugins", [])
    if isinstance(disabled, list) and {"cri", _PLUGINS[2], _PLUGINS[3]} & {str(each) for each in disabled}:
        notes.append(f"{path} disables the CRI plugin, so no config_path is needed there; nerdctl reads {HOSTS_FOLDER} by itself")
        return (HOSTS_FOLDER,), None
    plugin = _PLUGINS[version]
    registry = _table(settings, ("plugins", plugin, "registry"), path)
    told = registry.get("config_path", "")
    if not isinstance(told, str):
        raise Refused(f"{path}: `config_path` of {plugin} is no string. Put it right first; nothing was changed")
    if told:
        return tuple(each.rstrip("/") for each in told.split(":") if each), None
    _refuse_old_settings(registry, path)
    new = with_config_path(text_of(path, content), ("plugins", plugin, "registry"), path)
    return (HOSTS_FOLDER,), Write(path=path, content=new.encode())


def _refuse_old_settings(registry: dict[str, Any], path: str) -> None:
    configs = registry.get("configs", {})
    has_tls = isinstance(configs, dict) and any(isinstance(each, dict) and each.get("tls") for each in configs.values())
    old = "registry.mirrors" if registry.get("mirrors") else "registry.configs.*.tls" if has_tls else ""
    if old:
        raise Refused(
            f"{path} has {old}, with which containerd takes no config_path (its CRI plugin would not start): move it into "
            f"{HOSTS_FOLDER}/<host>/hosts.toml, set config_path, then run this again; nothing was changed"
        )


def _table(settings: dict[str, Any], names: tuple[str, ...], path: str) -> dict[str, Any]:
    found: Any = settings
    for name in names:
        found = found.get(name, {})
        if not isinstance(found, dict):
            raise Refused(f"{path}: `{name}` is no table. Put it right first; nothing was changed")
    return dict(found)


def with_config_path(text: str, names: tuple[str, ...], path: str) -> str:
    """config.toml with that table's config_path set, and else as it was. Raises Refused where that cannot be promised."""
    wanted = parse_toml(path, text.encode())
    here = wanted
    for name in names:
        here = here.setdefault(name, {})
    here["config_path"] = HOSTS_FOLDER
    made = _in_place(text, names)
    # tomlkit keeps what people wrote; that nothing else has changed is looked at, not believed.
    if made is None or values_of(made) != wanted:
        raise Refused(
            f'{path} is written in a way that cannot be added to safely: set config_path = "{HOSTS_FOLDER}" in '
            f'[plugins."{names[1]}".registry] by hand, then run this again; nothing was changed'
        )
    return made


def _in_place(text: str, names: tuple[str, ...]) -> str | None:
    header = f'[{names[0]}."{names[1]}".{names[2]}]'
    end = "\r\n" if "\r\n" in text else "\n"
    try:
        document = tomlkit.parse(text)
        here: Any = document
        for name in names:
            here = here.get(name)
            if here is None:
                break
        if here is not None:
            here["config_path"] = HOSTS_FOLDER
            return tomlkit.dumps(document)
    except (TOMLKitError, KeyError, TypeError, AttributeError, ValueError):
        return None
    # A table that is nowhere yet: behind everything else it disturbs nothing.
    gap = "" if not text or text.endswith(("\n\n", "\r\n\r\n")) else end if text.endswith("\n") else end + end
    return f'{text}{gap}{header}{end}  config_path = "{HOSTS_FOLDER}"{end}'


def _hosts(path: str, gateway: Gateway, files: Files) -> Write:
    """A hosts.toml that names us first."""
    block = _block(gateway.url, path, gateway)
    content = files.read(path)
    if content is None:
        return Write(path=path, content=(_HEAD + block).encode())
    text = text_of(path, content)
    for former in gateway.former_urls:
        if former != gateway.url:
            text = text.replace(_block(former, path, gateway), "" if gateway.url in text else block)
    settings = parse_toml(path, text.encode())
    hosts = _table(settings, ("host",), path)
    if gateway.url in hosts:
        if next(iter(hosts)) != gateway.url:
            raise Refused(f"{path} names {gateway.url} behind another host: move it to the front; nothing was changed")
        return Write(path=path, content=text.encode())
    made = _put_first(text, block)
    wanted = {**settings, "host": {**parse_toml(path, block.encode())["host"], **hosts}}
    found = values_of(made)
    if found != wanted or next(iter(found["host"])) != gateway.url:
        raise Refused(f"{path} is written in a way that cannot be added to safely: put this in front by hand:\n{block}")
    return Write(path=path, content=made.encode())


def _put_first(text: str, block: str) -> str:
    """In front of the first host, and of the comment that belongs to it; else behind everything."""
    end = "\r\n" if "\r\n" in text else "\n"
    block = block.replace("\n", end)
    lines = text.splitlines(keepends=True)
    at = next((number for number, line in enumerate(lines) if re.match(r"[ \t]*\[[ \t]*[\"']?host[\"']?[ \t]*[.\]]", line)), None)
    if at is None:
        gap = "" if not text or text.endswith(end + end) else end if text.endswith("\n") else end + end
        return text + gap + block
    while at > 0 and lines[at - 1].lstrip().startswith("#"):
        at -= 1
    return "".join(lines[:at]) + block + end + "".join(lines[at:])


def _block(url: str, path: str, gateway: Gateway) -> str:
    text = f'[host."{url}"]\n  capabilities = ["pull", "resolve"]\n'
    if gateway.listener_pem is not None:
        text += f'  ca = "{_certificate(path.rpartition("/")[0])}"\n'
    return text
