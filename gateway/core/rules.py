"""Which way a request goes: the swarm or straight to its upstream; a tunnel or an opened one. Pure; first match wins.

Patterns and certificates come in compiled and read (app.py); decisions go out as values that name the rule, so that
logs and answers can say why.
"""

import dataclasses
import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final
from urllib.parse import urlsplit

from gateway.core.images import ImageRule, image_of
from gateway.core.manifest_request import as_blob, is_by_digest

# 1.x (dfdaemon/proxy): a registry's blob, by its API or in its storage.
_BLOB_PATH: Final = re.compile(r"^.+/blobs/sha256.*$")


class Verdict(Enum):
    """What is done with a request."""

    P2P = "p2p"
    DIRECT = "direct"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """By what an upstream's certificate is verified. Neither: the system's roots."""

    insecure: bool = False
    certificates: tuple[bytes, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyRule:
    """One of `proxies`."""

    pattern: re.Pattern[str]
    use_https: bool = False
    direct: bool = False
    redirect: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HijackHost:
    """One of `hijack_https.hosts`."""

    pattern: re.Pattern[str]
    trust: Trust = Trust()


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirror:
    """Where requests go that name no host. `remote`: scheme://host[:port], no slash at its end."""

    remote: str
    trust: Trust = Trust()
    direct: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Where a request goes, and why."""

    verdict: Verdict
    url: str = field(repr=False)
    trust: Trust
    reason: str
    """The rule that decided, in the configuration's words: `proxies[0]`, `registry_mirror`, `no rule`, ..."""
    asked: str = field(default="", repr=False)
    """The URL as the client asked for it, where a rule has rewritten it."""
    kept_out: bool = False
    """The image is kept out of the swarm: so is what its registry redirects to. (1.x judges each URL by `proxies` anew.)"""
    is_head_of_shared: bool = False
    """A HEAD of a manifest by digest whose GET would be the swarm's: what the upstream has said of it may answer it."""


@dataclass(frozen=True, slots=True)
class Authority:
    """Host and port of a CONNECT target or a URL; `host` without brackets, lower case."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_authority(text: str, *, default_port: int | None = None) -> Authority | None:
    """`host:port`, `[v6]:port`, and without a port where there is a default. None: it is not one."""
    found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.%]+)\]|([^\s:\[\]/@?#]+))(?::([0-9]{1,5}))?", text)
    if found is None or (found[1] and not _is_ipv6(found[1])):
        return None
    port = int(found[3]) if found[3] else default_port
    if port is None or not 0 < port <= 65535:
        return None
    return Authority((found[1] or found[2]).lower(), port)


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def is_address(host: str) -> bool:
    """Whether a host is told by its address, or as localhost: no name whose address somebody else says."""
    if host == "localhost":
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def authority_of(url: str) -> Authority | None:
    """Host and port that an http(s) URL leads to, or None for anything else."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.lower() not in ("http", "https"):
        return None
    netloc = re.split(r"[/?#]", rest, maxsplit=1)[0].rpartition("@")[2]
    return parse_authority(netloc, default_port=443 if scheme.lower() == "https" else 80)


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleTable:
    """All rules in force. Frozen: a reload makes another table, and a request keeps the one that it began with."""

    mirror: Mirror
    proxies: Sequence[ProxyRule] = ()
    hijack_hosts: Sequence[HijackHost] = ()
    images: Sequence[ImageRule] = ()
    manifests: bool = True
    """A manifest by digest goes where a blob of its repository would go."""

    def forward(self, method: str, url: str) -> Decision:
        """A request that names its host: absolute-form, or out of an opened tunnel. Only GETs are examined (1.x).

        A rule that takes a repository's blobs takes its manifests by digest; only one that matches them itself rewrites them.
        """
        is_manifest = self.manifests and is_by_digest(url)
        if method == "HEAD" and is_manifest:
            got = self.forward("GET", url)
            is_shared = got.verdict is Verdict.P2P and got.url == url
            return Decision(
                verdict=Verdict.DIRECT, url=url, trust=self.trust_of(url), reason="not a GET", is_head_of_shared=is_shared
            )
        if method != "GET":
            return Decision(verdict=Verdict.DIRECT, url=url, trust=self.trust_of(url), reason="not a GET")
        target, verdict, reason = url, Verdict.DIRECT, "no rule"
        for number, rule in enumerate(self.proxies):
            if rule.pattern.search(url):
                target, reason = _rewritten(url, rule), f"proxies[{number}]"
                verdict = Verdict.DIRECT if rule.direct else Verdict.P2P
                break
        else:
            if is_manifest and (verdict_of_blobs := self.forward("GET", as_blob(url))).verdict is Verdict.P2P:
                verdict, reason = Verdict.P2P, verdict_of_blobs.reason
        of_image = self._of_image(as_blob(url) if is_manifest else url)
        verdict, reason = of_image or (verdict, reason)
        kept_out = of_image is not None and verdict is Verdict.DIRECT
        return Decision(verdict=verdict, url=target, trust=self.trust_of(target), reason=reason, asked=url, kept_out=kept_out)

    def _of_image(self, *urls: str) -> tuple[Verdict, str] | None:
        """What `images` say about a blob that has been asked for by one of these, before any rewriting. None: nothing."""
        images = [image for url in urls if (image := image_of(url)) is not None]
        for number, rule in enumerate(self.images):
            if any(rule.covers(image) for image in images):
                return Verdict.DIRECT if rule.direct else Verdict.P2P, f"images[{number}]"
        return None

    def mirrored(self, method: str, target: str, *, named: str = "") -> Decision:
        """A request that names no host: origin-form, `target` its path and query. `proxies` have no say (1.x).

        `named`: the URL at the registry that it names elsewhere (a header, `?ns=`, the image's name), which is asked then.
        """
        is_manifest = self.manifests and is_by_digest(target)
        if method == "HEAD" and is_manifest:
            got = self.mirrored("GET", target, named=named)
            reason = "registry_mirror, no blob"
            return dataclasses.replace(
                got, verdict=Verdict.DIRECT, reason=reason, kept_out=False, is_head_of_shared=got.verdict is Verdict.P2P
            )
        is_blob = method == "GET" and (is_manifest or _BLOB_PATH.match(target.partition("?")[0]) is not None)
        verdict = Verdict.P2P if is_blob and not self.mirror.direct else Verdict.DIRECT
        reason = "registry_mirror" if verdict is Verdict.P2P else "registry_mirror, no blob"
        kept_out = is_blob and verdict is Verdict.DIRECT
        url = named or self.mirror.remote + target
        if method == "GET":
            # Whoever mirrors Docker Hub by another registry may speak of its images by either name.
            urls = (url,) if named else (url, f"https://docker.io{target}")
            of_image = self._of_image(*(as_blob(each) if is_manifest else each for each in urls))
            if of_image is not None:
                verdict, reason = of_image
                kept_out = verdict is Verdict.DIRECT
        trust = self.trust_of(named) if named else self.mirror.trust
        return Decision(verdict=verdict, url=url, trust=trust, reason=reason, kept_out=kept_out)

    def hijacked(self, target: Authority) -> HijackHost | None:
        """The rule by which a tunnel to `target` is opened. None: it is passed through unread.

        A pattern may mean `host:port` or `host`: 1.x searched one for opening and the other for certificates.
        """
        for rule in self.hijack_hosts:
            if rule.pattern.search(f"{target.host}:{target.port}") or rule.pattern.search(target.host):
                return rule
        return None

    def trust_of(self, url: str) -> Trust:
        """How the upstream of a URL is verified: as the hijack rule of its host says, as the mirror's, else by the system."""
        target = authority_of(url)
        if target is None:
            return Trust()
        if rule := self.hijacked(target):
            return rule.trust
        return self.mirror.trust if authority_of(self.mirror.remote) == target else Trust()


def _rewritten(url: str, rule: ProxyRule) -> str:
    """The URL with the rule's scheme and host; path and query byte for byte as they were."""
    scheme, _, rest = url.partition("://")
    netloc = urlsplit(url).netloc
    tail = rest[len(netloc) :]
    return f"{'https' if rule.use_https else scheme}://{rule.redirect or netloc}{tail}"
