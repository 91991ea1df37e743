"""Playbook: a scheduler's test as a script of what happened when (`>> At`) and what it was to decide (`<<` effects).

    (Playbook(scheduler())
        >> At(0.0, greeted("a"))      << Noticed(Notice.PEER_JOINED)
        >> At(0.1, said("a", Alive())) << Tell(peer="a", message=Alive())
    ).check()

Messages must be said exactly, in order and with nothing besides. Notes are compared only where a step names one.
"""

from dataclasses import dataclass, field
from typing import Self

from broker.core.effects import Effect, Forget, Note, Notice, Tell
from broker.core.events import Event
from broker.core.scheduler import Scheduler


@dataclass(frozen=True, slots=True)
class At:
    """Something happens, at a time."""

    now: float
    event: Event


@dataclass(frozen=True, slots=True)
class Noticed:
    """A Note of this kind is among the step's effects; of this peer or task, and with these words, where they are given."""

    notice: Notice
    peer: str = ""
    task: str = ""
    text: str = ""

    def names(self, note: Note) -> bool:
        """Whether it is that one."""
        return (
            note.notice is self.notice
            and self.peer in ("", note.peer)
            and self.task in ("", note.task)
            and self.text in note.text
        )


@dataclass(slots=True)
class _Step:
    at: At
    said: list[Tell | Forget] = field(default_factory=list)
    noticed: list[Noticed] = field(default_factory=list)


class Playbook:
    """Collects the script; `check` plays it."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self._steps: list[_Step] = []
        self._story: list[str] = []

    def __rshift__(self, at: At) -> Self:
        self._steps.append(_Step(at))
        return self

    def __lshift__(self, effect: Tell | Forget | Noticed) -> Self:
        step = self._steps[-1]
        if isinstance(effect, Noticed):
            step.noticed.append(effect)
        else:
            step.said.append(effect)
        return self

    def check(self) -> Scheduler:
        """Play the steps that have not been played. Raises AssertionError with the story so far. Returns the scheduler."""
        steps, self._steps = self._steps, []
        for step in steps:
            effects = self.scheduler.handle(step.at.event, step.at.now)
            self._story.append(f"at {step.at.now:g}: {step.at.event}")
            self._story.extend(f"    {effect}" for effect in effects)
            self._compare(step, effects)
            self.scheduler.validate()
        return self.scheduler

    def _compare(self, step: _Step, effects: list[Effect]) -> None:
        story = "\n".join(self._story)
        said = [effect for effect in effects if isinstance(effect, Tell | Forget)]
        assert said == step.said, f"{story}\nbut it was to be\n" + "\n".join(f"    {effect}" for effect in step.said)
        notes = [effect for effect in effects if isinstance(effect, Note)]
        for noticed in step.noticed:
            assert any(noticed.names(note) for note in notes), f"{story}\nwithout {noticed}"
