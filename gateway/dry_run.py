"""What the rules would do with a URL, in words: nothing is asked, no connection is made. Pure.

The configuration and its table of rules come in, one Answer per URL goes out; cli.py prints it.
"""

from dataclasses import dataclass

from gateway.config import GatewayConfig
from gateway.core.mirror_target import mirror_target
from gateway.core.rules import Decision, RuleTable, authority_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """About one URL."""

    url: str
    connection: str
    """`plain`, `mirror`, `opened` or `tunnelled`."""
    connection_why: str
    verdict: str
    """`p2p`, `direct`, or `unseen` where the request is in a tunnel."""
    rule: str
    """The rule that decided, in the configuration's words; empty for a tunnel."""
    rule_why: str
    asked: str
    """The URL that the upstream, or the swarm's source, is asked for; empty for a tunnel."""

    def text(self) -> str:
        """As a person reads it."""
        lines = [
            self.url,
            f"  connection: {self.connection}, {self.connection_why}",
            f"  request:    {self.verdict}, {self.rule_why}",
        ]
        if self.asked and self.asked != self.url:
            lines.append(f"  asked:      {self.asked}")
        return "\n".join(lines)


def judge(method: str, url: str, config: GatewayConfig, table: RuleTable) -> Answer:
    """`url`: as a client asks a proxy, or a path as it asks a mirror. Raises ValueError for anything else."""
    if url.startswith("/"):
        meant = mirror_target(url, ())
        if meant is not None and meant.place:
            why = f"it names {meant.place} by its {'ns' if meant.said_by == 'ns' else 'image'}"
            decision = table.mirrored(method, meant.target, named=f"https://{meant.place}{meant.target}")
            return _answer(url, "mirror", why, decision, config)
        why = f"it names no host: {config.registry_mirror.remote} is mirrored"
        return _answer(url, "mirror", why, table.mirrored(method, url), config)
    target = authority_of(url)
    if target is None:
        raise ValueError(f"{url[:80]!r} is neither http(s)://host[:port]/path nor a path of the mirror")
    if url.lower().startswith("http://"):
        return _answer(url, "plain", "the proxy sees a request for http as it is", table.forward(method, url), config)
    found = table.hijacked(target)
    if found is None or not config.hijack_https.cert:
        why = f"no regx of hijack_https.hosts is found in {str(target)!r}" if found is None else "hijack_https.cert is not set"
        return Answer(
            url=url,
            connection="tunnelled",
            connection_why=f"unread: {why}",
            verdict="unseen",
            rule="",
            rule_why="no rule sees what is in a tunnel; it goes straight to the upstream",
            asked="",
        )
    number = list(table.hijack_hosts).index(found)
    why = f"by hijack_https.hosts[{number}] ({found.pattern.pattern}); an upstream that speaks no TLS is tunnelled all the same"
    return _answer(url, "opened", why, table.forward(method, url), config)


def _answer(url: str, connection: str, connection_why: str, decision: Decision, config: GatewayConfig) -> Answer:
    return Answer(
        url=url,
        connection=connection,
        connection_why=connection_why,
        verdict=decision.verdict.value,
        rule=decision.reason,
        rule_why=_words(decision.reason, config),
        asked=decision.url,
    )


def _words(reason: str, config: GatewayConfig) -> str:
    name, bracket, rest = reason.partition("[")
    if bracket:
        number = int(rest.partition("]")[0])
        shown = config.proxies[number].regx if name == "proxies" else config.images[number].image
        return f"by {reason} ({shown})"
    match reason:
        case "no rule":
            return "no rule of proxies or images takes it"
        case "not a GET":
            return "only a GET is examined"
        case "registry_mirror":
            return "by registry_mirror: it is a blob, or a manifest by its digest"
    return "by registry_mirror: it is neither blob nor manifest by digest, or registry_mirror.direct is set"
