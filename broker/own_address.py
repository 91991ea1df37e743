"""Which of this host's addresses peers are told, when the operator names none."""

import socket

import psutil


def first_address() -> str:
    """The first IPv4 address of an interface that is up and is not loopback; 127.0.0.1 where there is none (1.x's rule)."""
    up = psutil.net_if_stats()
    for name, addresses in psutil.net_if_addrs().items():
        if name not in up or not up[name].isup:
            continue
        for address in addresses:
            if address.family == socket.AF_INET and not address.address.startswith("127."):
                return str(address.address)
    return "127.0.0.1"
