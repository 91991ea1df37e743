"""Which peers a job's scope, or the names that somebody gives, mean. Reads the scheduler's state, changes nothing."""

from broker.core.preheat_records import Host
from broker.core.state import PeerRecord, State
from wire.messages import Role


def ip_of(record: PeerRecord) -> str:
    """A peer's address, as its data endpoint tells it; empty: it serves nobody."""
    return record.data_endpoint.removeprefix("tcp://").rpartition(":")[0].strip("[]")


def hosts_in_scope(state: State, scope: str) -> tuple[tuple[Host, ...], tuple[str, ...]]:
    """The peers that a scope means now, and the names in it that no peer has.

    `seed`: none beside the seed; `all`: every peer; else names, addresses, `address:port`s or peer ids, commas between.
    A name that several peers of a host have means all of them.
    """
    if scope == "seed":
        return (), ()
    peers = [record for record in state.peers.values() if record.role is Role.PEER]
    if scope == "all":
        return tuple(map(_host, peers)), ()
    found: dict[str, Host] = {}
    absent = []
    for name in dict.fromkeys(filter(None, (part.strip() for part in scope.split(",")))):
        named = [record for record in peers if name in names_of(record)]
        if not named:
            absent.append(name)
        found |= {record.peer: _host(record) for record in named}
    return tuple(found.values()), tuple(absent)


def names_of(record: PeerRecord) -> tuple[str, ...]:
    """What a host may be called: its peer's id, its name, its address, `address:port`."""
    return record.peer, record.host, ip_of(record), record.data_endpoint.removeprefix("tcp://")


def _host(record: PeerRecord) -> Host:
    return Host(peer=record.peer, name=record.host, ip=ip_of(record))
