"""`dfdaemon doctor`: looks at a host's gateway from outside and says in words what is wrong, each with the next step.

Reads files, asks loopback, the supernodes and the mirrored registry, with short deadlines; changes nothing. Blocking.
"""

import datetime
import email.utils
import http.client
import json
import os
import random
import resource
import shutil
import ssl
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.app import home_of, rules_from, supernodes_from, version
from gateway.certs import CertificateStore, read_pem
from gateway.config import ConfigError, GatewayConfig, own_host
from gateway.core.rules import Authority, RuleTable, Trust, Verdict, authority_of
from gateway.dfget_flags import parse_flags
from gateway.finding import Finding, Grade, note, ok, wrong
from gateway.setup.drift import drift, uses_mirrors_only
from gateway.setup.runtimes import dockerd_of
from gateway.upstream import client_context

_PATIENCE_S: Final = 3.0
_SKEW_S: Final = 60.0
_SOON: Final = datetime.timedelta(days=30)
_LEAST_FREE_BYTES: Final = 2 << 30
_LEAST_FILES: Final = 4096
_MAX_ANSWER_BYTES: Final = 64 << 10
#: Where systems keep all certificates that they trust in one file (Debian, Red Hat, SUSE, Alpine).
SYSTEM_STORES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
#: Where container clients look for a registry's own authority.
_CLIENT_STORES: Final = ("/etc/docker/certs.d", "/etc/containers/certs.d", "/etc/containerd/certs.d")
_SHOWN_STORES: Final = 4
_SAMPLE_BLOB: Final = "/v2/library/sample/blobs/sha256:" + "a" * 64


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    status: int
    body: bytes
    skew_s: float | None
    """Seconds that the server's clock is ahead of ours (RFC 9110 §6.6.1); None: it told no time."""


def examine(
    config: GatewayConfig, *, now: datetime.datetime, root: Path = Path("/"), environment: Mapping[str, str] | None = None
) -> list[Finding]:
    """All findings, in a fixed order.

    `now`: this host's clock, aware. `root`: where system files are looked for. `environment`: what clients are started
    with (SSL_CERT_FILE, SSL_CERT_DIR); None: this process's, and that of the dockerd that runs.
    """
    if environment is None:
        environment = {**os.environ, **dockerd_of(root, "", "").environment()}
    findings: list[Finding] = list(listener(config, now, root))
    findings += _authority(config, now, root, environment)
    for check in (_setup, _rules, _supernodes, _registry, _disk, _files):
        findings += check(config, now, root)
    return findings


def broken_configuration(error: ConfigError) -> Finding:
    """What is found where the configuration cannot be read: nothing else can be looked at."""
    return wrong("configuration", str(error), "put it right; `dfdaemon config default` prints every key")


def exit_code(findings: list[Finding]) -> int:
    """0: nothing is wrong."""
    return int(any(finding.grade is Grade.WRONG for finding in findings))


def as_json(findings: list[Finding]) -> str:
    """For programs."""
    told = [{"check": each.check, "grade": each.grade.value, "text": each.text, "next_step": each.next_step} for each in findings]
    return json.dumps({"ok": exit_code(findings) == 0, "findings": told}, indent=2)


def _ask(target: Authority, path: str, now: datetime.datetime, context: ssl.SSLContext | None = None) -> _Answer:
    """GET, without a proxy. Raises OSError, http.client.HTTPException."""
    connection: http.client.HTTPConnection
    if context is None:
        connection = http.client.HTTPConnection(target.host, target.port, timeout=_PATIENCE_S)
    else:
        connection = http.client.HTTPSConnection(target.host, target.port, timeout=_PATIENCE_S, context=context)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        date = answer.getheader("Date")
        skew = None
        if date:
            try:
                skew = (email.utils.parsedate_to_datetime(date) - now).total_seconds()
            except (TypeError, ValueError):
                skew = None
        return _Answer(status=answer.status, body=answer.read(_MAX_ANSWER_BYTES), skew_s=skew)
    finally:
        connection.close()


def listener(config: GatewayConfig, now: datetime.datetime, root: Path) -> Iterator[Finding]:
    """Whether dfdaemon answers on its port, in the release that is installed."""
    host = own_host(config)
    target = Authority(host, config.port)
    context = None
    if config.certpem:
        # Whose certificate it is does not matter here: nothing is told over it.
        context = client_context(Trust(insecure=True))
    try:
        answer = _ask(target, "/version", now, context)
        told = json.loads(answer.body)
        running = str(told["Version"])
        assert "Peer" in told
    except ConnectionRefusedError:
        yield wrong("port", f"nothing listens on {target}", "start dfdaemon, or give doctor its --config and --port")
        return
    except (OSError, http.client.HTTPException) as error:
        step = f"see what it is: ss -ltnp 'sport = :{target.port}'"
        yield wrong("port", f"what listens on {target} does not answer: {error}", step)
        return
    except (ValueError, KeyError, TypeError, AssertionError):
        yield wrong(
            "port",
            f"what listens on {target} is no dfdaemon",
            f"see what it is (ss -ltnp 'sport = :{target.port}') and stop it, or choose another --port",
        )
        return
    yield ok("port", f"dfdaemon answers on {target}")
    if running == version():
        yield ok("version", f"{running}, as installed")
    else:
        yield wrong("version", f"{running} runs, {version()} is installed", "restart dfdaemon")


def _authority(config: GatewayConfig, now: datetime.datetime, root: Path, environment: Mapping[str, str]) -> Iterator[Finding]:
    hijack = config.hijack_https
    if not hijack.cert:
        if hijack.hosts:
            yield wrong(
                "certificate",
                "hijack_https names hosts, but no cert and key: their HTTPS is passed through unread and not shared",
                "make a CA (dfdaemon gen-ca) and name it in hijack_https.cert and key",
            )
        return
    try:
        store = CertificateStore.open(Path(hijack.cert), Path(hijack.key), now=lambda: 0.0)
        store.close()
        certificate = x509.load_pem_x509_certificate(read_pem(Path(hijack.cert), "hijack_https.cert"))
    except ConfigError as error:
        yield wrong("certificate", str(error), "make a new pair with `dfdaemon gen-ca`, and have clients trust it")
        return
    yield _validity(hijack.cert, certificate, now)
    if not store.mints:
        yield note(
            "certificate",
            f"{hijack.cert} is no CA: it is shown for every host as it is",
            "list the hosts in docker's insecure-registries, or make a CA with `dfdaemon gen-ca`",
        )
        return
    yield _trust(config, certificate, root, environment)


def _trust(config: GatewayConfig, certificate: x509.Certificate, root: Path, environment: Mapping[str, str]) -> Finding:
    """Whether clients verify what they are shown."""
    cert = config.hijack_https.cert
    named = _named_stores(environment)
    where = _holding(certificate, named)
    clients = _holding(certificate, _client_stores(root))
    system = _holding(certificate, [root / name.lstrip("/") for name in SYSTEM_STORES])
    if named and not where and system:
        # Go's clients (all container clients are) then look nowhere else but in a registry's own folder.
        return note(
            "trust",
            f"{cert} is in {system[0]}, but SSL_CERT_FILE or SSL_CERT_DIR of the clients names other stores without it",
            "add it to what SSL_CERT_FILE names, or take the variable away",
        )
    if found := list(dict.fromkeys([*where, *clients, *system])):
        more = f" and {len(found) - _SHOWN_STORES} more" if len(found) > _SHOWN_STORES else ""
        return ok("trust", f"{cert} is trusted by {', '.join(found[:_SHOWN_STORES])}{more}")
    if uses_mirrors_only(home_of(config)):
        return note(
            "trust",
            f"no store of this system holds {cert}",
            "nothing to do for what is set up here: mirrors show no certificate of it; a proxy's clients need it",
        )
    return wrong(
        "trust",
        f"no store of this system holds {cert}: clients answer x509: certificate signed by unknown authority",
        f"dfdaemon setup docker; or copy it to /etc/docker/certs.d/<host:port>/ca.crt, or to the system's store (Debian: "
        f"cp {cert} /usr/local/share/ca-certificates/damselfly.crt && update-ca-certificates; restart the client)",
    )


def _setup(config: GatewayConfig, now: datetime.datetime, root: Path) -> Iterator[Finding]:
    yield from drift(config, home_of(config))


def _validity(path: str, certificate: x509.Certificate, now: datetime.datetime) -> Finding:
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now < begins:
        return wrong("certificate", f"{path} is valid from {begins:%Y-%m-%d %H:%M} UTC on only", "set this host's clock right")
    if now >= ends:
        return wrong("certificate", f"{path} has ended on {ends:%Y-%m-%d}", "make another with `dfdaemon gen-ca --overwrite`")
    if ends - now < _SOON:
        return note("certificate", f"{path} ends on {ends:%Y-%m-%d}", "make another with `dfdaemon gen-ca` before that")
    return ok("certificate", f"{path} is valid until {ends:%Y-%m-%d}")


def _client_stores(root: Path) -> list[Path]:
    return [each for name in _CLIENT_STORES for each in sorted((root / name.lstrip("/")).glob("*/*.crt"))]


def _named_stores(environment: Mapping[str, str]) -> list[Path]:
    """Files that the variables name, as Go's crypto/x509 reads them: a file, and folders between colons."""
    files = [Path(environment["SSL_CERT_FILE"])] if environment.get("SSL_CERT_FILE") else []
    for folder in environment.get("SSL_CERT_DIR", "").split(":"):
        if folder:
            try:
                files += sorted(Path(folder).iterdir())
            except OSError:
                continue
    return files


def _holding(certificate: x509.Certificate, files: Iterable[Path]) -> list[str]:
    """Those files that hold the certificate."""
    wanted = b"".join(certificate.public_bytes(Encoding.PEM).split())
    found = []
    for path in files:
        try:
            if wanted in b"".join(path.read_bytes().split()):
                found.append(str(path))
        except OSError:
            continue
    return found


def _rules(config: GatewayConfig, now: datetime.datetime, root: Path) -> Iterator[Finding]:
    try:
        rules = rules_from(config)
    except ConfigError as error:
        yield wrong("rules", str(error), "put the file right, or take its name out of the configuration")
        return
    if not any(not rule.direct for rule in config.proxies) and config.registry_mirror.direct:
        yield wrong("rules", "no rule gives anything to the swarm", "add `- regx: blobs/sha256.*` to proxies")
    for number, host in enumerate(config.hijack_https.hosts):
        yield _hijack_rule(rules, f"hijack_https.hosts[{number}]", host.regx)


def _hijack_rule(rules: RuleTable, name: str, pattern: str) -> Finding:
    """Whether an opened host's blobs reach a rule. Patterns that are no plain host name cannot be tried."""
    target = authority_of(f"https://{pattern.replace(chr(92), '').strip('^$')}")
    if target is None or any(character in target.host for character in "*+?()|"):
        return note(name, f"{pattern!r} is no plain host name", "try a blob of its own: dfdaemon rules <URL>")
    if rules.hijacked(target) is None:
        step = "write the host as it stands in the image's name"
        return wrong(name, f"{pattern!r} does not match its own host {target}", step)
    decision = rules.forward("GET", f"https://{target}{_SAMPLE_BLOB}")
    if decision.verdict is Verdict.P2P:
        return ok(name, f"blobs of {target} go through the swarm by {decision.reason}")
    return wrong(
        name,
        f"{target} is opened, but its blobs go straight to it ({decision.reason})",
        "add `- regx: blobs/sha256.*` to proxies",
    )


def _supernodes(config: GatewayConfig, now: datetime.datetime, root: Path) -> Iterator[Finding]:
    try:
        nodes = supernodes_from(config, parse_flags(config.dfget_flags), random.Random())
    except ConfigError as error:
        yield wrong("supernode", str(error), "put the list right")
        return
    for node in sorted(nodes):
        target = authority_of(f"http://{node}")
        assert target is not None
        try:
            answer = _ask(target, "/version", now)
            theirs = str(json.loads(answer.body)["Version"])
        except (OSError, http.client.HTTPException) as error:
            yield wrong(
                "supernode",
                f"{node} cannot be reached: {error}; pulls go straight to the registry",
                "start it, name it right (--node, supernodes), or let the firewall pass its ports 8001 to 8003",
            )
            continue
        except (ValueError, KeyError, TypeError):
            yield wrong("supernode", f"what answers on {node} is no supernode", "name the supernode's HTTP port, 8002 by default")
            continue
        yield ok("supernode", f"{node} answers")
        if theirs != version():
            yield note("version", f"the supernode {node} is {theirs}, this host {version()}", "install one release everywhere")
        yield from _clock(f"the supernode {node}", answer.skew_s)


def _clock(whose: str, skew_s: float | None) -> Iterator[Finding]:
    if skew_s is None:
        return
    if abs(skew_s) <= _SKEW_S:
        yield ok("clock", f"agrees with {whose}")
        return
    side = "behind" if skew_s > 0 else "ahead of"
    yield wrong(
        "clock",
        f"this host's clock is {abs(skew_s):.0f} s {side} that of {whose}: certificates and tokens may not hold",
        "set the clock (timedatectl set-ntp true)",
    )


def _registry(config: GatewayConfig, now: datetime.datetime, root: Path) -> Iterator[Finding]:
    remote = config.registry_mirror.remote.rstrip("/")
    target = authority_of(remote)
    assert target is not None
    try:
        rules = rules_from(config)
        context = client_context(rules.mirror.trust) if remote.lower().startswith("https://") else None
        answer = _ask(target, "/v2/", now, context)
    except ConfigError:
        # Told with the rules.
        return
    except ssl.SSLCertVerificationError as error:
        yield wrong(
            "registry",
            f"the certificate of {remote} cannot be verified: {error.verify_message}",
            "name its authority in registry_mirror.certs",
        )
        return
    except (OSError, http.client.HTTPException) as error:
        yield note("registry", f"{remote} cannot be reached: {error}", "only mirrored pulls need it (registry_mirror.remote)")
        return
    yield ok("registry", f"{remote} answers ({answer.status})")
    yield from _clock(remote, answer.skew_s)


def _disk(config: GatewayConfig, now: datetime.datetime, root: Path) -> Iterator[Finding]:
    home = home_of(config)
    nearest = next(each for each in (home.absolute(), *home.absolute().parents) if each.exists())
    usage = shutil.disk_usage(nearest)
    if usage.free < _LEAST_FREE_BYTES:
        yield wrong(
            "disk",
            f"{usage.free >> 20} MiB are free for {home}: contents that do not fit go straight to the client",
            "free space, or choose another --workHome",
        )
    else:
        yield ok("disk", f"{usage.free >> 30} GiB are free for {home}")


def _files(config: GatewayConfig, now: datetime.datetime, root: Path) -> Iterator[Finding]:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < _LEAST_FILES:
        yield wrong("files", f"a process may open {hard} files", "raise it: LimitNOFILE=65536 in the unit, or ulimit -Hn 65536")
    else:
        yield ok("files", "the limit of open files is high enough")
