"""A job's record: its verdict, its progress, and its way to disk and back."""

import json

import pytest

from broker.core.preheat_records import SEED_HOST, Host, Job, JobState, Row, RowState, from_document
from tests.support.preheat_world import SIZE, blob, document_of, spec, task_id


def job(*hosts: str) -> Job:
    made = Job(number=7, spec=spec(scope="all"), created_at=1.5, state=JobState.RUNNING, started_at=2.5)
    made.blobs = {each.task: each for each in (blob(1), blob(2))}
    made.hosts = {name: Host(peer=name, name=f"host-{name}", ip="10.0.0.1") for name in hosts}
    for task in made.blobs:
        for host in (SEED_HOST, *hosts):
            made.add_row(host, task, Row(length=SIZE))
    return made


def closed(made: Job, **states: RowState) -> Job:
    """Every row DONE, but for those of a host that are named."""
    for host, task in list(made.rows):
        state = states.get(host, RowState.DONE) if task == task_id(2) else RowState.DONE
        made.close_row(host, task, state, "" if state is RowState.DONE else f"why {host}")
        if state is RowState.DONE:
            made.rows[host, task].verified = SIZE
    return made


def test_the_verdict() -> None:
    assert closed(job("a", "b")).verdict() == (JobState.SUCCESS, "")
    state, why = closed(job("a", "b"), b=RowState.LOST).verdict()
    assert state is JobState.PARTIAL
    assert why == f"1 of 2 hosts lack something; host-b, {blob(2).url}: why b"
    state, why = closed(job("a"), seed=RowState.FAILED, a=RowState.FAILED).verdict()
    assert state is JobState.FAILED
    assert why == f"1 of 2 blobs cannot be had; {blob(2).url}: why seed"


def test_rows_close_once_and_settle_the_job() -> None:
    made = job("a")
    assert made.is_settled is False
    assert [host for host, _ in made.rows_of(task_id(1))] == [SEED_HOST, "a"]
    assert made.open_rows == {task_id(1): 2, task_id(2): 2}
    assert closed(made).is_settled
    assert not made.open_rows
    assert made.open_row("a", task_id(1)) is None
    assert made.open_row("nobody", task_id(1)) is None
    with pytest.raises(AssertionError):
        made.close_row("a", task_id(1), RowState.DONE)
    assert not Job(number=1, spec=spec(), created_at=0.0).is_settled, "nothing is not everything"


def test_progress() -> None:
    made = job("a")
    assert made.progress == (0, 4 * SIZE)
    made.rows[SEED_HOST, task_id(1)].verified = 10
    assert made.progress == (10, 4 * SIZE)
    assert Job(number=1, spec=spec(), created_at=0.0).progress == (0, None)


def test_a_record_comes_back_as_it_was() -> None:
    made = closed(job("a"), a=RowState.LOST)
    made.rows["a", task_id(1)].received = (1, 2)
    text = json.dumps(document_of(made))
    assert from_document(json.loads(text)) == made
    half = job("a")
    assert from_document(json.loads(json.dumps(document_of(half)))) == half


def test_what_is_no_record() -> None:
    told = document_of(job("a"))
    for wrong in ({}, {**told, "state": "none"}, {**told, "rows": [["x", task_id(1), "done", 0, 0, [], ""]]}):
        with pytest.raises((KeyError, ValueError)):
            from_document(wrong)
    with pytest.raises(ValueError, match="a row of nothing"):
        from_document({**told, "rows": [[SEED_HOST, task_id(9), "done", 0, 0, [], ""]]})
