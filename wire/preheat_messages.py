"""The messages of preheating: a host is told to have a content, and says how far it is (PROTOCOL.md, control)."""

from dataclasses import dataclass
from typing import ClassVar

from wire.errors import ErrorCode
from wire.fields import Flag, Many, Maybe, OneOf, Text, Whole, wired
from wire.vocabulary import (
    ALLOWED_HOSTS,
    CERTIFICATES,
    DIGEST,
    HEADERS,
    LENGTH,
    NUMBER,
    RANGE,
    SECONDS,
    TASK_ID,
    URL,
    Kind,
    Message,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Warm(Message):
    """S → P, seed too: have this content whole and verified, in the background, and say how far it is in WARMED.

    A peer gets it through the swarm, as any download; what it has already is read again and verified before it counts.
    Idempotent: the same task again renews `keep_s` and has the state told at once.
    """

    KIND: ClassVar[Kind] = Kind.WARM
    task: str = wired(TASK_ID, "the task")
    job: str = wired(Text(64), "the preheat job that wants it, for logs", "")
    url: str = wired(URL, "where the source is")
    headers: tuple[tuple[str, str], ...] = wired(HEADERS, "request headers for the source; secret", ())
    filters: tuple[str, ...] = wired(Many(Text(256), 64), "query keys that do not count", ())
    digest: str | None = wired(Maybe(DIGEST), "the content's digest, when it is known", None)
    md5: str | None = wired(Maybe(Text(64)), "the content's md5", None)
    identifier: str | None = wired(Maybe(Text(1024)), "splits tasks of one URL", None)
    byte_range: tuple[int, int | None] | None = wired(RANGE, "first and last byte of the source", None)
    insecure: bool = wired(Flag(), "do not verify the source's certificate", False)
    certificates: tuple[bytes, ...] = wired(CERTIFICATES, "PEM: the only roots to verify the source by", ())
    keep_s: float = wired(SECONDS, "keep the content for at least so long once it is here; 0: as any other", 0.0)
    rate: int = wired(NUMBER, "bytes per second of all the host's warming together, 0: not limited", 0)
    cancel: bool = wired(Flag(), "stop warming the task: the job was stopped. What came is kept as any other content", False)
    allow: tuple[str, ...] = wired(
        ALLOWED_HOSTS, "for a seed: hosts that may be asked, redirects included; none: all but link-local and the like", ()
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Warmed(Message):
    """P → S: how far the warming of a task is: at its begin, every second while it runs, and at its end."""

    KIND: ClassVar[Kind] = Kind.WARMED
    task: str = wired(TASK_ID, "the task")
    done: bool = wired(Flag(), "every block is here and was verified, in this run or just now", False)
    verified: int = wired(LENGTH, "bytes of verified blocks so far", 0)
    length: int | None = wired(Maybe(LENGTH), "bytes of the content, when known", None)
    digest: str | None = wired(Maybe(DIGEST), "sha256 of the content (with done)", None)
    received: tuple[int, ...] = wired(Many(NUMBER, 8), "bytes of the content by Origin's number", ())
    code: ErrorCode | None = wired(Maybe(OneOf(ErrorCode)), "why it cannot be had: the warming has ended", None)
    status: int = wired(Whole(0, 999), "the source's HTTP status, 0: none", 0)
    message: str = wired(Text(1024), "why it cannot be had, with the next step", "")
