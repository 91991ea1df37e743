"""The supernode's seed: a peer of its own process, started here, watched, and started again when it dies.

Driver. No transfer code: the seed is `dfget server --seed` and speaks to the broker like any peer.
"""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable
from ctypes import CDLL
from functools import partial
from pathlib import Path
from typing import Final

from broker.config import CacheConfig
from worker_peer.host.background import Background

_log = logging.getLogger("seed")

_START_S: Final = 20.0
_FIRST_PAUSE_S: Final = 0.2
_LONGEST_PAUSE_S: Final = 5.0
_STOP_S: Final = 5.0
_PR_SET_PDEATHSIG: Final = 1


class SeedProcess:
    """Keeps one seed running."""

    def __init__(
        self,
        *,
        home: Path,
        ip: str,
        port: int,
        supernode: str,
        upload_rate: int,
        source_rate: int,
        cache: CacheConfig,
        link_rate: str = "",
        verbose: bool,
        background: Background,
        on_ended: Callable[[], None],
    ) -> None:
        """`supernode` is the HTTP `host:port` of the broker it belongs to. `on_ended` is called whenever it has died."""
        #: The port that serves pieces; known when `started` is set.
        self.port = port
        self.started = asyncio.Event()
        self.restarts = 0
        self.failure = ""
        self._home = home
        self._ip = ip
        self._supernode = supernode
        self._limits = ["--uploadlimit", str(upload_rate), "--sourcelimit", str(source_rate), *cache.flags()]
        self._limits += ["--linkrate", link_rate] if link_rate else []
        self._verbose = verbose
        self._on_ended = on_ended
        self._process: asyncio.subprocess.Process | None = None
        self._closing = False
        self._task = background.spawn(self._keep(), "seed process")

    @property
    def pid(self) -> int | None:
        """The seed's process id."""
        return self._process.pid if self._process is not None else None

    async def close(self) -> None:
        """End the seed."""
        self._closing = True
        self._task.cancel()
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), _STOP_S)
        except TimeoutError:
            process.kill()
            await process.wait()

    async def _keep(self) -> None:
        pause = _FIRST_PAUSE_S
        while not self._closing:
            try:
                await self._start()
                pause = _FIRST_PAUSE_S
                assert self._process is not None
                code = await self._process.wait()
                _log.error("the seed has ended with %s: starting it again", code)
            except (OSError, RuntimeError, ValueError) as error:
                self.failure = str(error)
                _log.error("the seed cannot start: %s", error)
                self.started.set()
            self._on_ended()
            self.restarts += 1
            await asyncio.sleep(pause)
            pause = min(_LONGEST_PAUSE_S, pause * 2)

    async def _start(self) -> None:
        """Raises RuntimeError with what it said when it does not start."""
        command = [sys.executable, "-m", "worker_peer.cli", "server", "--seed"]
        command += ["--home", str(self._home), "--ip", self._ip, "--port", str(self.port), "--node", self._supernode]
        command += ["--alivetime", "0s", "--expiretime", "0s", *self._limits]
        if self._verbose:
            command.append("--verbose")
        (self._home / "logs").mkdir(parents=True, exist_ok=True)
        with (self._home / "logs" / "dfseed.out").open("wb") as errors:
            self._process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                preexec_fn=partial(_end_with, os.getpid()),
            )
        assert self._process.stdout is not None
        try:
            line = await asyncio.wait_for(self._process.stdout.readline(), _START_S)
        except TimeoutError:
            self._process.kill()
            line = b""
        if b"server port is" not in line:
            await self._process.wait()
            said = (self._home / "logs" / "dfseed.out").read_text(errors="replace").strip().splitlines()
            raise RuntimeError(said[-1] if said else "it said nothing")
        self.port = int(line.rsplit(b" ", 1)[1])
        self.failure = ""
        self.started.set()
        _log.info("the seed serves pieces on port %d, process %d", self.port, self._process.pid)


def _end_with(parent: int) -> None:
    """In the child: end when the supernode ends, however it ends. Otherwise a killed one would leave its seed, and the
    next one could not have its port (prctl(2), PR_SET_PDEATHSIG)."""
    CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it has ended already (1 is no sign of that: in a container the supernode is 1)
        os._exit(1)
