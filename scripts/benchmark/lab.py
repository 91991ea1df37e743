"""Hosts with capped links on one machine: a network namespace each, on a switch that nothing leaves. Root and iproute2.

Both directions of a host's link are shaped by a token bucket (tc-tbf(8)); the switch is a bridge in a namespace of its
own. Congestion control is reno: a new namespace's default may be BBR, whose pacing costs CPU and shares unevenly.
"""

import subprocess
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

#: 64 KiB packets (GSO) pass whole; smaller bursts make the shaper split them, which costs ten times the CPU.
_BURST: Final = "128kb"
#: How long the shaper may hold a packet back before it drops.
_QUEUE: Final = "50ms"
#: TCP payload in a full Ethernet frame of 1514 bytes (MTU 1500, timestamps on).
PAYLOAD_SHARE: Final = 1448 / 1514


@dataclass(frozen=True, slots=True)
class LabHost:
    """One host."""

    name: str
    namespace: str
    address: str

    def command(self, words: Sequence[str]) -> list[str]:
        """The command that runs `words` on this host, under the same process id."""
        return ["nsenter", f"--net=/run/netns/{self.namespace}", *words]

    def run(self, words: Sequence[str]) -> str:
        """Run `words` on this host to its end; what it printed. Raises CalledProcessError."""
        return subprocess.run(self.command(words), capture_output=True, text=True, check=True).stdout


@contextmanager
def lab(rates: dict[str, int]) -> Iterator[dict[str, LabHost]]:
    """Hosts by name; `rates` are bits per second of each host's link, in each direction (0: not capped)."""
    prefix = f"bench{uuid.uuid4().hex[:5]}"
    switch = f"{prefix}-switch"
    hosts = {
        name: LabHost(name, f"{prefix}-{number}", f"10.83.{number // 250}.{number % 250 + 2}")
        for number, name in enumerate(rates)
    }
    try:
        _ip([f"netns add {name}" for name in [switch, *(host.namespace for host in hosts.values())]])
        _ip(["link add br0 type bridge stp_state 0 forward_delay 0", "link set br0 up"], switch)
        # Bridged frames need not pass iptables: the setting is the namespace's own.
        script = "for f in /proc/sys/net/bridge/bridge-nf-call-*; do echo 0 > $f; done"
        subprocess.run(["ip", "netns", "exec", switch, "sh", "-c", script], capture_output=True, check=False)
        for number, (name, host) in enumerate(hosts.items()):
            _attach(switch, number, host, rates[name])
        yield hosts
    finally:
        listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
        _ip([f"netns del {line.split()[0]}" for line in listed.splitlines() if line.startswith(f"{prefix}-")])


def _attach(switch: str, number: int, host: LabHost, rate: int) -> None:
    port = f"p{number}"
    _ip([f"link add {port} type veth peer name eth0 netns {host.namespace}", f"link set {port} master br0 up"], switch)
    _ip(["link set lo up", "link set eth0 up", f"addr add {host.address}/16 dev eth0"], host.namespace)
    reno = ["sysctl", "-q", "-w", "net.ipv4.tcp_congestion_control=reno"]
    subprocess.run(["ip", "netns", "exec", host.namespace, *reno], capture_output=True, check=False)
    if rate:
        shape = ["root", "tbf", "rate", f"{rate}bit", "burst", _BURST, "latency", _QUEUE]
        subprocess.run(["tc", "-n", switch, "qdisc", "replace", "dev", port, *shape], check=True)
        subprocess.run(["tc", "-n", host.namespace, "qdisc", "replace", "dev", "eth0", *shape], check=True)


def _ip(lines: list[str], namespace: str | None = None) -> None:
    where = ["-n", namespace] if namespace else []
    subprocess.run(["ip", *where, "-batch", "-"], input="\n".join(lines), text=True, check=True)
