"""Asks whether a registry has what it says yes to: the supernode, from where the swarm has it; else the registry for bytes.

Driver of core/possession.py. The supernode's word costs one small request in the swarm for each content that this process
gives out; the registry is asked only where the swarm knows the content from another one.
"""

import asyncio
import json
import logging
import re
import secrets
from typing import Any, Final

from gateway.core.headers import Headers, first, to_source
from gateway.core.possession import Possessions, registry_of, sample_of
from gateway.core.rules import Decision, Trust
from gateway.upstream import Upstream, UpstreamBroke, UpstreamFailed
from wire.ids import url_without_secrets
from worker_peer.api import Content, DownloadFailed, DownloadRequest
from worker_peer.host.background import Background
from worker_peer.host.clock import Clock

#: A supernode answers within milliseconds; a client that waits for one that is gone has other waits before it.
_WORD_S: Final = 0.2
#: After a silence none is asked for so long, and for twice as long after each further one.
_SILENT_S: Final = 5.0
_MOST_SILENT_S: Final = 300.0
#: For the bytes, both from the swarm and from the registry.
_SHOW_S: Final = 5.0
_MAX_WORD_BYTES: Final = 64 << 10
#: A registry that answers without ranges is read so far at most.
_MAX_READ_BYTES: Final = 4 << 20
_CONTENT_RANGE: Final = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})")

_LOG = logging.getLogger("dfdaemon")


class Possession:
    """What is known of registries and contents, for one gateway."""

    def __init__(self, nodes: tuple[str, ...], upstream: Upstream, clock: Clock, background: Background) -> None:
        """`nodes`: the supernodes, `host:port`."""
        self._nodes = tuple(dict.fromkeys(nodes))
        self._upstream = upstream
        self._clock = clock
        self._background = background
        self._known = Possessions()
        self._silent_until = 0.0
        self._silent_s = _SILENT_S

    def is_settled(self, decision: Decision, wanted: DownloadRequest) -> bool:
        """Whether nobody need be asked: the registry is known to have the content, or it is its URL's alone, no digest's."""
        digest = wanted.wanted_digest
        return digest is None or self._known.has(registry_of(decision.url), digest)

    async def is_doubtful(self, decision: Decision, wanted: DownloadRequest) -> bool:
        """Whether the registry must show that it has the content. To be asked before the swarm is: a request makes a task."""
        digest, registry = wanted.wanted_digest, registry_of(decision.url)
        if digest is None or self.is_settled(decision, wanted):
            return False
        told = await self._told(wanted.task)
        for each in told:
            place = registry_of(str(each.get("url")))
            if each.get("state") == "cached":
                self._known.shown(place, digest)
        if self._known.has(registry, digest):
            return False
        is_read = any(
            each.get("state") in ("cached", "caching") and registry_of(str(each.get("url"))) != registry for each in told
        )
        return is_read or self._known.is_anothers(registry, digest)

    async def _told(self, task: str) -> list[dict[str, Any]]:
        """What the supernodes know of a task."""
        if self._silent_until > self._clock.now():
            return []
        asked = [self._background.spawn(self._word(node, task), "who has it") for node in self._nodes]
        found = await asyncio.gather(*(each for each in asked if each is not None))
        if any(each is not None for each in found):
            self._silent_s = _SILENT_S
        elif self._clock.now() >= self._silent_until:
            self._silent_until = self._clock.now() + self._silent_s
            self._silent_s = min(2 * self._silent_s, _MOST_SILENT_S)
        return [each for each in found if each]

    async def _word(self, node: str, task: str) -> dict[str, Any] | None:
        """None: no answer."""
        try:
            async with asyncio.timeout(_WORD_S):
                async with self._upstream.request("GET", f"http://{node}/tasks/{task}", (("Host", node),), Trust()) as response:
                    body = b""
                    async for chunk in response.chunks():
                        body += chunk
                        if len(body) > _MAX_WORD_BYTES:
                            return None
                    found = json.loads(body) if response.status == 200 else {}
                    return found if isinstance(found, dict) else {}
        except (UpstreamFailed, UpstreamBroke, TimeoutError, ValueError):
            return None

    async def is_shown(self, decision: Decision, headers: Headers, content: Content, digest: str) -> bool:
        """Have the registry show some of a content that is open, by the client's own request header."""
        registry = registry_of(decision.url)
        if not self._known.may_show(digest):
            return False
        start, stop = sample_of(content.length, secrets.randbelow, is_here=content.received.total >= content.length)
        if start == stop:
            return True
        try:
            async with asyncio.timeout(_SHOW_S):
                mine, shown = await asyncio.gather(
                    _read(content, start, stop), self._shown(decision, headers, start, stop, content.length)
                )
        except (TimeoutError, UpstreamFailed, UpstreamBroke, DownloadFailed):
            return False
        if shown is None:
            return False
        if shown != mine:
            self._known.was_wrong(digest)
            _LOG.warning(
                "%s is not what the swarm has by its digest: it is not given out for it", url_without_secrets(decision.url)
            )
            return False
        self._known.shown(registry, digest)
        return True

    async def _shown(self, decision: Decision, headers: Headers, start: int, stop: int, length: int) -> bytes | None:
        """The registry's bytes of a part; None: it gives none."""
        asked = (*to_source(headers), ("Range", f"bytes={start}-{stop - 1}"))
        async with self._upstream.following("GET", decision.url, asked, decision.trust) as response:
            if response.status not in (200, 206) or (first(response.headers, "Content-Encoding") or "identity") != "identity":
                return None
            skip = start
            if response.status == 206:
                told = _CONTENT_RANGE.fullmatch(first(response.headers, "Content-Range") or "")
                if told is None or tuple(map(int, told.groups())) != (start, stop - 1, length):
                    return None
                skip = 0
            elif stop > _MAX_READ_BYTES:
                return None
            got = bytearray()
            async for chunk in response.chunks():
                got += chunk
                if len(got) >= skip + stop - start:
                    break
            return bytes(got[skip : skip + stop - start])


async def _read(content: Content, start: int, stop: int) -> bytes:
    return b"".join([bytes(chunk) async for chunk in content.read(start, stop)])
