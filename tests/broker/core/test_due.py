"""Ticks that matchers want: the earliest is known at once, none is missed, and what has gone costs nothing."""

from math import inf

from broker.core.due import DueTasks
from tests.support.broker_words import greeted, register, said, scheduler, seed_greeted, seeded
from wire.messages import Alive

ONE, TWO = "1" * 64, "2" * 64


def test_nothing_is_due_where_nobody_waits() -> None:
    due = DueTasks()
    assert due.first() is None
    assert due.take({}, inf) == []
    due.validate({})


def test_a_task_that_waits_is_due_until_it_is_taken_and_then_when_it_is_noted_again() -> None:
    made = scheduler()
    made.handle(seed_greeted(), 0.0)
    for number, task in enumerate((ONE, TWO)):
        for peer in ("a", "b"):
            made.handle(greeted(f"{peer}{number}"), 0.0)
            made.handle(said(f"{peer}{number}", register(task, url=f"http://h/{number}")), 0.0)
        made.handle(said("cdnnode:s", seeded(0, of=4, task=task)), 0.1)
    tasks = made.state.tasks
    for record in tasks.values():
        record.due_at = inf
    due = DueTasks()
    for record in tasks.values():
        due.note(record)
        due.note(record)
    first = due.first()
    assert first is not None
    assert first == min(record.due_at for record in tasks.values())
    due.validate(tasks)
    assert due.take(tasks, first - 0.001) == []
    assert {record.task for record in due.take(tasks, inf)} == {ONE, TWO}
    assert due.first() is None
    due.note(tasks[ONE])
    assert due.take({TWO: tasks[TWO]}, inf) == [], "that task has been forgotten"


def test_ten_thousand_idle_tasks_wait_for_nothing() -> None:
    made = scheduler()
    made.handle(seed_greeted(), 0.0)
    made.handle(greeted("a"), 0.0)
    for number in range(10_000):
        made.handle(said("a", register(f"{number:064x}", url=f"http://h/{number}")), 0.0)
    made.handle(said("a", Alive()), 1.0)
    assert made.next_deadline() == 0.5, "only the housekeeping"
