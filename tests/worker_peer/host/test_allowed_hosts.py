"""Which hosts a job may make the supernode ask."""

import pytest

from worker_peer.host.allowed_hosts import MAX_ENTRIES, AllowedHosts, NotAllowed, allowed_as_told, parse_allowed, refusal_in


def is_allowed(rules: AllowedHosts, host: str, *addresses: str, port: int = 443) -> bool:
    return rules.refusal(host, port, list(addresses)) == ""


def test_without_a_list_everything_but_what_no_registry_has() -> None:
    rules = AllowedHosts()
    for address in ("10.0.0.1", "127.0.0.1", "::1", "8.8.8.8", "fd00::1"):
        assert is_allowed(rules, "host", address)
    for address in ("169.254.169.254", "fe80::1%eth0", "0.0.0.0", "224.0.0.1", "::", "::ffff:169.254.169.254"):
        assert not is_allowed(rules, "host", address), address
    inside = ("64:ff9b::a9fe:a9fe", "64:ff9b:1::a9fe:a9fe", "::169.254.169.254", "2002:a9fe:a9fe::1")
    for address in (*inside, "fd00:ec2::254", "100.100.100.200", "168.63.129.16", "64:ff9b::100.100.100.200"):
        assert not is_allowed(rules, "host", address), address
    for address in ("64:ff9b::8.8.8.8", "2002:808:808::1"):
        assert is_allowed(rules, "host", address), address
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


def test_a_list_of_all_names_and_one_address_opens_that_address_alone() -> None:
    rules = parse_allowed(("*", "169.254.1.1"))
    assert is_allowed(rules, "anything", "8.8.8.8")
    assert is_allowed(rules, "169.254.1.1", "169.254.1.1")
    assert not is_allowed(rules, "metadata", "169.254.169.254")


def test_a_list_is_bounded() -> None:
    assert parse_allowed(("a",) * MAX_ENTRIES).entries == ("a",) * MAX_ENTRIES
    with pytest.raises(ValueError, match="at most 64"):
        parse_allowed(("a",) * (MAX_ENTRIES + 1))
    with pytest.raises(ValueError, match="no host"):
        parse_allowed(("a" * 257,))


def test_a_list_that_cannot_be_read_allows_nobody() -> None:
    assert allowed_as_told(("a:1",)) == parse_allowed(("a:1",))
    assert not is_allowed(allowed_as_told(("10.0.0.0/8", "a b")), "a", "10.0.0.1")
    assert is_allowed(allowed_as_told(()), "a", "10.0.0.1")


@pytest.mark.parametrize("host", ["127.1", "0", "2852039166", "169.254.169.254", "fe80::1%25eth0", "1::2::3", "0177.0.0.1"])
def test_what_is_an_address_is_looked_at_as_one(host: str) -> None:
    with pytest.raises(NotAllowed):
        AllowedHosts().check_literal(host, 80)


def test_names_and_other_addresses_are_no_such_literals() -> None:
    for host in ("registry.example", "127.0.0.1", "::1", "0x7f.1"):
        AllowedHosts().check_literal(host, 80)


def test_a_verdict_is_found_in_what_wraps_it() -> None:
    wrapped = OSError("x")
    wrapped.__cause__ = NotAllowed("the words")
    assert refusal_in(wrapped) == "the words"
    assert refusal_in(ValueError()) == ""
