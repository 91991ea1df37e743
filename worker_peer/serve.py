"""`dfget server`: a peer in the foreground, until it has had nothing to do for long enough or is told to end."""

import asyncio
import contextlib
import logging
import os
import signal
import sys

from wire.messages import Role
from worker_peer.app import PeerProcess, open_peer, tune_allocator
from worker_peer.config import PeerConfig
from worker_peer.host import logs
from worker_peer.host.process_limits import allow_many_files

_log = logging.getLogger("peer")

_LOOK_S = 0.5


def run_server(
    config: PeerConfig,
    *,
    verbose: bool,
    as_json: bool,
    rotate_bytes: int = logs.ROTATE_BYTES,
    rotated_files: int = logs.ROTATED_FILES,
) -> int:
    """Run until SIGTERM, SIGINT or `alive_s` without work. Returns the exit code."""
    tune_allocator()
    allow_many_files()
    name = "dfseed.log" if config.role is Role.SEED else "dfclient.log"
    try:
        output = logs.configure(
            config.home / "logs" / name,
            level=logging.DEBUG if verbose else logging.INFO,
            as_json=as_json,
            sign=str(os.getpid()),
            rotate_bytes=rotate_bytes,
            rotated_files=rotated_files,
        )
    except OSError as error:
        print(f"dfget server: {error}: choose another --home", file=sys.stderr)
        return 1
    try:
        return asyncio.run(_serve(config))
    finally:
        output.close()


async def _serve(config: PeerConfig) -> int:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, ended.set)
    try:
        peer = await open_peer(config)
    except OSError as error:
        _log.error("the peer cannot start: %s", error)
        print(f"dfget server: {error}", file=sys.stderr, flush=True)
        return 1
    # The last word is the port: 1.x's dfget parses it from there.
    print(f"dfget uploader server port is {peer.exchange.data_port}", flush=True)
    idle = asyncio.ensure_future(_until_idle(peer, config.alive_s))
    try:
        await asyncio.wait({idle, asyncio.ensure_future(ended.wait())}, return_when=asyncio.FIRST_COMPLETED)
        if idle.done():
            _log.info("no work for %.0f s: the peer ends", config.alive_s)
            await peer.purge()
    finally:
        idle.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await idle
        await peer.close()
    return 0


async def _until_idle(peer: PeerProcess, alive_s: float) -> None:
    """Return when the peer has neither fetched nor served anything for `alive_s`; never when that is 0 or less."""
    loop = asyncio.get_running_loop()
    busy_at, sent = loop.time(), -1
    while alive_s <= 0 or loop.time() - busy_at < alive_s:
        await asyncio.sleep(_LOOK_S)
        if peer.downloads.active or peer.exchange.sent_bytes != sent:
            busy_at, sent = loop.time(), peer.exchange.sent_bytes
