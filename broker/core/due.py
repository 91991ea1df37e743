"""Which tasks have something to do when time passes: a heap, so that ten thousand idle tasks cost nothing.

Pure. A task's own `due_at` is what counts; an entry that differs from it means nothing any more.
"""

from heapq import heappop, heappush
from math import inf

from broker.core.state import TaskRecord


class DueTasks:
    """Ticks that matchers want."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, str]] = []

    def note(self, task: TaskRecord) -> None:
        """Note when the task's matcher wants its tick. After everything that the matcher is told."""
        due = task.matcher.next_tick() if task.matcher is not None else None
        if due is not None and due < task.due_at:
            task.due_at = due
            heappush(self._heap, (due, task.task))

    def first(self) -> float | None:
        """When the first one may be due, or a moment before; None: nobody waits for time to pass."""
        return self._heap[0][0] if self._heap else None

    def take(self, tasks: dict[str, TaskRecord], now: float) -> list[TaskRecord]:
        """The tasks whose matchers are due now; each is to be noted again after its tick."""
        taken = []
        while self._heap and self._heap[0][0] <= now:
            due, name = heappop(self._heap)
            task = tasks.get(name)
            if task is None or task.due_at != due:
                continue
            task.due_at = inf
            wanted = task.matcher.next_tick() if task.matcher is not None else None
            if wanted is not None and wanted <= now:
                taken.append(task)
            else:
                self.note(task)  # meanwhile it has become later
        return taken

    def validate(self, tasks: dict[str, TaskRecord]) -> None:
        """Raise AssertionError where a tick would be missed."""
        noted = set(self._heap)
        for task in tasks.values():
            wanted = task.matcher.next_tick() if task.matcher is not None else None
            assert wanted is None or task.due_at <= wanted, (task.task, task.due_at, wanted)
            assert task.due_at == inf or (task.due_at, task.task) in noted, task.task
