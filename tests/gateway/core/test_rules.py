"""Which rule decides, and what it decides."""

import dataclasses
import re

import pytest

from gateway.core.images import ImageRule, parse_pattern
from gateway.core.rules import (
    Authority,
    HijackHost,
    Mirror,
    ProxyRule,
    RuleTable,
    Trust,
    Verdict,
    authority_of,
    parse_authority,
)

_BLOB = "http://r.test:5000/v2/team/app/blobs/sha256:" + "a" * 64


def _table(*proxies: ProxyRule, hosts: tuple[HijackHost, ...] = (), mirror: Mirror | None = None) -> RuleTable:
    return RuleTable(mirror=mirror or Mirror(remote="https://hub.test"), proxies=proxies, hijack_hosts=hosts)


def _rule(regx: str, *, direct: bool = False, use_https: bool = False, redirect: str = "") -> ProxyRule:
    return ProxyRule(pattern=re.compile(regx), direct=direct, use_https=use_https, redirect=redirect)


def test_the_first_match_wins_and_is_named() -> None:
    table = _table(_rule("other"), _rule("team/app", direct=True), _rule("blobs/sha256.*"))
    decision = table.forward("GET", _BLOB)
    assert (decision.verdict, decision.reason) == (Verdict.DIRECT, "proxies[1]")
    decision = table.forward("GET", _BLOB.replace("team", "mine"))
    assert (decision.verdict, decision.reason) == (Verdict.P2P, "proxies[2]")


def test_without_a_rule_a_request_goes_straight() -> None:
    assert _table().forward("GET", _BLOB).reason == "no rule"
    assert _table(_rule("nothing")).forward("GET", _BLOB).verdict is Verdict.DIRECT


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "get"])
def test_only_a_get_is_examined(method: str) -> None:
    decision = _table(_rule(".*", use_https=True, redirect="x")).forward(method, _BLOB)
    assert (decision.verdict, decision.url) == (Verdict.DIRECT, _BLOB)


def test_a_rule_rewrites_scheme_and_host_and_no_byte_more() -> None:
    url = "http://r.test:5000/v2//a/../b%2F/blobs/sha256:1?x=%7e&&y#z"
    decision = _table(_rule("sha256", use_https=True, redirect="other.test:444", direct=True)).forward("GET", url)
    assert decision.url == "https://other.test:444/v2//a/../b%2F/blobs/sha256:1?x=%7e&&y#z"
    assert decision.verdict is Verdict.DIRECT
    assert _table(_rule("sha256", use_https=True)).forward("GET", url).url == "https" + url.removeprefix("http")


@pytest.mark.parametrize(
    ("method", "target", "direct", "verdict"),
    [
        ("GET", "/v2/library/hello/blobs/sha256:aa", False, Verdict.P2P),
        ("GET", "/docker/registry/v2/blobs/sha256/aa/aab/data?Signature=1", False, Verdict.P2P),
        ("GET", "/v2/library/hello/blobs/sha256:aa", True, Verdict.DIRECT),
        ("HEAD", "/v2/library/hello/blobs/sha256:aa", False, Verdict.DIRECT),
        ("GET", "/v2/library/hello/manifests/latest", False, Verdict.DIRECT),
        ("GET", "/v2/?x=/a/blobs/sha256:aa", False, Verdict.DIRECT),
    ],
)
def test_the_mirror_takes_blobs_and_no_proxy_rule(method: str, target: str, direct: bool, verdict: Verdict) -> None:
    trust = Trust(insecure=True)
    table = _table(_rule(".*", direct=True), mirror=Mirror(remote="https://hub.test", trust=trust, direct=direct))
    decision = table.mirrored(method, target)
    assert (decision.verdict, decision.url, decision.trust) == (verdict, "https://hub.test" + target, trust)


@pytest.mark.parametrize(
    ("regx", "host", "port"), [("^r.test$", "r.test", 443), (r"r\.test:32443", "r.test", 32443), (r"^::1$", "::1", 443)]
)
def test_a_hijack_pattern_may_mean_the_host_or_the_host_with_its_port(regx: str, host: str, port: int) -> None:
    trust = Trust(insecure=True)
    table = _table(hosts=(HijackHost(pattern=re.compile(regx), trust=trust),))
    rule = table.hijacked(Authority(host, port))
    assert rule is not None
    assert rule.trust == trust
    # 1.x opened the host by one string and looked for its certificates by the other.
    assert table.trust_of(f"https://{Authority(host, port)}/v2/") == trust
    assert table.hijacked(Authority("elsewhere.test", port)) is None


def test_an_upstream_is_trusted_as_its_own_rule_says_and_else_as_the_system_does() -> None:
    table = _table(
        hosts=(HijackHost(pattern=re.compile("one"), trust=Trust(certificates=(b"a",))),),
        mirror=Mirror(remote="https://hub.test", trust=Trust(insecure=True)),
    )
    assert table.forward("GET", "https://one.test/x").trust == Trust(certificates=(b"a",))
    assert table.forward("GET", "https://hub.test/x").trust == Trust(insecure=True)
    assert table.forward("GET", "https://hub.test:444/x").trust == Trust()
    assert table.forward("GET", "https://two.test/x").trust == Trust()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("R.test:443", Authority("r.test", 443)),
        ("[::1]:8443", Authority("::1", 8443)),
        ("127.0.0.1:1", Authority("127.0.0.1", 1)),
        ("r.test", None),
        ("r.test:0", None),
        ("r.test:65536", None),
        ("r.test:x", None),
        ("::1:443", None),
        ("a b:443", None),
        ("u@r.test:443", None),
        ("", None),
    ],
)
def test_a_connect_target_is_a_host_and_a_port(text: str, found: Authority | None) -> None:
    assert parse_authority(text) == found


def test_where_a_url_leads() -> None:
    assert authority_of("https://u:p@R.test/x?y") == Authority("r.test", 443)
    assert authority_of("http://[::1]") == Authority("::1", 80)
    assert authority_of("HTTP://r.test:81?q") == Authority("r.test", 81)
    assert authority_of("ftp://r.test/") is None
    assert authority_of("/v2/") is None
    assert str(Authority("::1", 80)) == "[::1]:80"


@pytest.mark.parametrize("text", ["[1.2]:80", "[:%]:80", "[zz::1]:80", "[]:80"])
def test_what_stands_in_brackets_is_an_ipv6_address_or_nothing(text: str) -> None:
    assert parse_authority(text) is None
    assert authority_of(f"http://{text}/p2p") is None


_MANIFEST = _BLOB.replace("/blobs/", "/manifests/")


@pytest.mark.parametrize(
    ("rules", "verdict", "reason", "url"),
    [
        ((_rule("blobs/sha256.*"),), Verdict.P2P, "proxies[0]", _MANIFEST),
        # A rule for blobs rewrites no manifest; one that matches the manifest itself does, or sends it straight.
        ((_rule("blobs/sha256.*", use_https=True, redirect="x.test"),), Verdict.P2P, "proxies[0]", _MANIFEST),
        ((_rule("sha256", redirect="x.test"),), Verdict.P2P, "proxies[0]", _MANIFEST.replace("r.test:5000", "x.test")),
        ((_rule("manifests", direct=True), _rule("blobs")), Verdict.DIRECT, "proxies[0]", _MANIFEST),
        ((_rule("blobs/sha256.*", direct=True),), Verdict.DIRECT, "no rule", _MANIFEST),
        ((_rule("elsewhere.test"),), Verdict.DIRECT, "no rule", _MANIFEST),
    ],
)
def test_a_manifest_by_digest_goes_where_its_blobs_go(
    rules: tuple[ProxyRule, ...], verdict: Verdict, reason: str, url: str
) -> None:
    decision = _table(*rules).forward("GET", _MANIFEST)
    assert (decision.verdict, decision.reason, decision.url) == (verdict, reason, url)
    head = _table(*rules).forward("HEAD", _MANIFEST)
    assert (head.verdict, head.url) == (Verdict.DIRECT, _MANIFEST)
    assert head.is_head_of_shared is (verdict is Verdict.P2P and url == _MANIFEST)


def test_a_tag_and_a_table_that_leaves_manifests_alone() -> None:
    table = _table(_rule("blobs/sha256.*"))
    assert table.forward("GET", "http://r.test:5000/v2/team/app/manifests/1").verdict is Verdict.DIRECT
    alone = dataclasses.replace(table, manifests=False)
    path = "/v2/team/app/manifests/sha256:" + "a" * 64
    assert alone.forward("GET", _MANIFEST).verdict is alone.mirrored("GET", path).verdict is Verdict.DIRECT
    assert not alone.forward("HEAD", _MANIFEST).is_head_of_shared
    assert table.mirrored("GET", path).verdict is Verdict.P2P
    assert table.mirrored("HEAD", path).is_head_of_shared
    direct = dataclasses.replace(table, mirror=Mirror(remote="https://hub.test", direct=True))
    assert direct.mirrored("GET", path).verdict is Verdict.DIRECT
    assert not direct.mirrored("HEAD", path).is_head_of_shared


def test_an_image_that_is_switched_away_takes_its_manifests_along() -> None:
    images = (ImageRule(pattern=parse_pattern("r.test:5000/team/app"), direct=True),)
    table = dataclasses.replace(_table(_rule(".*")), images=images)
    assert table.forward("GET", _MANIFEST).reason == "images[0]"
    assert table.forward("GET", _MANIFEST).verdict is Verdict.DIRECT
