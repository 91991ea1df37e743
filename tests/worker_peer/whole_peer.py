"""A whole peer in this process, with a supernode and parents that do what a test tells them to."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.worker_peer.parts import LOOPBACK, Node, Nodes, Sample, ScriptedParent, sample
from tests.worker_peer.scripted_supernode import ScriptedSupernode
from wire.messages import Hello, Lease, Message, Origin, Register, Report, Task, TaskState
from worker_peer.api import DownloadRequest
from worker_peer.app import PeerProcess, open_peer
from worker_peer.config import PeerConfig
from worker_peer.content import ContentReader

URL = "http://source.example/file?Signature=secret"


def request_for(url: str = URL, **more: Any) -> DownloadRequest:
    """A download whose signature does not count."""
    return DownloadRequest(url=url, filters=("Signature",), **more)


@dataclass(kw_only=True)
class Lab:
    """One peer under test, its supernode, and the exchanges of other peers."""

    peer: PeerProcess
    supernode: ScriptedSupernode
    nodes: Nodes
    folder: Path
    leases: int = 0
    messages: list[Message] = field(default_factory=list)

    async def hears(self, kind: type[Message]) -> Any:
        """The next message of the peer, which must be of this kind."""
        return await self.supernode.hears(kind)

    def tell(self, content: Sample, *, cached: bool = False, **more: Any) -> None:
        """TASK: the content's cut, and with `cached` its digest."""
        layout = content.layout
        self.supernode.say(
            Task(
                task=content.task,
                state=TaskState.CACHED if cached else TaskState.CACHING,
                length=layout.length,
                piece_length=layout.piece_length,
                block_length=layout.block_length,
                digest=content.sha256 if cached else None,
                **more,
            )
        )

    def lease(self, content: Sample, parent: Node | ScriptedParent, *pieces: int) -> int:
        """LEASE. Returns its number."""
        self.leases += 1
        self.supernode.say(
            Lease(
                task=content.task,
                lease=self.leases,
                parent=parent.name,
                endpoint=parent.endpoint,
                hint_endpoint=parent.hint_endpoint,
                pieces=pieces,
                digests=b"".join(content.digests(piece) for piece in pieces),
                until_s=30.0,
            )
        )
        return self.leases

    async def reported(self, count: int) -> list[int]:
        """Pieces that the peer reports as done, until there are so many."""
        done: list[int] = []
        while len(done) < count:
            report = await self.hears(Report)
            assert report.failed == (), report
            done += [piece for _, piece, _ in report.done]
        return sorted(done)

    def parent(self, content: Sample, *pieces: int, name: str = "10.0.0.2-1-1.000") -> Node:
        """Another peer that has these pieces."""
        node = self.nodes.node(name)
        node.share(content, *pieces)
        return node

    async def registered(self) -> Register:
        """The peer has said hello and registered a task."""
        await self.hears(Hello)
        register = await self.hears(Register)
        assert isinstance(register, Register)
        return register

    async def complete(self, content: Sample, request: DownloadRequest, parent: Node) -> ContentReader:
        """Open a content and bring all of it from a parent that has it. The peer has been greeted already."""
        opening = self.peer._background.spawn(self.peer.open(request), "open")
        await self.hears(Register)
        self.tell(content, cached=True)
        self.lease(content, parent, *range(content.layout.piece_count))
        reader = await opening
        await reader.whole()
        await self.reported(content.layout.piece_count)
        return reader


@asynccontextmanager
async def open_lab(nodes: Nodes, folder: Path, **config: Any) -> AsyncIterator[Lab]:
    """A lab with a peer that waits for nothing long."""
    async with ScriptedSupernode(nodes.context) as supernode:
        fixed: dict[str, Any] = {
            "home": folder / "home",
            "supernodes": (supernode.node,),
            "ip": LOOPBACK,
            "control_socket": False,
            "supernode_patience_s": 5.0,
            "back_to_source_after_s": 0.2,
        }
        peer = await open_peer(PeerConfig(**(fixed | config)))
        try:
            yield Lab(peer=peer, supernode=supernode, nodes=nodes, folder=folder)
        finally:
            await peer.close()


#: What the tests want mostly.
REQUEST = request_for()


def url_content(length: int = 5 * 4096 + 100) -> Sample:
    """The content behind the URL."""
    made = sample(length)
    made.task = REQUEST.task
    return made


async def read_all(reader: ContentReader) -> bytes:
    """All of a content, in order."""
    return b"".join([bytes(chunk) async for chunk in reader.read()])


def by_origin(reader: ContentReader, **bytes_by: int) -> bool:
    """Whether the bytes came from where they should."""
    return reader.received.by_origin == {origin: bytes_by.get(origin.name.lower(), 0) for origin in Origin}


async def begin(lab: Lab) -> "asyncio.Task[ContentReader]":
    """Somebody wants the content; the supernode has heard of it."""
    opening = lab.peer._background.spawn(lab.peer.open(REQUEST), "open")
    await lab.hears(Register)
    return opening
