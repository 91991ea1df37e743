"""Which address peers are told: 1.x's rule, on hosts that the test makes up."""

import ipaddress
import socket
from types import SimpleNamespace

import psutil
import pytest

from broker.own_address import first_address


def on_a_host(
    monkeypatch: pytest.MonkeyPatch, interfaces: dict[str, tuple[bool, list[tuple[socket.AddressFamily, str]]]]
) -> None:
    """Interfaces: name -> (is up, addresses)."""
    addresses = {
        name: [SimpleNamespace(family=family, address=address) for family, address in told]
        for name, (_, told) in interfaces.items()
    }
    states = {name: SimpleNamespace(isup=is_up) for name, (is_up, _) in interfaces.items()}
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: addresses)
    monkeypatch.setattr(psutil, "net_if_stats", lambda: states)


LOOPBACK = (True, [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])


def test_the_first_one_that_is_up_and_not_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    on_a_host(
        monkeypatch,
        {
            "lo": LOOPBACK,
            "down": (False, [(socket.AF_INET, "10.0.0.1")]),
            "six": (True, [(socket.AF_INET6, "fd00::1"), (socket.AF_PACKET, "00:00:00:00:00:00")]),
            "eth0": (True, [(socket.AF_INET6, "fd00::2"), (socket.AF_INET, "10.0.0.2")]),
            "eth1": (True, [(socket.AF_INET, "10.0.0.3")]),
        },
    )
    assert first_address() == "10.0.0.2"


def test_loopback_where_there_is_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    on_a_host(monkeypatch, {"lo": LOOPBACK, "down": (False, [(socket.AF_INET, "10.0.0.1")])})
    assert first_address() == "127.0.0.1"


def test_an_interface_that_vanishes_meanwhile_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    on_a_host(monkeypatch, {"gone": (True, [(socket.AF_INET, "10.0.0.1")]), "lo": LOOPBACK})
    monkeypatch.setattr(psutil, "net_if_stats", dict)
    assert first_address() == "127.0.0.1"


def test_on_this_host_it_is_an_address() -> None:
    assert ipaddress.IPv4Address(first_address())
