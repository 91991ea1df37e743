"""Whose turn it is while a limit holds downloads back: the one that has had the least of it so far.

Pure. Counts bytes since a task began; one that comes later begins where the one that has had least is, so that it gets
its share from now on and not what the others have had already.
"""


class Turns:
    """Bytes that each task has had."""

    def __init__(self) -> None:
        self._had: dict[str, int] = {}

    def began(self, task: str) -> None:
        """A task wants its share from now on."""
        if task not in self._had:
            self._had[task] = min(self._had.values(), default=0)

    def took(self, task: str, size: int) -> None:
        """A task has had so many bytes."""
        self._had[task] = self.had(task) + size

    def had(self, task: str) -> int:
        """What the task has had: the less, the sooner is its turn."""
        return self._had.get(task, 0)

    def ended(self, task: str) -> None:
        """A task wants nothing any more."""
        self._had.pop(task, None)
