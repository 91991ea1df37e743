"""Rules that change while pulls run: on SIGHUP, and when the configuration or a file that it names changes on disk.

A configuration goes in as a way to read it, a table of rules comes out to whoever judges requests; a running request keeps
the table that it began with. What cannot be used is logged with its reason, and the rules stay as they were.
"""

import asyncio
import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

from gateway.config import ConfigError, GatewayConfig
from gateway.core.rules import RuleTable
from worker_peer.host.schema import key_of

#: Between two looks at the files: soon enough for a person, and a few stat calls a second cost nothing.
LOOK_EVERY_S: Final = 1.0
_RELOADED: Final = frozenset({"registry_mirror", "proxies", "images", "hijack_https", "whiteList", "basicAuth"})

_LOG = logging.getLogger("dfdaemon")
#: A file's state; None where there is none.
_Print = tuple[tuple[int, int, int] | None, ...]


class Reloader:
    """Keeps the rules in force as the configuration says."""

    def __init__(
        self,
        *,
        read: Callable[[], GatewayConfig],
        build: Callable[[GatewayConfig], RuleTable],
        apply: Callable[[GatewayConfig, RuleTable], None],
        config: GatewayConfig,
        file: Path | None,
    ) -> None:
        """`read` and `build` block and raise ConfigError. `config`: what the process started with; `file`: where it is from."""
        self._read = read
        self._build = build
        self._apply = apply
        self._started = config
        self._config = config
        self._file = file
        self._seen = self._print()

    async def run(self, hangup: asyncio.Event, *, every_s: float = LOOK_EVERY_S) -> None:
        """Until it is cancelled. `hangup`: set by SIGHUP, cleared here."""
        while True:
            try:
                async with asyncio.timeout(every_s):
                    await hangup.wait()
            except TimeoutError:
                pass
            found = await asyncio.to_thread(self._print)
            if hangup.is_set() or found != self._seen:
                hangup.clear()
                # Seen even when it is refused: the reason is logged once, not every second.
                self._seen = found
                await self.reload()

    async def reload(self) -> bool:
        """Read everything again. False: it was refused, the old rules are in force, and the log says why."""
        try:
            config = await asyncio.to_thread(self._read)
            table = await asyncio.to_thread(self._build, config)
        except ConfigError as error:
            _LOG.error("the new configuration is refused, the old rules stay in force: %s", error)
            return False
        self._apply(config, table)
        self._config = config
        # The new configuration may name other certificates.
        self._seen = await asyncio.to_thread(self._print)
        counts = (len(config.proxies), len(config.images), len(config.hijack_https.hosts))
        _LOG.info("rules reloaded: %d proxies, %d images, %d hijack_https.hosts", *counts)
        for key in needing_restart(self._started, config):
            _LOG.warning("%s has changed: it takes effect when dfdaemon is started again", key)
        return True

    def _print(self) -> _Print:
        config = self._config
        named = [*config.registry_mirror.certs, *(name for host in config.hijack_https.hosts for name in host.certs)]
        hijack = config.hijack_https
        named += [name for name in (hijack.cert, hijack.key) if name]
        files = [*([self._file] if self._file else []), *(Path(name) for name in named)]
        return tuple(_state(path) for path in files)


def _state(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def needing_restart(old: GatewayConfig, new: GatewayConfig) -> list[str]:
    """Keys whose new values are not taken over by a reload."""
    return [
        key_of(field)
        for field in dataclasses.fields(GatewayConfig)
        if key_of(field) not in _RELOADED and getattr(old, field.name) != getattr(new, field.name)
    ]
