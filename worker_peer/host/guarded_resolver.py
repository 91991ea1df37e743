"""Names are resolved once, looked at, and connected to: a second look-up could say something else. Driver on aiohttp."""

from collections.abc import Callable
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult


class GuardedResolver(AbstractResolver):
    """For a connector of its own: connections made under one check must not be used under another. It is not asked about a
    host that is an address already: whoever connects checks that himself (AllowedHosts.check_literal)."""

    def __init__(self, check: Callable[[str, int, list[str]], None]) -> None:
        """`check(host, port, addresses)` raises an OSError where these may not be connected to."""
        self._inner = aiohttp.ThreadedResolver()
        self._check = check

    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[ResolveResult]:
        """Raises what the check raises, and OSError for a name that has no address."""
        found = await self._inner.resolve(host, port, family)
        self._check(host, port, [each["host"] for each in found])
        return found

    async def close(self) -> None:
        """Nothing is open."""
        await self._inner.close()
