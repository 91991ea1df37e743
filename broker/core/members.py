"""Members of a task and what they claim to have: a claim counts piece by piece, once the seed has told the pieces' digests."""

from broker.core.state import PeerRecord, TaskRecord
from broker.core.telling import bits_of


def join(task: TaskRecord, record: PeerRecord, now: float) -> None:
    """Let a member take part: pieces whose digests are known count, the rest of its claim waits for them."""
    assert task.matcher is not None
    assert task.layout is not None
    claim = task.members[record.peer]
    if (claim.length, claim.piece_length) != (task.layout.length, task.layout.piece_length):
        claim.bits = 0  # pieces of another content, or cut in another way
    known = bits_of(task.digests)
    task.matcher.join(
        record.peer,
        now,
        have=claim.bits & known,
        upload_rate=float(record.upload_rate) if record.upload_rate else None,
        zone=record.zone,
        wants=record.peer not in task.serves_only,
    )
    claim.bits &= ~known


def prove_claims(task: TaskRecord, fresh: dict[int, bytes], now: float) -> None:
    """The digests of these pieces are known from now on: who claimed to have them has them."""
    assert task.matcher is not None
    bits = bits_of(fresh)
    for peer, claim in task.members.items():
        if claim.bits & bits:
            claimed = [piece for piece in fresh if claim.bits >> piece & 1]
            if peer in task.former_holders:
                # It has what the content was: the same piece, if its digests are the same.
                claimed = [piece for piece in claimed if task.former.get(piece) == fresh[piece]]
            task.matcher.done(peer, [(0, piece, 0.0) for piece in claimed], now)
            claim.bits &= ~bits
