"""`dfdaemon doctor`: looks at a host's gateway from outside and says in words what is wrong, each with the next step.

Reads files, asks loopback, the supernodes and the mirrored registry, with short deadlines; changes nothing. Blocking.
"""

import datetime
import email.utils
import http.client
import json
import random
import resource
import shutil
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.app import home_of, rules_from, supernodes_from, version
from gateway.certs import CertificateStore, read_pem
from gateway.config import ConfigError, GatewayConfig
from gateway.core.rules import Authority, RuleTable, Trust, Verdict, authority_of
from gateway.dfget_flags import parse_flags
from gateway.upstream import client_context

_PATIENCE_S: Final = 3.0
_SKEW_S: Final = 60.0
_SOON: Final = datetime.timedelta(days=30)
_LEAST_FREE_BYTES: Final = 2 << 30
_LEAST_FILES: Final = 4096
_MAX_ANSWER_BYTES: Final = 64 << 10
#: Where systems keep all certificates that they trust in one file (Debian, Red Hat, SUSE, Alpine).
_SYSTEM_STORES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
#: Where container clients look for a registry's own authority.
_CLIENT_STORES: Final = ("/etc/docker/certs.d", "/etc/containers/certs.d", "/etc/containerd/certs.d")
_SAMPLE_BLOB: Final = "/v2/library/sample/blobs/sha256:" + "a" * 64


class Grade(Enum):
    """How bad a finding is."""

    OK = "ok"
    NOTE = "note"
    """Works, and deserves to be known."""
    WRONG = "wrong"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one look found."""

    check: str
    grade: Grade
    text: str
    next_step: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    status: int
    body: bytes
    skew_s: float | None
    """Seconds that the server's clock is ahead of ours (RFC 9110 §6.6.1); None: it told no time."""


def examine(config: GatewayConfig, *, now: datetime.datetime, root: Path = Path("/")) -> list[Finding]:
    """All findings, in a fixed order. `now`: this host's clock, aware. `root`: where system files are looked for."""
    findings: list[Finding] = []
    for check in (_listener, _authority, _rules, _supernodes, _registry, _disk, _files):
        findings += check(config, now, root)
    return findings


def broken_configuration(error: ConfigError) -> Finding:
    """What is found where the configuration cannot be read: nothing else can be looked at."""
    return _wrong("configuration", str(error), "put it right; `dfdaemon config default` prints every key")


def exit_code(findings: list[Finding]) -> int:
    """0: nothing is wrong."""
    return int(any(finding.grade is Grade.WRONG for finding in findings))


def as_text(findings: list[Finding]) -> str:
    """For people: a line each, the next step below it."""
    lines = []
    for finding in findings:
        lines.append(f"{finding.grade.value:5} {finding.check}: {finding.text}")
        if finding.next_step:
            lines.append(f"      -> {finding.next_step}")
    return "\n".join(lines)


def as_json(findings: list[Finding]) -> str:
    """For programs."""
    told = [{"check": each.check, "grade": each.grade.value, "text": each.text, "next_step": each.next_step} for each in findings]
    return json.dumps({"ok": exit_code(findings) == 0, "findings": told}, indent=2)


def _ok(check: str, text: str) -> Finding:
    return Finding(check=check, grade=Grade.OK, text=text)


def _note(check: str, text: str, next_step: str) -> Finding:
    return Finding(check=check, grade=Grade.NOTE, text=text, next_step=next_step)


def _wrong(check: str, text: str, next_step: str) -> Finding:
    return Finding(check=check, grade=Grade.WRONG, text=text, next_step=next_step)


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


def _listener(config: GatewayConfig, now: datetime.datetime, root: Path) -> Iterator[Finding]:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(config.host_ip, config.host_ip)  # noqa: S104
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
        yield _wrong("port", f"nothing listens on {target}", "start dfdaemon, or give doctor its --config and --port")
        return
    except (OSError, http.client.HTTPException) as error:
        step = f"see what it is: ss -ltnp 'sport = :{target.port}'"
        yield _wrong("port", f"what listens on {target} does not answer: {error}", step)
        return
    except (ValueError, KeyError, TypeError, AssertionError):
        yield _wrong(
            "port",
            f"what listens on {target} is no dfdaemon",
            f"see what it is (ss -ltnp 'sport = :{target.port}') and stop it, or choose another --port",
        )
        return
    yield _ok("port", f"dfdaemon answers on {target}")
    if running == version():
        yield _ok("version", f"{running}, as installed")
    else:
        yield _wrong("version", f"{running} runs, {version()} is installed", "restart dfdaemon")


def _authority(config: GatewayConfig, now: datetime.datetime, root: Path) -> Iterator[Finding]:
    hijack = config.hijack_https
    if not hijack.cert:
        if hijack.hosts:
            yield _wrong(
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
        yield _wrong("certificate", str(error), "make a new pair with `dfdaemon gen-ca`, and have clients trust it")
        return
    yield _validity(hijack.cert, certificate, now)
    if not store.mints:
        yield _note(
            "certificate",
            f"{hijack.cert} is no CA: it is shown for every host as it is",
            "list the hosts in docker's insecure-registries, or make a CA with `dfdaemon gen-ca`",
        )
        return
    where = _trusted_by(certificate, root)
    if where:
        yield _ok("trust", f"{hijack.cert} is trusted by {', '.join(where)}")
    else:
        yield _wrong(
            "trust",
            f"no store of this system holds {hijack.cert}: clients answer x509: certificate signed by unknown authority",
            f"copy it to /etc/docker/certs.d/<host:port>/ca.crt, or to the system's store (Debian: "
            f"cp {hijack.cert} /usr/local/share/ca-certificates/damselfly.crt && update-ca-certificates; restart the client)",
        )


def _validity(path: str, certificate: x509.Certificate, now: datetime.datetime) -> Finding:
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now < begins:
        return _wrong("certificate", f"{path} is valid from {begins:%Y-%m-%d %H:%M} UTC on only", "set this host's clock right")
    if now >= ends:
        return _wrong("certificate", f"{path} has ended on {ends:%Y-%m-%d}", "make another with `dfdaemon gen-ca --overwrite`")
    if ends - now < _SOON:
        return _note("certificate", f"{path} ends on {ends:%Y-%m-%d}", "make another with `dfdaemon gen-ca` before that")
    return _ok("certificate", f"{path} is valid until {ends:%Y-%m-%d}")


def _trusted_by(certificate: x509.Certificate, root: Path) -> list[str]:
    """Files of this system that hold the certificate."""
    files = [root / name.lstrip("/") for name in _SYSTEM_STORES]
    files += [each for name in _CLIENT_STORES for each in sorted((root / name.lstrip("/")).glob("*/*.crt"))]
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
        yield _wrong("rules", str(error), "put the file right, or take its name out of the configuration")
        return
    if not any(not rule.direct for rule in config.proxies) and config.registry_mirror.direct:
        yield _wrong("rules", "no rule gives anything to the swarm", "add `- regx: blobs/sha256.*` to proxies")
    for number, host in enumerate(config.hijack_https.hosts):
        yield _hijack_rule(rules, f"hijack_https.hosts[{number}]", host.regx)


def _hijack_rule(rules: RuleTable, name: str, pattern: str) -> Finding:
    """Whether an opened host's blobs reach a rule. Patterns that are no plain host name cannot be tried."""
    target = authority_of(f"https://{pattern.replace(chr(92), '').strip('^$')}")
    if target is None or any(character in target.host for character in "*+?()|"):
        return _note(name, f"{pattern!r} is no plain host name", "try a blob of its own: dfdaemon rules <URL>")
    if rules.hijacked(target) is None:
        step = "write the host as it stands in the image's name"
        return _wrong(name, f"{pattern!r} does not match its own host {target}", step)
    decision = rules.forward("GET", f"https://{target}{_SAMPLE_BLOB}")
    if decision.verdict is Verdict.P2P:
        return _ok(name, f"blobs of {target} go through the swarm by {decision.reason}")
    return _wrong(
        name,
        f"{target} is opened, but its blobs go straight to it ({decision.reason})",
        "add `- regx: blobs/sha256.*` to proxies",
    )


def _supernodes(config: GatewayConfig, now: datetime.datetime, root: Path) -> Iterator[Finding]:
    try:
        nodes = supernodes_from(config, parse_flags(config.dfget_flags), random.Random())
    except ConfigError as error:
        yield _wrong("supernode", str(error), "put the list right")
        return
    for node in sorted(nodes):
        target = authority_of(f"http://{node}")
        assert target is not None
        try:
            answer = _ask(target, "/version", now)
            theirs = str(json.loads(answer.body)["Version"])
        except (OSError, http.client.HTTPException) as error:
            yield _wrong(
                "supernode",
                f"{node} cannot be reached: {error}; pulls go straight to the registry",
                "start it, name it right (--node, supernodes), or let the firewall pass its ports 8001 to 8003",
            )
            continue
        except (ValueError, KeyError, TypeError):
            yield _wrong(
                "supernode", f"what answers on {node} is no supernode", "name the supernode's HTTP port, 8002 by default"
            )
            continue
        yield _ok("supernode", f"{node} answers")
        if theirs != version():
            yield _note("version", f"the supernode {node} is {theirs}, this host {version()}", "install one release everywhere")
        yield from _clock(f"the supernode {node}", answer.skew_s)


def _clock(whose: str, skew_s: float | None) -> Iterator[Finding]:
    if skew_s is None:
        return
    if abs(skew_s) <= _SKEW_S:
        yield _ok("clock", f"agrees with {whose}")
        return
    side = "behind" if skew_s > 0 else "ahead of"
    yield _wrong(
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
        yield _wrong(
            "registry",
            f"the certificate of {remote} cannot be verified: {error.verify_message}",
            "name its authority in registry_mirror.certs",
        )
        return
    except (OSError, http.client.HTTPException) as error:
        yield _note("registry", f"{remote} cannot be reached: {error}", "only mirrored pulls need it (registry_mirror.remote)")
        return
    yield _ok("registry", f"{remote} answers ({answer.status})")
    yield from _clock(remote, answer.skew_s)


def _disk(config: GatewayConfig, now: datetime.datetime, root: Path) -> Iterator[Finding]:
    home = home_of(config)
    nearest = next(each for each in (home.absolute(), *home.absolute().parents) if each.exists())
    usage = shutil.disk_usage(nearest)
    if usage.free < _LEAST_FREE_BYTES:
        yield _wrong(
            "disk",
            f"{usage.free >> 20} MiB are free for {home}: contents that do not fit go straight to the client",
            "free space, or choose another --workHome",
        )
    else:
        yield _ok("disk", f"{usage.free >> 30} GiB are free for {home}")


def _files(config: GatewayConfig, now: datetime.datetime, root: Path) -> Iterator[Finding]:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < _LEAST_FILES:
        yield _wrong("files", f"a process may open {hard} files", "raise it: LimitNOFILE=65536 in the unit, or ulimit -Hn 65536")
    else:
        yield _ok("files", "the limit of open files is high enough")
