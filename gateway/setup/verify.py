"""Whether a runtime that is set up gets what it asks for: a real request through the running dfdaemon, as it would send it.

Blocking. What an answer says: the registry's own 200, 401 or 404 has come through; 502 is dfdaemon's, with the reason.
"""

import datetime
import http.client
import os
import ssl
from dataclasses import dataclass
from typing import Final

from gateway.config import GatewayConfig
from gateway.core.images import HUB
from gateway.core.setup.docker import CERTIFICATES
from gateway.core.setup.plan import Gateway, Mode, Runtime
from gateway.core.setup.registries import authority_of_registry
from gateway.doctor import SYSTEM_STORES, listener
from gateway.finding import Finding, Grade, ok, wrong
from gateway.setup.files import RootFiles

_PATIENCE_S: Final = 15.0
_MAX_REASON_BYTES: Final = 400
_MAX_REGISTRIES: Final = 8
#: What dfdaemon says itself begins so.
_OWN_WORDS: Final = "dfdaemon:"
#: No image is called so: what matters is whose answer comes.
_NO_IMAGE: Final = "/v2/{name}damselfly/setup-check/manifests/none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is to be verified."""

    runtime: Runtime
    mode: Mode
    registries: tuple[str, ...]


def verify(config: GatewayConfig, gateway: Gateway, asked: Asked, files: RootFiles) -> list[Finding]:
    """A finding for dfdaemon itself, and where it runs one for each registry."""
    found = list(listener(config, datetime.datetime.now(datetime.UTC), files.root))
    if any(each.grade is Grade.WRONG for each in found):
        return found
    for name in (asked.registries or (HUB,))[:_MAX_REGISTRIES]:
        found.append(_registry(gateway, asked, name, files))
    return found


def _registry(gateway: Gateway, asked: Asked, name: str, files: RootFiles) -> Finding:
    through = f"{name} through {gateway.url}"
    try:
        status, reason = _ask(gateway, asked, name, files)
    except ssl.SSLCertVerificationError as error:
        return wrong(
            "request",
            f"{through}: the certificate that dfdaemon shows is not trusted ({error.verify_message})",
            "restart dfdaemon if hijack_https.cert is newer than it; then run `dfdaemon setup` again",
        )
    except ssl.SSLError as error:
        step = f"a registry without TLS is pulled as {name}:80/... and stands in docker's insecure-registries"
        return wrong("request", f"{through} speaks no TLS that can be understood: {error.reason or error}", step)
    except (OSError, http.client.HTTPException) as error:
        return wrong("request", f"{through} does not answer: {error}", "see <workHome>/logs/dfdaemon.log; `dfdaemon doctor`")
    if status >= 500 or status in (400, 407) or reason.startswith(_OWN_WORDS):
        return wrong("request", f"{through}: {status} {reason}", "`dfdaemon doctor` says more; <workHome>/logs/dfdaemon.log too")
    return ok("request", f"{through} answers {status}")


def _ask(gateway: Gateway, asked: Asked, name: str, files: RootFiles) -> tuple[int, str]:
    """Status, and for a person why."""
    host = "localhost" if asked.runtime is Runtime.PODMAN else gateway.host
    connection: http.client.HTTPConnection
    headers = {"User-Agent": "dfdaemon-setup"}
    if asked.runtime is Runtime.DOCKER and asked.mode is Mode.PROXY:
        target = authority_of_registry(name)
        assert target is not None
        connection = http.client.HTTPSConnection(gateway.host, gateway.port, timeout=_PATIENCE_S, context=_trust(name, files))
        connection.set_tunnel(target.host, target.port)
        path = "/v2/"
    else:
        if gateway.listener_pem is None:
            connection = http.client.HTTPConnection(host, gateway.port, timeout=_PATIENCE_S)
        else:
            context = ssl.create_default_context(cadata=gateway.listener_pem.decode("ascii", "replace"))
            connection = http.client.HTTPSConnection(host, gateway.port, timeout=_PATIENCE_S, context=context)
        match asked.runtime:
            case Runtime.DOCKER:
                path = "/v2/"
            case Runtime.CONTAINERD:
                path = f"/v2/?ns={name}"
            case Runtime.PODMAN:
                path = _NO_IMAGE.format(name=f"{name}/")
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read(_MAX_REASON_BYTES).decode("utf-8", "replace").strip()
    finally:
        connection.close()


def _trust(name: str, files: RootFiles) -> ssl.SSLContext:
    """What dockerd would verify a registry by: the system's store (SSL_CERT_FILE's, as Go has it), and the registry's folder."""
    context = ssl.create_default_context()
    folder = f"{CERTIFICATES}/{name}"
    # This Python may have been built for another place than the system's.
    stores = [] if os.environ.get("SSL_CERT_FILE") else list(SYSTEM_STORES)
    for path in (*stores, *(f"{folder}/{each}" for each in files.names(folder) if each.endswith(".crt"))):
        content = files.read(path)
        if content:
            context.load_verify_locations(cadata=content.decode("latin-1"))
    return context
