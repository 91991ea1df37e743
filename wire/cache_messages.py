"""The messages about stores: what is in one, what is kept, what goes (PROTOCOL.md, control)."""

from dataclasses import dataclass
from typing import ClassVar

from wire.fields import Flag, Many, Row, Text, Whole, wired
from wire.vocabulary import LENGTH, NUMBER, SECONDS, TASK_ID, Kind, Message

_BY_REASON = Many(Row((Text(32), NUMBER, NUMBER)), 16)


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheList(Message):
    """S → P, seed too: what is in your store? Answered by CACHE_PAGE."""

    KIND: ClassVar[Kind] = Kind.CACHE_LIST
    number: int = wired(NUMBER, "of the question; its answer bears the same")
    after: str = wired(Text(64), "only tasks that follow this one; empty: from the first", "")
    limit: int = wired(Whole(1, 1000), "at most so many", 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class CachePage(Message):
    """P → S: contents of the store by task, and how full it is. The answer to CACHE_LIST, KEEP and COLLECT."""

    KIND: ClassVar[Kind] = Kind.CACHE_PAGE
    number: int = wired(NUMBER, "the question's")
    contents: tuple[tuple[str, int, int, float, float, bool, str], ...] = wired(
        Many(Row((TASK_ID, LENGTH, LENGTH, SECONDS, SECONDS, Flag(), Text(512))), 1000),
        "task, length, bytes on disk, seconds since it was last used, seconds that it is still kept, in use, URL without secrets",
        (),
    )
    more: bool = wired(Flag(), "others follow the last one", False)
    used: int = wired(NUMBER, "bytes of all contents on disk", 0)
    quota: int = wired(NUMBER, "bytes that they may take, 0: not limited", 0)
    free: int = wired(NUMBER, "bytes that are free on the disk", 0)
    kept: int = wired(NUMBER, "bytes of contents that are kept", 0)
    removed: int = wired(NUMBER, "contents that were deleted for this question", 0)
    removed_bytes: int = wired(NUMBER, "and their bytes on disk", 0)
    refused: str = wired(Text(1024), "why what was asked was not done, in words, with the next step", "")
    stored: int = wired(NUMBER, "contents of the store", 0)
    evicted: tuple[tuple[str, int, int], ...] = wired(
        _BY_REASON, "since it began: why contents were deleted (in a word), how many, their bytes on disk", ()
    )
    left: tuple[tuple[str, int, int], ...] = wired(
        _BY_REASON, "with COLLECT: why contents stay (in a word), how many, their bytes on disk", ()
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep(Message):
    """S → P, seed too: keep this content (pin it). Answered by CACHE_PAGE with the content, or with none: it is not here."""

    KIND: ClassVar[Kind] = Kind.KEEP
    number: int = wired(NUMBER, "of the question; its answer bears the same")
    task: str = wired(TASK_ID, "the task")
    keep_s: float = wired(SECONDS, "for so long from now; 0: no longer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Collect(Message):
    """S → P, seed too: delete now what the store's rules would delete, least recently used first. Answered by CACHE_PAGE."""

    KIND: ClassVar[Kind] = Kind.COLLECT
    number: int = wired(NUMBER, "of the question; its answer bears the same")
    free: int = wired(
        NUMBER, "delete until so many bytes more are free, kept contents and those in use excepted; 0: by the rules", 0
    )
