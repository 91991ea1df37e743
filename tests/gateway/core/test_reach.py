"""Which addresses mean another machine to each host."""

import pytest

from gateway.core.reach import Scope, scope_of, scopes_of


@pytest.mark.parametrize(
    ("address", "scope"),
    [
        ("127.0.0.1", Scope.LOOPBACK),
        ("127.9.9.9", Scope.LOOPBACK),
        ("::1", Scope.LOOPBACK),
        ("::ffff:127.0.0.1", Scope.LOOPBACK),
        ("0.0.0.0", Scope.LOOPBACK),
        ("::", Scope.LOOPBACK),
        ("169.254.169.254", Scope.LINK_LOCAL),
        ("::ffff:169.254.169.254", Scope.LINK_LOCAL),
        ("fe80::1%eth0", Scope.LINK_LOCAL),
        ("10.0.0.1", None),
        ("192.0.2.1", None),
        ("2001:db8::1", None),
        ("registry.example", None),
    ],
)
def test_scope(address: str, scope: Scope | None) -> None:
    assert scope_of(address) is scope


def test_a_name_has_the_scopes_of_all_its_addresses() -> None:
    assert scopes_of(["192.0.2.1", "127.0.0.1"]) == {Scope.LOOPBACK}
    assert scopes_of(["192.0.2.1"]) == frozenset()
