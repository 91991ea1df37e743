"""Which hosts a job may make the supernode ask."""

import pytest

from broker.core.allowed_hosts import AllowedHosts, parse_allowed


def is_allowed(rules: AllowedHosts, host: str, *addresses: str, port: int = 443) -> bool:
    return rules.refusal(host, port, list(addresses)) == ""


def test_without_a_list_everything_but_what_no_registry_has() -> None:
    rules = AllowedHosts()
    for address in ("10.0.0.1", "127.0.0.1", "::1", "8.8.8.8", "fd00::1"):
        assert is_allowed(rules, "host", address)
    for address in ("169.254.169.254", "fe80::1%eth0", "0.0.0.0", "224.0.0.1", "::", "::ffff:169.254.169.254"):
        assert not is_allowed(rules, "host", address), address
    assert not is_allowed(rules, "two-faced", "10.0.0.1", "169.254.169.254")
    assert "preheat.allow" in rules.refusal("host", 80, ["169.254.169.254"])


def test_a_list_names_hosts_by_patterns_ports_and_networks() -> None:
    rules = parse_allowed(("registry.example", "*.own.example:5000", "10.0.0.0/8", "[::1]:80", "169.254.169.254"))
    assert is_allowed(rules, "registry.example", "8.8.8.8")
    assert is_allowed(rules, "REGISTRY.example", "8.8.8.8", port=1)
    assert is_allowed(rules, "a.own.example", "8.8.8.8", port=5000)
    assert not is_allowed(rules, "a.own.example", "8.8.8.8", port=5001)
    assert is_allowed(rules, "anything", "10.1.2.3")
    assert not is_allowed(rules, "anything", "10.1.2.3", "11.0.0.1")
    assert not is_allowed(rules, "anything")
    assert is_allowed(rules, "::1", "::1", port=80)
    assert not is_allowed(rules, "::1", "::1", port=81)
    assert is_allowed(rules, "metadata", "169.254.169.254")
    assert not is_allowed(rules, "registry.example", "169.254.0.1"), "a name that leads there is no registry"
    assert "preheat.allow" in rules.refusal("other.example", 443, ["8.8.8.8"])


@pytest.mark.parametrize("entry", ["", "a b", "http://a", "a/b", "a:port", "10.0.0.0/99"])
def test_what_is_no_entry(entry: str) -> None:
    with pytest.raises(ValueError, match="no host"):
        parse_allowed((entry,))
