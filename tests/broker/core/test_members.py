"""What a member claims counts only of the very same cut, and only once a piece's digests are known."""

import itertools
import random

import pytest

from broker.core.matcher import Matcher
from broker.core.members import join, prove_claims
from broker.core.state import Claim, TaskRecord
from broker.core.telling import peer_greeted
from tests.support.broker_words import PIECE, TASK, block_digests, hello, register
from wire.messages import TaskState
from wire.pieces import PieceLayout


def task_of(pieces: int) -> TaskRecord:
    record = TaskRecord(task=TASK, spec=register(), born_at=0.0, used_at=0.0, state=TaskState.CACHING)
    record.layout = PieceLayout(pieces * PIECE, PIECE, PIECE)
    record.matcher = Matcher(pieces, PIECE, rng=random.Random(1), nominal_rate=1e6, lease_numbers=itertools.count(1))
    return record


@pytest.mark.parametrize(("length", "piece_length"), [(3 * PIECE, PIECE), (4 * PIECE, 2 * PIECE), (None, PIECE)])
def test_a_claim_of_another_cut_is_nothing(length: int | None, piece_length: int) -> None:
    task = task_of(4)
    task.digests = {0: block_digests(0)}
    task.members["a"] = Claim(0b1111, length, piece_length)
    join(task, peer_greeted(hello("a"), 0.0), 0.0)
    prove_claims(task, {1: block_digests(1)}, 0.0)
    assert task.members["a"].bits == 0
    assert task.matcher is not None
    assert task.matcher.complete_peers == 0


@pytest.mark.parametrize("wants", [True, False])
def test_a_claim_counts_as_its_digests_become_known(wants: bool) -> None:
    task = task_of(2)
    task.digests = {0: block_digests(0)}
    task.members["a"] = Claim(0b11, 2 * PIECE, PIECE)
    if not wants:
        task.serves_only.add("a")
    join(task, peer_greeted(hello("a", upload_rate=1000), 0.0), 0.0)
    assert task.members["a"].bits == 0b10
    assert task.matcher is not None
    assert task.matcher.complete_peers == 0
    prove_claims(task, {1: block_digests(1)}, 0.0)
    assert task.members["a"].bits == 0
    assert task.matcher.complete_peers == 1
    prove_claims(task, {1: block_digests(1)}, 0.0)
    assert task.matcher.complete_peers == 1
