"""Downloads that nobody waits for, and how they make way for those that somebody waits for.

Pure. Two classes of tasks: *live* ones, and those *in the background* (preheating). While a live task has pieces on their
way, the background gets what is left: all that live tasks leave because of their own limits, and else one byte for every 32
of theirs, a block at a time, so that it never stands still. What a link could carry besides nobody knows; a live task
that uses all of it is slowed by 3 % at most.
"""

from typing import Final

#: Bytes of live tasks for which the background may have one.
LIVE_FOR_ONE: Final = 32
#: What live tasks have allowed and nobody has used counts up to so many bytes: an idle background saves up no burst.
_MOST_ALLOWED: Final = 256 << 10


class Priority:
    """Which task may ask now."""

    def __init__(self) -> None:
        self._background: set[str] = set()
        self._live: set[str] = set()
        # Live tasks that could have more if their own limit let them.
        self._limited: set[str] = set()
        self._allowed = 0.0

    def classify(self, task: str, *, background: bool, wants: bool) -> None:
        """The task is of this class from now on; `wants`: it has pieces on their way."""
        if background:
            self._background.add(task)
            self._rest(task)
        else:
            self._background.discard(task)
            if wants:
                self.began(task)

    def is_background(self, task: str) -> bool:
        """Whether nobody waits for the task."""
        return task in self._background

    def forget(self, task: str) -> None:
        """The task is gone."""
        self._background.discard(task)
        self._rest(task)

    def began(self, task: str) -> None:
        """The task has pieces on their way."""
        if task not in self._background:
            self._live.add(task)

    def ended(self, task: str) -> None:
        """The task has none any more."""
        self._rest(task)

    def took(self, task: str, size: int) -> None:
        """So many bytes of the task are asked for."""
        if task in self._live:
            self._limited.discard(task)
            self._allowed = min(_MOST_ALLOWED, self._allowed + size / LIVE_FOR_ONE)
        elif self.is_contended:
            self._allowed -= size

    def limited(self, task: str, *, by_own_limit: bool) -> None:
        """The task would take more. Where its own limit does not let it, what it leaves is free."""
        if by_own_limit and task in self._live:
            self._limited.add(task)
        else:
            self._limited.discard(task)

    @property
    def has_background(self) -> bool:
        """Whether there are tasks in the background."""
        return bool(self._background)

    @property
    def has_live(self) -> bool:
        """Whether somebody waits for pieces that are on their way: then the background asks for one block at a time."""
        return bool(self._live)

    @property
    def is_contended(self) -> bool:
        """Whether a live task would take all that there is."""
        return len(self._limited) < len(self._live)

    @property
    def is_open(self) -> bool:
        """Whether the background may ask now."""
        return not self.is_contended or self._allowed > 0

    def must_wait(self, task: str) -> bool:
        """Whether the task must leave it to others now."""
        return task in self._background and not self.is_open

    def _rest(self, task: str) -> None:
        self._live.discard(task)
        self._limited.discard(task)
        if not self._live:
            self._allowed = 0.0

    def validate(self) -> None:
        """Raise AssertionError where the sets contradict each other."""
        assert not self._live & self._background
        assert self._limited <= self._live
        assert self._live or self._allowed == 0
