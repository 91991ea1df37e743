"""`supernode`: flags to a configuration, nothing decided here. Flags and defaults as Dragonfly 1.x, and `--broker-port`."""

import argparse
import ipaddress
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from broker.config import SupernodeConfig
from broker.own_address import first_address
from worker_peer.host.command_line import CommandParser, software_version, typed
from worker_peer.host.values import parse_duration, parse_rate

#: Flags of 1.x without a meaning here, and why. Given, each is named once.
_WITHOUT_MEANING = {
    "pool_size": "there is no pool of scheduling threads",
    "up_limit": "how much a peer uploads is decided by what its link carries",
    "down_limit": "how much a peer downloads at once is decided by what its link carries",
    "profiler": "use py-spy on the process",
    "fail_access_interval": "a task whose source failed is tried again for the next who asks",
    "gc_initial_delay": "tidying needs no delay",
    "gc_meta_interval": "tidying goes on all the time",
    "peer_gc_delay": "a peer that is gone is forgotten at once",
    "system_bandwidth": "give --max-bandwidth what may be used",
}


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65535:
        raise ValueError(f"a port is a number from 0 (any free one) to 65535, not {text[:20]!r}")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(prog="supernode", allow_abbrev=False, description="The broker of a swarm, and its seed.")
    port, rate, duration = typed(_port, "port"), typed(parse_rate, "rate"), typed(parse_duration, "duration")
    add = parser.add_argument
    add("--port", type=port, default=8002, help="HTTP: what peers' --node names (default 8002; 0: any free one)")
    add("--broker-port", type=port, default=8003, help="ZeroMQ ROUTER (default 8003; 0: any free one)")
    add("--download-port", type=port, default=8001, help="the seed's pieces (default 8001; 0: any free one)")
    add("--home-dir", type=Path, default=Path("/home/admin/supernode"), help="contents and logs")
    add("--advertise-ip", default="", help="address by which peers reach this host (default: its first one)")
    add("--cdn-pattern", choices=("local", "source"), default="local", help="local: with a seed of its own")
    add("--no-seed", action="store_true", help="no seed of its own: seeds run elsewhere, as `dfget server --seed --node ...`")
    add("--max-bandwidth", type=rate, default=0, help="bytes per second read from sources: 200MB; 0: not limited (default)")
    add("--seed-bandwidth", type=rate, default=0, help="bytes per second that the seed sends; 0: not limited (default)")
    add("--task-expire-time", type=duration, default=180.0, help="a task that nobody wants is forgotten after (default 3m)")
    add("-D", "--debug", action="store_true", help="log more")
    add("--json-log", action="store_true", help="log in JSON lines")
    for name in _WITHOUT_MEANING:
        add("--" + name.replace("_", "-"), default=None, nargs="?", const="true", help="accepted, without meaning")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The `supernode` command. Returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["version"]:
        print(f"supernode version:{software_version()}")
        return 0
    parser = _parser()
    flags = parser.parse_args(given)
    for name, reason in _WITHOUT_MEANING.items():
        if getattr(flags, name) is not None:
            print(f"supernode: --{name.replace('_', '-')} has no meaning here: {reason}", file=sys.stderr)
    if flags.cdn_pattern == "source":
        parser.error("--cdn-pattern source is not built: the seed is what asks the source once; use local")
    if flags.advertise_ip:
        try:
            ipaddress.ip_address(flags.advertise_ip)
        except ValueError:
            parser.error(f"--advertise-ip must be an address of this host, as 10.0.0.10, not {flags.advertise_ip[:64]!r}")
    config = SupernodeConfig(
        home=flags.home_dir.absolute(),
        http_port=flags.port,
        broker_port=flags.broker_port,
        download_port=flags.download_port,
        advertise_ip=flags.advertise_ip or first_address(),
        with_seed=not flags.no_seed,
        source_rate=flags.max_bandwidth,
        upload_rate=flags.seed_bandwidth,
        task_expire_s=flags.task_expire_time,
        debug=flags.debug,
        json_log=flags.json_log,
        version=software_version(),
    )
    return _run(config)


def _run(config: SupernodeConfig) -> int:
    import asyncio
    import logging

    from broker.app import log_file, run
    from worker_peer.host import logs
    from worker_peer.host.process_limits import allow_many_files

    allow_many_files()

    level = logging.DEBUG if config.debug else logging.INFO
    try:
        output = logs.configure(log_file(config), level=level, as_json=config.json_log, sign=str(os.getpid()), console=False)
    except OSError as error:
        print(f"supernode: {error}: choose another --home-dir", file=sys.stderr)
        return 1
    try:
        return asyncio.run(run(config))
    finally:
        output.close()


if __name__ == "__main__":
    sys.exit(main())
