"""Tasks that a preheat wants: what is said of them, and what may be said to whom. From the scheduler's records to its effects."""

from typing import Final

from broker.core.effects import PeerWarmed, TaskMoved, Tell
from broker.core.state import State, TaskRecord
from wire.errors import ErrorCode
from wire.messages import TaskState, Warm, Warmed
from wire.version import WARM_MINOR

#: CACHING is said again no sooner than after so many seconds.
_PROGRESS_S: Final = 1.0


def task_moved(task: TaskRecord) -> TaskMoved:
    """What a task is now."""
    layout = task.layout
    # Without a seed nothing of it can be had from here, whatever was known of it.
    lost = task.seed is None and task.state is not TaskState.DEAD
    return TaskMoved(
        task=task.task,
        state=TaskState.PROBING if lost else task.state,
        seed=task.seed or "",
        length=layout.length if layout is not None else None,
        pieces_cached=task.pieces_cached if layout is not None else 0,
        piece_count=layout.piece_count if layout is not None else 0,
        digest=task.digest,
        code=task.code,
        status=task.status,
        message=task.message,
    )


def task_gone(task: str, code: ErrorCode, message: str) -> TaskMoved:
    """A task that is not known, or is known no longer."""
    return TaskMoved(task=task, state=TaskState.DEAD, code=code, message=message)


def lacks_seed(task: TaskRecord, *, peers_do: bool) -> bool:
    """Whether a seed is needed by somebody: a preheat, or a peer that lacks a part which no peer gives it.

    `peers_do`: peers that have all of it count as giving it.
    """
    matcher = task.matcher
    if matcher is None:
        return task.is_asked_for
    return task.is_wanted or (matcher.is_wanted and not (peers_do and matcher.complete_peers > 0))


def says_progress(task: TaskRecord, now: float) -> bool:
    """Whether it is time to say again how much of it is here."""
    return task.is_wanted and now - task.told_at >= _PROGRESS_S


def warm_told(state: State, peer: str, message: Warm) -> Tell | PeerWarmed:
    """WARM to a peer that is here and understands it; else why not."""
    record = state.peers.get(peer)
    if record is None:
        code, why = ErrorCode.CANCELLED, f"{peer} is not connected to this supernode"
    elif record.minor < WARM_MINOR:
        code = ErrorCode.UNEXPECTED_KIND
        why = f"{peer} speaks protocol 1.{record.minor}, too old to be told to preheat (from 1.{WARM_MINOR} on): update it"
    else:
        return Tell(peer=peer, message=message)
    return PeerWarmed(peer=peer, message=Warmed(task=message.task, code=code, message=why))
