"""Range requests against a content of known length (RFC 9110 §14): which part, and how the answer names it. Pure."""

import re
from dataclasses import dataclass
from typing import Final

# RFC 9110 §14.1.2: `first-[last]` or `-suffix`. Forty digits are more bytes than there are; more are no number here.
_SPEC: Final = re.compile(r"([0-9]{1,40})-([0-9]{1,40})?|-([0-9]{1,40})")
#: More ranges in one request are nobody's honest wish (CVE-2011-3192); the whole content is a right answer to them.
_MAX_SPECS: Final = 64


@dataclass(frozen=True, slots=True)
class Whole:
    """Answer 200 with everything."""


@dataclass(frozen=True, slots=True)
class Part:
    """Answer 206 with the bytes from `start` up to, not including, `stop`."""

    start: int
    stop: int

    def content_range(self, length: int) -> str:
        """The value of Content-Range (RFC 9110 §14.4)."""
        return f"bytes {self.start}-{self.stop - 1}/{length}"


@dataclass(frozen=True, slots=True)
class Unsatisfiable:
    """Answer 416: no byte of the content is asked for."""

    def content_range(self, length: int) -> str:
        """The value of Content-Range (RFC 9110 §14.4)."""
        return f"bytes */{length}"


def resolve(
    value: str | None, *, length: int, if_range: str | None = None, etag: str | None = None
) -> Whole | Part | Unsatisfiable:
    """What to answer to a request whose Range is `value`, for a content of `length` bytes with the entity tag `etag`.

    A unit other than bytes, or a value that is no range, is ignored (§14.2 allows it). Several ranges are answered
    whole. If-Range that does not name exactly this content makes Range void (§13.1.5): a date cannot, a weak tag may not.
    """
    if value is None or (if_range is not None and (etag is None or if_range.strip() != etag)):
        return Whole()
    unit, equals, listed = value.partition("=")
    if not equals or unit.strip().lower() != "bytes":
        return Whole()
    specs = [spec for part in listed.split(",") if (spec := part.strip(" \t"))]
    found = [_SPEC.fullmatch(spec) for spec in specs[: _MAX_SPECS + 1]]
    if not found or len(found) > _MAX_SPECS:
        return Whole()
    answers = []
    for match in found:
        if match is None or (match[2] is not None and int(match[2]) < int(match[1])):
            return Whole()
        answers.append(_one(match, length))
    if all(isinstance(answer, Unsatisfiable) for answer in answers):
        return Unsatisfiable()
    return answers[0] if len(answers) == 1 else Whole()


def _one(match: re.Match[str], length: int) -> Whole | Part | Unsatisfiable:
    first, last, suffix = match.groups()
    if suffix is not None:
        size = min(int(suffix), length)
        if int(suffix) == 0:
            return Unsatisfiable()
        # The last n bytes of an empty content are satisfiable (§14.1.2), but no Content-Range can name them.
        return Part(length - size, length) if size else Whole()
    start = int(first)
    if start >= length:
        return Unsatisfiable()
    return Part(start, length if last is None else min(int(last) + 1, length))
