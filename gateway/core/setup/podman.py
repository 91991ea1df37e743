"""What registries.conf says afterwards: a file of our own in registries.conf.d that asks dfdaemon first. Pure.

podman, CRI-O, skopeo and buildah read it at each pull; no CA and no restart is needed. They do not tell a mirror which
registry is meant, so its location does: `localhost:65001/<registry>`. A later file's `[[registry]]` replaces an earlier
one of the same prefix as a whole, so what was said about a registry is taken over into ours, its mirrors behind ours.
"""

from typing import Any, Final

import tomlkit

from gateway.core.images import HUB
from gateway.core.setup.plan import OWN_NAME, Facts, Files, Gateway, Plan, Refused, Wish, Write, changing
from gateway.core.setup.toml_text import parse_toml

SYSTEM_FOLDER: Final = "/etc/containers"
#: Files are read by their names' order, and the last word counts.
_NAME: Final = f"zz-{OWN_NAME}.conf"
_HEAD: Final = "# Written by `dfdaemon setup podman`; `dfdaemon setup podman --undo` takes it away.\n"


def plan_podman(gateway: Gateway, wish: Wish, facts: Facts, files: Files) -> Plan:
    """Raises Refused."""
    if not gateway.is_local:
        raise Refused(
            f"podman can say which registry it means to `localhost` only, and dfdaemon listens on {gateway.host}: "
            "set hostIp to 127.0.0.1 or 0.0.0.0; nothing was changed"
        )
    folder = f"{facts.user_home.rstrip('/')}/.config/containers" if facts.user_home else SYSTEM_FOLDER
    path = wish.config_file or f"{folder}/registries.conf.d/{_NAME}"
    names = wish.registries or (HUB, *(name for name in gateway.opened if name != HUB))
    known, notes = _known(path, names, facts, files)
    port = gateway.port
    formers = {f"localhost:{port}", *(f"localhost:{url.rpartition(':')[2]}" for url in gateway.former_urls)}
    tables = [_table(name, known.get(name), f"localhost:{port}", formers, gateway) for name in names]
    text = _HEAD + tomlkit.dumps({"registry": tables})
    writes = [Write(path=path, content=text.encode())]
    if gateway.listener_pem is not None:
        writes.append(Write(path=f"{folder}/certs.d/localhost:{port}/{OWN_NAME}-ca.crt", content=gateway.listener_pem))
    private = next((name for name in names if name != HUB), "registry.example")
    notes.append(f"a private registry's password is for its mirror too: podman login localhost:{port}/{private}")
    return Plan(
        reasons=("registries.conf.d is read at each pull (CRI-O: systemctl reload crio), and needs no CA: dfdaemon is a mirror",),
        notes=tuple(notes),
        writes=changing(writes, files),
        registries=names,
    )


def _known(path: str, names: tuple[str, ...], facts: Facts, files: Files) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """What is said about each registry without our file, by prefix, and what there is to know about it. Raises Refused."""
    known: dict[str, dict[str, Any]] = {}
    notes = []
    for file in _read_in_order(facts, files, path):
        content = files.read(file)
        if file == path or content is None:
            continue
        tables = parse_toml(file, content).get("registry", [])
        if not isinstance(tables, list):
            # Version 1 of the format, which has no tables of registries.
            continue
        for table in tables:
            if not isinstance(table, dict):
                continue
            prefix = str(table.get("prefix") or table.get("location") or "")
            if prefix in names and _order(file, path):
                raise Refused(
                    f"{file} is read after {path} and says something else about {prefix}: rename it; nothing was changed"
                )
            if any(prefix.startswith(f"{name}/") for name in names):
                notes.append(f"{prefix}: {file} says something of its own about it, which stays as it is")
            known[prefix] = table
    return known, notes


def _order(file: str, path: str) -> bool:
    """Whether a drop-in is read after ours."""
    return file.rpartition("/")[0] == path.rpartition("/")[0] and file > path


def _read_in_order(facts: Facts, files: Files, path: str) -> list[str]:
    folders = [SYSTEM_FOLDER, *([f"{facts.user_home.rstrip('/')}/.config/containers"] if facts.user_home else [])]
    main = [f"{folder}/registries.conf" for folder in folders]
    # A user's own main file stands in place of the system's.
    first = [file for file in main if files.read(file) is not None][-1:]
    drop_ins = [f"{folder}/registries.conf.d" for folder in folders]
    own = path.rpartition("/")[0]
    if own not in drop_ins:
        drop_ins.append(own)
    rest = [f"{folder}/{name}" for folder in drop_ins for name in files.names(folder) if name.endswith(".conf")]
    return first + rest


def _table(name: str, known: dict[str, Any] | None, own: str, formers: set[str], gateway: Gateway) -> dict[str, Any]:
    table = {"prefix": name, "location": name, **(known or {})}
    mirrors = table.pop("mirror", [])
    ours: dict[str, Any] = {"location": f"{own}/{name}"}
    if gateway.listener_pem is None:
        # Plain HTTP, and on loopback.
        ours["insecure"] = True
    others = [each for each in mirrors if str(each.get("location", "")).partition("/")[0] not in formers]
    return {**table, "mirror": [ours, *others]}
