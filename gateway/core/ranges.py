"""Range requests against a content of known length (RFC 9110 §14): which parts, and how the answer is built. Pure.

Where the RFC leaves a choice, the choice is nginx's: a client then sees the same from the swarm as from most sources.
"""

import re
from dataclasses import dataclass
from typing import Final, assert_never

from gateway.core.headers import Headers

# RFC 9110 §14.1.2: `first-[last]` or `-suffix`, with the blanks that nginx lets pass. Forty digits are more bytes than there are;
# more are no number here.
_SPEC: Final = re.compile(r" *(?:([0-9]{1,40}) *- *([0-9]{1,40})?|-([0-9]{1,40})) *")
#: More ranges in one request are nobody's honest wish (CVE-2011-3192); the whole content is a right answer to them.
_MAX_SPECS: Final = 256


@dataclass(frozen=True, slots=True)
class Whole:
    """Answer 200 with everything."""


@dataclass(frozen=True, slots=True)
class Part:
    """The bytes from `start` up to, not including, `stop`."""

    start: int
    stop: int

    def content_range(self, length: int) -> str:
        """The value of Content-Range (RFC 9110 §14.4)."""
        return f"bytes {self.start}-{self.stop - 1}/{length}"


@dataclass(frozen=True, slots=True)
class Several:
    """Answer 206 with at least two parts, as multipart/byteranges, in the order that was asked for."""

    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Unsatisfiable:
    """Answer 416: no byte of the content is asked for."""

    def content_range(self, length: int) -> str:
        """The value of Content-Range (RFC 9110 §14.4)."""
        return f"bytes */{length}"


def resolve(value: str | None, *, length: int) -> Whole | Part | Several | Unsatisfiable:
    """What to answer to a request whose Range is `value`, for a content of `length` bytes. If-Range is judged elsewhere.

    A unit other than bytes is ignored (§14.2). A malformed set of ranges is refused, parts beyond the end are left out,
    and parts that are more than the whole together are answered by the whole: §14.2 allows all three.
    """
    if value is None or len(value) < 7 or value[:6].lower() != "bytes=":
        return Whole()
    specs = value[6:].split(",")
    if len(specs) > _MAX_SPECS:
        return Whole()
    parts = []
    for spec in specs:
        found = _SPEC.fullmatch(spec)
        if found is None:
            return Unsatisfiable()
        part = _one(found, length)
        if part.start < part.stop:
            parts.append(part)
        elif part.start == 0:
            return Whole()
    if not parts:
        return Unsatisfiable()
    if sum(part.stop - part.start for part in parts) > length:
        return Whole()
    return parts[0] if len(parts) == 1 else Several(tuple(parts))


def _one(found: re.Match[str], length: int) -> Part:
    """One range; empty where no byte is asked for."""
    first, last, suffix = found.groups()
    if suffix is not None:
        return Part(length - min(int(suffix), length), length)
    return Part(int(first), length if last is None else min(int(last) + 1, length))


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeAnswer:
    """An answer's status, its fields but for those of the content itself, and its body: literal bytes and parts in turn."""

    status: int
    reason: str
    headers: Headers
    body: tuple[bytes | Part, ...]

    @property
    def size(self) -> int:
        """Bytes of the body."""
        return sum(len(each) if isinstance(each, bytes) else each.stop - each.start for each in self.body)


def answer_for(answer: Whole | Part | Several, *, length: int, content_type: str, boundary: str) -> RangeAnswer:
    """How an answer is put together (§15.3.7). `boundary`: bytes that separate parts, unlikely to be in the content."""
    typed: Headers = (("Content-Type", content_type),)
    match answer:
        case Whole():
            return RangeAnswer(status=200, reason="OK", headers=typed, body=(Part(0, length),) if length else ())
        case Part():
            told = (*typed, ("Content-Range", answer.content_range(length)))
            return RangeAnswer(status=206, reason="Partial Content", headers=told, body=(answer,))
        case Several():
            body: list[bytes | Part] = []
            for part in answer.parts:
                head = f"\r\n--{boundary}\r\nContent-Type: {content_type}\r\nContent-Range: {part.content_range(length)}\r\n\r\n"
                body += [head.encode("latin-1"), part]
            body.append(f"\r\n--{boundary}--\r\n".encode("latin-1"))
            several: Headers = (("Content-Type", f"multipart/byteranges; boundary={boundary}"),)
            return RangeAnswer(status=206, reason="Partial Content", headers=several, body=tuple(body))
        case _:
            assert_never(answer)
