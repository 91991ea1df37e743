"""What a plan is made from: this host's dfdaemon as its configuration describes it, and the runtime that is meant.

Reads certificate files; writes nothing.
"""

import dataclasses
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.app import rules_from
from gateway.certs import is_ca, read_pem
from gateway.config import ConfigError, GatewayConfig, own_host
from gateway.core.images import HUB
from gateway.core.rules import RuleTable
from gateway.core.setup.containerd import plan_containerd
from gateway.core.setup.docker import plan_docker
from gateway.core.setup.plan import Facts, Files, Gateway, Plan, Refused, Runtime, Wish
from gateway.core.setup.podman import plan_podman
from gateway.core.setup.registries import authority_of_registry, named_by


def gateway_from(config: GatewayConfig, wish: Wish, urls: tuple[str, ...] = ()) -> Gateway:
    """dfdaemon as the runtime is to be told of it. `urls`: of earlier setups. Raises Refused, ConfigError."""
    if config.port == 0:
        raise Refused("dfdaemon's port is 0, any free one: give it a fixed port, or clients lose it at its next start")
    if config.basic_auth.username:
        raise Refused(
            "dfdaemon asks its clients for a password (basicAuth), and setup writes none into other programs' files: "
            "keep it on loopback without basicAuth, or set the runtime up by hand"
        )
    hijack = config.hijack_https
    authority = _certificate(hijack.cert, "hijack_https.cert") if hijack.cert and hijack.hosts else None
    named = [named_by(host.regx) for host in hijack.hosts]
    made = Gateway(
        host=own_host(config),
        port=config.port,
        scheme="https" if config.certpem else "http",
        listener_pem=_pem(_certificate(config.certpem, "certpem")) if config.certpem else None,
        authority_pem=_pem(authority) if authority is not None else None,
        mints=authority is None or is_ca(authority),
        opened=_opened(rules_from(config), named, wish) if authority is not None else (),
        opens_unnamed=authority is not None and None in named,
    )
    return dataclasses.replace(made, former_urls=tuple(url for url in urls if url != made.url))


def plan_for(wish: Wish, gateway: Gateway, facts: Facts, files: Files) -> Plan:
    """What would be written. Raises Refused."""
    match wish.runtime:
        case Runtime.DOCKER:
            return plan_docker(gateway, wish, facts, files)
        case Runtime.CONTAINERD:
            return plan_containerd(gateway, wish, facts, files)
        case Runtime.PODMAN:
            return plan_podman(gateway, wish, facts, files)


def _opened(rules: RuleTable, named: list[str | None], wish: Wish) -> tuple[str, ...]:
    asked = []
    for name in wish.registries:
        authority = authority_of_registry(name)
        if authority is not None and rules.hijacked(authority) is not None:
            asked.append(name)
    found = dict.fromkeys([*(name for name in named if name is not None), *asked])
    # Docker Hub goes without a folder of its own.
    return tuple(sorted(found, key=lambda name: (name != HUB, name)))


def _certificate(path: str, key: str) -> x509.Certificate:
    """The first certificate of a file, and nothing else that is in it: a key may be."""
    try:
        return x509.load_pem_x509_certificate(read_pem(Path(path), key))
    except ValueError as error:
        raise ConfigError(f"{key}: {path} has no certificate: {error}") from None


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)
