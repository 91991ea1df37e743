"""What docker's settings become: `registry-mirrors`, or a proxy with trust for its CA. Pure.

A mirror is asked for Docker Hub's images only and can be taken over by a running dockerd (SIGHUP). A proxy is asked for
every registry, needs dockerd to be restarted, and dockerd must trust the CA of the hosts that dfdaemon opens: it reads
/etc/docker/certs.d/<registry>/*.crt at each pull, and the system's store once, for Docker Hub and all other hosts.
"""

import re
from typing import Any, Final

from gateway.core.images import HUB
from gateway.core.setup.json_text import parse_object, with_member
from gateway.core.setup.plan import OWN_NAME, Facts, Files, Gateway, Mode, Plan, Refused, Wish, Write, changing, text_of
from gateway.core.setup.system_trust import SystemStore, system_store

CONFIG_FILE: Final = "/etc/docker/daemon.json"
CERTIFICATES: Final = "/etc/docker/certs.d"
UNIT_FOLDER: Final = "/etc/systemd/system/docker.service.d"
#: systemd reads drop-ins by their names' order, and the last word counts.
DROP_IN: Final = f"{UNIT_FOLDER}/zz-{OWN_NAME}.conf"
#: dockerd has `proxies` in daemon.json from here on, and does not start with a name that it does not know.
_PROXIES_SINCE: Final = (23, 0)
_CERTIFICATE: Final = f"{OWN_NAME}-ca.crt"


def plan_docker(gateway: Gateway, wish: Wish, facts: Facts, files: Files) -> Plan:
    """Raises Refused."""
    path = wish.config_file or CONFIG_FILE
    text = text_of(path, files.read(path) or b"")
    settings = parse_object(text, path)
    mode, why = _mode(gateway, wish)
    if mode is Mode.MIRROR:
        return _mirror(gateway, wish, facts, files, path, text, settings, why)
    return _proxy(gateway, wish, facts, files, path, text, settings, why)


def without_mirrors(before: bytes | None, path: str) -> bytes | None:
    """What daemon.json must say for a moment so that a running dockerd forgets a mirror. None: `before` is enough.

    On SIGHUP dockerd takes over only what its file names: a list that is gone leaves the old one in force (moby's
    daemon/reload.go), an empty list empties it.
    """
    text = text_of(path, before or b"")
    if "registry-mirrors" in parse_object(text, path):
        return None
    return with_member(text, "registry-mirrors", []).encode()


def _mode(gateway: Gateway, wish: Wish) -> tuple[Mode, str]:
    others = [name for name in wish.registries if name != HUB]
    if wish.mode is not None:
        return wish.mode, f"mode {wish.mode.value}, as --mode says"
    if others:
        return Mode.PROXY, f"mode proxy: docker asks a mirror for Docker Hub's images only, and {others[0]} is another registry"
    if gateway.authority_pem is not None and (gateway.opens_unnamed or any(name != HUB for name in gateway.opened)):
        return Mode.PROXY, "mode proxy: hijack_https opens registries other than Docker Hub, which docker asks no mirror for"
    return Mode.MIRROR, "mode mirror: for Docker Hub's images, needs no CA and no restart (--mode proxy: for every registry)"


def _mirror(
    gateway: Gateway, wish: Wish, facts: Facts, files: Files, path: str, text: str, settings: dict[str, Any], why: str
) -> Plan:
    _refuse_flag(facts, path, "registry-mirrors", "registry-mirror")
    mirrors = _strings(settings.get("registry-mirrors", []), path, "registry-mirrors")
    former = {gateway.url, *gateway.former_urls}
    wanted = [gateway.url, *(each for each in mirrors if each.rstrip("/") not in former)]
    writes = []
    if mirrors != wanted:
        writes.append(Write(path=path, content=with_member(text, "registry-mirrors", wanted).encode()))
    notes = [
        f"docker asks no mirror for {name}: its images stay outside (--mode proxy takes them in)"
        for name in wish.registries
        if name != HUB
    ]
    if wanted[1:]:
        notes.append(f"mirrors that were there stay, behind this one: {len(wanted) - 1}")
    if gateway.listener_pem is not None:
        place = gateway.url.split("://", 1)[1]
        writes.append(Write(path=f"{CERTIFICATES}/{place}/{_CERTIFICATE}", content=gateway.listener_pem))
    made = changing(writes, files)
    return Plan(
        mode=Mode.MIRROR,
        reasons=(why,),
        notes=tuple(notes),
        writes=made,
        reloads=any(write.path == path for write in made),
        registries=(HUB,),
    )


def _proxy(
    gateway: Gateway, wish: Wish, facts: Facts, files: Files, path: str, text: str, settings: dict[str, Any], why: str
) -> Plan:
    if gateway.listener_pem is not None:
        raise Refused("dfdaemon's own port speaks HTTPS (certpem), which dockerd does not speak to a proxy: take certpem away")
    theirs = [each for each in facts.proxies if each.rstrip("/") not in {gateway.url, *gateway.former_urls}]
    if theirs and not wish.replace_proxy:
        raise Refused(_OTHER_PROXY.format(path="the environment of the running dockerd", what="HTTP_PROXY or HTTPS_PROXY"))
    if facts.version is not None and facts.version >= _PROXIES_SINCE:
        setting = _in_daemon_json(gateway, wish, facts, path, text, settings)
        where = f"docker {facts.version[0]}.{facts.version[1]} reads its proxy from {path}"
    elif facts.has_systemd:
        setting = _in_unit(gateway, wish, files)
        known = f"docker {facts.version[0]}.{facts.version[1]}" if facts.version else "a docker of unknown version"
        where = f"{known} reads its proxy from its environment, which systemd gives it"
    else:
        raise Refused(
            f"dockerd's version is unknown or below 23, so it has its proxy from its environment, and there is no systemd to "
            f"give it one: start dockerd with HTTP_PROXY={gateway.url} and HTTPS_PROXY={gateway.url}, say "
            "--runtime-version, or --mode mirror for Docker Hub's images alone"
        )
    notes = ["dockerd has no way around its proxy: let dfdaemon's service be started again when it ends (Restart=always)"]
    for name in wish.registries:
        if name not in gateway.opened:
            notes.append(f"{name}: its HTTPS is passed through unread, not shared; add `- regx: {name}` to hijack_https.hosts")
    names = [name for name in gateway.opened if not wish.registries or name in wish.registries]
    in_system = HUB in names or (gateway.opens_unnamed and not wish.registries)
    reasons, trust, store = [why, where], [], None
    if gateway.authority_pem is not None and (names or in_system):
        _refuse_what_is_no_authority(gateway)
        trust = [f"{CERTIFICATES}/{name}/{_CERTIFICATE}" for name in names if name != HUB]
        if in_system:
            store = _store(files)
            trust.append(store.path)
            reasons.append("dockerd takes the CA of Docker Hub, and of hosts that are not listed, from the system's store")
    made = changing([setting, *(Write(path=each, content=gateway.authority_pem or b"") for each in trust)], files)
    rebuilds = store is not None and any(write.path == store.path for write in made)
    return Plan(
        mode=Mode.PROXY,
        reasons=tuple(reasons),
        notes=tuple(notes),
        writes=made,
        commands=(store.command,) if store is not None and rebuilds else (),
        undo_commands=(store.undo_command,) if store is not None and rebuilds else (),
        # A registry's own folder is read at each pull; all else at the start.
        restarts="docker" if any(not write.path.startswith(CERTIFICATES) for write in made) else "",
        registries=tuple(names) or wish.registries or (HUB,),
    )


def _store(files: Files) -> SystemStore:
    found = system_store(files)
    if found is None:
        raise Refused(
            "dockerd takes the CA of Docker Hub, and of hosts that are not listed, from the system's store, and none "
            "that is known was found: give --registry for each registry, or add hijack_https.cert to the store by hand"
        )
    return found


def _refuse_what_is_no_authority(gateway: Gateway) -> None:
    if not gateway.mints:
        raise Refused(
            "hijack_https.cert is no CA, so no client can trust it: make one (dfdaemon gen-ca), "
            "or list the registries in docker's insecure-registries by hand"
        )


def _in_daemon_json(gateway: Gateway, wish: Wish, facts: Facts, path: str, text: str, settings: dict[str, Any]) -> Write:
    for flag in ("http-proxy", "https-proxy"):
        _refuse_flag(facts, path, "proxies", flag)
    proxies = settings.get("proxies", {})
    if not isinstance(proxies, dict):
        raise Refused(f"{path}: `proxies` is no object. Put it right first; nothing was changed")
    former = {gateway.url, *gateway.former_urls}
    theirs = [key for key in ("http-proxy", "https-proxy") if proxies.get(key) and str(proxies[key]).rstrip("/") not in former]
    if theirs and not wish.replace_proxy:
        raise Refused(_OTHER_PROXY.format(path=path, what=f"proxies.{theirs[0]}"))
    wanted = {**proxies, "http-proxy": gateway.url, "https-proxy": gateway.url}
    new = with_member(text, "proxies", _with_exception(wanted, gateway)) if wanted != proxies else text
    return Write(path=path, content=new.encode())


def _with_exception(proxies: dict[str, Any], gateway: Gateway) -> dict[str, Any]:
    """Nobody asks a proxy for the proxy. dockerd leaves loopback out by itself."""
    kept = str(proxies.get("no-proxy", ""))
    if gateway.is_local or gateway.host in kept.split(","):
        return proxies
    return {**proxies, "no-proxy": f"{kept},{gateway.host}" if kept else gateway.host}


#: The unit itself, and what it reads its environment from, as distributions have them.
_UNITS: Final = tuple(
    f"{folder}/docker.service" for folder in ("/etc/systemd/system", "/lib/systemd/system", "/usr/lib/systemd/system")
)
_ENVIRONMENT_FILES: Final = ("/etc/default/docker", "/etc/sysconfig/docker")
#: `Environment=` of a unit, or a line of a file of variables (systemd takes no `export` there).
_SETS_PROXY: Final = re.compile(r"^[ \t]*(?:Environment=.*\b)?HTTPS?_PROXY=", re.IGNORECASE | re.MULTILINE)
_OTHER_PROXY: Final = (
    "{path}: {what} names another proxy, and dockerd has one only; dfdaemon itself asks registries without a proxy. "
    "Where it can reach them, --replace-proxy puts dfdaemon in its place (--undo brings it back); nothing was changed"
)


def _in_unit(gateway: Gateway, wish: Wish, files: Files) -> Write:
    for other in _ENVIRONMENT_FILES:
        if _SETS_PROXY.search(text_of(other, files.read(other) or b"")) is not None:
            raise Refused(f"{other} sets a proxy, and wins over what a unit says: take it out there; nothing was changed")
    for other in _UNITS:
        if not wish.replace_proxy and _SETS_PROXY.search(text_of(other, files.read(other) or b"")) is not None:
            raise Refused(_OTHER_PROXY.format(path=other, what="Environment="))
    for name in files.names(UNIT_FOLDER):
        other = f"{UNIT_FOLDER}/{name}"
        if other == DROP_IN or not name.endswith(".conf"):
            continue
        if _SETS_PROXY.search(text_of(other, files.read(other) or b"")) is None:
            continue
        if not wish.replace_proxy:
            raise Refused(_OTHER_PROXY.format(path=other, what="Environment="))
        if other > DROP_IN:
            raise Refused(f"{other} is read after {DROP_IN} and would win: rename it; nothing was changed")
    text = (
        "# Written by `dfdaemon setup docker`; `dfdaemon setup docker --undo` takes it away.\n[Service]\n"
        f'Environment="HTTP_PROXY={gateway.url}" "HTTPS_PROXY={gateway.url}"\n'
    )
    return Write(path=DROP_IN, content=text.encode())


def _strings(value: Any, path: str, name: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise Refused(f"{path}: `{name}` is no list of strings. Put it right first; nothing was changed")
    return value


def _refuse_flag(facts: Facts, path: str, member: str, flag: str) -> None:
    if flag in facts.started_with:
        raise Refused(
            f"dockerd runs with --{flag}, and refuses settings that are both there and in {path} (`{member}`): "
            f"move it from the unit into {path} first; nothing was changed"
        )
