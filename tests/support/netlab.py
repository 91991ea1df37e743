"""Hosts for tests: network namespaces on one switch. Needs root and iproute2.

The switch is a bridge in a namespace of its own without a route to any real interface: nothing can leave the machine.
A host's programs see its network and an /etc/hosts that knows every host by its name, and share all else.
"""

import subprocess
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class LabHost:
    """One host of a lab."""

    name: str
    address: str
    namespace: str
    hosts_file: Path

    def command(self, words: Sequence[str], *, binds: Mapping[Path, str] | None = None) -> list[str]:
        """The command that runs `words` on this host, under the same process id. `binds`: what it sees at other paths.

        `ip netns exec` would remount /sys and hide the cgroups that dockerd needs: hence nsenter, and a mount namespace.
        """
        seen = {self.hosts_file: "/etc/hosts", **(binds or {})}
        script = " && ".join([*(f"mount --bind '{ours}' '{path}'" for ours, path in seen.items()), 'exec "$@"'])
        isolated = ["nsenter", f"--net=/run/netns/{self.namespace}", "unshare", "--mount", "--propagation", "private"]
        return [*isolated, "sh", "-c", script, "sh", *words]

    def run(self, words: Sequence[str], *, timeout_s: float = 60.0) -> str:
        """Run `words` on this host to its end; what it printed. Fails where its exit code is not 0."""
        done = subprocess.run(self.command(words), capture_output=True, text=True, timeout=timeout_s, check=False)
        assert done.returncode == 0, f"{words[0]} on {self.name}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout


@contextmanager
def network(directory: Path, addresses: Mapping[str, str], aliases: Mapping[str, str]) -> Iterator[dict[str, LabHost]]:
    """Hosts by their names, with these addresses in one /16; `aliases` are more names, each for a host's name."""
    lab = f"dl{uuid.uuid4().hex[:6]}"
    switch = f"{lab}-switch"
    hosts_file = directory / "hosts"
    known = {**addresses, **{alias: addresses[name] for alias, name in aliases.items()}}
    hosts_file.write_text("127.0.0.1 localhost\n" + "".join(f"{address} {name}\n" for name, address in known.items()))
    hosts = {
        name: LabHost(name=name, address=address, namespace=f"{lab}-{name}", hosts_file=hosts_file)
        for name, address in addresses.items()
    }
    try:
        _ip(["netns add " + namespace for namespace in [switch, *(host.namespace for host in hosts.values())]])
        _ip(["link add br0 type bridge stp_state 0 forward_delay 0", "link set br0 up"], switch)
        for number, host in enumerate(hosts.values()):
            link = f"p{number}"
            _ip([f"link add {link} type veth peer name eth0 netns {host.namespace}", f"link set {link} master br0 up"], switch)
            _ip(["link set lo up", "link set eth0 up", f"addr add {host.address}/16 dev eth0"], host.namespace)
        yield hosts
    finally:
        made = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
        ours = [line.split()[0] for line in made.splitlines() if line.startswith(f"{lab}-")]
        busy = {name: pids for name in ours if (pids := _pids_in(name))}
        _ip([f"netns del {name}" for name in ours])
    assert not busy, f"processes were left in namespaces: {busy}"


def _ip(lines: list[str], namespace: str | None = None) -> None:
    where = ["-n", namespace] if namespace else []
    subprocess.run(["ip", *where, "-batch", "-"], input="\n".join(lines), text=True, check=True)


def _pids_in(namespace: str) -> list[str]:
    return subprocess.run(["ip", "netns", "pids", namespace], capture_output=True, text=True, check=True).stdout.split()
