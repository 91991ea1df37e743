"""Small contents: told with their tasks, so that whoever asks has his answer in one round trip, without any parent.

Pure. A member that is given the content takes no part in the swarm before it reports that all of it is here; one that asks
again did not take it, and fetches it like any other. Bounded in bytes: the content that was asked for least lately goes first.
"""

from collections import OrderedDict
from typing import Final

from broker.core.state import Claim, TaskRecord
from broker.core.telling import task_told
from wire.messages import Seeded, Task
from wire.pieces import PieceLayout

#: Bytes of all of them together.
LIMIT_BYTES: Final = 64 << 20


class SmallContents:
    """Contents by task, and who was given them (`TaskRecord.given`)."""

    def __init__(self, limit: int = LIMIT_BYTES) -> None:
        self._limit = limit
        self._bytes = 0
        self._contents: OrderedDict[str, bytes] = OrderedDict()

    def __len__(self) -> int:
        """Bytes of all contents."""
        return self._bytes

    def seeded(self, task: str, layout: PieceLayout, message: Seeded) -> None:
        """The seed's first word on a task: it counts as content only with all of its pieces and the digest of the whole."""
        self.forget(task)
        whole = message.digest is not None and len(message.pieces) == layout.piece_count
        if whole and message.content and len(message.content) == layout.length:
            self._contents[task] = message.content
            self._bytes += len(message.content)
        while self._bytes > self._limit:
            self._bytes -= len(self._contents.popitem(last=False)[1])

    def forget(self, task: str) -> None:
        """The task is no more, or is another content."""
        self._bytes -= len(self._contents.pop(task, b""))

    def give(self, task: TaskRecord, peer: str) -> bool:
        """Whether this member is given the content: not one that has pieces, wants none, or asks a second time."""
        again = peer in task.given
        task.given.discard(peer)
        if again or task.task not in self._contents or peer in task.serves_only or task.members[peer].bits:
            return False
        self._contents.move_to_end(task.task)
        task.given.add(peer)
        return True

    def told(self, task: TaskRecord, peer: str) -> Task:
        """TASK for a member, with the content if it is given that."""
        return task_told(task, self._contents.get(task.task, b"") if peer in task.given else b"")

    @staticmethod
    def taken(task: TaskRecord, peer: str, pieces: set[int]) -> None:
        """A member that was given the content reports pieces of it: it is to join the swarm now, with them."""
        assert task.layout is not None
        task.given.discard(peer)
        bits = sum(1 << piece for piece in pieces)
        task.members[peer] = Claim(bits, task.layout.length, task.layout.piece_length)
