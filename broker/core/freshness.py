"""Whether what is cached of a URL is still the source's: asked of it, by the seed, before somebody new is given it.

A content under its digest is always fresh. For another one the task begins again: the seed asks the source by ETag or date,
once for all who ask meanwhile, and tells the same pieces, or others. Who has all of the content stays a parent for each piece
whose digests are what they were.
"""

from broker.core.leases import LeaseBook
from broker.core.state import Claim, TaskRecord
from wire.messages import Register, TaskState


def is_stale(task: TaskRecord, message: Register, fresh_s: float, now: float) -> bool:
    """Whether the source is to be asked before this one is told that the content is here.

    Not while others are in the middle of fetching it: who begins beside them shares what they get.
    """
    if task.state is not TaskState.CACHED or task.spec.digest is not None or message.serves_only or task.is_wanted:
        return False
    return now - task.checked_at > fresh_s and task.matcher is not None and not task.matcher.is_wanted


def check_again(task: TaskRecord, message: Register, leases: LeaseBook) -> None:
    """The task begins again, with what this asker may send to the source."""
    assert task.matcher is not None
    assert task.layout is not None
    full = (1 << task.layout.piece_count) - 1
    for peer in task.members:
        leases.end_of_member(peer, task.task)
        bits = full if task.matcher.has_all(peer) else 0
        task.members[peer] = Claim(bits, task.layout.length, task.layout.piece_length)
        task.serves_only.add(peer)
    if task.seed is not None:
        leases.end_of_parent(task.seed, task.task)
    task.former, task.former_holders = dict(task.digests), set(task.members)
    task.given.clear()
    task.revive(message)
