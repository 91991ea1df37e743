"""What a look at a host finds, in words and with the next step: the shape that `dfdaemon doctor` and `setup` speak in."""

from dataclasses import dataclass
from enum import Enum


class Grade(Enum):
    """How bad a finding is."""

    OK = "ok"
    NOTE = "note"
    """Works, and deserves to be known."""
    WRONG = "wrong"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one look found."""

    check: str
    grade: Grade
    text: str
    next_step: str = ""


def ok(check: str, text: str) -> Finding:
    """All is well."""
    return Finding(check=check, grade=Grade.OK, text=text)


def note(check: str, text: str, next_step: str) -> Finding:
    """It works."""
    return Finding(check=check, grade=Grade.NOTE, text=text, next_step=next_step)


def wrong(check: str, text: str, next_step: str) -> Finding:
    """It does not."""
    return Finding(check=check, grade=Grade.WRONG, text=text, next_step=next_step)


def as_text(findings: list[Finding]) -> str:
    """For people: a line each, the next step below it."""
    lines = []
    for finding in findings:
        lines.append(f"{finding.grade.value:5} {finding.check}: {finding.text}")
        if finding.next_step:
            lines.append(f"      -> {finding.next_step}")
    return "\n".join(lines)
