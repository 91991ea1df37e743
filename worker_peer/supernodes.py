"""The supernodes that this peer knows: one link each, made when it is first needed, and the choice among them."""

from collections.abc import Callable, Iterator

import zmq

from wire.messages import Hello
from worker_peer.broker_link import BrokerLink, LinkHandlers
from worker_peer.host.background import Background
from worker_peer.host.clock import Clock


class Supernodes:
    """Links by `host:port`."""

    def __init__(
        self,
        *,
        context: zmq.Context[zmq.Socket[bytes]],
        hello: Callable[[], Hello],
        handlers: LinkHandlers,
        clock: Clock,
        background: Background,
    ) -> None:
        self._context = context
        self._hello = hello
        self._handlers = handlers
        self._clock = clock
        self._background = background
        self._links: dict[str, BrokerLink] = {}

    def link(self, node: str) -> BrokerLink:
        """The link to a supernode; a new one starts to connect."""
        if node not in self._links:
            self._links[node] = BrokerLink(
                node,
                context=self._context,
                hello=self._hello,
                handlers=self._handlers,
                clock=self._clock,
                background=self._background,
            )
        return self._links[node]

    def choose(self, nodes: tuple[str, ...]) -> BrokerLink | None:
        """The first that is up; else the first that has not been found dead; else None: none is worth waiting for."""
        links = [self.link(node) for node in nodes]
        for link in links:
            if link.is_up:
                return link
        return next((link for link in links if link.failed_at is None), None)

    def __iter__(self) -> Iterator[BrokerLink]:
        return iter(list(self._links.values()))

    def close(self) -> None:
        """Hang up on all."""
        for link in self._links.values():
            link.close()
