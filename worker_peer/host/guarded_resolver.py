"""Names are resolved once, looked at, and connected to: a second look-up could say something else. Driver on aiohttp."""

from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from worker_peer.host.allowed_hosts import AllowedHosts


class GuardedResolver(AbstractResolver):
    """For a connector of its own: connections made under one list must not be used under another. It is not asked about a
    host that is an address already: see AllowedHosts.check_literal."""

    def __init__(self, allowed: AllowedHosts) -> None:
        self._inner = aiohttp.ThreadedResolver()
        self._allowed = allowed

    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[ResolveResult]:
        """Raises NotAllowed, an OSError, for a host that may not be asked."""
        found = await self._inner.resolve(host, port, family)
        self._allowed.check(host, port, [each["host"] for each in found])
        return found

    async def close(self) -> None:
        """Nothing is open."""
        await self._inner.close()
